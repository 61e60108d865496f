// Elements, numbers, times and names, as the pages show them. Text gets into a page by textContent alone.

/** Return an element: `make("td", {class: "number"}, "5")`. Children are elements or text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Make `parent` have these children. What has the same key stays, so that focus and pointers stay, too. */
export function fill(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

const numbers = new Intl.NumberFormat("en");
const few = new Intl.NumberFormat("en", {maximumSignificantDigits: 2});

export const count = (n) => numbers.format(n);
export const rate = (n) => (n < 10 ? few.format(n) : numbers.format(Math.round(n)));

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (n >= 1024 && place < units.length - 1) [n, place] = [n / 1024, place + 1];
  return `${place ? n.toFixed(1) : n} ${units[place]}`;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return plural(Math.floor(s / 86400), "day");
}

const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit"});
const moment = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "short"});
const dayOfMonth = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"});
const seconds = new Intl.DateTimeFormat(undefined, {timeStyle: "medium"});
export const timeOfDay = (ms) => clock.format(ms);
export const timeWithSeconds = (ms) => seconds.format(ms);
export const dateAndTime = (ms) => moment.format(ms);
export const day = (ms) => dayOfMonth.format(ms);

/** Return the bytes of a name as text, with what cannot be shown as \xff. */
function escaped(base64) {
  return [...atob(base64)].map((c) => (c >= " " && c <= "~" ? c : `\\x${inHex(c, 2)}`)).join("");
}

const inHex = (c, digits) => c.charCodeAt(0).toString(16).padStart(digits, "0");

/** What is not shown, and what changes in which direction a text goes. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Return an element that shows a name, whatever is in it: it can neither turn the line around nor hide. */
export function nameOf(text, className = "") {
  const isText = typeof text === "string";
  const shown = isText ? text.replace(UNSEEN, (c) => `\\u${inHex(c, 4)}`) : escaped(text.base64);
  return make("bdi", {class: `${className}${isText ? "" : " bytes"}`.trim() || null, title: shown}, shown);
}

/** Return a name as a key: the same for the same bytes alone. */
export const keyOf = (text) => (typeof text === "string" ? `t${text}` : `b${text.base64}`);

/** Return a name as it stands in a query string. */
export function inQuery(text) {
  if (typeof text === "string") return encodeURIComponent(text);
  return [...atob(text.base64)].map((c) => `%${c.charCodeAt(0).toString(16).padStart(2, "0")}`).join("");
}

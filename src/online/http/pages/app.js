// The dashboard: shows each state that source.js delivers. What is looked at stands in the address, behind the #.

import {LineChart, sparkline} from "./chart.js";
import {byId, count, dateAndTime, fill, keyOf, make, nameOf, plural, rate, span} from "./dom.js";
import {figures, troubles} from "./health.js";
import {Kept, SPANS, hasHistory, past} from "./history.js";
import {Trouble, ask, watch} from "./source.js";

const SPARK_POINTS = 30;
const STALE_MS = 6000;

const looked = new URLSearchParams(location.hash.slice(1));
const now = {site: looked.get("site") ?? "default", page: looked.get("page")};
const chart = new LineChart(byId("chart"));
let kept = new Kept(now.site);
let shownSpan = SPANS[0];
let trends = new Map();
let sectionTrends = new Map();
let lastHits = null;
let answered = {at: performance.now(), ever: false, trouble: ""};
let hurry = () => {};

// What is looked at

function remember() {
  const place = new URLSearchParams();
  if (now.site !== "default" && typeof now.site === "string") place.set("site", now.site);
  if (typeof now.page === "string") place.set("page", now.page);
  history.replaceState(null, "", `${location.pathname}${location.search}${[...place].length ? `#${place}` : ""}`);
}

function choosePage(url) {
  now.page = url;
  byId("page-url").value = typeof url === "string" ? url : "";
  for (const button of document.querySelectorAll("#top-rows button")) {
    button.setAttribute("aria-pressed", String(button.dataset.page === keyOf(url)));
  }
  remember();
  hurry();
}

function chooseSite(site) {
  Object.assign(now, {site, page: null});
  byId("page-url").value = "";
  [kept, trends, sectionTrends, lastHits] = [new Kept(site), new Map(), new Map(), null];
  remember();
  hurry();
  if (shownSpan !== SPANS[0]) showPast();
}

// Showing a state

function show(state) {
  answered = {at: performance.now(), ever: true, trouble: ""};
  const {kinds, info: {sections: info}} = state;
  const people = kinds.members + kinds.guests + kinds.hidden;
  const isEmpty = people === 0 && kinds.bots === 0;
  kept.add(state.at_ms, people);
  byId("people").textContent = count(people);
  document.title = `${count(people)} online`;
  showKinds(kinds, info, state.at_ms);
  showPeak(state.peak);
  if (shownSpan === SPANS[0]) chart.update(kept.points, kept.chart());
  showTop(state.top.pages);
  showPage(state.page, state.at_ms);
  showUsers(byId("recent-users"), state.recent.users, state.at_ms);
  showSections(state.sections);
  showSites(state.sites.sites);
  showHealth(info);
  showWelcome(isEmpty && state.sites.sites.every((site) => site.people === 0), info);
  showStatus();
}

function showKinds(kinds, info, at_ms) {
  const shares = [["members", kinds.members], ["guests", kinds.guests], ["hiddens", kinds.hidden]];
  fill(byId("kinds-bar"), shares, ([name]) => name, ([name]) => make("span", {class: name}), (bar, [, n]) => {
    bar.style.flexGrow = n;
  });
  const {accepted} = info.hits;
  const passed_s = lastHits ? (at_ms - lastHits.at_ms) / 1000 : 0;
  const isKnown = passed_s > 0.5 && accepted >= lastHits.accepted;
  const hits = isKnown ? `${rate((accepted - lastHits.accepted) / passed_s)}` : "–";
  lastHits = {accepted, at_ms};
  rows(byId("kinds"), [
    ["Members", count(kinds.members), "members"], ["Guests", count(kinds.guests), "guests"],
    ["Hidden", count(kinds.hidden), "hiddens"], ["Bots, not counted", count(kinds.bots)],
    ["Hits a second, all sites", hits],
  ]);
}

function rows(list, pairs) {
  const items = pairs.flatMap(([name, value, of]) => [
    {tag: "dt", name, text: name, of}, {tag: "dd", name: `${name} `, text: value},
  ]);
  fill(list, items, (each) => each.name, (each) => make(each.tag, {class: each.of}), (element, each) => {
    if (element.textContent !== each.text) element.textContent = each.text;
  });
}

function showPeak(peak) {
  byId("peak").textContent = peak.people ? `Most ever: ${count(peak.people)}, on ${dateAndTime(peak.reached_ms)}` : "";
}

/** Take note of how many people names have now; return what each has had of late. */
function follow(trends, names) {
  const before = (key) => trends.get(key)?.slice(1 - SPARK_POINTS) ?? [];
  return new Map(names.map(([name, people]) => [keyOf(name), [...before(keyOf(name)), people]]));
}

function showTop(pages) {
  trends = follow(trends, pages.map(({url, people}) => [url, people]));
  fill(byId("top-rows"), pages, ({url}) => keyOf(url), pageRow, (row, {url, people}) => {
    row.line.set(trends.get(keyOf(url)));
    row.lastElementChild.textContent = count(people);
  });
}

function pageRow({url}) {
  const line = sparkline();
  const button = make("button", {
    type: "button", "data-page": keyOf(url), onclick: () => choosePage(url),
    "aria-pressed": String(now.page !== null && keyOf(now.page) === keyOf(url)),
  }, nameOf(url));
  const row = make("tr", {}, make("td", {class: "name"}, button), make("td", {class: "trend"}, line.svg),
    make("td", {class: "number"}));
  row.line = line;
  return row;
}

function showPage(page, at_ms) {
  if (!page) {
    byId("page-count").textContent = "Choose a page from the list, or type one.";
    byId("page-users").replaceChildren();
    return;
  }
  const unnamed = page.cursor === null ? page.here - page.users.length : 0;
  const hidden = unnamed > 0 ? `, ${count(unnamed)} of them hidden` : "";
  const more = page.cursor !== null ? ", the newest 30 are shown" : hidden;
  const people = plural(page.here, "person is", "people are");
  byId("page-count").replaceChildren(`${people} on `, nameOf(now.page ?? ""), `${more}.`);
  showUsers(byId("page-users"), page.users.map((user) => ({...user, url: null})), at_ms);
}

function showUsers(list, users, at_ms) {
  fill(list, users, ({user}) => keyOf(user), userLine, (line, {user, url, seen_ms, kind}) => {
    const tags = kind === "guest" ? [make("span", {class: "tag"}, "guest")] : [];
    line.querySelector(".name").replaceChildren(nameOf(user), ...tags);
    line.querySelector("time").textContent = span((at_ms - seen_ms) / 1000);
    const at = line.querySelector(".url");
    at.hidden = url === null;
    if (url !== null) at.replaceChildren(nameOf(url));
  });
}

const userLine = () => make("li", {}, make("span", {class: "name"}), make("time", {}), make("span", {class: "url"}));

function showSections(sections) {
  byId("sections").hidden = sections.length === 0;
  sectionTrends = follow(sectionTrends, sections.map(({prefix, people}) => [prefix, people]));
  fill(byId("section-rows"), sections, ({prefix}) => keyOf(prefix), sectionRow, (row, {prefix, people, pages}) => {
    row.line.set(sectionTrends.get(keyOf(prefix)));
    row.children[2].textContent = plural(pages, "page");
    row.children[3].textContent = count(people);
  });
}

function sectionRow({prefix}) {
  const line = sparkline();
  const row = make("tr", {}, make("td", {class: "name"}, nameOf(prefix)), make("td", {class: "trend"}, line.svg),
    make("td", {class: "number quiet"}), make("td", {class: "number"}));
  row.line = line;
  return row;
}

function showSites(sites) {
  const names = sites.map(({site}) => site);
  byId("sites").hidden = byId("site-choice").hidden = sites.length < 2;
  const options = names.some((site) => keyOf(site) === keyOf(now.site)) ? names : [now.site, ...names];
  const option = (site) => make("option", {value: keyOf(site)}, nameOf(site).textContent);
  fill(byId("site"), options, keyOf, option, () => {});
  byId("site").value = keyOf(now.site);
  byId("site").onchange = (event) => chooseSite(options.find((site) => keyOf(site) === event.target.value));
  const largest = [...sites].sort((a, b) => b.people - a.people).slice(0, 15);
  fill(byId("site-rows"), largest, ({site}) => keyOf(site), siteRow, (row, {site, people}) => {
    row.querySelector("button").setAttribute("aria-pressed", String(keyOf(site) === keyOf(now.site)));
    row.lastElementChild.textContent = count(people);
  });
}

function siteRow({site}) {
  const button = make("button", {type: "button", onclick: () => chooseSite(site)}, nameOf(site));
  return make("tr", {}, make("td", {class: "name"}, button), make("td", {class: "number"}));
}

function showHealth(info) {
  const lines = troubles(info).map((text) => ({text, of: "trouble"}));
  if (!lines.length) lines.push({text: "All is well: no limit was reached, and nothing was refused.", of: "fine"});
  fill(byId("health-lines"), lines, ({text}) => text, ({text, of}) => make("li", {class: of}, text), () => {});
  rows(byId("health-figures"), figures(info));
  byId("version").textContent = `online ${info.server.version}`;
}

function showWelcome(isEmpty, info) {
  byId("welcome").hidden = !isEmpty;
  document.body.classList.toggle("is-empty", isEmpty);
  if (!isEmpty || byId("by-curl").textContent) return;
  const hits = new URL("api/v1/hits", document.baseURI);
  const token = byId("logout").hidden ? "" : ` -H 'Authorization: Bearer TOKEN'`;
  byId("by-curl").textContent = `curl${token} -H 'Content-Type: application/json' -d '[["ada", "/welcome"]]' ${hits}`;
  byId("by-redis").textContent = `redis-cli -p ${info.server.tcp_port || 8989} HIT ada /welcome`;
}

function showStatus() {
  const silent_ms = performance.now() - answered.at;
  const isStale = silent_ms > STALE_MS || answered.trouble !== "";
  const pill = byId("state");
  const stale = answered.ever ? `Stale for ${span(silent_ms / 1000)}` : "No figures yet";
  const text = !isStale ? (answered.ever ? "Live" : "Connecting …")
    : `${stale}: ${answered.trouble || "no answer comes"}`;
  document.body.classList.toggle("is-stale", isStale && answered.ever);
  pill.className = `pill ${isStale ? "stale" : answered.ever ? "live" : ""}`;
  if (pill.textContent !== text) pill.textContent = text;
}

// The past that the server keeps

async function showPast() {
  const asked = shownSpan;
  byId("past-title").textContent = asked.title;
  for (const button of byId("spans").children) {
    button.setAttribute("aria-pressed", String(button.textContent === asked.name));
  }
  if (asked === SPANS[0]) {
    chart.update(kept.points, kept.chart());
    return;
  }
  try {
    const options = await past(now.site, asked, Date.now());
    if (shownSpan === asked) chart.update(options.points, options);
    byId("chart-note").textContent = options.points.length ? "" : "Nothing is kept of that time yet.";
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    byId("chart-note").textContent = `The history cannot be shown: ${error.message}.`;
  }
}

async function offerPast() {
  if (!(await hasHistory())) return;
  const choose = (each) => {
    shownSpan = each;
    byId("chart-note").textContent = "";
    showPast();
  };
  byId("spans").append(...SPANS.map((each) => make("button", {
    type: "button", "aria-pressed": String(each === shownSpan), onclick: () => choose(each),
  }, each.name)));
  byId("spans").hidden = false;
  setInterval(() => shownSpan !== SPANS[0] && showPast(), 60_000);
}

// The start

byId("page-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = byId("page-url").value.trim();
  choosePage(url === "" ? null : url);
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    getSelection().selectAllChildren(source);
    try {
      await navigator.clipboard.writeText(source.textContent);
      byId("copied").textContent = "Copied.";
    } catch {
      byId("copied").textContent = "It is selected: copy it with your keyboard.";
    }
  });
}

async function start() {
  try {
    const session = await ask("session");
    byId("logout").hidden = !session.wants_token;
    if (session.site !== null && !looked.has("site")) now.site = session.site;
    kept = new Kept(now.site);
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    setTimeout(start, 1000);
    answered.trouble = error.message;
    showStatus();
    return;
  }
  hurry = watch(() => now, show, (trouble) => {
    answered.trouble = trouble.message;
    showStatus();
  });
  offerPast().catch((error) => {
    if (!(error instanceof Trouble)) throw error;
  });
}

if (typeof now.page === "string") byId("page-url").value = now.page;
setInterval(showStatus, 1000);
start();

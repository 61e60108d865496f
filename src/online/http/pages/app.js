// The dashboard: shows what source.js delivers. What is looked at stands in the address, behind the #.

import {LineChart, sparkline} from "./chart.js";
import {byId, count, dateAndTime, fill, keyOf, make, nameOf, plural, rate, span} from "./dom.js";
import {ALL_IS_WELL, figures, troubles} from "./health.js";
import {Kept, SPANS, past, pastOf, visitorsToday} from "./history.js";
import {Trouble, ask, watch} from "./source.js";

const STALE_MS = 13_000; // a server that nothing happens to is asked each 10 s

/** How many people names had of late: a point each two seconds. */
class Trends {
  static EVERY_MS = 2000;
  static POINTS = 30;
  #points = new Map();

  /** Take what names have now. Others are forgotten. */
  note(names) {
    const before = (name) => this.of(name)?.slice(0, -1) ?? [];
    this.#points = new Map(names.map(([name, people]) => [keyOf(name), [...before(name), people]]));
  }

  tick() {
    for (const points of this.#points.values()) {
      points.push(points.at(-1));
      if (points.length > Trends.POINTS) points.shift();
    }
  }

  of(name) { return this.#points.get(keyOf(name)); }
}

const now = {site: "default", page: null};
let home = "default"; // the site of an address that names none
const chart = new LineChart(byId("chart"));
let redisCli = null;
let kept = new Kept();
let shownSpan = SPANS[0];
let pageTrends = new Trends();
let sectionTrends = new Trends();
let hitRate = {text: "–"};
let answered = {at: performance.now(), at_ms: 0, ever: false, trouble: ""};
let hurry = () => {};

// What is looked at

/** Look at what the address says. */
function readAddress() {
  const place = new URLSearchParams(location.hash.slice(1));
  const site = place.get("site") ?? home;
  if (site !== now.site) chooseSite(site);
  choosePage(place.get("page") || null);
}

function remember() {
  const place = new URLSearchParams();
  if (now.site !== home && typeof now.site === "string") place.set("site", now.site);
  if (typeof now.page === "string") place.set("page", now.page);
  history.replaceState(null, "", `${location.pathname}${location.search}${[...place].length ? `#${place}` : ""}`);
}

const isChosen = (key) => String(now.page !== null && keyOf(now.page) === key);

function choosePage(url) {
  now.page = url;
  byId("page-url").value = typeof url === "string" ? url : "";
  for (const button of document.querySelectorAll("#top-rows button")) {
    button.setAttribute("aria-pressed", isChosen(button.dataset.page));
  }
  remember();
  hurry();
}

function chooseSite(site) {
  Object.assign(now, {site, page: null});
  byId("page-url").value = "";
  [kept, pageTrends, sectionTrends] = [new Kept(), new Trends(), new Trends()];
  remember();
  hurry();
  if (shownSpan !== SPANS[0]) showPast();
}

// Showing a state

/** Show what is known. Only `kinds` is always among it. */
function show(state) {
  const {kinds, info, errors} = state;
  if (keyOf(state.site) !== keyOf(now.site)) return;
  answered = {at: performance.now(), ever: true, trouble: "", at_ms: Math.max(...momentsOf(state))};
  const people = kinds.members + kinds.guests + kinds.hidden;
  kept.add(kinds.at_ms, people);
  if (state.minutes) kept.merge(state.minutes.rows);
  byId("people").textContent = count(people);
  document.title = `${count(people)} online`;
  showKinds(kinds, info, state.today);
  showPeak(state.peak, people, kinds.at_ms);
  if (shownSpan === SPANS[0]) chart.update(kept.points, kept.chart());
  if (state.top) showTop(state.top.pages);
  showPage(state.url, state.page, errors.page);
  if (state.recent) showUsers(byId("recent-users"), state.recent.users);
  showSections(state.sections);
  if (state.sites) showSites(state.sites.sites, people);
  showHealth(info?.sections, errors);
  if (info && state.sites) showWelcome(people + kinds.bots + info.sections.hits.accepted === 0);
  byId("nobody").hidden = people > 0 || !byId("welcome").hidden;
  showAges();
  showStatus();
}

const momentsOf = (state) => Object.values(state).map((each) => each?.at_ms ?? 0);

function showKinds(kinds, info, today) {
  const shares = [["members", kinds.members], ["guests", kinds.guests], ["hiddens", kinds.hidden]];
  fill(byId("kinds-bar"), shares, ([name]) => name, ([name]) => make("span", {class: name}), (bar, [, n]) => {
    bar.style.flexGrow = n;
  });
  if (info) hitRate = rateOfHits(hitRate, info.at_ms, info.sections.hits.accepted);
  const [title, visitors] = today ? visitorsToday(today) : ["Visitors today", null];
  rows(byId("kinds"), [
    ["Members", count(kinds.members), "members"], ["Guests", count(kinds.guests), "guests"],
    ["Hidden", count(kinds.hidden), "hiddens"], ["Bots, not counted", count(kinds.bots)],
    ["Hits per second, all sites", hitRate.text], [title, visitors === null ? "–" : count(visitors)],
  ]);
}

/** Return the rate since the last figures; the last one as long as there are no newer ones. */
function rateOfHits(last, at_ms, accepted) {
  const passed_s = (at_ms - last.at_ms) / 1000;
  if (passed_s === 0) return last;
  const isKnown = passed_s > 0.5 && accepted >= last.accepted;
  return {at_ms, accepted, text: isKnown ? rate((accepted - last.accepted) / passed_s) : "–"};
}

function rows(list, pairs) {
  const items = pairs.flatMap(([name, value, of]) => [
    {tag: "dt", name, text: name, of}, {tag: "dd", name: `${name} `, text: value},
  ]);
  fill(list, items, (each) => each.name, (each) => make(each.tag, {class: each.of}), (element, each) => {
    if (element.textContent !== each.text) element.textContent = each.text;
  });
}

/** Whoever is online now belongs to the most ever, also if those are of a moment before. */
function showPeak(peak, people, at_ms) {
  if (!peak) return;
  const most = people > peak.people ? {people, reached_ms: at_ms} : peak;
  byId("peak").textContent = most.people ? `Most ever: ${count(most.people)}, on ${dateAndTime(most.reached_ms)}` : "";
}

function showTop(pages) {
  pageTrends.note(pages.map(({url, people}) => [url, people]));
  fill(byId("top-rows"), pages, ({url}) => keyOf(url), pageRow, (row, {url, people}) => {
    row.line.set(pageTrends.of(url));
    row.lastElementChild.textContent = count(people);
  });
}

function pageRow({url}) {
  const line = sparkline();
  const button = make("button", {
    type: "button", "data-page": keyOf(url), onclick: () => choosePage(url),
    "aria-pressed": isChosen(keyOf(url)),
  }, nameOf(url));
  const row = make("tr", {}, make("td", {class: "name"}, button), make("td", {class: "trend"}, line.svg),
    make("td", {class: "number"}));
  row.line = line;
  return row;
}

function showPage(url, page, trouble) {
  byId("page-count").classList.toggle("bad", Boolean(trouble) && !page);
  if (!page) {
    const nothing = url === null ? "Choose a page from the list, or type one." : "…";
    byId("page-count").textContent = trouble ? `This page cannot be shown: ${trouble.message}.` : nothing;
    byId("page-users").replaceChildren();
    return;
  }
  const unnamed = page.cursor === null ? page.here - page.users.length : 0;
  const more = page.cursor !== null ? ", the latest 30 are shown"
    : unnamed > 0 ? `, ${count(unnamed)} of them hidden` : "";
  const how_many = plural(page.here, "person is", "people are");
  byId("page-count").replaceChildren(`${how_many} on `, nameOf(url), `${more}.`);
  showUsers(byId("page-users"), page.users.map((user) => ({...user, url: null})));
}

function showUsers(list, users) {
  fill(list, users, ({user}) => keyOf(user), userLine, (line, {user, url, seen_ms, kind}) => {
    const tags = kind === "guest" ? [make("span", {class: "tag"}, "guest")] : [];
    line.querySelector(".name").replaceChildren(nameOf(user), ...tags);
    line.querySelector("time").dataset.seen = seen_ms;
    const at = line.querySelector(".url");
    at.hidden = url === null;
    if (url !== null) at.replaceChildren(nameOf(url));
  });
}

/** Show how long ago users were seen, by the server's clock. */
function showAges() {
  const at_ms = answered.at_ms + performance.now() - answered.at;
  for (const time of document.querySelectorAll("time[data-seen]")) {
    const text = span((at_ms - time.dataset.seen) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

const userLine = () => make("li", {}, make("span", {class: "name"}), make("time", {}), make("span", {class: "url"}));

function showSections(sections) {
  byId("sections").hidden = sections.length === 0;
  sectionTrends.note(sections.map(({prefix, people}) => [prefix, people]));
  fill(byId("section-rows"), sections, ({prefix}) => keyOf(prefix), sectionRow, (row, {prefix, people, pages}) => {
    row.line.set(sectionTrends.of(prefix));
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

function showSites(listed, people) {
  const sites = listed.map((each) => (keyOf(each.site) === keyOf(now.site) ? {...each, people} : each));
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

const PARTS = {
  recent: "The latest users", info: "The server’s figures", sites: "The sites", peak: "The most people ever",
  pages: "The sections", states: "The top pages", minutes: "The last 30 minutes", today: "Today’s visitors",
};

function showHealth(info, errors) {
  const missing = Object.entries(PARTS).filter(([name]) => errors[name]);
  const lines = [
    ...missing.map(([name, what]) => `${what} cannot be shown: ${errors[name].message}.`),
    ...(info ? troubles(info) : []),
  ].map((text) => ({text, of: "trouble"}));
  if (!lines.length && info) lines.push({text: ALL_IS_WELL, of: "fine"});
  fill(byId("health-lines"), lines, ({text}) => text, ({text, of}) => make("li", {class: of}, text), () => {});
  if (!info) return;
  rows(byId("health-figures"), figures(info));
  byId("version").textContent = `online ${info.server.version}`;
}

function showWelcome(isEmpty) {
  byId("welcome").hidden = !isEmpty;
  document.body.classList.toggle("is-empty", isEmpty);
  if (!isEmpty || byId("by-curl").textContent) return;
  const hits = new URL("api/v1/hits", document.baseURI);
  const token = byId("logout").hidden ? "" : ` -H 'Authorization: Bearer TOKEN'`;
  byId("by-curl").textContent = `curl${token} -H 'Content-Type: application/json' -d '[["ada", "/welcome"]]' ${hits}`;
  byId("redis").hidden = redisCli === null;
  byId("by-redis").textContent = `${redisCli} HIT ada /welcome`;
  byId("needs-token").hidden = token === "";
}

function showStatus() {
  const silent_ms = performance.now() - answered.at;
  const isStale = silent_ms > STALE_MS || answered.trouble !== "";
  const pill = byId("state");
  const stale = answered.ever ? `Stale for ${span(silent_ms / 1000)}` : "No figures yet";
  const text = !isStale ? (answered.ever ? "Live" : "Connecting …")
    : `${stale}: ${answered.trouble || "no answer"}`;
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
    byId("chart-note").textContent = options.points.length ? "" : "Nothing is recorded for that time yet.";
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    byId("chart-note").textContent = `The history cannot be shown: ${error.message}.`;
  }
}

function offerPast() {
  const choose = (each) => {
    shownSpan = each;
    byId("chart-note").textContent = "";
    showPast();
  };
  byId("spans").append(...SPANS.map((each) => make("button", {
    type: "button", "aria-pressed": String(each === shownSpan), onclick: () => choose(each),
  }, each.name)));
  setInterval(() => shownSpan !== SPANS[0] && !document.hidden && showPast(), 60_000);
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
      byId("copied").textContent = "It is selected: copy it with the keyboard.";
    }
  });
}

async function start() {
  try {
    const session = await ask("session");
    byId("logout").hidden = !session.wants_token;
    home = session.site ?? home;
    redisCli = session.redis_cli;
    readAddress();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    setTimeout(start, 1000);
    answered.trouble = error.message;
    showStatus();
    return;
  }
  hurry = watch(() => now, pastOf, show, (trouble) => {
    answered.trouble = trouble.message;
    showStatus();
  });
}

addEventListener("hashchange", () => {
  if (!byId(location.hash.slice(1))) readAddress(); // otherwise it is a place on this page
});
offerPast();
setInterval(() => {
  showStatus();
  if (answered.ever) showAges();
}, 1000);
setInterval(() => {
  pageTrends.tick();
  sectionTrends.tick();
}, Trends.EVERY_MS);
start();

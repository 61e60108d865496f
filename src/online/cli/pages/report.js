// A report: shows the figures that stand in the page itself, perhaps beside those of another log.

import {DAY_MS, LineChart} from "./chart.js";
import {byId, count, make, nameOf, plural, rate, span} from "./dom.js";

const MOST_DAYS = 62;

const {nouns, lengths_s: lengths, reports} = JSON.parse(byId("figures").textContent);
const [now, before] = reports;
const views = `${nouns.hit}s`;
const Views = views[0].toUpperCase() + views.slice(1);

// Times, in UTC as in the report's text

const inUtc = (options) => new Intl.DateTimeFormat("en-GB", {timeZone: "UTC", ...options});
const clockUtc = inUtc({hour: "2-digit", minute: "2-digit", second: "2-digit"});
const minuteUtc = inUtc({hour: "2-digit", minute: "2-digit"});
const dayUtc = inUtc({day: "numeric", month: "short", year: "numeric"});
const monthUtc = inUtc({month: "short", year: "numeric"});
const yearUtc = inUtc({year: "numeric"});
const momentUtc = inUtc({
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

/** Return a round time as an axis has it: no finer than the step between such times. */
function tickText(ms, step_ms) {
  if (step_ms >= 365 * DAY_MS) return yearUtc.format(ms);
  if (step_ms >= 28 * DAY_MS) return monthUtc.format(ms);
  if (step_ms >= DAY_MS || ms % DAY_MS === 0) return dayUtc.format(ms);
  return (step_ms < 60_000 ? clockUtc : minuteUtc).format(ms);
}

// Parts of the page

/** Return a bar beside others, of which the longest stands for `most`. */
function bar(n, most) {
  const part = make("span", {class: "bar"});
  part.style.width = `${most ? 100 * n / most : 0}%`;
  return make("td", {class: "trend", "aria-hidden": "true"}, part);
}

function heads(names, wide = 1) {
  const head = (name, place) => make("th", {
    scope: "col", class: place ? `number${name === before?.title ? " other" : ""}` : null,
    colspan: place ? null : wide,
  }, name);
  return make("tr", {}, ...names.map(head));
}

/** Return the change from one number to another, as +5 %. */
function change(from, to) {
  if (!from) return "";
  const percent = 100 * (to - from) / from;
  return `${percent < 0 ? "−" : "+"}${rate(Math.abs(percent))} %`;
}

/** Add a card with a table: rows are `[name, number, number before]`; the last only if another log stands beside. */
function addTable(title, what, rows, {rowsAre = "Name", note = "", shares = false} = {}) {
  if (!rows.length) return;
  const most = Math.max(...rows.map(([, n]) => n));
  const total = rows.reduce((sum, [, n]) => sum + n, 0);
  const table = make("table", {}, make("caption", {class: "unseen"}, title));
  const row = ([name, n, other]) => make("tr", {},
    make("td", {class: "name"}, name), bar(n, most),
    make("td", {class: "number"}, shares ? `${rate(total ? 100 * n / total : 0)} %` : count(n)),
    ...(before ? [make("td", {class: "number quiet"}, other ?? "–")] : []));
  table.append(make("thead", {class: "quiet"}, heads([rowsAre, what, ...(before ? [before.title] : [])], 2)),
    make("tbody", {}, ...rows.map(row)));
  const notes = note ? [make("p", {class: "quiet"}, note)] : [];
  byId("main").append(make("section", {class: "card"}, make("h2", {}, title), table, ...notes));
}

/** Return rows of names with their numbers, and those that the same names have in the other log. */
const named = (rows) =>
  rows.map(([name, n, other]) => [nameOf(name), n, other === undefined ? undefined : count(other)]);

/** Return rows of counts, the largest first, and those of the other log. */
function counted(counts, others) {
  const other = (name) => others && count(others[name] ?? 0);
  return Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, n]) => [name, n, other(name)]);
}

/** Return rows in shares of 100, the largest first, and those of the other log. */
function shared(counts, others) {
  const total = Object.values(others ?? {}).reduce((sum, n) => sum + n, 0);
  return Object.entries(counts).sort((a, b) => b[1] - a[1])
    .map(([name, n]) => [name, n, total ? `${rate(100 * (others[name] ?? 0) / total)} %` : undefined]);
}

// The figures

function showTotals() {
  byId("peak").textContent = count(now.peak.people);
  byId("peak-at").textContent = `${momentUtc.format(new Date(now.peak.at))}, on ${plural(now.peak.pages, "page")}; `
    + `online: a ${nouns.hit} within the last ${span(now.window_s)}`;
  const time = ({first, last}) => `${momentUtc.format(new Date(first))} to ${momentUtc.format(new Date(last))}`;
  byId("time").textContent = time(now) + (before ? `, compared with ${before.title}: ${time(before)}` : "");
  const totals = [
    ["Most people at once", (each) => each.peak.people], ["People on average", (each) => each.average],
    [Views, (each) => each.hits], [`Different ${nouns.user}s`, (each) => each.users],
    [`Different ${nouns.url}s`, (each) => each.urls],
  ];
  const number = (n) => (Number.isInteger(n) ? count(n) : rate(n));
  if (before) {
    document.querySelector(".pairs thead").append(heads(["Of the whole time", "this log", before.title, "change"]));
  }
  const others = (value) => [
    make("td", {class: "number"}, number(value(before))),
    make("td", {class: "number quiet"}, change(value(before), value(now))),
  ];
  byId("totals").append(...totals.map(([name, value]) => make("tr", {},
    make("td", {class: "quiet"}, name), make("td", {class: "number"}, number(value(now))),
    ...(before ? others(value) : []))));
}

/** Return by how much the other log is moved to lie under this one: whole weeks if one is that long, or days. */
function shift() {
  const unit = [now, before].some(({points}) => points.at(-1)[0] - points[0][0] >= 7 * DAY_MS) ? 7 * DAY_MS : DAY_MS;
  return Math.round((now.begin_ms - before.begin_ms) / unit) * unit;
}

/** Return the points of one figure; the last hits are of less than a step, and say little. */
function pointsOf(report, place, moved = 0) {
  const points = report.points.map((point) => [point[0] + moved, point[place]]);
  return place === 2 && points.length > 2 ? points.slice(0, -1) : points;
}

function showChart(moved) {
  const chart = new LineChart(byId("chart"));
  const from = Math.min(now.begin_ms, before ? before.begin_ms + moved : Infinity);
  const to = Math.max(now.points.at(-1)[0], before ? before.points.at(-1)[0] + moved : -Infinity);
  const step_s = now.points.length > 2 ? (now.points[1][0] - now.points[0][0]) / 1000 : 0;
  const each = step_s ? `, each ${span(step_s)}` : "";
  const shown = [
    {name: "People", title: "Most people online", place: 1, unit: ["person", "people"]},
    {name: Views, title: `${Views}${each}`, place: 2, unit: [nouns.hit, views]},
  ];
  function choose({title, place, unit}) {
    byId("past-title").textContent = title;
    for (const [n, button] of [...byId("views").children].entries()) {
      button.setAttribute("aria-pressed", String(shown[n].place === place));
    }
    chart.update(pointsOf(now, place), {
      from, to, unit, label: title, gap: Number.MAX_VALUE, timeText: (ms) => momentUtc.format(ms),
      tickText, isUtc: true, beside: before ? pointsOf(before, place, moved) : [],
    });
  }
  const button = (each) => make("button", {type: "button", onclick: () => choose(each)}, each.name);
  byId("views").append(...shown.map(button));
  choose(shown[0]);
  const by = moved ? `, moved by ${plural(Math.abs(moved) / DAY_MS, "day")}` : "";
  if (before) byId("chart-note").textContent = `Dashed: ${before.title}${by}.`;
}

function showKinds() {
  if (!now.kinds) return;
  const {members, guests, bots} = now.kinds;
  const rows = [["Members", "members"], ["Guests", "guests"], ["Bots, not counted", "bots"]].map(([name, kind]) => [
    name, now.kinds[kind].hits, before?.kinds ? count(before.kinds[kind].hits) : undefined,
  ]);
  const note = `${plural(members.users, "member")}, ${plural(guests.users, "guest")}, ${plural(bots.users, "bot")}.`;
  addTable(`Kinds, by ${views}`, views, rows, {rowsAre: "Kind", note});
}

function showStays() {
  const {stays} = now;
  const short = (s) => span(s).replace(" 0 min", "");
  const names = lengths.map((most, place) => (place ? `${short(lengths[place - 1])} to` : "up to") + ` ${short(most)}`);
  names.push(`longer than ${short(lengths.at(-1))}`);
  const percent = (n, of) => `${rate(of.number ? 100 * n / of.number : 0)} %`;
  const other = (n) => before && percent(n(before.stays), before.stays);
  const rows = [[`One ${nouns.url}`, stays.single, other((of) => of.single)],
    ...names.map((name, place) => [name, stays.by_length[place], other((of) => of.by_length[place])])];
  const each = (n) => `${rate(n)} ${rate(n) === "1" ? nouns.hit : views}`;
  const told = ({number, hits, median_s, average_s, single}) =>
    `${plural(number, "stay")} of ${each(number ? hits / number : 0)} each`
    + (number > single ? `; those of more than one: half last longer than ${span(median_s)}, `
      + `${span(average_s)} on average.` : ".");
  const note = told(stays) + (before ? ` ${before.title}: ${told(before.stays)}` : "");
  addTable("How long people stay", "stays", rows, {rowsAre: "Length", shares: true, note});
}

/** Return rows by period, and what the other log has of each in its time; its days are moved as its points are. */
const periods = (visits, others, moved = 0) => {
  const of = (period) => (moved ? new Date(Date.parse(period) + moved).toISOString().slice(0, period.length) : period);
  const known = new Map((others ?? []).map(({period, hits}) => [of(period), hits]));
  const [first, last] = others ? [of(others[0].period), of(others.at(-1).period)] : [];
  const isIn = (period) => period >= first && period <= last;
  return visits.map(({period, hits}) => [period, hits, isIn(period) ? count(known.get(period) ?? 0) : undefined]);
};

showTotals();
const moved = before ? shift() : 0;
showChart(moved);
addTable(`Top ${nouns.url}s`, views, named(now.top), {rowsAre: "Page"});
addTable(`Top ${nouns.url}s at the peak`, "people", named(now.peak.top), {rowsAre: "Page"});
showStays();
showKinds();
addTable("By hour of the day", views, periods(now.hours, before?.hours), {rowsAre: "Hour"});
const isLong = now.days.length > MOST_DAYS;
if (isLong) addTable("By month", views, periods(now.months, before?.months), {rowsAre: "Month"});
else addTable("By day", views, periods(now.days, before?.days, moved), {rowsAre: "Day"});
addTable("Browsers", views, shared(now.browsers, before?.browsers), {rowsAre: "Browser", shares: true});
addTable("Systems", views, shared(now.systems, before?.systems), {rowsAre: "System", shares: true});
addTable("Referrers", views, named(now.referrers), {rowsAre: "Host"});
addTable("Statuses of all lines", "lines", counted(now.statuses, before?.statuses), {rowsAre: "Status"});
addTable(`Lines not counted (of ${count(now.lines)})`, "lines", counted(now.left_out, before?.left_out),
  {rowsAre: "Why"});

// What was before this moment: the last 30 minutes, kept by this page, and the last day and month if the server has
// them.

import {ask} from "./source.js";
import {day, inQuery, keyOf, timeOfDay, timeWithSeconds} from "./dom.js";

const MINUTE_MS = 60_000;
const KEEP_MS = 30 * MINUTE_MS;
const SHORTEST_MS = 2 * MINUTE_MS;

/** What can be shown: how long, in which steps. The first is kept by this page. */
export const SPANS = [
  {name: "30 min", title: "The last 30 minutes", label: "People online in the last 30 minutes"},
  {name: "Day", title: "The last day", label: "People online in the last day",
    ms: 24 * 60 * MINUTE_MS, step_s: 600, timeText: timeOfDay},
  {name: "Month", title: "The last month", label: "People online in the last month",
    ms: 30 * 24 * 60 * MINUTE_MS, step_s: 14_400, timeText: day},
];

/** The people of a site at each moment that this page has seen, also before it was loaded again. */
export class Kept {
  constructor(site) {
    this.name = `online ${location.pathname} ${keyOf(site)}`;
    try {
      this.points = JSON.parse(sessionStorage.getItem(this.name)) ?? [];
    } catch {
      this.points = [];
    }
  }

  add(ms, people) {
    if (this.points.length && ms <= this.points.at(-1)[0]) this.points = this.points.filter(([at]) => at < ms);
    this.points.push([ms, people]);
    this.points = this.points.filter(([at]) => at > ms - KEEP_MS);
    try {
      sessionStorage.setItem(this.name, JSON.stringify(this.points));
    } catch {
      // there is no room, so they are forgotten when the page is loaded again
    }
  }

  /** Return what a chart needs. It begins with the first point, and moves on after 30 minutes. */
  chart() {
    const to = this.points.at(-1)?.[0] ?? Date.now();
    const from = Math.min(this.points[0]?.[0] ?? to, to - SHORTEST_MS);
    const timeText = to - from < 8 * MINUTE_MS ? timeWithSeconds : timeOfDay;
    return {points: this.points, from, to, timeText, label: SPANS[0].label, gap: 15_000};
  }
}

/** Whether this server keeps a history. */
export async function hasHistory() {
  const {paths} = await ask("openapi.json");
  return "/api/v1/history" in paths;
}

/** Ask the server for what a chart of a span needs. */
export async function past(site, span, at_ms) {
  const from = at_ms - span.ms;
  const {rows} = await ask(`api/v1/history?from_ms=${from}&to_ms=${at_ms}&step_s=${span.step_s}&site=${inQuery(site)}`);
  const {timeText, label, step_s} = span;
  return {points: rows.map((row) => [row.at_ms, row.people]), from, to: at_ms, timeText, label, gap: 2500 * step_s};
}

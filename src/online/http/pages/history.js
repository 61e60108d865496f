// What was before this moment, as the server keeps it: the last 30 minutes, the last day and month, visitors of today.

import {ask} from "./source.js";
import {day, inQuery, timeOfDay, timeWithSeconds} from "./dom.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const KEEP_MS = 30 * MINUTE_MS;
const SHORTEST_MS = 2 * MINUTE_MS;

/** What can be shown: how long, in which steps. To the minutes of the first, this page adds what it sees itself. */
export const SPANS = [
  {name: "30 min", title: "The last 30 minutes", label: "People online in the last 30 minutes"},
  {name: "Day", title: "The last day", label: "People online in the last day",
    ms: 24 * HOUR_MS, step_s: 600, timeText: timeOfDay},
  {name: "Month", title: "The last month", label: "People online in the last month",
    ms: 30 * 24 * HOUR_MS, step_s: 14_400, timeText: day},
];

/** Return what to ask of the past once a minute, by name. */
export function pastOf(at_ms) {
  const from_ms = beginOfToday(at_ms);
  const hours = Math.max(1, Math.ceil((at_ms - from_ms) / HOUR_MS)); // one step of whole hours: visitors of all of it
  return {
    minutes: `history?from_ms=${at_ms - KEEP_MS}&to_ms=${at_ms}&step_s=60`,
    today: `history?from_ms=${from_ms}&to_ms=${at_ms}&step_s=${3600 * hours}`,
  };
}

/** Return when the reader's day began. In time zones that are not whole hours from UTC, use the UTC day. */
function beginOfToday(at_ms) {
  const local_ms = new Date(at_ms).setHours(0, 0, 0, 0);
  return isOwnDay(at_ms) ? local_ms : new Date(at_ms).setUTCHours(0, 0, 0, 0);
}

const isOwnDay = (at_ms) => new Date(at_ms).setHours(0, 0, 0, 0) % HOUR_MS === 0;

/** Return the name of the figure, and its value as far as the server can tell. */
export function visitorsToday({rows, at_ms}) {
  return [isOwnDay(at_ms) ? "Visitors today" : "Visitors today (UTC)", rows.at(-1)?.visitors ?? null];
}

/** The people of a site at each moment that this page has seen, and before that in each minute. */
export class Kept {
  points = [];

  add(ms, people) {
    this.points = this.points.filter(([at]) => at < ms && at > ms - KEEP_MS);
    this.points.push([ms, people]);
  }

  /** Add minutes of the server's, each the most people in it, where this page has not seen any moment of them. */
  merge(rows) {
    const seen = new Set(this.points.map(([at]) => Math.floor(at / MINUTE_MS)));
    const unseen = rows.filter(({at_ms}) => !seen.has(Math.floor(at_ms / MINUTE_MS)));
    this.points.push(...unseen.map(({at_ms, people}) => [at_ms, people]));
    this.points.sort(([a], [b]) => a - b);
  }

  /** Return what a chart needs. It begins with the first point, and moves on after 30 minutes. */
  chart() {
    const to = this.points.at(-1)?.[0] ?? Date.now();
    const from = Math.min(this.points[0]?.[0] ?? to, to - SHORTEST_MS);
    const timeText = to - from < 8 * MINUTE_MS ? timeWithSeconds : timeOfDay;
    return {points: this.points, from, to, timeText, label: SPANS[0].label, gap: 2.5 * MINUTE_MS};
  }
}

/** Ask the server for what a chart of a longer span needs. */
export async function past(site, span, at_ms) {
  const from = at_ms - span.ms;
  const query = `from_ms=${from}&to_ms=${at_ms}&step_s=${span.step_s}&site=${inQuery(site)}`;
  const {rows} = await ask(`api/v1/history?${query}`);
  const points = rows.map((row) => [row.at_ms, row.people]);
  return {points, from, to: at_ms, timeText: span.timeText, label: span.label, gap: 2500 * span.step_s};
}

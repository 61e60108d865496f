// What INFO says, in plain words: what an operator should know, and what to do about it.

import {bytes, count, plural, span} from "./dom.js";

/** Every figure of INFO limits, and whatever else a server counts there. */
const LIMITS = {
  max_users_reached: "A site has as many users as it may have (max_users)",
  max_pages_reached: "A site has as many pages as it may have (max_pages)",
  max_memory_reached: "The memory of all sites is used up (max_memory)",
  max_sites_reached: "There are as many sites as there may be (max_sites)",
  max_connections_reached: "Too many connections were open at once (max_connections)",
  max_buffers_reached: "Too much data was waiting in connections, and the largest one was closed (max_buffers)",
  max_subscriptions_reached: "A connection asked for more channels than it may have (max_subscriptions)",
  max_all_subscriptions_reached: "All connections together have as many channels as they may (max_all_subscriptions)",
  open_files_reached: "The system had no file descriptors or no memory left for a connection",
  slow: "Connections were closed because they did not take their answers",
  frame_timeout: "Connections were closed because a message took too long to arrive",
  auth_timeout: "Connections were closed because they sent no token in time",
  wrong_token: "A wrong token was sent; the log names the addresses",
};

export const ALL_IS_WELL = "All is well: no limit was reached, and nothing was refused.";

/** Return what is wrong, a sentence each. */
export function troubles(info) {
  const {limits = {}, syslog, persistence = {}, history = {}, bus, map, clients = {}, server = {}, hits = {}} = info;
  const found = [];
  const say = (n, text) => n > 0 && found.push(text(n));
  if (persistence.disk_status === "err") {
    const why = persistence.last_disk_error || "see the log";
    found.push(`The disk fails: ${why}. Hits received now may be lost at a restart.`);
  } else say(persistence.disk_errors, (n) => `The disk failed ${plural(n, "time")}, and works again.`);
  say(persistence.damaged_files, (n) => `${plural(n, "file")} of the state ${n === 1 ? "was" : "were"} damaged at `
    + `the start; the log names ${n === 1 ? "it" : "them"}.`);
  if (syslog) {
    say(syslog.skipped_not_understood, (n) => `A web server sends lines that cannot be read: ${count(n)} of `
      + `${count(syslog.received)} over syslog. Does --syslog-format match its log format?`);
    say(syslog.dropped, (n) => `${plural(n, "line")} over syslog came faster than ${n === 1 ? "it was" : "they were"} `
      + `read, and ${n === 1 ? "is" : "are"} lost.`);
    say(syslog.foreign, (n) => `${plural(n, "line")} over syslog came from networks that are not allowed to `
      + "send (--syslog-from).");
    if (syslog.received === 0) {
      found.push("No line has come over syslog yet. Has the web server been told to send its log here?");
    }
  }
  for (const [name, n] of Object.entries(limits)) {
    const text = LIMITS[name] ?? `A limit was reached (${name.replace(/_reached$/, "")})`;
    say(n, () => `${text}: ${plural(n, "time")}.`);
  }
  say(history.history_errors, (n) => `The history could not be read or written ${plural(n, "time")}: `
    + `${history.last_history_error || "see the log"}.`);
  say(history.last_seen_lost, (n) => `Where ${plural(n, "user")} ${n === 1 ? "was" : "were"} last seen is lost.`);
  const why = (bus?.bus_last_error || "it does not answer").replace(/\.$/, "");
  if (bus?.bus_status === "refusing") {
    found.push(`The bus takes no hits: ${why}. Other servers do not get the hits of this one.`);
  } else if (bus && !["ok", "reading"].includes(bus.bus_status)) {
    found.push(`The bus cannot be reached: ${why}. What other servers know may be missing here.`);
  }
  say(bus?.dropped, (n) => `${plural(n, "hit")} found no room while the bus was away: other servers do not have `
    + `${n === 1 ? "it" : "them"}.`);
  say(bus?.poisoned_entries, (n) => `${plural(n, "entry", "entries")} of the bus could not be read.`);
  if (map?.came_from_away) found.push(`The streams of these partitions cannot be read: ${map.came_from_away}.`);
  say(map?.came_from_gaps, (n) => `The stream of another partition had lost entries ${plural(n, "time")}: users may be `
    + "missing.");
  say(hits.refused, (n) => `${plural(n, "hit")} ${n === 1 ? "was" : "were"} refused: malformed, not allowed, or at a `
    + "limit.");
  say(hits.skewed, (n) => `${plural(n, "hit")} had a time in the future: a clock is ahead.`);
  say(server.clock_steps, (n) => `The clock of this machine was set ${plural(n, "time")} while the server ran.`);
  say(clients.connections_failed, (n) => `${plural(n, "connection")} failed because of a fault in the server; the log `
    + "tells more.");
  return found;
}

/** Return figures worth a line: names and values. */
export function figures({server = {}, memory = {}, clients = {}, hits = {}, syslog, persistence = {}}) {
  const rows = [
    ["Running for", span(server.uptime_in_seconds ?? 0)],
    ["A hit counts for", span(server.window_s ?? 0)],
    ["Pages with people", count(hits.pages ?? 0)],
    ["Hits accepted", count(hits.accepted ?? 0)],
    ["Hits too old to count", count((hits.late ?? 0) + (hits.stale ?? 0))],
    ["Memory", `${bytes(memory.used_memory ?? 0)} of ${bytes(memory.max_memory ?? 0)}`],
    ["Connections", count(clients.connected_clients ?? 0)],
  ];
  if (syslog) rows.push(["Lines over syslog", `${count(syslog.received)}, ${plural(syslog.hits, "hit")}`]);
  if (persistence.journal_bytes !== undefined) rows.push(["Journal on disk", bytes(persistence.journal_bytes)]);
  return rows;
}

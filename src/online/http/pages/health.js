// What INFO says, in plain words: what an operator should know, and what to do about it.

import {bytes, count, plural, span} from "./dom.js";

const LIMITS = {
  max_users_reached: "A site has as many users as it may have (max_users)",
  max_pages_reached: "A site has as many pages as it may have (max_pages)",
  max_memory_reached: "The memory of all sites is used up (max_memory)",
  max_sites_reached: "There are as many sites as there may be (max_sites)",
  max_connections_reached: "Too many connections came at once (max_connections)",
  max_buffers_reached: "Too much data waited in connections, the largest was ended (max_buffers)",
  open_files_reached: "The system gave no more descriptors or memory for a connection",
  slow: "Connections were ended because they did not take their answers",
  frame_timeout: "Connections were ended because a message of theirs took too long",
  auth_timeout: "Connections were ended because they sent no token in time",
};

/** Return what is wrong, a sentence each. */
export function troubles({limits = {}, syslog, persistence = {}, clients = {}, server = {}, hits = {}}) {
  const found = [];
  const say = (n, text) => n > 0 && found.push(text(n));
  if (persistence.disk_status === "err") {
    const why = persistence.last_disk_error || "see the log";
    found.push(`The disk fails: ${why}. Hits of now may be lost at a restart.`);
  } else say(persistence.disk_errors, (n) => `The disk has failed ${plural(n, "time")}, and works again.`);
  say(persistence.damaged_files, (n) => `${plural(n, "file")} of the state ${n === 1 ? "was" : "were"} damaged at `
    + `the start; the log names ${n === 1 ? "it" : "them"}.`);
  if (syslog) {
    say(syslog.skipped_not_understood, (n) => `A web server sends lines that are not understood: ${count(n)} of `
      + `${count(syslog.received)} over syslog. Does --syslog-format fit its log format?`);
    say(syslog.dropped, (n) => `${plural(n, "line")} over syslog came faster than ${n === 1 ? "it was" : "they were"} `
      + `read, and ${n === 1 ? "is" : "are"} lost.`);
    say(syslog.foreign, (n) => `${plural(n, "line")} over syslog came from networks that may not send `
      + "(--syslog-from).");
    if (syslog.received === 0) {
      found.push("No line has come over syslog yet. Is the web server told to send its log here?");
    }
  }
  for (const [name, text] of Object.entries(LIMITS)) say(limits[name], (n) => `${text}: ${plural(n, "time")}.`);
  say(hits.refused, (n) => `${plural(n, "hit")} ${n === 1 ? "was" : "were"} refused: malformed, or at a limit.`);
  say(hits.skewed, (n) => `${plural(n, "hit")} came from a clock that is ahead.`);
  say(server.clock_steps, (n) => `The clock of this machine was set ${plural(n, "time")} while the server ran.`);
  say(clients.connections_failed, (n) => `${plural(n, "connection")} failed by a fault of the server; the log `
    + "tells more.");
  return found;
}

/** Return figures worth a line: names and values. */
export function figures({server = {}, memory = {}, clients = {}, hits = {}, syslog, persistence = {}}) {
  const rows = [
    ["Running for", span(server.uptime_in_seconds ?? 0)],
    ["Online after a hit for", span(server.window_s ?? 0)],
    ["Pages with people", count(hits.pages ?? 0)],
    ["Hits taken", count(hits.accepted ?? 0)],
    ["Hits late or out of date", count((hits.late ?? 0) + (hits.stale ?? 0))],
    ["Memory", `${bytes(memory.used_memory ?? 0)} of ${bytes(memory.max_memory ?? 0)}`],
    ["Connections", count(clients.connected_clients ?? 0)],
  ];
  if (syslog) rows.push(["Lines over syslog", `${count(syslog.received)}, ${plural(syslog.hits, "hit")}`]);
  if (persistence.journal_bytes !== undefined) rows.push(["Journal on disk", bytes(persistence.journal_bytes)]);
  return rows;
}

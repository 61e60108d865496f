// Where the figures come from: a stream of events tells what channels have; everything else is polled.

import {inQuery, keyOf} from "./dom.js";

const BEAT_MS = 10_000;
const SOON_MS = 3000; // after the last beat, if something has changed or failed since then
const SELDOM_MS = 60_000;
const PATIENCE_MS = 8000;
const GATHER_MS = 30; // what comes within that time is shown at once
const BEATS_A_TRY = 4; // without a stream, until it is tried again

const MOST_SECTIONS = 12;
const LONGEST_PREFIX = 120; // in a query; that of a stream has to fit into a request

/** Ask the API, relative to this page, so that any prefix of a proxy will do. Throws a Trouble. */
export async function ask(path, patience = PATIENCE_MS) {
  let response;
  try {
    const signal = AbortSignal.timeout(patience);
    response = await fetch(path, {cache: "no-store", credentials: "same-origin", signal});
  } catch {
    throw new Trouble("the server does not answer");
  }
  if (response.status === 401) {
    location.assign("login");
    throw new Trouble("please log in");
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new Trouble(`a web server in between answered ${response.status}`);
  }
  if (!response.ok) throw new Trouble(answer.detail ?? `error ${response.status}`, response.status);
  return answer;
}

export class Trouble extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Whether the question itself is wrong: it need not be asked again. */
  get isRefusal() { return this.status >= 400 && this.status < 500; }
}

/** A stream of the states of channels. A browser connects again by itself, unless it is refused. */
class Stream {
  constructor(tell, lost) {
    Object.assign(this, {tell, lost, query: "", isAway: false});
  }

  follow(query) {
    if (query === this.query) return;
    this.close();
    this.query = query;
    const events = this.events = new EventSource(`api/v1/events?${query}`);
    const fail = () => {
      this.isAway = true;
      this.lost();
    };
    this.timer = setTimeout(fail, SOON_MS); // something on the way collects what should come at once
    events.onerror = fail;
    events.onmessage = ({data}) => {
      clearTimeout(this.timer);
      this.isAway = false;
      this.tell(JSON.parse(data));
    };
  }

  close() {
    clearTimeout(this.timer);
    this.events?.close();
    this.query = "";
  }
}

/**
 * Follow a site. `wanted()` says what is looked at: `{site, page}`; `past(at_ms)` what is asked of the past, by name.
 * `show` gets what is known whenever some of it is new, `fail` what is wrong when nothing comes. Goes on by itself
 * after a restart. Rests while the page is hidden. Returns what to call when something else is looked at.
 */
export function watch(wanted, past, show, fail) {
  const watcher = new Watcher(wanted, past, show, fail);
  watcher.look();
  return () => watcher.look();
}

/** Each question stands for itself: what one is refused, or waits for, keeps no other from being shown. */
class Watcher {
  constructor(wanted, past, show, fail) {
    Object.assign(this, {wanted, past, show, fail, dueAt: Infinity, beganAt: -Infinity, n: 0, isFailing: false});
    this.stream = new Stream((state) => this.take(state), () => this.soon());
    this.forget(wanted().site);
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stream.close() : this.look()));
  }

  forget(site) {
    this.stream.close();
    this.known = {site, url: null, page: null, sections: [], errors: {}};
    Object.assign(this, {pageKey: null, prefixes: [], underWay: new Set(), shownSections: new Map()});
  }

  /** Something else is looked at, or this page is again: ask everything. */
  look() {
    this.wholeAt = this.pastAt = -Infinity;
    this.within(0);
  }

  soon() {
    this.within(Math.max(0, this.beganAt + SOON_MS - performance.now()));
  }

  /** See to it that the next beat comes in `ms` at the latest. */
  within(ms) {
    const at = performance.now() + ms;
    if (at >= this.dueAt) return;
    clearTimeout(this.timer);
    this.dueAt = at;
    this.timer = setTimeout(() => this.beat(), ms);
  }

  beat() {
    this.dueAt = Infinity;
    if (document.hidden) return;
    this.beganAt = performance.now();
    this.within(BEAT_MS);
    const {site, page} = this.wanted();
    if (keyOf(site) !== keyOf(this.known.site)) this.forget(site);
    this.ask("kinds", "kinds");
    if (this.isFailing) return this.soon(); // nothing else is asked before it answers
    this.ask("recent", "recent?limit=10");
    this.lookAt(page);
    if (this.beganAt - this.wholeAt > BEAT_MS - SOON_MS) {
      this.wholeAt = this.beganAt;
      for (const name of ["info", "sites", "peak"]) this.ask(name, name);
      this.ask("pages", "top?limit=200");
    }
    if (!this.stream.isAway) return;
    this.n += 1;
    if (this.n % BEATS_A_TRY === 0) this.stream.close();
    else this.ask("states", `states?${this.channels()}`, this.isStill());
    this.follow();
  }

  /** A page is asked for once, to learn whether there may be such a one. From then on its channel tells. */
  lookAt(page) {
    const key = page === null ? null : keyOf(page);
    if (key !== this.pageKey) {
      this.pageKey = key;
      this.stream.close(); // it tells of another page
      Object.assign(this.known, {url: page, page: null});
      delete this.known.errors.page;
    }
    if (key === null) this.follow();
    else if (!this.known.page && !this.known.errors.page?.isRefusal) {
      this.ask("page", `page?url=${inQuery(page)}&limit=30`, this.isStill());
    }
  }

  isStill() {
    const {pageKey} = this;
    return () => this.pageKey === pageKey;
  }

  async ask(name, question, isWanted = () => true) {
    const {known, underWay} = this;
    if (underWay.has(question)) return;
    underWay.add(question);
    const and = question.includes("?") ? "&" : "?";
    const ofSite = ["info", "sites"].includes(name) ? "" : `${and}site=${inQuery(known.site)}`;
    let answer;
    let trouble;
    try {
      answer = await ask(`api/v1/${question}${ofSite}`);
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      trouble = error;
    }
    underWay.delete(question);
    if (known !== this.known || !isWanted()) return;
    known.errors[name] = trouble;
    if (answer) {
      known[name] = answer;
      this.answered(name, answer);
    } else this.refused(name, trouble);
    this.tell();
  }

  answered(name, answer) {
    if (name === "states") answer.states.forEach((state) => this.take(state));
    if (name === "pages") this.prefixes = prefixesOf(answer.pages, this.prefixes);
    if (name === "pages" || name === "page") this.follow();
    if (name !== "kinds") return;
    if (this.isFailing) {
      this.isFailing = false;
      this.stream.close();
      this.look();
    }
    if (performance.now() - this.pastAt > SELDOM_MS) {
      this.pastAt = performance.now();
      for (const [each, question] of Object.entries(this.past(answer.at_ms))) this.ask(each, question);
    }
  }

  refused(name, trouble) {
    if (!trouble.isRefusal) this.soon();
    if (name === "kinds") {
      this.isFailing = true;
      this.fail(trouble);
    }
    if (name === "pages" || name === "page") this.follow();
  }

  channels() {
    const page = this.known.page ? [`page:${inQuery(this.known.url)}`] : [];
    const sections = this.prefixes.map((prefix) => `section:${inQuery(prefix)}`);
    return ["count", "top", ...page, ...sections].map((each) => `channel=${each}`).join("&");
  }

  /** Let the stream tell what is looked at, as soon as it is known what that is. */
  follow() {
    const {known} = this;
    if (document.hidden || !(known.pages || known.errors.pages)) return;
    if (this.pageKey !== null && !known.page && !known.errors.page) return;
    this.stream.follow(`${this.channels()}&site=${inQuery(known.site)}`);
  }

  /** Take the state of a channel. */
  take(state) {
    const {channel, code} = state;
    if (channel === "top") this.known.top = state;
    else if ("here" in state) this.known.page = state;
    else if (String(channel).startsWith("section:")) this.takeSection(channel.slice("section:".length), state, code);
    this.soon();
    this.tell();
  }

  takeSection(prefix, state, code) {
    if (code) this.shownSections.delete(prefix); // it has too many pages to add up
    else this.shownSections.set(prefix, {prefix, ...state});
    for (const each of this.shownSections.keys()) if (!this.prefixes.includes(each)) this.shownSections.delete(each);
    const largest = [...this.shownSections.values()].sort((a, b) => b.people - a.people);
    this.known.sections = largest.slice(0, MOST_SECTIONS);
  }

  tell() {
    this.telling ??= setTimeout(() => {
      this.telling = null;
      if (this.known.kinds && !this.known.errors.kinds) this.show(this.known);
    }, GATHER_MS);
  }
}

/**
 * Return the sections to follow: what pages have before their second slash. Those that are followed stay while they are
 * among twice as many: to follow others is to connect again.
 */
function prefixesOf(pages, followed) {
  const prefixes = pages.map(({url}) => typeof url === "string" && url.match(/^\/[^/?#]+\//)?.[0]);
  const found = [...new Set(prefixes)].filter((each) => each && inQuery(each).length <= LONGEST_PREFIX);
  const stay = followed.filter((each) => found.slice(0, 2 * MOST_SECTIONS).includes(each));
  return [...new Set([...found.slice(0, MOST_SECTIONS), ...stay])].sort();
}

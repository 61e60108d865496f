// Where the figures come from. `watch` asks the API again and again; one EventSource can take its place.

import {inQuery, keyOf} from "./dom.js";

const EVERY_MS = 2000;
const SELDOM = 5; // every so many rounds
const PATIENCE_MS = 8000;

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
    throw new Trouble(`a web server in between answers ${response.status}`);
  }
  if (!response.ok) throw new Trouble(answer.detail ?? `error ${response.status}`, response.status);
  return answer;
}

export class Trouble extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/**
 * Follow a site. `wanted()` says what is looked at: `{site, page}`. `show` gets the newest whole state, `fail` what is
 * wrong while there is none. Goes on by itself after a restart. Rests while the page is hidden.
 */
export function watch(wanted, show, fail) {
  let round = 0;
  let kept = {};
  let keptSite = null;

  async function once() {
    const {site, page} = wanted();
    const of = (verb, query = "") => ask(`api/v1/${verb}?${query}${query && "&"}site=${inQuery(site)}`);
    if (keyOf(site) !== keptSite) [kept, keptSite, round] = [{}, keyOf(site), 0];
    const asked = {
      kinds: of("kinds"), top: of("top", "limit=15"), recent: of("recent", "limit=10"), info: ask("api/v1/info"),
    };
    if (page !== null) asked.page = of("page", `url=${inQuery(page)}&limit=30`);
    if (round % SELDOM === 0) {
      Object.assign(asked, {sites: ask("api/v1/sites"), peak: of("peak"), sections: sections(of)});
    }
    round += 1;
    const names = Object.keys(asked);
    const answers = await Promise.all(Object.values(asked));
    const state = Object.fromEntries(names.map((name, place) => [name, answers[place]]));
    for (const name of ["sites", "peak", "sections"]) kept[name] = state[name] ?? kept[name];
    const now = wanted();
    if (keyOf(now.site) === keyOf(site)) show({...kept, ...state, site, at_ms: state.kinds.at_ms});
  }

  async function loop() {
    for (;;) {
      const began = performance.now();
      try {
        await once();
      } catch (error) {
        if (!(error instanceof Trouble)) throw error;
        round = 0;
        fail(error);
      }
      await rest(Math.max(200, EVERY_MS - (performance.now() - began)));
      while (document.hidden) await next("visibilitychange");
    }
  }

  let hurry = () => {};
  const rest = (ms) => new Promise((done) => {
    const timer = setTimeout(done, ms);
    hurry = () => (clearTimeout(timer), done());
  });
  const next = (name) => new Promise((done) => document.addEventListener(name, done, {once: true}));
  loop();
  return () => hurry();
}

/** Return the people in each part of a site: what its top pages have before their second slash. */
async function sections(of) {
  const {pages} = await of("top", "limit=200");
  const prefixOf = ({url}) => typeof url === "string" && url.match(/^\/[^/?#]+\//)?.[0];
  const prefixes = new Set(pages.map(prefixOf).filter(Boolean));
  const found = await Promise.all([...prefixes].slice(0, 12).map(async (prefix) => {
    try {
      return {prefix, ...(await of("section", `prefix=${inQuery(prefix)}`))};
    } catch (error) {
      if (error.status === 400) return null; // too many pages to add up
      throw error;
    }
  }));
  return found.filter(Boolean).sort((a, b) => b.people - a.people);
}

/* Who is online, on any page: <online-count> and <online-users>, as docs/widget.md says. All tabs share one connection,
   held by a SharedWorker that runs this same file; where there is none, each tab has its own while it is seen. */
(() => {
  "use strict";
  const STALLED_MS = 8000, POLL_MS = 10000, POLLS_A_TRY = 6, MOST_CHANNELS = 100;

  /** Follows channels of a site over one stream of events; while that fails, asks now and then. */
  class Source {
    constructor(base, site, tell) {
      Object.assign(this, {base, site, tell, query: ""});
    }

    follow(channels) {
      const query = channels.map((each) => `channel=${encodeURIComponent(each)}&`)
        .sort().slice(0, MOST_CHANNELS).join("");
      if (query === this.query) return;
      this.query = query;
      this.close();
      if (query) this.open();
    }

    close() {
      clearTimeout(this.timer);
      this.events?.close();
      this.events = null;
    }

    address(path) {
      return `${this.base}api/v1/${path}?${this.query}${this.site && `site=${encodeURIComponent(this.site)}`}`;
    }

    open() {
      this.close();
      const fail = () => {
        this.close();
        this.poll(POLLS_A_TRY);
      };
      if (!self.EventSource) return fail();
      const events = this.events = new EventSource(this.address("events"));
      this.timer = setTimeout(fail, STALLED_MS); // something on the way collects what should come at once
      events.onmessage = ({data}) => {
        clearTimeout(this.timer);
        this.tell(JSON.parse(data));
      };
      events.onerror = () => events === this.events && events.readyState === 2 && fail();
    }

    async poll(left) {
      const {query} = this;
      try {
        const answer = await fetch(this.address("states"), {cache: "no-store"});
        const {states} = await answer.json();
        if (query === this.query) states?.forEach(this.tell);
      } catch {} // it may be there the next time
      if (query !== this.query || this.events) return;
      this.timer = setTimeout(() => left ? this.poll(left - 1) : this.open(), POLL_MS * (0.8 + Math.random() * 0.4));
    }
  }

  /** Lets many listeners share one source for each site. */
  class Hub {
    places = new Map();

    want(listener, base, site, channels) {
      const key = `${base} ${site}`;
      let place = this.places.get(key);
      if (!place) {
        place = {wanted: new Map(), last: new Map()};
        place.source = new Source(base, site, (state) => {
          place.last.set(state.channel, state);
          for (const [told, its] of place.wanted) if (its.includes(state.channel)) told(site, state);
        });
        this.places.set(key, place);
      }
      place.wanted.set(listener, channels);
      const all = [...new Set([...place.wanted.values()].flat())];
      for (const each of place.last.keys()) if (!all.includes(each)) place.last.delete(each);
      for (const each of channels) if (place.last.has(each)) listener(site, place.last.get(each));
      place.source.follow(all);
    }
  }

  const hub = new Hub();
  if (!self.document) { // this is the worker
    self.onconnect = ({ports: [port]}) => {
      const told = (...news) => port.postMessage(news);
      port.onmessage = ({data}) => hub.want(told, ...data);
    };
    return;
  }

  const script = document.currentScript.src;
  const base = new URL(".", script).href;
  const shown = new Set();
  const sites = new Set();
  let worker = null, isDue = false, isAway = false;

  /** This page, as the urls of hits are: decoded where that is UTF-8. */
  function thisPage() {
    return location.pathname.replace(/%[c-f][0-9a-f](%[89ab][0-9a-f])+|%[0-9a-f]{2}/gi, (escaped) => {
      try {
        return decodeURIComponent(escaped);
      } catch {
        return escaped.toUpperCase();
      }
    });
  }

  /** A number as the language of the page writes it, or that of the browser. */
  function written(n) {
    try {
      return n.toLocaleString(document.documentElement.lang.replaceAll("_", "-") || undefined);
    } catch { // the page names none
      return n.toLocaleString();
    }
  }

  function told(site, state) {
    for (const each of shown) {
      if (each.site !== site || each.channel !== state.channel) continue;
      try {
        each.show(state);
      } catch (error) { // the others are shown all the same
        console.error(error);
      }
    }
  }

  function update() {
    if (isDue) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      const isSeen = !isAway && document.visibilityState === "visible";
      for (const each of shown) sites.add(each.site);
      for (const site of sites) {
        const here = isSeen ? [...shown].filter((each) => each.site === site) : [];
        const channels = [...new Set(here.map((each) => each.channel))];
        if (worker) worker.port.postMessage([base, site, channels]);
        else hub.want(told, base, site, channels);
      }
    });
  }

  try {
    worker = new SharedWorker(script, "online");
    worker.port.onmessage = ({data}) => told(...data);
    worker.onerror = () => {
      worker = null;
      update();
    };
  } catch {} // it is of another site, or the browser has none

  document.addEventListener("visibilitychange", update);
  addEventListener("pagehide", () => { // perhaps for ever, perhaps into the browser's cache
    isAway = true;
    update();
  });
  addEventListener("pageshow", () => {
    isAway = false;
    update();
  });

  class Shown extends HTMLElement {
    static observedAttributes = ["page", "section", "site"];

    get site() {
      return this.getAttribute("site") ?? "";
    }

    get channel() {
      const section = this.getAttribute("section");
      const page = this.getAttribute("page") ?? this.ofPage;
      return section !== null ? `section:${section}` : page !== undefined ? `page:${page || thisPage()}` : "count";
    }

    connectedCallback() {
      shown.add(this);
      update();
    }

    disconnectedCallback() {
      shown.delete(this);
      update();
    }

    attributeChangedCallback() {
      update();
    }
  }

  customElements.define("online-count", class extends Shown {
    show({people, here}) {
      const n = here ?? people;
      if (n !== undefined) this.textContent = written(n);
    }
  });

  customElements.define("online-users", class extends Shown {
    ofPage = "";

    show({users}) {
      const link = this.getAttribute("link");
      const list = document.createElement("ul");
      for (const {user} of users ?? []) {
        const name = typeof user === "string" ? user : "\ufffd";
        const item = list.appendChild(document.createElement("li"));
        if (link) {
          const a = item.appendChild(document.createElement("a"));
          a.href = link.replace("{user}", encodeURIComponent(name));
          a.textContent = name;
        } else item.textContent = name;
      }
      this.replaceChildren(list);
    }
  });
})();

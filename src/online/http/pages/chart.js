// Small charts in SVG: a line with axes, a tooltip and keys, and a sparkline. No text in them comes from users.

import {count, make, plural} from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Return round values from 0 to at least `top`, about `n` of them. */
export function ticks(top, n = 4) {
  const rough = Math.max(top, 1) / n;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((each) => each * unit).find((each) => each >= rough));
  return Array.from({length: Math.ceil(Math.max(top, 1) / step) + 1}, (_, place) => place * step);
}

export const DAY_MS = 86_400_000;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const STEPS_MS = [...STEPS_S.map((s) => 1000 * s), ...[1, 2, 4, 7, 14].map((days) => days * DAY_MS)];
const STEPS_MONTHS = [1, 2, 3, 6, 12, 24, 36, 60, 120, 240, 600, 1200, 6000, 12_000];

/** Return at most `n` round times of a span, `ahead` minutes before UTC, and about how far they are from each other. */
export function timeTicks(from, to, n, ahead = 0) {
  const [first, last] = [from + ahead * 60_000, to + ahead * 60_000];
  const step = STEPS_MS.find((each) => last - first < n * each);
  const found = [];
  const inTime = (ms) => ms - ahead * 60_000;
  if (step) {
    for (let at = Math.ceil(first / step) * step; at <= last; at += step) found.push(at);
    return {at: found.map(inTime), step};
  }
  const monthOf = (ms) => 12 * new Date(ms).getUTCFullYear() + new Date(ms).getUTCMonth();
  const begin = monthOf(first - 1) + 1;
  const months = STEPS_MONTHS.find((each) => monthOf(last) - begin < n * each) ?? STEPS_MONTHS.at(-1);
  for (let month = Math.ceil(begin / months) * months; month <= monthOf(last); month += months) {
    found.push(Date.UTC(1970, month - 12 * 1970));
  }
  return {at: found.map(inTime), step: months * 31 * DAY_MS};
}

/**
 * A chart of people over time in `parent`. It is a slider for keys and screen readers: arrows go from point to point.
 * `update(points, {from, to, timeText, label, gap})`; points are `[ms, people]` in order of time; no line over a `gap`.
 * Further options: `beside`, points of a second line, dashed; `tickText(ms, step_ms)` for round times; `isUtc`, whether
 * they are round in UTC; `unit` in place of people, as one and many.
 */
export class LineChart {
  constructor(parent) {
    this.svg = draw("svg", {"aria-hidden": "true"});
    this.tip = make("div", {class: "tip", hidden: true});
    this.box = make("div", {class: "chart", tabindex: "0", role: "slider", "aria-orientation": "horizontal"}, this.tip);
    this.box.prepend(this.svg);
    parent.append(this.box);
    Object.assign(this, {points: [], beside: [], unit: ["person", "people"]});
    this.chosen = null;
    this.box.addEventListener("pointermove", (event) => this.#point(event));
    this.box.addEventListener("pointerleave", () => this.#choose(null));
    this.box.addEventListener("blur", () => this.#choose(null));
    this.box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#render()).observe(this.box);
  }

  update(points, options) {
    Object.assign(this, {points, ...options});
    this.#render();
  }

  #x(ms) { return this.left + (ms - this.from) / Math.max(1, this.to - this.from) * (this.right - this.left); }
  #y(n) { return this.bottom - n / this.top * (this.bottom - 14); }

  #render() {
    const {width, height} = this.box.getBoundingClientRect();
    if (width < 50 || this.from === undefined) return;
    const steps = ticks(Math.max(0, ...this.points.map(([, n]) => n), ...this.beside.map(([, n]) => n)));
    this.top = steps.at(-1);
    const em = parseFloat(getComputedStyle(this.box).fontSize);
    Object.assign(this, {left: 1 + .5 * em * count(this.top).length + 8, right: width - 8, bottom: height - 1.6 * em});
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = steps.flatMap((n) => [
      draw("line", {class: "grid", x1: this.left, x2: this.right, y1: this.#y(n), y2: this.#y(n)}),
      draw("text", {x: this.left - 6, y: this.#y(n) + 4, "text-anchor": "end"}, count(n)),
    ]);
    const ahead_min = this.isUtc ? 0 : -new Date(this.to).getTimezoneOffset();
    const {at, step} = timeTicks(this.from, this.to, width < 480 ? 3 : 5, ahead_min);
    for (const ms of at.length ? at : [this.from]) {
      const x = this.#x(ms);
      const anchor = x - this.left < 3 * em ? "start" : this.right - x < 3 * em ? "end" : "middle";
      const text = (this.tickText ?? this.timeText)(ms, step);
      parts.push(draw("text", {class: "time", x, y: height - 3, "text-anchor": anchor}, text));
    }
    if (this.beside.length) parts.push(draw("path", {class: "line beside", d: `M${this.#line(this.beside)}`}));
    for (const run of this.#runs()) {
      const line = this.#line(run);
      const [from, to] = [this.#x(run[0][0]), this.#x(run.at(-1)[0])];
      parts.push(draw("path", {class: "area", d: `M${from} ${this.bottom}L${line}L${to} ${this.bottom}Z`}));
      parts.push(draw("path", {class: "line", d: `M${line}`}));
    }
    this.svg.replaceChildren(...parts, ...this.#cursor());
    this.#tell();
  }

  #line(points) { return points.map(([ms, n]) => `${this.#x(ms).toFixed(1)} ${this.#y(n).toFixed(1)}`).join("L"); }

  /** Return the points in runs without a gap. */
  #runs() {
    const runs = [];
    let last = -Infinity;
    for (const point of this.points) {
      if (point[0] - last > this.gap) runs.push([]);
      runs.at(-1).push(point);
      last = point[0];
    }
    return runs;
  }

  #cursor() {
    const point = this.points[this.chosen];
    this.tip.hidden = point === undefined;
    if (point === undefined) return [];
    const [x, y] = [this.#x(point[0]), this.#y(point[1])];
    this.tip.textContent = `${this.timeText(point[0])}: ${count(point[1])}`;
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.min(Math.max(x, half), this.right - half)}px`;
    return [
      draw("line", {class: "cursor", x1: x, x2: x, y1: 14, y2: this.bottom}),
      draw("circle", {class: "dot", cx: x, cy: y, r: 5}),
    ];
  }

  #tell() {
    const people = this.points.map(([, n]) => n);
    const place = this.chosen ?? this.points.length - 1;
    const point = this.points[place];
    const [lowest, highest] = [Math.min(...people), Math.max(...people)];
    const extremes = people.length ? `, lowest ${count(lowest)}, highest ${count(highest)}` : "";
    this.box.setAttribute("aria-label", `${this.label}${extremes}`);
    this.box.setAttribute("aria-valuemin", "0");
    this.box.setAttribute("aria-valuemax", String(Math.max(0, this.points.length - 1)));
    this.box.setAttribute("aria-valuenow", String(Math.max(0, place)));
    const text = point ? `${this.timeText(point[0])}: ${plural(point[1], ...this.unit)}` : "nothing yet";
    this.box.setAttribute("aria-valuetext", text);
  }

  #choose(place) {
    this.chosen = place;
    this.#render();
  }

  #point(event) {
    if (!this.points.length) return;
    const x = event.clientX - this.box.getBoundingClientRect().left;
    const away = this.points.map(([ms]) => Math.abs(this.#x(ms) - x));
    this.#choose(away.indexOf(Math.min(...away)));
  }

  #key(event) {
    const last = this.points.length - 1;
    const from = this.chosen ?? last;
    const step = Math.max(1, Math.round(last / 10));
    const to = {ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1,
      PageDown: from - step, PageUp: from + step, Home: 0, End: last, Escape: null}[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.#choose(to === null ? null : Math.min(Math.max(to, 0), last));
  }
}

/** Return a sparkline that `set` gives its numbers. */
export function sparkline() {
  const svg = draw("svg", {class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true"});
  const path = draw("path", {d: ""});
  svg.append(path);
  return {
    svg,
    set(values) {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const y = (n) => (high === low ? 10 : 18 - (n - low) / (high - low) * 16);
      const x = (place) => (values.length < 2 ? 100 : 100 * place / (values.length - 1));
      const points = values.map((n, place) => `${x(place).toFixed(1)} ${y(n).toFixed(1)}`);
      path.setAttribute("d", values.length < 2 ? `M0 ${y(values[0])}H100` : `M${points.join("L")}`);
    },
  };
}

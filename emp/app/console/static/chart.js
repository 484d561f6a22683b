// A chart on two canvases: what was drawn, and what follows the pointer over it. All time charts share one span of time.
import {clock, colour, el, number} from "./format.js";

export const LEFT = 6, TOP = 8, BOTTOM = 20;

// The span of market time that is shown: `span` ns up to `end`, or up to the newest where it follows; or the `whole`.
export const time = {
  span: 300e9, end: null, whole: false, newest: 0, oldest: 0, listeners: new Set(),
  get to() { return this.end ?? this.newest; },
  get from() { return this.to - this.span; },
  change() { this.listeners.forEach((listen) => listen()); },
  zoom(factor, at = this.to) {
    const whole = Math.max(10e9, this.newest - this.oldest), span = Math.min(Math.max(this.span * factor, 2e9), whole);
    if (this.end !== null) this.end = at + (this.to - at) * span / this.span;
    this.span = span; this.whole = false; this.change();
  },
  move(ns) {
    const end = Math.max(this.oldest + this.span / 4, this.to + ns);
    this.end = end >= this.newest ? null : end; this.whole = false; this.change();
  },
};

export class Chart {
  // `draw(g, chart)` draws; `tell(ts, chart)` says in words what is at a time; `values` counts x otherwise.
  constructor(box, label, draw, tell, {timed = true, right = 64} = {}) {
    this.box = box; this.label = label; this.paint = draw; this.tell = tell; this.timed = timed; this.right = right;
    this.base = el("canvas"); this.over = el("canvas"); this.tip = el("div", {className: "tip"});
    box.append(this.base, this.over, this.tip);
    box.tabIndex = 0; box.setAttribute("role", "img"); box.setAttribute("aria-label", label);
    this.at = null; this.dirty = true; this.visible = true;
    this.width = this.height = 0;
    new ResizeObserver(() => this.measure()).observe(box);
    new IntersectionObserver(([entry]) => { this.visible = entry.isIntersecting; if (this.visible) this.dirty = true; }).observe(box);
    if (timed) time.listeners.add(() => { this.dirty = true; });
    this.listen();
  }

  measure() { this.width = this.box.clientWidth; this.height = this.box.clientHeight; this.dirty = true; }  // dear to ask for at every point
  get inner() { return this.width - LEFT - this.right; }
  x(ts) { return LEFT + (ts - time.from) / time.span * this.inner; }
  ts(x) { return time.from + (x - LEFT) / this.inner * time.span; }
  y(value) { return TOP + (this.high - value) / (this.high - this.low) * (this.height - TOP - BOTTOM); }

  scale(low, high, least = 1) {
    if (!(low <= high)) { low = 0; high = 0; }
    const middle = (low + high) / 2, half = Math.max((high - low) / 2 * 1.08, least / 2);
    this.low = middle - half; this.high = middle + half;
  }

  prepare(canvas) {
    const ratio = window.devicePixelRatio || 1, w = Math.round(this.width * ratio), h = Math.round(this.height * ratio);
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0); g.clearRect(0, 0, this.width, this.height);
    g.font = "11px system-ui, sans-serif"; g.lineJoin = "round";
    return g;
  }

  render() {
    if (!this.dirty || !this.visible || !this.width) return;
    this.dirty = false;
    this.paint(this.prepare(this.base), this);
    this.hover();
  }

  empty(g, why) {
    g.fillStyle = colour("dim"); g.textAlign = "center"; g.fillText(why, this.width / 2, this.height / 2);
  }

  // Lines and labels of the y axis at round values, and of the time axis.
  axes(g, show) {
    g.strokeStyle = colour("line"); g.fillStyle = colour("dim"); g.lineWidth = 1; g.textAlign = "left"; g.textBaseline = "middle";
    const step = round((this.high - this.low) / Math.max(2, this.height / 46), this.whole ? 1 : 0);
    for (let v = Math.ceil(this.low / step) * step; v <= this.high; v += step) {
      const y = this.y(v);
      g.beginPath(); g.moveTo(LEFT, y); g.lineTo(this.width - this.right, y); g.stroke();
      g.fillText(show(Math.abs(v) < step / 1e6 ? 0 : v), this.width - this.right + 5, y);
    }
    if (!this.timed) return;
    g.textAlign = "center"; g.textBaseline = "alphabetic";
    const every = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800].find((s) => s * 1e9 / time.span * this.inner > 74) ?? 604800;
    for (let ts = Math.ceil(time.from / 1e9 / every) * every * 1e9; ts <= time.to; ts += every * 1e9) {
      const x = this.x(ts);
      g.beginPath(); g.moveTo(x, TOP); g.lineTo(x, this.height - BOTTOM); g.stroke();
      if (x > 28 && x < this.width - this.right - 4) g.fillText(every >= 86400 ? new Date(ts / 1e6).toISOString().slice(5, 10) : clock(ts, 0).slice(0, every < 60 ? 8 : 5), x, this.height - 5);
    }
    g.save(); g.beginPath(); g.rect(LEFT, 0, this.inner, this.height - BOTTOM + 2); g.clip();
  }

  done(g) { if (this.timed) g.restore(); }

  // Of points that share a column of pixels the first, the lowest, the highest and the last are drawn.
  line(g, xs, ys, style, width = 1.5, step = false) {
    g.strokeStyle = style; g.lineWidth = width; g.beginPath();
    let open = false, column = NaN, low = 0, high = 0, before = 0;
    const leave = () => { if (low < high) { g.lineTo(column, low); g.lineTo(column, high); g.lineTo(column, before); } };
    for (let i = 0; i < xs.length; i++) {
      if (ys[i] == null || !Number.isFinite(ys[i])) { leave(); open = false; column = NaN; low = high = 0; continue; }
      const x = this.x(xs[i]), y = this.y(ys[i]);
      if (open && x - column < 0.5) { low = Math.min(low, y); high = Math.max(high, y); before = y; continue; }
      leave();
      if (!open) g.moveTo(x, y); else { if (step) g.lineTo(x, before); g.lineTo(x, y); }
      open = true; column = x; low = high = before = y;
    }
    leave(); g.stroke();
  }

  hover() {
    const g = this.prepare(this.over);
    const said = this.at === null ? null : this.tell(this.timed ? this.ts(this.at) : this.at, this);
    this.tip.style.display = said ? "block" : "none";
    if (!said) return;
    const x = this.timed && said.ts ? this.x(said.ts) : this.at;
    g.strokeStyle = colour("dim"); g.setLineDash([3, 3]); g.beginPath(); g.moveTo(x, TOP); g.lineTo(x, this.height - BOTTOM); g.stroke();
    this.tip.textContent = said.text;
    const left = x + 12 + this.tip.offsetWidth > this.width ? x - 12 - this.tip.offsetWidth : x + 12;
    this.tip.style.left = Math.max(0, left) + "px"; this.tip.style.top = "6px";
    if (document.activeElement === this.box) this.box.setAttribute("aria-label", this.label + ". " + said.text.replaceAll("\n", ", "));
  }

  listen() {
    const box = this.box;
    let drag = null;
    const at = (event) => event.clientX - box.getBoundingClientRect().left;
    box.addEventListener("pointermove", (event) => {
      if (drag !== null && this.timed) { time.move((drag - at(event)) / this.inner * time.span); drag = at(event); return; }
      this.at = at(event); this.hover();
    });
    box.addEventListener("pointerleave", () => { this.at = null; drag = null; this.hover(); });
    box.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") { drag = at(event); box.setPointerCapture(event.pointerId); } });
    box.addEventListener("pointerup", () => { drag = null; });
    box.addEventListener("dblclick", () => { time.end = null; time.change(); });
    box.addEventListener("blur", () => { this.at = null; this.hover(); });
    box.addEventListener("wheel", (event) => {
      if (!this.timed || !(event.ctrlKey || Math.abs(event.deltaY) > Math.abs(event.deltaX))) return;
      if (document.activeElement !== box && !event.ctrlKey) return;  // the wheel scrolls the page until a chart is chosen
      event.preventDefault(); time.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.ts(at(event)));
    }, {passive: false});
    box.addEventListener("keydown", (event) => {
      const keys = {ArrowLeft: -1, ArrowRight: 1};
      if (event.key === "+" || event.key === "=") time.zoom(0.8);
      else if (event.key === "-") time.zoom(1.25);
      else if (event.key === "Home") { time.end = null; time.change(); }
      else if (event.key in keys && event.shiftKey) time.move(keys[event.key] * time.span / 8);
      else if (event.key in keys) { this.at = Math.min(Math.max((this.at ?? this.width - this.right) + keys[event.key] * 12, LEFT), this.width - this.right); this.hover(); }
      else return;
      event.preventDefault();
    });
  }
}

export function round(value, least = 0) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return Math.max(least, [1, 2, 5, 10].find((m) => m * power >= value) * power);
}

// The place of the newest entry at or before a time; -1 before the first.
export function place(list, ts) {
  let low = 0, high = list.length;
  while (low < high) { const middle = (low + high) >> 1; if (list[middle] <= ts) low = middle + 1; else high = middle; }
  return low - 1;
}

export function within(list) {
  return [Math.max(0, place(list, time.from)), Math.min(list.length, place(list, time.to) + 2)];
}

export const short = (value) => Math.abs(value) >= 1e6 ? number(value / 1e6, 1) + "M" : number(value, Math.abs(value) < 10 && value % 1 ? 1 : 0);

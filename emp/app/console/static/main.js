// The page: takes the stream, keeps the store, draws when something is new.
import {time} from "./chart.js";
import * as controls from "./controls.js";
import {$, el, number, price, put} from "./format.js";
import {panels} from "./panels.js";
import {MOST, Store} from "./store.js";
import * as tables from "./tables.js";

const SPANS = [["1 min", 60e9], ["5 min", 300e9], ["15 min", 900e9], ["1 h", 3600e9], ["all", Infinity]];
const LOST_MS = 3000, STARTING_MS = 20000;
const DEAD_MS = 8000;  // a line that says nothing for so long is asked for anew: a socket that died unheard never tells

const store = new Store();
const units = {
  money: false,
  factor: (one) => units.money && one.money_per_tick ? one.money_per_tick : 1,
  show: (v, one) => units.money && one.money_per_tick ? number(v == null ? null : v * one.money_per_tick, 2, true) + ` ${one.currency}` : number(v, 1, true),
};
const charts = panels(store, units);
let heard = performance.now(), ended = false, most = 0, refused = 0, wrote = 0, fetching = "";
let stream = null, asked = 0, has = "";

async function fetchHistory() {
  const name = store.name;
  if (!name || fetching === name) return;
  fetching = name;
  try {
    const answer = await fetch(`/history?instrument=${encodeURIComponent(name)}`);
    if (answer.ok && name === store.name) { store.fill(await answer.json()); fresh(); }
  } catch { /* the stream says that the connection is lost */ } finally { fetching = ""; }
}

// A page that nobody sees holds no line: a browser has six to a host for all its tabs, and a control needs one.
function listen() {
  stream?.close(); stream = null; asked = performance.now();
  if (document.hidden) return;
  const source = stream = new EventSource(`/events?after=${encodeURIComponent(has)}`);
  const again = (ms) => { source.close(); setTimeout(() => { if (stream === source) listen(); }, ms); };
  source.onmessage = (event) => {
    heard = performance.now(); ended = false; most = 0; has = event.lastEventId;
    const message = JSON.parse(event.data), before = store.name;
    if (message.reset) store.clear();
    store.take(message);
    if (message.reset || before !== store.name) fetchHistory();
    fresh();
  };
  source.addEventListener("end", () => { ended = true; health(); again(2000); });
  source.addEventListener("full", (event) => { most = JSON.parse(event.data).most; refused = performance.now(); health(); again(2000); });
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) again(1000); };
}

function watch() {
  if (document.hidden) return;
  if (!ended && performance.now() - Math.max(heard, asked) > DEAD_MS) listen();
  health();
}

function seen() {
  if (!document.hidden) heard = performance.now();
  listen();
}

function fresh() {
  const ts = store.lines.ts;
  if (ts.length) { time.newest = ts.at(-1); time.oldest = ts[0]; }
  if (time.whole) time.span = spanOf(Infinity);
  charts.forEach((chart) => { chart.dirty = true; });
  write();
}

function choose(name) {
  if (name === store.name) return;
  store.name = name; store.clear(); time.end = null; fetchHistory(); fresh();
}

function health() {
  const pill = $("health"), quiet = performance.now() - heard, starting = !store.view;
  let text, kind = "pill bad";
  if (ended) text = "the run has ended";
  else if (most && performance.now() - refused < DEAD_MS) text = `too many viewers: ${most} pages of this run are open, the most it serves. Close one, or leave it in the background: this page then goes on by itself`;
  else if (quiet > (starting ? STARTING_MS : LOST_MS)) text = `connection lost: the engine does not answer for ${Math.floor(quiet / 1000)} s`;
  else if (starting) { text = store.reasons.join("; "); kind = "pill wait"; }
  else if (store.reasons.length) text = store.reasons.join("; ");
  else { text = "healthy"; kind = "pill"; }
  if (/^starting/.test(text)) text = "starting: the engine compiles and warms up";
  put(pill, text); pill.className = kind;
}

function write() {
  const view = store.view, one = store.one;
  health();
  if (!view || !one) return;
  const money = units.money && one.money_per_tick;
  put($("money"), "in " + (money ? one.currency : "ticks")); put($("pnlunit"), money ? one.currency : "ticks × lots");
  document.body.classList.toggle("observing", view.mode === "observe");
  tables.header(view, store); tables.cards(one, units, view.mode !== "observe"); tables.ladder(one); tables.limits(one, view.account); tables.orders(one);
  const now = performance.now();
  controls.instruments(view.instruments.map((i) => i.name));
  tabs(view);
  const notes = $("notices"), key = store.notices.join("\n");
  if (notes.dataset.key !== key) { notes.dataset.key = key; notes.replaceChildren(...store.notices.map((n) => el("li", {textContent: n}))); }
  tables.decisions(one, store.decisions); tables.fills(one, store.recent_fills);
  if (now - wrote < 900) return;
  wrote = now;
  tables.reasons(one); tables.calibration(one); tables.system(view, one); tables.log(store.log);
}

function tabs(view) {
  const box = $("tabs");
  if (view.instruments.length < 2) { box.replaceChildren(); return; }
  if ([...box.children].map((tab) => tab.dataset.name).join() !== view.instruments.map((i) => i.name).join()) box.replaceChildren(...view.instruments.map((i) => {
    const tab = el("button", {type: "button", className: "small"});
    tab.setAttribute("role", "tab"); tab.dataset.name = i.name;
    tab.addEventListener("click", () => choose(i.name));
    return tab;
  }));
  view.instruments.forEach((i, n) => {
    const tab = box.children[n];
    put(tab, [i.name, price(i.bid, i), ...(view.mode === "observe" ? [] : [`${number(i.position, 0, true)} lots`, units.show(i.pnl_ticks, i)]), ...(i.halted ? ["halted"] : [])].join("  "));
    tab.setAttribute("aria-selected", String(i.name === store.name)); tab.tabIndex = i.name === store.name ? 0 : -1;
  });
}

const spanOf = (ns) => ns === Infinity ? Math.max(10e9, time.newest - time.oldest) : ns;

function tools() {
  for (const [label, ns] of SPANS) {
    const button = el("button", {type: "button", className: "small", textContent: label});
    button.addEventListener("click", () => { time.whole = ns === Infinity; time.span = spanOf(ns); if (time.whole) time.end = null; time.change(); });
    $("spans").append(button, " ");
  }
  const shown = () => {
    [...$("spans").children].forEach((button, i) => button.setAttribute("aria-pressed", String(SPANS[i][1] === Infinity ? time.whole : !time.whole && time.span === SPANS[i][1])));
    $("live").setAttribute("aria-pressed", String(time.end === null));
  };
  time.listeners.add(shown); shown();
  $("live").addEventListener("click", () => { time.end = null; time.change(); });
  $("money").addEventListener("click", () => {
    const one = store.one;
    units.money = !units.money && Boolean(one?.money_per_tick); fresh();
  });
  $("tabs").addEventListener("keydown", (event) => {
    const all = [...$("tabs").children], at = all.indexOf(document.activeElement), step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (step && at >= 0) { const next = all[(at + step + all.length) % all.length]; choose(next.dataset.name); next.focus(); }
  });
}

function theme() {
  const order = ["", "light", "dark"], root = document.documentElement;
  const set = (name) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; put($("theme"), "colours: " + (name || "system")); charts.forEach((c) => { c.dirty = true; }); };
  let now = localStorage.getItem("emp theme") ?? "";
  set(now);
  $("theme").addEventListener("click", () => { now = order[(order.indexOf(now) + 1) % 3]; localStorage.setItem("emp theme", now); set(now); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((c) => { c.dirty = true; }));
}

function frame() { charts.forEach((chart) => chart.render()); requestAnimationFrame(frame); }

controls.setUp(); tools(); theme(); listen(); setInterval(watch, 500); frame();
document.addEventListener("visibilitychange", seen);
Object.assign(window, {emp: {store, time, MOST}});  // for whoever looks at the page from outside

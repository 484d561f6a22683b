// What stands in words: cards, ladder, decisions, fills, limits, and whatever else a view holds.
import {$, ABSENT, clock, duration, el, number, price, share, words} from "./format.js";

const cell = (text, name = "") => el("td", {textContent: text, className: name});
const side = (s) => s > 0 ? ["buy", "buy"] : s < 0 ? ["sell", "sell"] : [ABSENT, ""];

// A row is a list of texts or [text, class]; {fold: text} is one cell over all columns.
function table(box, head, rows, empty) {
  if (unchanged(box, JSON.stringify([head, rows]))) return;
  const made = el("table"), top = made.createTHead().insertRow(), body = made.createTBody();
  head.forEach((text, i) => top.append(el("th", {textContent: text, scope: "col", className: i < 1 ? "l" : ""})));
  if (!rows.length) body.append(el("tr", {}, el("td", {className: "empty", colSpan: head.length, textContent: empty})));
  for (const row of rows) {
    if (row.fold) body.append(el("tr", {className: "fold"}, el("td", {className: "l", colSpan: head.length, textContent: row.fold})));
    else body.append(el("tr", {}, ...row.map((c) => Array.isArray(c) ? cell(...c) : cell(c))));
  }
  replace(box, made);
}

let selected = null;  // where a selection of a person's begins; noted when it changes, for to ask lays the page out

document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  selected = selection && !selection.isCollapsed ? selection.anchorNode : null;
});

// Whether a box shows just that already, or holds what a person has selected and must not lose.
function unchanged(box, key) {
  if (box.key === key || (selected && box.contains(selected))) return true;
  box.key = key;
  return false;
}

// Where a person has scrolled a box to, noted when it changes: to ask between two changes lays the page out each time.
function scrolled(box) {
  if (box.scrolled) return box.scrolled;
  const at = box.scrolled = {top: 0, end: true};
  box.addEventListener("scroll", () => { at.top = box.scrollTop; at.end = at.top + box.clientHeight >= box.scrollHeight - 8; }, {passive: true});
  return at;
}

function replace(box, ...made) {
  const at = box.classList.contains("scroll") ? scrolled(box) : null;
  box.replaceChildren(...made);
  if (at?.top) requestAnimationFrame(() => { box.scrollTop = at.top; });  // all is laid out then, once
}

// Who only observes has no position and no money: what is not there is not shown as zero.
export function cards(one, units, trades) {
  const realised = one.unrealised_ticks == null ? null : one.pnl_ticks - one.unrealised_ticks;
  const dropped = Object.values(one.drops).reduce((a, b) => a + b, 0), known = one.bid < one.ask;
  const trading = !trades ? [] : [
    ["position, lots", number(one.position, 0, true), one.position ? (one.position > 0 ? "buy" : "sell") : ""],
    ["PnL after fees", units.show(one.pnl_ticks, one), one.pnl_ticks < 0 ? "sell" : ""], ["realised", units.show(realised, one)],
    ["unrealised", units.show(one.unrealised_ticks, one)], ["drawdown", units.show(one.drawdown_ticks, one)], ["fees", units.show(one.fees_ticks, one)],
    ["fills", number(one.fills)], ["expected a lot", one.value.closed_lots ? number(one.value.expected, 2, true) : ABSENT],
    ["brought a lot", one.value.closed_lots ? number(one.value.realised, 2, true) : ABSENT, one.value.closed_lots && one.value.realised < 0 ? "sell" : ""],
    ["may open, lots", one.value.earned_lots ? number(one.value.earned_lots) : "0: not earned", one.value.earned_lots ? "" : "sell"],
    ["opens by crossing", one.value.may_cross ? "yes" : "no"],
  ];
  const rows = [
    ["bid", price(one.bid, one)], ["ask", price(one.ask, one)], ["spread, ticks", known ? number(one.ask - one.bid) : ABSENT], ...trading,
    ["events", number(one.events)], ["lag, ms", number(one.event_lag_ms, 1)], ["dropped", number(dropped), dropped ? "sell" : ""],
    ["book", one.degraded ? "degraded" : one.stale ? "stale" : known ? "good" : "none", one.degraded || one.stale ? "sell" : ""],
  ];
  if (unchanged($("cards"), JSON.stringify(rows))) return;
  replace($("cards"), ...rows.map(([label, value, name = ""]) =>
    el("div", {className: "card"}, el("b", {textContent: value, className: name, title: value}), el("span", {className: "dim", textContent: label}))));
}

export function ladder(one) {
  if (!one.bids.length && !one.asks.length) return table($("ladder"), ["bid", "price", "ask"], [], "no book");
  if (unchanged($("ladder"), JSON.stringify([one.name, one.bids, one.asks, one.open_orders]))) return;
  const mine = new Map();
  for (const o of one.open_orders) mine.set(o.px, (mine.get(o.px) ?? []).concat(o));
  const most = Math.max(1, ...one.bids.map((l) => l[1]), ...one.asks.map((l) => l[1]));
  const row = (px, lots, bid, first) => {
    const own = (mine.get(px) ?? []).filter((o) => (o.side > 0) === bid);
    const mark = own.map((o) => `◆${o.qty - o.filled}` + (o.queue_ahead == null ? "" : ` (${number(o.queue_ahead)} ahead)`)).join(" ");
    const bar = el("i", {className: bid ? "bidbar" : "askbar"});
    bar.style.width = `${100 * lots / most}%`;
    const size = el("td", {className: bid ? "size" : "size l"}, lots ? bar : null, el("span", {textContent: lots ? number(lots) : ABSENT}));
    const note = el("td", {className: "ownmark" + (bid ? " l" : ""), textContent: mark});
    const at = el("td", {className: "px", textContent: price(px, one)});
    return el("tr", {className: first ? "gap" : ""}, ...(bid ? [size, at, note] : [note, at, size]));
  };
  const made = el("table", {className: "ladder"}), body = made.createTBody();
  made.createTHead().insertRow().append(...["bid", "price", "ask"].map((t, i) => el("th", {textContent: t, scope: "col", className: i === 2 ? "l" : ""})));
  [...one.asks].reverse().forEach(([px, lots]) => body.append(row(px, lots, false, false)));
  one.bids.forEach(([px, lots], i) => body.append(row(px, lots, true, i === 0)));
  replace($("ladder"), made);
}

export function decisions(one, list) {
  const rows = [];
  let folded = 0;
  const fold = () => {
    if (folded) rows.push({fold: `in flight: ${folded} decision${folded > 1 ? "s" : ""} waited for an answer`});
    folded = 0;
  };
  for (const d of [...list].reverse()) {
    if (d.reason === "in_flight") { folded++; continue; }
    fold();
    const way = d.side || Math.sign(d.edge_ticks), shown = d.side ? side(d.side) : [side(way)[0] === ABSENT ? ABSENT : `(${side(way)[0]})`, ""];
    rows.push([[clock(d.ts), "l"], [words(d.action)], [words(d.reason)], shown, d.qty ? number(d.qty) : ABSENT, price(d.px, one), number(d.edge_ticks * way, 2, true),
      number(d.expected_ticks, 2, true), number(d.came_ticks, 1, true), number(d.latency_ms * 1e3, 0)]);
    if (rows.length >= 60) break;
  }
  fold();
  table($("decisions"), ["time UTC", "action", "reason", "side", "lots", "price", "edge", "expected", "came", "µs"], rows, "no decision yet");
}

export function fills(one, list) {
  table($("fills"), ["time UTC", "side", "lots", "price", "how", "reason", "expected", "brought"], [...list].reverse().slice(0, 80).map((f) => [
    [clock(f.ts), "l"], side(f.side), number(f.qty), price(f.px, one), f.maker ? "rested" : "crossed", words(f.reason || ABSENT),
    number(f.expected_ticks, 2, true), [number(f.realised_ticks, 2, true), f.realised_ticks < 0 ? "sell" : ""],
  ]), "no fill yet");
}

export function orders(one) {
  table($("orders"), ["order", "status", "side", "price", "filled", "ahead"], one.open_orders.map((o) => [
    [o.cl_ord_id.slice(-10), "l"], words(o.status), side(o.side), price(o.px, one), `${o.filled}/${o.qty}`, number(o.queue_ahead),
  ]), "none at work");
}

// Bars: [name, share, text] each.
function bars(box, rows, near, empty) {
  if (unchanged(box, JSON.stringify(rows))) return;
  replace(box, ...(rows.length ? rows.map(([name, part, text]) => {
    const fill = el("i"), track = el("span", {className: "track" + (near && part >= 0.8 ? " near" : "")}, fill);
    fill.style.width = `${Math.min(100, 100 * part)}%`;
    return el("div", {className: "barrow" + (near ? " used" : "")}, el("span", {textContent: name}), track, el("span", {textContent: text}));
  }) : [el("p", {className: "dim", textContent: empty})]));
}

export function limits(one, account) {
  const rows = [...one.limits, ...account.limits].map((l) => [l.name, l.limit ? l.value / l.limit : 0, `${number(l.value, l.value % 1 ? 1 : 0)} of ${number(l.limit)} ${l.unit}`]);
  bars($("limits"), rows, true, "none: nothing is traded");
}

export function reasons(one) {
  const rows = Object.entries(one.reasons), all = rows.reduce((sum, [, n]) => sum + n, 0);
  bars($("reasons"), rows.slice(0, 14).map(([name, n]) => [words(name), n / all, `${number(n)}  ${number(100 * n / all, 1)} %` + (one.orders[name] ? `, ${number(one.orders[name])} orders` : "")]), false, "no decision yet");
}

export function calibration(one) {
  const head = one.forecaster;
  table($("calibration"), ["horizon", "outcomes", "below", "inside", "above", "Brier", "moves bring"], Object.entries(one.calibration).map(([name, c]) => [
    [name, "l"], number(c.outcomes), share(c.below), share(c.inside), share(c.above), number(c.brier, 3), number(head.scale[name], 2),
  ]), "no forecast is due yet; calibrated is 25 %, 50 %, 25 %");
}

const SHOWN = new Set(["name", "tick", "bid", "ask", "last_ts", "position", "pnl_ticks", "fees_ticks", "fills", "events", "event_lag_ms", "drops", "degraded", "stale",
  "open_orders", "decisions", "value", "money_per_tick", "currency", "bids", "asks", "unrealised_ticks", "drawdown_ticks", "limits", "forecast", "outcomes", "calibration",
  "recent_fills", "reasons", "orders", "forecaster", "instruments", "now_ns", "run", "mode", "model", "started_ns", "halted", "halt_reason", "controls", "account"]);

export function system(view, one) {
  const trades = view.mode !== "observe", idle = new Set(trades ? [] : ["serving", "restarts", "refused_orders", "commands", "bars", "closing"]);
  const made = [], ms = (v) => v ? `${number(v * 1e3, 1)} µs` : ABSENT;
  const group = (name, rows) => { if (rows.length) made.push(el("div", {}, el("h3", {textContent: name}), el("dl", {}, ...rows.flatMap(([k, v]) => [el("dt", {textContent: k}), el("dd", {textContent: v})])))); };
  if (trades) group("latency", [["model, p50 / p90 / p99", [view.p50_infer_ms, view.p90_infer_ms, view.p99_infer_ms].map(ms).join(" / ")], ["decision, p50 / p99", [view.p50_total_ms, view.p99_total_ms].map(ms).join(" / ")]]);
  group("links", Object.entries(view.links).map(([name, l]) => [name, (l.up ? "up" : `down: ${l.reason || l.cause}`) + (l.since_ns ? ` since ${clock(l.since_ns, 0)}` : "") + (Object.keys(l.losses).length ? `, lost ${pairs(l.losses)}` : "")]));
  group("owner's controls", view.controls.slice(0, 6).map((c) => [clock(c.at_ns, 0) + " " + c.action, [c.instrument, c.reason, c.flat_ms == null ? "" : `flat after ${number(c.flat_ms, 0)} ms`].filter(Boolean).join(", ")]));
  if (trades) group("context", [["multiplies size by", number(one.context_mult, 2) + (one.context_reason ? `: ${one.context_reason}` : "")]]);
  if (one.forecaster.name) group("forecaster", generic({head: one.forecaster.name, trained: one.forecaster.trained, outcomes: one.forecaster.outcomes}));
  if (trades) group("value, closed lots", generic(one.value));
  if (view.account.currency) group(`account, ${view.account.currency}`, generic({...view.account, limits: undefined}));
  for (const [title, whole] of [["", view], [one.name, one]]) {
    const flat = [];
    for (const [key, value] of Object.entries(whole)) {
      if (SHOWN.has(key) || idle.has(key) || key === "links" || key.startsWith("context_") || /^p\d+_/.test(key)) continue;
      if (value && typeof value === "object" && !Array.isArray(value)) group(words(key), generic(value)); else flat.push([key, value]);
    }
    group(title || "run", generic(Object.fromEntries(flat)));
  }
  if (!unchanged($("system"), made.map((m) => m.textContent).join("|"))) replace($("system"), ...made);
}

// Any group of names and values, whatever a later release adds.
function generic(group) {
  return Object.entries(group).filter(([, v]) => v !== undefined && v !== "" && !(Array.isArray(v) && !v.length)).map(([k, v]) => [words(k), plain(v)]);
}

function plain(v) {
  if (v === null) return ABSENT;
  if (typeof v === "number") return number(v, Number.isInteger(v) ? 0 : 3);
  if (typeof v === "boolean") return v ? "yes" : "no";
  if (Array.isArray(v)) return v.map(plain).join("; ");
  if (typeof v === "object") return pairs(v) || ABSENT;
  return /^[0-9a-f]{40,}$/.test(v) ? v.slice(0, 12) : String(v);
}

const pairs = (v) => Object.entries(v).map(([k, n]) => `${words(k)} ${plain(n)}`).join(", ");

export function log(lines) {
  const box = $("log");
  if (unchanged(box, `${lines.length}|${lines.at(-1)}`)) return;
  const at = scrolled(box);
  if (at.end) at.top = 1e9;  // it stays at the newest line
  replace(box, ...lines.slice(-120).map((line) => {
    let text = line, level = "";
    try {
      const {ts, level: l, event, ...rest} = JSON.parse(line);
      level = l; text = `${clock(ts)} ${event}` + (Object.keys(rest).length ? "  " + pairs(rest) : "");
    } catch { /* a line that is no JSON is shown as it is */ }
    return el("div", {textContent: text, className: level});
  }));
}

export function header(view, store) {
  $("mode").textContent = view.mode; $("mode").className = "badge " + view.mode;
  const s = view.serving, swaps = Object.values(s.swaps).reduce((a, b) => a + b, 0);
  const model = s.hash ? [`model ${s.kind} ${s.hash.slice(0, 10)}`, s.standing, s.role !== "primary" ? s.role : "", s.slow ? "too slow" : "", swaps ? `swaps ${swaps}` : "",
    s.refused ? `refused ${s.refused}` : "", s.rule ? `own rule ${s.rule} (candidate)` : ""].filter(Boolean).join(", ") : "no model: nothing is traded";
  const links = Object.entries(view.links).map(([name, l]) => `${name} ${l.up ? "up" : "down"}`).join(", ");
  $("who").textContent = [`run ${view.run}`, model, links, `up ${duration((view.now_ns - view.started_ns) / 1e9)}`].filter(Boolean).join(" · ");
  document.title = `${store.name} ${view.mode} · EMP`;
}

// The charts: what each draws of the store, and what it says where the pointer is.
import {Chart, LEFT, place, short, time, within} from "./chart.js";
import {$, clock, colour, number, price, words} from "./format.js";

const SLEEP = "no data in this span";

export function panels(store, units) {
  return [
    new Chart($("price"), "Price with depth, fills and own orders", (g, c) => drawPrice(g, c, store), (ts) => tellPrice(ts, store), {right: 76}),
    new Chart($("pnl"), "Profit and loss", (g, c) => drawPnl(g, c, store, units), (ts) => tellPnl(ts, store, units)),
    new Chart($("position"), "Position", (g, c) => drawPosition(g, c, store), (ts) => tellLine(ts, store, "position", (v) => `position ${number(v, 0, true)} lots`)),
    new Chart($("came"), "Forecast against what came", (g, c) => drawCame(g, c, store), (ts) => tellCame(ts, store), {right: 76}),
    new Chart($("fan"), "Forecast now, by horizon", (g, c) => drawFan(g, c, store), (x, c) => tellFan(x, c, store), {timed: false}),
  ];
}

function bounds(lists, from, to) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (let i = from; i < to; i++) {
    const v = list[i];
    if (v != null && v < low) low = v;
    if (v != null && v > high) high = v;
  }
  return [low, high];
}

function drawPrice(g, c, store) {
  const one = store.one, {ts, bid, ask} = store.lines;
  if (!one || !ts.length) return c.empty(g, "waiting for the market");
  const [from, to] = within(ts);
  if (to - from < 1) return c.empty(g, SLEEP);
  let [low, high] = bounds([bid, ask], from, to);
  const orders = one.open_orders, shown = store.recent_fills.filter((f) => f.ts >= time.from && f.ts <= time.to);
  for (const o of [...orders, ...shown]) { low = Math.min(low, o.px); high = Math.max(high, o.px); }
  const room = Math.max(4, (high - low) * 0.3); c.whole = true;
  c.scale(low - room, high + room, 12);
  c.axes(g, (v) => price(v, one));
  drawDepth(g, c, store.books);
  c.line(g, ts.slice(from, to), bid.slice(from, to), colour("buy"), 1.4, true);
  c.line(g, ts.slice(from, to), ask.slice(from, to), colour("sell"), 1.4, true);
  for (const o of orders) drawOrder(g, c, o);
  for (const f of shown) drawFill(g, c, f);
  c.done(g);
  tag(g, c, bid.at(-1), price(bid.at(-1), one), "buy"); tag(g, c, ask.at(-1), price(ask.at(-1), one), "sell");
}

const SHADES = 12;

// One column per sample that is at least a pixel wide; cells of one shade are filled together.
function drawDepth(g, c, books) {
  const [from, to] = within(books.ts);
  let most = 1;
  for (let i = from; i < to; i++) for (let k = 0; k < 10; k++) most = Math.max(most, books.levels[i][10 + k], books.levels[i][30 + k]);
  const tall = Math.max(2, Math.abs(c.y(1) - c.y(0))), cells = Array.from({length: SHADES + 1}, () => []), scale = SHADES / Math.log1p(most);
  for (let i = from; i < to; i++) {
    const x = Math.round(c.x(books.ts[i])), next = i + 1 < books.ts.length ? c.x(books.ts[i + 1]) : c.x(time.to), row = books.levels[i];
    const wide = Math.min(Math.round(next) - x, c.inner / 8);
    if (wide < 1) continue;  // the next column hides it
    for (let k = 0; k < 20; k++) {
      const at = k < 10 ? k : k + 10, lots = row[at + 10];
      if (lots) cells[Math.round(scale * Math.log1p(lots))].push(x, Math.round(c.y(row[at]) - tall / 2), wide);
    }
  }
  const rgb = colour("heat");
  const high = Math.round(tall);
  cells.forEach((some, shade) => {
    g.fillStyle = `rgba(${rgb}, ${0.05 + 0.62 * shade / SHADES})`;
    for (let i = 0; i < some.length; i += 3) g.fillRect(some[i], some[i + 1], some[i + 2], high);  // whole pixels: no edge is to be smoothed
  });
}

function drawOrder(g, c, o) {
  const y = c.y(o.px), style = colour("own");
  g.strokeStyle = style; g.lineWidth = 2; g.setLineDash([6, 4]); g.beginPath();
  g.moveTo(Math.max(LEFT, o.ts ? c.x(o.ts) : LEFT), y); g.lineTo(c.width - c.right, y); g.stroke(); g.setLineDash([]);
  const ahead = o.queue_ahead == null ? "" : `, ${number(o.queue_ahead)} ahead`;
  const text = `${o.side > 0 ? "buy" : "sell"} ${o.qty - o.filled}${ahead}`;
  g.textAlign = "right"; g.textBaseline = o.side > 0 ? "top" : "bottom";
  const wide = g.measureText(text).width, top = o.side > 0 ? y + 2 : y - 16;
  g.fillStyle = colour("surface"); g.fillRect(c.width - c.right - wide - 10, top, wide + 8, 14);
  g.fillStyle = style; g.fillText(text, c.width - c.right - 6, o.side > 0 ? y + 4 : y - 3);
}

function drawFill(g, c, f) {
  const x = c.x(f.ts), y = c.y(f.px), s = 5 + Math.min(4, f.qty), way = f.side > 0 ? 1 : -1;
  g.beginPath(); g.moveTo(x, y); g.lineTo(x - s, y + way * s * 1.5); g.lineTo(x + s, y + way * s * 1.5); g.closePath();
  g.fillStyle = colour(f.side > 0 ? "buy" : "sell"); g.fill(); g.strokeStyle = colour("surface"); g.lineWidth = 1.2; g.stroke();
}

function tag(g, c, value, text, name) {
  const y = Math.min(Math.max(c.y(value), 8), c.height - 26) + (name === "buy" ? 7 : -7);
  g.fillStyle = colour(name); g.fillRect(c.width - c.right + 1, y - 8, c.right - 2, 15);
  g.fillStyle = colour("surface"); g.textAlign = "left"; g.textBaseline = "middle"; g.fillText(text, c.width - c.right + 4, y);
}

function tellPrice(ts, store) {
  const one = store.one, i = place(store.lines.ts, ts);
  if (!one || i < 0) return null;
  const at = store.lines.ts[i], lines = [clock(at), `bid ${price(store.lines.bid[i], one)}  ask ${price(store.lines.ask[i], one)}`];
  const near = store.recent_fills.filter((f) => Math.abs(f.ts - ts) < time.span / 80);
  for (const f of near.slice(0, 4)) {
    lines.push(`${f.side > 0 ? "bought" : "sold"} ${f.qty} at ${price(f.px, one)} ${f.maker ? "resting" : "crossing"}, ${words(f.reason)}`,
      `  expected ${number(f.expected_ticks, 2, true)}, brought ${number(f.realised_ticks, 2, true)} ticks a lot`);
  }
  return {ts: at, text: lines.join("\n")};
}

function drawPnl(g, c, store, units) {
  const one = store.one, {ts, pnl, unrealised, drawdown} = store.lines;
  if (!one || !ts.length) return c.empty(g, "waiting for the market");
  const [from, to] = within(ts), k = units.factor(one), some = (list) => list.slice(from, to).map((v) => v == null ? null : v * k);
  const times = ts.slice(from, to), total = some(pnl), down = some(drawdown);
  const realised = times.map((_, i) => unrealised[from + i] == null ? null : (pnl[from + i] - unrealised[from + i]) * k);
  const [low, high] = bounds([total, realised, down], 0, times.length);
  c.scale(Math.min(low, 0), Math.max(high, 0), k);
  c.axes(g, short);
  zero(g, c);
  c.line(g, times, down, colour("sell"), 1); c.line(g, times, realised, colour("buy"), 1.2, true); c.line(g, times, total, colour("accent"), 1.8);
  c.done(g);
}

function zero(g, c) {
  g.strokeStyle = colour("dim"); g.lineWidth = 1; g.beginPath(); g.moveTo(LEFT, c.y(0)); g.lineTo(c.width - c.right, c.y(0)); g.stroke();
}

function tellPnl(ts, store, units) {
  const i = place(store.lines.ts, ts), one = store.one;
  if (i < 0 || !one) return null;
  const l = store.lines, show = (v) => units.show(v, one);
  const open = l.unrealised[i];
  return {ts: l.ts[i], text: `${clock(l.ts[i])}\ntotal ${show(l.pnl[i])}\nrealised ${show(open == null ? null : l.pnl[i] - open)}\nunrealised ${show(open)}\ndrawdown ${show(l.drawdown[i])}`};
}

function drawPosition(g, c, store) {
  const one = store.one, {ts, position} = store.lines;
  if (!one || !ts.length) return c.empty(g, "waiting for the market");
  const [from, to] = within(ts), most = one.limits.find((l) => l.name === "position")?.limit;
  const [low, high] = bounds([position], from, to);
  c.whole = true; c.scale(Math.min(low, 0) - 0.5, Math.max(high, 0) + 0.5, 4);
  c.axes(g, (v) => number(v, 0, true));
  zero(g, c);
  if (most) for (const limit of [most, -most]) {
    g.strokeStyle = colour("sell"); g.setLineDash([4, 4]); g.beginPath(); g.moveTo(LEFT, c.y(limit)); g.lineTo(c.width, c.y(limit)); g.stroke(); g.setLineDash([]);
  }
  const times = ts.slice(from, to), held = position.slice(from, to);
  c.line(g, times, held, colour("accent"), 1.8, true);
  c.done(g);
}

function tellLine(ts, store, name, say) {
  const i = place(store.lines.ts, ts);
  return i < 0 ? null : {ts: store.lines.ts[i], text: `${clock(store.lines.ts[i])}\n${say(store.lines[name][i])}`};
}

function drawCame(g, c, store) {
  const one = store.one, seen = store.outcomes.filter((o) => o.due >= time.from && o.due <= time.to);
  if (!one || !store.lines.ts.length) return c.empty(g, "waiting for the market");
  if (!seen.length) return c.empty(g, store.outcomes.length ? SLEEP : "no forecast is due yet");
  let low = Infinity, high = -Infinity;
  for (const o of seen) { low = Math.min(low, o.low, o.came); high = Math.max(high, o.high, o.came); }
  c.scale(low, high, 4);
  c.axes(g, (v) => price(v, one));
  const wide = Math.max(1.5, Math.min(8, c.inner / seen.length * 0.7));
  g.fillStyle = colour("band");
  for (const o of seen) g.fillRect(c.x(o.due) - wide / 2, c.y(o.high), wide, Math.max(1, c.y(o.low) - c.y(o.high)));
  c.line(g, seen.map((o) => o.due), seen.map((o) => o.median), colour("accent"), 1.2);
  c.line(g, seen.map((o) => o.due), seen.map((o) => o.came), colour("ink"), 1.4);
  c.done(g);
}

function tellCame(ts, store) {
  const i = place(store.outcomes.map((o) => o.due), ts), o = store.outcomes[i], one = store.one;
  if (!o || !one) return null;
  const at = (v) => number(v * one.tick, 1 + Math.max(0, Math.ceil(-Math.log10(one.tick) - 1e-9)));
  return {ts: o.due, text: `${clock(o.due)}\nexpected ${at(o.low)} to ${at(o.high)}\nmedian ${at(o.median)}\ncame ${at(o.came)}, ${o.came < o.low ? "below" : o.came > o.high ? "above" : "inside"}`};
}

function drawFan(g, c, store) {
  const rows = Object.entries(store.one?.forecast ?? {});
  if (!rows.length) return c.empty(g, "no forecast yet");
  let low = 0, high = 0;
  for (const [, f] of rows) { low = Math.min(low, f.low, f.mean); high = Math.max(high, f.high, f.mean); }
  c.scale(low, high, 0.5); c.axes(g, (v) => number(v, 1, true)); zero(g, c);
  const wide = c.inner / rows.length, x = (i) => LEFT + wide * (i + 0.5);
  g.fillStyle = colour("band"); g.beginPath();
  rows.forEach(([, f], i) => g.lineTo(x(i), c.y(f.high)));
  [...rows].reverse().forEach(([, f], i) => g.lineTo(x(rows.length - 1 - i), c.y(f.low)));
  g.fill();
  const half = Math.min(wide / 4, 8);
  rows.forEach(([, f], i) => g.fillRect(x(i) - half, c.y(f.high), 2 * half, c.y(f.low) - c.y(f.high)));
  for (const [name, style] of [["median", "accent"], ["mean", "ink"]]) {
    g.strokeStyle = colour(style); g.lineWidth = 1.6; g.beginPath();
    rows.forEach(([, f], i) => g.lineTo(x(i), c.y(f[name])));
    rows.forEach(([, f], i) => { g.moveTo(x(i) - half, c.y(f[name])); g.lineTo(x(i) + half, c.y(f[name])); });
    g.stroke();
  }
  g.fillStyle = colour("dim"); g.textAlign = "center"; g.textBaseline = "alphabetic";
  rows.forEach(([name], i) => g.fillText(name, x(i), c.height - 5));
}

function tellFan(x, c, store) {
  const rows = Object.entries(store.one?.forecast ?? {});
  const row = rows[Math.floor((x - LEFT) / (c.inner / rows.length))];
  if (!row) return null;
  const [name, f] = row, t = (v) => number(v, 2, true);
  return {text: `in ${name}\nmiddle half ${t(f.low)} to ${t(f.high)}\nmedian ${t(f.median)}, mean ${t(f.mean)}\ndown ${number(100 * f.down)} %, flat ${number(100 * f.flat)} %, up ${number(100 * f.up)} %`};
}

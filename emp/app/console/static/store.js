// What the page knows: the newest view of all instruments, and series and lists of the one that is shown.
export const MOST = {lines: 9000, books: 1200, decisions: 400, recent_fills: 1000, outcomes: 600};
const LISTS = ["decisions", "recent_fills", "outcomes"];  // rows by their number n

export class Store {
  constructor() {
    this.view = null; this.reasons = ["connecting"]; this.notices = []; this.log = []; this.name = ""; this.clear();
  }

  clear() {
    this.lines = {ts: []}; this.books = {ts: [], levels: []}; this.decisions = []; this.recent_fills = []; this.outcomes = [];
  }

  get one() { return this.view?.instruments.find((i) => i.name === this.name) ?? null; }

  // One event of the stream.
  take(message) {
    if (message.reset) this.log = [];
    this.view = message.view; this.reasons = message.reasons; this.notices = message.notices;
    this.log.push(...message.log); this.log.splice(0, Math.max(0, this.log.length - 300));
    if (this.view && !this.one) { this.name = this.view.instruments[0]?.name ?? ""; this.clear(); }
    const mine = message.since[this.name];
    if (mine) this.add(mine);
  }

  // Everything kept of an instrument: what came by the stream meanwhile is newer and stays.
  fill(history) {
    const newer = {lines: this.lines, books: this.books, decisions: this.decisions, recent_fills: this.recent_fills, outcomes: this.outcomes};
    this.clear(); this.add(history); this.add(newer);
  }

  add(part) {
    extend(this.lines, part.lines, MOST.lines); extend(this.books, part.books, MOST.books);
    for (const name of LISTS) this[name] = merged(this[name], part[name]).slice(-MOST[name]);
  }
}

// Put what is later behind what is there; of two moments of one market time the newer one stands.
function extend(into, part, most) {
  const {ts} = part, last = into.ts.at(-1) ?? -Infinity, from = ts.findIndex((t) => t >= last);
  if (from < 0) return;
  const same = ts[from] === last ? 1 : 0;
  for (const [name, values] of Object.entries(part)) {
    const list = into[name] ??= [];
    if (same) list.pop();
    for (let i = from; i < values.length; i++) if (ts[i + 1] !== ts[i]) list.push(values[i]);
    if (list.length > most) list.splice(0, list.length - most);
  }
}

function merged(old, rows) {
  if (!rows?.length) return old;
  const all = new Map(old.map((row) => [row.n, row]));
  for (const row of rows) all.set(row.n, row);
  return [...all.values()].sort((a, b) => a.n - b.n);
}

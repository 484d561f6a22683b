// The page of all runs: the list, and in what those that are chosen differ.
import {$, ABSENT, el, number, put} from "./format.js";

const chosen = new Set();

const pause = (ms) => new Promise((over) => setTimeout(over, ms));

async function ask(names = []) {
  const query = new URLSearchParams(names.map((name) => ["compare", name]));
  let answer = await fetch(`/runs.json?${query}`);
  for (; answer.status === 202; answer = await fetch(`/runs.json?${query}`)) {
    put($("state"), (await answer.text()).split(":")[0]);
    await pause(1_000);
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

function table(head, rows) {
  const cells = head.map(([name, left]) => el("th", {className: left ? "l" : "", scope: "col"}, name));
  return el("table", {}, el("thead", {}, el("tr", {}, ...cells)), el("tbody", {}, ...rows));
}

const cell = (text, left = false, kind = "") => el("td", {className: (left ? "l " : "") + kind}, text === "" || text == null ? ABSENT : String(text));
const stamp = (text) => (text ?? "").replace("T", " ").replace("Z", "");

const money = (sums) => Object.entries(sums ?? {}).map(([currency, n]) => `${number(n, 2, true)} ${currency}`).join(", ");

function row(one) {
  const name = one.folder.split(/[\\/]/).pop();
  const box = el("input", {type: "checkbox", checked: chosen.has(name), ariaLabel: `compare ${name}`});
  box.addEventListener("change", () => { box.checked ? chosen.add(name) : chosen.delete(name); $("compare").disabled = chosen.size < 2; });
  const pnl = one.pnl_ticks, note = one.halted ? "halted" : one.reason;
  return el("tr", {}, el("td", {className: "l"}, box), cell(name, true), cell(one.mode, true), cell((one.instruments ?? []).join(" "), true), cell(one.state, true),
    cell(stamp(one.began), true), cell(stamp(one.ended), true), cell(number(pnl, 1, true), false, pnl < 0 ? "sell" : pnl > 0 ? "buy" : ""),
    cell(one.fees == null ? money(one.fees_money) : number(one.fees, 1)), cell(number(one.fills)), cell(money(one.pnl_money)), cell(note, true));
}

const HEAD = [["", true], ["run", true], ["mode", true], ["instruments", true], ["state", true], ["began", true], ["ended", true], ["PnL ticks"], ["fees"], ["fills"], ["PnL"], ["note", true]];

async function list() {
  try {
    const {runs, folder} = await ask();
    $("runs").replaceChildren(runs.length ? table(HEAD, runs.reverse().map(row)) : "no run yet");
    put($("state"), `${runs.length} in ${folder}`);
  } catch (error) { put($("state"), error.message); }
}

function shown(value) {
  if (typeof value === "number") return Number.isInteger(value) ? value : Number(value.toPrecision(6));
  return typeof value === "object" && value !== null ? JSON.stringify(value) : value;
}

async function compare() {
  put($("state"), "comparing");
  try {
    const {runs, differences} = await ask([...chosen]), found = Object.entries(differences);
    const rows = found.map(([name, values]) => el("tr", {}, cell(name, true), ...values.map((value) => cell(shown(value)))));
    $("table").replaceChildren(found.length ? table([["", true], ...runs.map((name) => [name])], rows) : "no difference");
    $("differences").hidden = false; $("differences").scrollIntoView();
    put($("state"), `${found.length} differences`);
  } catch (error) { put($("state"), error.message); }
}

const saved = localStorage.getItem("emp theme");
if (saved) document.documentElement.dataset.theme = saved;
$("compare").addEventListener("click", compare);
list(); setInterval(list, 10_000);

// What the owner may do. Every control takes two presses, so that none is done by a slip; the answer says what came of it.
import {$, el, number} from "./format.js";

const ARMED_MS = 4000, SLIP_MS = 250, TOKEN = "emp token";
const ANSWER_MS = 12000;  // the engine has 5 s to take it and 5 s to be flat; a line that died unheard never answers
const NAMES = {halt: "halt", resume: "resume", flatten: "flatten", kill: "kill", stop: "stop the run"};

let armed = null;

export function setUp() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) { sessionStorage.setItem(TOKEN, given); history.replaceState(null, "", location.pathname); }
  showLock();
  for (const button of document.querySelectorAll("#controls [data-do]")) {
    button.dataset.name = button.textContent;
    button.addEventListener("click", (event) => press(button, event));
  }
  $("unlock").addEventListener("click", () => openLock(Boolean($("tokenform").hidden)));
  $("tokenform").addEventListener("submit", (event) => {
    event.preventDefault(); sessionStorage.setItem(TOKEN, $("token").value.trim()); $("token").value = ""; openLock(false); showLock(); say("the token is kept for this tab");
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") disarm(); });
  $("scope").addEventListener("change", () => { if (armed) { disarm(); say("press again: another instrument is chosen"); } });  // what was announced is what is done
}

function openLock(open) {
  $("tokenform").hidden = !open; $("unlock").setAttribute("aria-expanded", String(open));
  if (open) $("token").focus();
}

function showLock() {
  $("unlock").textContent = sessionStorage.getItem(TOKEN) ? "unlocked" : "unlock";
  $("unlock").title = sessionStorage.getItem(TOKEN) ? "This tab may control the run; press to give another token" : "Give the token of the run: emp run printed it, RUN/console.token holds it";
}

export function instruments(names) {
  const scope = $("scope"), key = names.join();
  if (scope.dataset.names === key) return;
  scope.dataset.names = key;
  scope.replaceChildren(...(names.length > 1 ? [el("option", {value: "", textContent: "all instruments"})] : []), ...names.map((n) => el("option", {value: names.length > 1 ? n : "", textContent: n})));
}

function press(button, event) {
  if (!sessionStorage.getItem(TOKEN)) { openLock(true); say("controls need the token of the run", true); return; }
  if (armed?.button !== button) { disarm(); arm(button); return; }
  if (performance.now() - armed.since < SLIP_MS && event.detail !== 0) return;  // a double click is one press
  disarm(); ask(button.dataset.do, button);
}

function arm(button) {
  armed = {button, since: performance.now(), timer: setTimeout(disarm, ARMED_MS)};
  button.classList.add("armed"); button.textContent = `Press again: ${NAMES[button.dataset.do]}`;
  const scope = button.dataset.do === "stop" ? null : $("scope").selectedOptions[0];
  say(`press again to ${NAMES[button.dataset.do]}${scope ? " for " + scope.textContent : ""}; Escape takes it back`);
}

function disarm() {
  if (!armed) return;
  clearTimeout(armed.timer); armed.button.classList.remove("armed"); armed.button.textContent = armed.button.dataset.name; armed = null;
}

async function ask(action, button) {
  const began = performance.now(), scope = action === "stop" ? "" : $("scope").value;
  button.disabled = true; say(`${action}: asked`);
  try {
    const answer = await fetch("/control", {
      method: "POST", signal: AbortSignal.timeout(ANSWER_MS), headers: {"Content-Type": "application/json", "X-Emp-Token": sessionStorage.getItem(TOKEN)},
      body: JSON.stringify({do: action, reason: $("reason").value.trim() || "operator", instrument: scope}),
    });
    const told = await answer.json(), took = performance.now() - began;
    if (answer.status === 403) { sessionStorage.removeItem(TOKEN); showLock(); }
    say(told.text + (told.flat_ms == null ? "" : `; flat after ${number(told.flat_ms)} ms`), !told.ok);
    if (told.flat_ms != null) $("answer").dataset.ms = String(Math.round(took));
    else if (told.ok && (action === "kill" || action === "flatten")) say(`${told.text}; not flat yet, see above`, true);
  } catch {
    say(`${action}: no answer came, it may be done or not; press again, or use emp ${action} RUN`, true);
  } finally {
    button.disabled = false; button.focus();
  }
}

function say(text, bad = false) {
  const answer = $("answer");
  delete answer.dataset.ms; answer.className = bad ? "bad" : ""; answer.textContent = text;
}

// Numbers, times and elements, as every part of the page writes them. What is not known is a dash, never a zero.
export const ABSENT = "–";

const FORMATS = new Map();  // made once: to make one takes longer than to use it a hundred times

function format(digits) {
  if (!FORMATS.has(digits)) FORMATS.set(digits, new Intl.NumberFormat("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}));
  return FORMATS.get(digits);
}

export function number(value, digits = 0, signed = false) {
  if (value == null || !Number.isFinite(value)) return ABSENT;
  const text = format(digits).format(value);
  return signed && value > 0 ? "+" + text : text;
}

export const decimals = (tick) => Math.min(8, Math.max(0, Math.ceil(-Math.log10(tick) - 1e-9)));
export const price = (ticks, one) => ticks ? number(ticks * one.tick, decimals(one.tick)) : ABSENT;
export const words = (code) => String(code).replaceAll("_", " ");
export const clock = (ns, digits = 3) => ns ? new Date(ns / 1e6).toISOString().slice(11, 19 + (digits ? 1 + digits : 0)) : ABSENT;
export const share = (value) => value == null ? ABSENT : number(100 * value, 0) + " %";

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds)), part = (n) => String(n).padStart(2, "0");
  return s >= 86400 ? `${Math.floor(s / 86400)} d ${part(Math.floor(s / 3600) % 24)} h` : `${Math.floor(s / 3600)}:${part(Math.floor(s / 60) % 60)}:${part(s % 60)}`;
}

export function el(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child != null));
  return made;
}

export const $ = (id) => document.getElementById(id);

// Replace what stands there only where it differs: what a person selects or a reader reads is left alone.
export function put(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

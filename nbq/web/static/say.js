// Numbers, sizes and times for people; and clocks that go on by themselves.

import { h } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
let ahead = 0; // how far the hub's clock is ahead of this one, in seconds

export const number = (value) => NUMBER.format(Math.round(value));

export function setClock(hubTime) {
  const now = hubTime - Date.now() / 1000;
  if (Math.abs(now - ahead) > 1.5) ahead = now;
}

export const hubNow = () => Date.now() / 1000 + ahead;

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10 ? number(value) : String(Math.round(value * 10) / 10);
}

export function size(bytes) {
  if (!bytes) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${value >= 100 || step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}

export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 0.001) return "under 1 ms";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const WAYS = {
  ago: (at) => (hubNow() - at < 1 ? "now" : `${coarse(hubNow() - at)} ago`),
  in: (at) => (at - hubNow() < 1 ? "now" : `in ${coarse(at - hubNow())}`),
  since: (at) => coarse(hubNow() - at),
};
function coarse(seconds) {
  if (seconds < 60) return `${Math.floor(Math.max(0, seconds))} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : span(seconds);
}

// A time that says how far away it is, and goes on saying so.
export function clock(at, way = "ago") {
  const when = new Date(at * 1000);
  const node = h("time", { datetime: when.toISOString(), title: DAY.format(when), data: { at, way } });
  node.textContent = WAYS[way](at);
  return node;
}

export const moment = (at) => {
  const when = new Date(at * 1000);
  const today = when.toDateString() === new Date(hubNow() * 1000).toDateString();
  return h("time", { datetime: when.toISOString(), title: DAY.format(when) }, (today ? CLOCK : DAY).format(when));
};

export function tick() {
  for (const node of document.querySelectorAll("time[data-way]")) {
    const text = WAYS[node.dataset.way](Number(node.dataset.at));
    if (node.textContent !== text) node.textContent = text;
  }
}

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

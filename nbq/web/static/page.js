// The page: what it shows of what comes, where one is, and what is done.

import { act, Live } from "./api.js";
import { Chart } from "./chart.js";
import { button, byId, h, redraw } from "./dom.js";
import * as drawers from "./drawers.js";
import { number, plural, setClock, size, span, tick } from "./say.js";
import { schedule } from "./schedule.js";
import { Table, TABLES } from "./tables.js";

const STATES = ["", "WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED", "SUCCESS", "FAILURE", "REVOKED"];
const KINDS = { task: drawers.task, run: drawers.run, schedule };
const SURE_MS = 4000;

const tables = Object.fromEntries(Object.keys(TABLES).map((name) => [name, new Table(name)]));
const charts = [new Chart("Throughput", "tasks/s", 1), new Chart("Queue depth", "tasks", 2), new Chart("Slots busy", "slots", 3, 4)];
const drawer = byId("drawer");
const filter = byId("filter");

// What tables and drawers are given: what may be done, and how.
const page = {
  can: new Set(),
  close: () => drawer.close(),
  redraw: () => drawOpened(),

  // A button that does something at once.
  does(text, name, message, words, kind) {
    if (!page.can.has(message.do)) return null;
    return button(text, name, (event) => perform(message, event.currentTarget), { "aria-label": words || null, class: kind ?? null });
  },

  // A button that asks once more.
  sure(text, name, message, words) {
    if (!page.can.has(message.do)) return null;
    return button(text, name, (event) => {
      const one = event.currentTarget;
      if (one.dataset.sure) return perform(message, one);
      one.dataset.sure = "1";
      one.textContent = `Really ${text.toLowerCase()}?`;
      one.removeAttribute("aria-label");
      setTimeout(() => {
        delete one.dataset.sure;
        one.textContent = text;
        one.setAttribute("aria-label", words);
      }, SURE_MS);
    }, { "aria-label": words });
  },

  // Has something done, and says what came of it; returns whether it was done.
  async perform(message, then = () => {}) {
    try {
      say(await act(message));
      then();
      return true;
    } catch (error) {
      say(error.message, true);
      return false;
    } finally {
      refresh(true);
    }
  },
};

async function perform(message, one) {
  one.disabled = true;
  const done = await page.perform(message);
  one.disabled = false;
  if (done && message.verb === "remove") drawer.close();
}

function say(text, bad = false) {
  const line = h("p", { class: bad ? "bad" : "" }, text);
  byId("said").append(line);
  setTimeout(() => line.remove(), bad ? 10000 : 5000);
}

// ------------------------------------------------------------------ where one is

let tab = "runs";
let opened = null; // {kind, id, hash, stamp, data}

function follow() {
  const [name, id] = decode(location.hash.slice(1));
  if (name in KINDS && id) return show(name, id);
  opened = null;
  if (drawer.open) drawer.close();
  if (name in TABLES) tab = name;
  drawTabs();
  draw(["tab"]);
}

function decode(hash) {
  const [name, ...rest] = hash.split("=");
  try {
    return [name, decodeURIComponent(rest.join("="))];
  } catch {
    return ["", ""];
  }
}

async function show(kind, id) {
  opened = { kind, id, hash: location.hash, stamp: "", data: null };
  redraw(drawer, h("p", { class: "empty" }, "Asking the hub…"));
  if (!drawer.open) drawer.showModal();
  await refresh(true);
}

// Asks again for what is open, when something of it may have changed.
async function refresh(anyway = false) {
  const now = opened;
  if (!now || now.asking) return;
  const kind = KINDS[now.kind];
  const stamp = kind.stamp(now.id, live.state);
  if (!anyway && (stamp === now.stamp || (now.data && kind.over(now.data)))) return;
  now.asking = true;
  try {
    const data = await kind.load(now.id);
    const same = now.data && JSON.stringify(data) === JSON.stringify(now.data);
    Object.assign(now, { stamp, data });
    if (now === opened && !same) drawOpened();
  } catch (error) {
    if (now === opened && !now.data)
      redraw(drawer, drawers.head(page, now.kind, "It cannot be shown", "gone", ""), h("p", { class: "error", role: "alert" }, error.message));
  } finally {
    now.asking = false;
  }
}

function drawOpened() {
  if (opened?.data && !KINDS[opened.kind].busy?.()) redraw(drawer, KINDS[opened.kind].draw(opened.data, page));
}

// ------------------------------------------------------------------ what it shows

function drawTabs() {
  const state = live?.state ?? {};
  const links = Object.entries(TABLES).map(([name, { title }]) => {
    const chosen = name === tab;
    const count = name === "tasks" ? null : state[name]?.order.length;
    return h("a", {
      href: `#${name}`, role: "tab", id: `tab-${name}`, "aria-selected": String(chosen), "aria-controls": "main",
      tabindex: chosen ? 0 : -1,
    }, title, count ? h("span", { class: "count" }, number(count)) : null);
  });
  redraw(byId("tabs"), links);
  byId("main").setAttribute("aria-labelledby", `tab-${tab}`);
  filter.hidden = tab !== "tasks";
  if (byId("table").firstChild !== tables[tab].box) byId("table").replaceChildren(tables[tab].box);
}

function drawHead(state) {
  const hub = state.hub;
  if (!hub) return;
  setClock(hub.time_s);
  byId("hub-name").textContent = hub.name;
  document.title = `${hub.name} · nbq`;
  const parts = [
    `up ${span(hub.uptime_s).replace(/ \d+ s$/, "")}`, `durability ${hub.durability}`, `${plural(hub.runs, "run")} kept, ${size(hub.bytes) || "0 B"}`,
    `${number(hub.unfinished)} unfinished`, `nbq ${hub.nbq}`, state.may_act ? "may steer" : "view only",
  ];
  redraw(byId("about"), parts.map((part) => h("span", {}, part)));
}

function drawLink(state, gone) {
  const node = byId("link");
  let [kind, text] = ["ok", "live"];
  if (gone) [kind, text] = ["lost", "the page's server is gone; trying again"];
  else if (state.trouble) [kind, text] = ["lost", state.trouble];
  else if (state.silent_s > 2) [kind, text] = ["lost", `no answer from the hub for ${span(state.silent_s)}; waiting`];
  else if (!state.hub) [kind, text] = ["waiting", "connecting…"];
  if (node.textContent !== text) node.textContent = text;
  node.dataset.state = kind;
  document.body.classList.toggle("stale", kind === "lost");
}

const live = new Live((state, names) => {
  drawLink(state, names.includes("gone"));
  draw(names);
  refresh();
});

function draw(names) {
  const state = live?.state;
  if (!state) return;
  if (names.includes("can")) page.can = new Set(state.can);
  if (names.includes("hub")) drawHead(state);
  if (names.includes("points")) for (const chart of charts) chart.draw(state.points);
  if (names.some((name) => name in TABLES)) drawTabs();
  if (names.includes(tab) || names.includes("can") || names.includes("tab")) tables[tab].draw(state[tab], page);
  if (names.includes("can")) drawOpened();
}

// ------------------------------------------------------------------ what one does

byId("charts").append(...charts.map((chart) => chart.node));
filter.elements.state.append(...STATES.map((name) => h("option", { value: name }, name || "any")));
let typing = 0;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    live.show(Object.fromEntries([...new FormData(filter)].map(([name, text]) => [name, text.trim()])));
    draw(["tab"]);
  }, 250);
});
filter.addEventListener("submit", (event) => event.preventDefault());

byId("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = Object.keys(TABLES);
  location.hash = names[(names.indexOf(tab) + step + names.length) % names.length];
  setTimeout(() => byId(`tab-${tab}`).focus());
});

drawer.addEventListener("close", () => {
  // This comes late: something else may be open by now, or about to be.
  if (opened && !drawer.open && location.hash === opened.hash) location.hash = tab;
});
drawer.addEventListener("click", (event) => {
  if (event.target === drawer) drawer.close(); // beside it
});
window.addEventListener("hashchange", follow);
setInterval(tick, 1000);
follow();

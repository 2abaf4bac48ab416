// The tables: what each shows of a row. A row that has not changed is left as it is.

import { button, h, redraw } from "./dom.js";
import { clock, hubNow, number, plural, size, span } from "./say.js";

const SHAPES = {
  SUCCESS: "ok", FAILURE: "bad", REVOKED: "off", STARTED: "run", RETRY: "soon", SCHEDULED: "soon", QUEUED: "wait",
  WAITING: "wait", succeeded: "ok", failed: "bad", cancelled: "off", running: "run", waiting: "wait",
  up: "ok", gone: "bad", draining: "soon", active: "ok", paused: "soon", finished: "off", serving: "ok", unserved: "bad",
};

// A state: its name, and a shape and colour for whoever does not read.
export function pill(state) {
  return h("span", { class: "pill", data: { shape: SHAPES[state] ?? "run" } }, state);
}

export const ended = (states) => (states.SUCCESS ?? 0) + (states.FAILURE ?? 0) + (states.REVOKED ?? 0);

export function runState(run) {
  const states = run.states;
  if (ended(states) < run.size && run.finished_s === null) return states.STARTED || ended(states) ? "running" : "waiting";
  if (states.FAILURE) return "failed";
  return states.REVOKED ? "cancelled" : "succeeded";
}

// How far a run is, as a bar and in words.
export function progress(run) {
  const { states, size: all } = run;
  const parts = [["ok", states.SUCCESS], ["bad", states.FAILURE], ["off", states.REVOKED], ["run", states.STARTED]];
  const done = ended(states);
  const words = `${number(done)} of ${plural(all, "task")} ended` + (states.FAILURE ? `, ${number(states.FAILURE)} failed` : "");
  const bar = h(
    "span", { class: "bar", role: "img", "aria-label": words },
    parts.filter(([, count]) => count).map(([shape, count]) =>
      h("span", { data: { shape }, "width%": Math.max(0.8, (100 * count) / Math.max(1, all)) })),
  );
  const text = [`${number(done)} / ${number(all)}`];
  if (states.FAILURE) text.push(`${number(states.FAILURE)} failed`);
  if (states.REVOKED) text.push(`${number(states.REVOKED)} cancelled`);
  const left = timeLeft(run, done);
  if (left) text.push(left);
  return h("span", { class: "progress" }, bar, h("span", { class: "small" }, text.join(" · ")));
}

function timeLeft(run, done) {
  const ran = hubNow() - run.began_s;
  if (run.finished_s !== null || !run.began_s || done < 3 || ran < 2 || done >= run.size) return "";
  return `about ${span(((run.size - done) * ran) / done).replace(/ \d+ s$/, "")} left`;
}

const nothing = () => h("span", { class: "none", "aria-label": "none" }, "–");
const label = (text) => (text ? h("span", { class: "label" }, text) : null);
const named = (href, text, more, under) =>
  h("span", { class: "named" }, h("a", { href }, text), label(more), under ? h("span", { class: "small id" }, under) : null);
const took = (from, to) => (!from ? nothing() : to === null ? clock(from, "since") : span(to - from));

export const taskName = (task) => named(`#task=${encodeURIComponent(task.id)}`, task.task, task.label, task.id);
const runName = (run) =>
  named(`#${run.one ? "task" : "run"}=${encodeURIComponent(run.id)}`, run.task, run.label, run.one ? run.id : run.id.slice(0, 12));

function runActs(run, page) {
  const name = run.label || run.task;
  if (runState(run) === "running" || runState(run) === "waiting")
    return page.sure("Cancel", "cancel", { do: "cancel", id: run.id }, `Cancel ${name}`);
  if (run.states.FAILURE)
    return page.does("Retry", "retry", { do: "retry", id: run.id }, `Retry what failed of ${name}`);
  return null;
}

function taskActs(task, page) {
  if (!["SUCCESS", "FAILURE", "REVOKED"].includes(task.state))
    return page.sure("Cancel", "cancel", { do: "cancel", id: task.id }, `Cancel ${task.task}`);
  if (task.state === "FAILURE")
    return page.does("Retry", "retry", { do: "retry", id: task.id }, `Retry ${task.task}`);
  return null;
}

function scheduleActs(row, page) {
  if (row.finished_s !== null) return null;
  const [verb, text] = row.paused ? ["resume", "Resume"] : ["pause", "Pause"];
  return [
    page.does("Run now", "run", { do: "schedule", verb: "run", name: row.name }, `Run ${row.name} now`),
    page.does(text, "pause", { do: "schedule", verb, name: row.name }, `${text} ${row.name}`),
  ];
}

function queueActs(row, page) {
  const [verb, text] = row.paused ? ["resume", "Resume"] : ["pause", "Pause"];
  return page.does(text, "pause", { do: "queue", verb, name: row.name }, `${text} queue ${row.name}`);
}

export const scheduleState = (row) => (row.finished_s !== null ? "finished" : row.paused ? "paused" : "active");

const FIRES = {
  run: "ran", manual: "run by hand", missed: "missed", overlap: "skipped: another ran", queued: "queued",
  dropped: "dropped: too many waited",
};
export const fireWord = (fire) => FIRES[fire.what] ?? fire.what;

const queueState = (row) => (row.paused ? "paused" : row.engines ? "serving" : "unserved");
const slots = (row) => (row.most ? `${row.slots} (${row.least} to ${row.most})` : String(row.slots));

export const TABLES = {
  runs: {
    title: "Runs",
    empty: "No runs yet. What is submitted shows up here at once.",
    columns: [
      ["Run", runName],
      ["State", (row) => pill(runState(row))],
      ["Progress", progress, "wide"],
      ["Submitted", (row) => clock(row.at_s)],
      ["Took", (row) => took(row.began_s, row.finished_s)],
      ["Schedule", (row) => (row.schedule ? h("a", { href: `#schedule=${encodeURIComponent(row.schedule)}` }, row.schedule) : nothing())],
      ["", runActs, "acts"],
    ],
  },
  tasks: {
    title: "Tasks",
    empty: "No such tasks.",
    columns: [
      ["Task", taskName],
      ["State", (row) => pill(row.state)],
      ["What it says", (row) => (row.text ? h("span", { class: "says" }, row.text) : nothing()), "wide"],
      ["Attempt", (row) => number(row.attempt), "count"],
      ["Engine", (row) => row.engine || nothing()],
      ["Queue", (row) => row.queue || nothing()],
      ["When", (row) => clock(row.at_s)],
      ["", taskActs, "acts"],
    ],
  },
  schedules: {
    title: "Schedules",
    empty: "No schedules. client.schedules.add(…) or 'nbq schedule add' makes one.",
    columns: [
      ["Schedule", (row) => named(`#schedule=${encodeURIComponent(row.name)}`, row.name, "", row.runs_what)],
      ["State", (row) => pill(scheduleState(row))],
      ["When", (row) => h("span", { class: "says" }, row.when), "wide"],
      ["Next", (row) => (row.next_s === null ? nothing() : clock(row.next_s, "in"))],
      ["Last", (row) => (row.last ? h("span", { class: "named" }, h("span", {}, fireWord(row.last)), h("span", { class: "small" }, clock(row.last.at_s))) : nothing())],
      ["Runs", (row) => h("span", {}, number(row.runs), row.active ? h("span", { class: "small" }, ` ${number(row.active)} now`) : ""), "count"],
      ["", scheduleActs, "acts"],
    ],
  },
  engines: {
    title: "Engines",
    empty: "No engines. Start one with 'nbq engine'.",
    columns: [
      ["Engine", (row) => h("span", { class: "named" }, h("strong", {}, row.name), h("span", { class: "small id" }, `${row.host}, pid ${row.pid}`))],
      ["State", (row) => h("span", {}, pill(row.state), row.silent_s ? h("span", { class: "small" }, ` silent for ${span(row.silent_s)}`) : "")],
      ["Slots busy", (row) => busy(row), "wide"],
      ["Slots", slots, "count"],
      ["Held", (row) => number(row.held), "count"],
      ["Memory", (row) => size(row.rss) || nothing(), "count"],
      ["Queues", (row) => row.queues.join(", ")],
      ["Versions", (row) => h("span", { class: "small" }, `nbq ${row.nbq}, Python ${row.python}`)],
    ],
  },
  queues: {
    title: "Queues",
    empty: "No queues yet.",
    columns: [
      ["Queue", (row) => h("strong", {}, row.name)],
      ["State", (row) => pill(queueState(row))],
      ["Queued", (row) => number(row.queued), "count"],
      ["Granted", (row) => number(row.leased), "count"],
      ["Engines", (row) => number(row.engines), "count"],
      ["", queueActs, "acts"],
    ],
  },
};

function busy(row) {
  const share = Math.min(100, (100 * row.busy) / Math.max(1, row.slots));
  const words = `${number(row.busy)} of ${number(row.slots)} busy`;
  const bar = h("span", { class: "bar", role: "img", "aria-label": words }, share ? h("span", { data: { shape: "run" }, "width%": share }) : null);
  return h("span", { class: "progress" }, bar, h("span", { class: "small" }, words));
}

export class Table {
  constructor(name) {
    Object.assign(this, TABLES[name]);
    this.lines = new Map();
    this.body = h("tbody");
    const heads = this.columns.map(([head, , kind]) =>
      h("th", { scope: "col", class: kind }, head || h("span", { class: "unseen" }, "What can be done")));
    this.node = h("table", {}, h("caption", { class: "unseen" }, this.title), h("thead", {}, h("tr", {}, heads)), this.body);
    this.none = h("p", { class: "empty" }, this.empty);
    this.box = h("div", { class: "box" }, this.node, this.none);
  }

  draw(section, page) {
    const order = section?.order ?? [];
    this.node.hidden = !order.length;
    this.none.hidden = order.length > 0;
    this.none.textContent = section ? this.empty : "Asking the hub…";
    const lines = new Map();
    for (const key of order) {
      const row = section.rows[key];
      let line = this.lines.get(key);
      if (!line) line = { tr: h("tr", {}), row: null };
      if (line.row !== row || line.can !== page.can) {
        redraw(line.tr, this.columns.map(([head, cell, kind]) => h("td", { class: kind, data: { head } }, cell(row, page))));
        Object.assign(line, { row, can: page.can });
      }
      lines.set(key, line);
    }
    for (const [key, line] of this.lines) if (!lines.has(key)) line.tr.remove();
    this.lines = lines;
    let place = this.body.firstChild;
    for (const { tr } of lines.values()) {
      if (tr === place) place = place.nextSibling;
      else this.body.insertBefore(tr, place);
    }
  }
}

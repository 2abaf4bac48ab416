// What opens at the side: one task or one run.

import { ask } from "./api.js";
import { button, h } from "./dom.js";
import { moment, number, span } from "./say.js";
import { pill, progress, runState, Table } from "./tables.js";

export const facts = (rows) =>
  h("dl", { class: "facts" }, rows.filter(([, value]) => value !== null && value !== "" && value !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export const head = (page, kind, title, state, id) => [
  h("div", { class: "drawer-top" }, h("span", { class: "kind" }, kind),
    button("Close", "close", () => page.close(), { class: "plain", "aria-label": "Close", autofocus: true })),
  h("h2", { id: "drawer-title" }, title),
  h("p", { class: "drawer-state" }, pill(state), id ? h("code", { class: "id" }, id) : null),
];

const text = (title, value, kind) =>
  value ? h("section", { class: kind }, h("h3", {}, title), h("pre", { tabindex: 0, "aria-label": title }, value)) : null;
const link = (kind, id, words) => h("a", { href: `#${kind}=${encodeURIComponent(id)}` }, words ?? id);
export const acts = (...buttons) => (buttons.flat().some(Boolean) ? h("p", { class: "drawer-acts" }, buttons) : null);

const ENDED = ["SUCCESS", "FAILURE", "REVOKED"];

export const task = {
  load: (id) => ask("api/task", { id }),
  // What of the live state makes it worth asking again.
  stamp: (id, state) => JSON.stringify([state.tasks?.rows[id], state.runs?.rows[id], state.points?.length]),
  over: (data) => ENDED.includes(data.state),
  draw(data, page) {
    const failed = data.state === "FAILURE";
    return [
      head(page, "Task", data.task, data.state, data.id),
      h("p", failed ? { class: "error", role: "alert" } : { class: "explain" }, data.explain),
      acts(
        !ENDED.includes(data.state) && page.sure("Cancel", "cancel", { do: "cancel", id: data.id }, `Cancel ${data.task}`),
        failed && page.does("Retry", "retry", { do: "retry", id: data.id }, `Retry ${data.task}`, "strong"),
      ),
      facts([
        ["Run", link("run", data.run)],
        ["Label", data.label],
        ["Attempt", data.attempt ? `${number(data.attempt)}${data.retries ? ` (${number(data.retries)} retries)` : ""}` : "none yet"],
        ["Engine", data.engine],
        ["Queue", data.queue],
        ["Submitted", moment(data.submitted_s)],
        ["Started", data.started_s ? moment(data.started_s) : null],
        ["Took", data.seconds !== undefined ? span(data.seconds) : null],
      ]),
      text("Traceback", data.traceback, "trace"),
      text("What it printed", data.stdout),
      text("What it wrote to standard error", data.stderr),
      data.sealed ? h("p", { class: "small" }, data.sealed) : null,
    ];
  },
};

const STATES = ["SUCCESS", "FAILURE", "REVOKED", "STARTED", "QUEUED", "RETRY", "SCHEDULED", "WAITING"];

export const run = {
  load: (id) => ask("api/run", { id }),
  stamp: (id, state) => JSON.stringify(state.runs?.rows[id] ?? null),
  over: (data) => data.finished_s !== null,
  draw(data, page) {
    const state = runState(data);
    const table = new Table("tasks");
    table.draw({ order: data.tasks.map((row) => row.id), rows: Object.fromEntries(data.tasks.map((row) => [row.id, row])) }, page);
    const going = state === "running" || state === "waiting";
    return [
      head(page, "Run", data.task, state, data.id),
      data.label ? h("p", {}, h("span", { class: "label" }, data.label)) : null,
      progress(data),
      data.explain ? h("p", { class: "explain" }, data.explain) : null,
      acts(
        going && page.sure("Cancel", "cancel", { do: "cancel", id: data.id }, "Cancel this run"),
        data.states.FAILURE && page.does("Retry what failed", "retry", { do: "retry", id: data.id }, "", "strong"),
      ),
      facts([
        ...STATES.filter((name) => data.states[name]).map((name) => [name, number(data.states[name])]),
        ["Submitted", moment(data.at_s)],
        ["Began", data.began_s ? moment(data.began_s) : null],
        ["Finished", data.finished_s !== null ? moment(data.finished_s) : null],
        ["Key", data.owner],
        ["Schedule", data.schedule ? link("schedule", data.schedule) : null],
        ["Fire time", data.fire_s ? moment(data.fire_s) : null],
      ]),
      h("section", {}, h("h3", {}, data.tasks_are), table.box),
    ];
  },
};

// A schedule, opened: what it means, what became of its fire times, and the form that changes it.

import { ask } from "./api.js";
import { button, h, redraw } from "./dom.js";
import { acts, facts, head } from "./drawers.js";
import { clock, moment, number } from "./say.js";
import { fireWord, scheduleState } from "./tables.js";

const WAIT_MS = 200; // after the last key

const MISFIRE = {
  coalesce: "runs the latest of them",
  skip: "runs none of them",
  all: "runs each of them",
};
const OVERLAP = {
  allow: "runs all the same",
  skip: "is skipped",
  queue: "waits for it",
  cancel_previous: "cancels it",
};

const link = (id) => h("a", { href: `#run=${id}` }, id.slice(0, 12));

function history(rows) {
  if (!rows.length) return h("p", { class: "small" }, "No fire time has come yet.");
  return h("ol", { class: "fires" }, rows.slice(0, 20).map((fire) =>
    h("li", {}, moment(fire.fire_s), h("span", { data: { what: fire.what } }, fireWord(fire)), fire.run ? link(fire.run) : null)));
}

const times = (list) => h("ol", { class: "fires" }, list.map((one) => h("li", {}, h("span", {}, one.text), clock(one.at_s, "in"))));

export const schedule = {
  load: (name) => ask("api/schedule", { id: name }),
  stamp: (name, state) => JSON.stringify(state.schedules?.rows[name] ?? null),
  over: () => false,
  draw(data, page) {
    const state = scheduleState(data);
    const [verb, text] = data.paused ? ["resume", "Resume"] : ["pause", "Pause"];
    const does = (words, to) => page.does(words, to, { do: "schedule", verb: to, name: data.name });
    return [
      head(page, "Schedule", data.name, state, ""),
      h("p", { class: "explain" }, data.when),
      acts(
        state !== "finished" && [does("Run now", "run"), does(text, verb)],
        page.can.has("edit") && button("Edit", "edit", (event) => open(event.currentTarget, data, page), { "aria-expanded": "false" }),
        page.sure("Remove", "remove", { do: "schedule", verb: "remove", name: data.name }, `Remove ${data.name}`),
      ),
      h("div", { id: "editor" }),
      facts([
        ["What it runs", data.runs_what],
        ["Runs so far", data.max_runs ? `${number(data.runs)} of ${number(data.max_runs)}` : number(data.runs)],
        ["Running now", data.active.length ? data.active.map((id) => [link(id), " "]) : "none"],
        ["Fire times missed", MISFIRE[data.misfire]],
        ["While another runs", OVERLAP[data.overlap]],
        ["Starts late by up to", data.jitter_s ? `${data.jitter_s} s` : ""],
        ["Not before", data.start_s ? moment(data.start_s) : ""],
        ["Not after", data.end_s ? moment(data.end_s) : ""],
        ["Declared by", data.source],
        ["Added by key", data.owner],
      ]),
      h("div", { class: "two" },
        h("section", {}, h("h3", {}, data.paused ? "It would fire" : "It fires next"), data.upcoming.length ? times(data.upcoming) : h("p", { class: "small" }, "Never again.")),
        h("section", {}, h("h3", {}, "It fired"), history(data.history))),
    ];
  },
  // While the form is open, nothing is drawn over it.
  busy: () => Boolean(document.getElementById("editor")?.firstChild),
};

function field(label, input, hint) {
  return h("label", { class: "field" }, h("span", {}, label), input, hint ? h("span", { class: "small" }, hint) : null);
}

function choice(name, options, chosen) {
  return h("select", { name }, Object.entries(options).map(([value, words]) =>
    h("option", { value, selected: value === chosen }, words)));
}

function open(opener, data, page) {
  const place = document.getElementById("editor");
  const close = () => {
    place.replaceChildren();
    opener.setAttribute("aria-expanded", "false");
    opener.focus();
    page.redraw(); // what came meanwhile
  };
  if (place.firstChild) return close();
  const form = editor(data, page, close);
  redraw(place, form);
  opener.setAttribute("aria-expanded", "true");
  form.querySelector("input:not([type=radio])").focus();
}

function editor(data, page, close) {
  const { form: now } = data;
  const input = (name, value, more = {}) => h("input", { name, value: value ?? "", autocomplete: "off", spellcheck: "false", ...more });
  const kinds = { crontab: "at times of day", every: "every so often", at: "once" };
  const of = (kind, ...fields) => h("div", { class: "kind-of", data: { kind } }, fields);
  const sentence = h("p", { class: "sentence", role: "status", "aria-live": "polite" });
  const next = h("div", {});
  const save = h("button", { type: "submit", class: "strong" }, "Save");
  const form = h("form", { class: "editor", novalidate: true, "aria-label": `Edit ${data.name}` },
    h("fieldset", { class: "kinds" }, h("legend", {}, "It fires"), Object.entries(kinds).map(([kind, words]) =>
      h("label", {}, h("input", { type: "radio", name: "kind", value: kind, checked: kind === now.kind }), words))),
    of("crontab", field("Cron", input("line", now.line ?? "0 * * * *", { class: "mono" }), "minute hour day-of-month month day-of-week, or @daily")),
    of("every", field("Seconds", input("seconds", now.seconds ?? 60, { type: "number", min: 0.1, step: "any" }))),
    of("at", field("Moment", input("when", now.when ?? "", { type: "datetime-local", step: 1 }))),
    field("Zone", input("tz", now.tz, { placeholder: "Asia/Shanghai" })),
    sentence, next,
    field("Missed fire times", choice("misfire", MISFIRE, data.misfire), "while the hub was down"),
    field("A fire time while it still runs", choice("overlap", OVERLAP, data.overlap)),
    h("div", { class: "two" },
      field("Start late by up to, in seconds", input("jitter_s", data.jitter_s, { type: "number", min: 0, max: 86400, step: "any" })),
      field("Finish after so many runs", input("max_runs", data.max_runs, { type: "number", min: 1, placeholder: "never" }))),
    h("p", { class: "drawer-acts" }, save, button("Leave it", "leave", close)),
  );

  const when = () => {
    const value = (name) => form.elements[name].value.trim();
    const tz = value("tz") || "UTC";
    const kind = form.elements.kind.value;
    if (kind === "crontab") return { kind, tz, line: value("line"), unix: now.unix ?? true };
    if (kind === "every") return { kind, tz, seconds: Number(value("seconds")), start: now.start ?? "" };
    return { kind, tz, when: value("when") };
  };

  const show = async () => {
    for (const part of form.querySelectorAll(".kind-of")) part.hidden = part.dataset.kind !== form.elements.kind.value;
    const asked = JSON.stringify(when());
    try {
      const said = await ask("api/when", { form: asked });
      if (asked !== JSON.stringify(when())) return;
      sentence.textContent = said.sentence;
      redraw(next, times(said.next));
      sentence.className = "sentence";
      save.disabled = false;
    } catch (error) {
      if (asked !== JSON.stringify(when())) return;
      sentence.textContent = error.message;
      next.replaceChildren();
      sentence.className = "sentence bad";
      save.disabled = true;
    }
  };

  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(show, WAIT_MS);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { misfire, overlap, jitter_s: jitter, max_runs: most } = form.elements;
    save.disabled = true;
    const saved = await page.perform({
      do: "edit", name: data.name, when: when(), misfire: misfire.value, overlap: overlap.value,
      jitter_s: Number(jitter.value || 0), max_runs: most.value ? Number(most.value) : null,
    }, close);
    if (!saved) save.disabled = false;
  });
  show();
  return form;
}

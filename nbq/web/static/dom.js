// Elements from data. Text is only ever text: nothing here makes HTML of a string.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "width%") node.style.width = `${value}%`;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...shown(children));
  return node;
}

// What is missing, or only said whether something is there, is not shown.
const shown = (children) => children.flat(3).filter((child) => child !== null && child !== undefined && child !== "" && child !== false);

export function h(name, given = {}, ...children) {
  return fill(document.createElement(name), given, children);
}

export function svg(name, given = {}, ...children) {
  return fill(document.createElementNS(SVG, name), given, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// What a button does is named in data-act, so that it can be found again when its row is drawn anew.
export function button(text, act, run, more = {}) {
  const { data, ...rest } = more;
  return h("button", { type: "button", data: { act, ...data }, onclick: run, ...rest }, text);
}

// Replaces what a node holds, and leaves the keyboard where it was.
export function redraw(node, ...children) {
  const active = document.activeElement;
  const held = active && active !== node && node.contains(active) ? active.dataset.act || active.getAttribute("href") : null;
  node.replaceChildren(...shown(children));
  if (held) {
    const again = [...node.querySelectorAll("[data-act], [href]")].find(
      (one) => one.dataset.act === held || one.getAttribute("href") === held,
    );
    if (again) again.focus({ preventScroll: true });
  }
}

// A line over the last minutes (at first over one, then over five): an area, the line, its greatest value, and what it was under the pointer.

import { h, svg } from "./dom.js";
import { hubNow, rate } from "./say.js";

const WIDTH = 320;
const HEIGHT = 72;
const TOP = 6;
const SHORTEST = 60;
const LONGEST = 300;

function nice(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// Pieces of a line: a gap of more than five seconds is a gap.
function pieces(points) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point[1] === null) {
      last = null;
      continue;
    }
    if (last === null || point[0] - last[0] > 5) found.push([]);
    found[found.length - 1].push(point);
    last = point;
  }
  return found;
}

export class Chart {
  // unit: what is counted; place: which value of a point; roof: which one is its bound, if there is one.
  constructor(title, unit, place, roof = null) {
    Object.assign(this, { title, unit, place, roof, points: [], top: 1 });
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.bound = svg("path", { class: "bound" });
    this.dot = svg("circle", { class: "dot", r: 3 });
    this.mark = svg("line", { class: "mark", y1: 0, y2: HEIGHT });
    this.picture = svg(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
      this.area, this.bound, this.line, this.mark,
    );
    this.value = h("strong");
    this.note = h("span", { class: "note" });
    this.most = h("span", { class: "most", "aria-hidden": "true" });
    this.node = h(
      "figure", { class: "chart" },
      h("figcaption", {}, h("span", {}, title), this.value, this.note),
      h("div", { class: "plot" }, this.picture, this.most),
    );
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.point(null));
  }

  x(at) {
    return WIDTH * (1 - (this.now - at) / this.seconds);
  }

  y(value) {
    return HEIGHT - ((HEIGHT - TOP) * value) / this.top;
  }

  path(points) {
    return points.map(([at, value], n) => `${n ? "L" : "M"}${this.x(at).toFixed(1)},${this.y(value).toFixed(1)}`).join("");
  }

  draw(rows) {
    this.now = rows.length ? rows[rows.length - 1][0] : hubNow();
    const seen = rows.filter((row) => row[0] > this.now - LONGEST);
    this.seconds = seen.length ? Math.max(SHORTEST, this.now - seen[0][0]) : SHORTEST;
    this.points = seen.map((row) => [row[0], row[this.place]]);
    const bounds = this.roof === null ? [] : seen.map((row) => [row[0], row[this.roof]]);
    const values = [...this.points, ...bounds].map((point) => point[1] ?? 0);
    this.top = Math.max(1, ...values);
    if (this.roof === null) this.top = nice(this.top);
    const lines = pieces(this.points);
    this.line.setAttribute("d", lines.map((line) => this.path(line)).join(""));
    this.area.setAttribute("d", lines.map((line) => {
      const [first, last] = [this.x(line[0][0]), this.x(line[line.length - 1][0])];
      return `${this.path(line)}L${last.toFixed(1)},${HEIGHT}L${first.toFixed(1)},${HEIGHT}Z`;
    }).join(""));
    this.bound.setAttribute("d", pieces(bounds).map((line) => this.path(line)).join(""));
    this.most.textContent = rate(this.top);
    if (!this.held) this.read(this.points[this.points.length - 1], bounds[bounds.length - 1]);
    const greatest = rate(Math.max(0, ...this.points.map((point) => point[1] ?? 0)));
    this.picture.setAttribute("aria-label", `${this.title}: at most ${greatest} ${this.unit} in the last minutes`);
  }

  read(point, bound) {
    this.value.textContent = point ? rate(point[1]) : "–";
    this.note.textContent = bound ? `of ${rate(bound[1])} ${this.unit}` : this.unit;
  }

  point(event) {
    this.held = event !== null && this.points.length > 0;
    this.mark.classList.toggle("shown", this.held);
    if (!this.held) return;
    const box = this.picture.getBoundingClientRect();
    const at = this.now - this.seconds * (1 - (event.clientX - box.left) / box.width);
    const nearest = this.points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    this.mark.setAttribute("x1", this.x(nearest[0]));
    this.mark.setAttribute("x2", this.x(nearest[0]));
    this.read(nearest, null);
    this.note.textContent = `${this.unit}, ${Math.round(this.now - nearest[0])} s ago`;
  }
}

// Three planes of a volume: averages at once, voxels when the hand rests; yz's when asked.
import { get, setKey } from "./api.js";
import { $, colour, el, press, toast } from "./dom.js";
import { grey, paint } from "./grey.js";
import { Measure, TOOLS } from "./measure.js";
import { drawShapes } from "./stage.js";
import { fitRuler, hold, ruler, sized, zoomAbout } from "./zoom.js";

const PLANES = { xy: [1, 2], xz: [0, 2], yz: [0, 1] }; // axes (z, y, x) of a picture's rows and columns
const ACROSS = { xy: 0, xz: 1, yz: 2 };
const PART = { xy: 512, xz: 256, yz: 8 }; // rows of voxels asked for at once
const AXES = { xy: { h: "x", v: "y" }, xz: { h: "x", v: "z" }, yz: { h: "y", v: "z" } };
const REST_MS = 200;
const name = decodeURIComponent(location.hash.slice(1));
const panes = {};
const cross = [0, 0, 0];
let volume = null;
let window_ = [0, 1];
let active = "xy"; // the plane that is measured and saved
let onDrag = null; // while a tool is in hand

class Pane {
  constructor(plane) {
    this.plane = plane;
    [this.rows, this.columns] = PLANES[plane].map((axis) => volume.shape[axis]);
    this.ticket = 0;
    this.view = null; // its scale is in screen pixels per voxel
    this.shown = []; // pictures over each other: averages below voxels
    const n = volume.shape[ACROSS[plane]];
    this.canvas = el("canvas", { "aria-label": `Plane ${plane}`, tabindex: 0 });
    this.slider = el("input", { type: "range", min: 0, max: n - 1, "aria-label": `Position of ${plane}`, oninput: () => go(ACROSS[plane], this.slider.valueAsNumber) });
    this.text = el("span", { class: "quiet" });
    this.more = el("button", { onclick: () => this.voxels() }, "Full resolution");
    this.bar = el("progress", { max: this.rows, value: 0, hidden: true, "aria-label": `Rows of ${plane}` });
    this.under = el("p", { class: "label" }); // the value under the pointer
    this.node = el("section", { class: "pane", "aria-label": plane }, this.canvas, this.under, el("div", { class: "line" }, plane, this.slider, this.text, this.bar, this.more));
    this.hands();
    new ResizeObserver(() => this.view && (this.fitted ? this.fit() : this.draw())).observe(this.canvas);
  }

  hands() {
    let held = null;
    hold(this.canvas, (by, x, y) => this.zoom(by, x, y));
    this.canvas.addEventListener("pointerdown", (event) => {
      held = [event.offsetX, event.offsetY, false];
      this.start = this.place(event);
    });
    this.canvas.addEventListener("focus", () => activate(this.plane));
    this.canvas.addEventListener("pointerleave", () => (this.under.textContent = ""));
    this.canvas.addEventListener("pointermove", (event) => {
      this.under.textContent = this.words(this.voxel(event).map(Math.round));
      if (!held) return;
      const [dx, dy] = [event.offsetX - held[0], event.offsetY - held[1]];
      if (!held[2] && Math.hypot(dx, dy) < 4) return;
      held = [event.offsetX, event.offsetY, true];
      if (onDrag && event.buttons === 1) return onDrag(this.start, this.place(event));
      this.fitted = false;
      this.view.x += dx;
      this.view.y += dy;
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (held && !held[2]) {
        const voxel = this.voxel(event);
        PLANES[this.plane].forEach((axis, i) => go(axis, Math.round(voxel[i])));
      }
      held = null;
    });
    this.canvas.addEventListener("keydown", (event) => {
      const by = { "+": 1.25, "-": 0.8 }[event.key];
      if (by) this.zoom(by, this.canvas.clientWidth / 2, this.canvas.clientHeight / 2);
    });
  }

  // What lies under the pointer, in voxels from the corner.
  place(event) {
    const [y, x] = this.voxel(event).map((value) => value + 0.5);
    return { x, y };
  }

  voxel(event) {
    const { x, y, scale } = this.view;
    const [down, right] = [event.offsetY - this.canvas.clientHeight / 2 - y, event.offsetX - this.canvas.clientWidth / 2 - x];
    return [(this.rows - 1) / 2 + down / scale, (this.columns - 1) / 2 + right / scale];
  }

  // Position and value of a voxel, of the finest picture that has it.
  words([row, column]) {
    const { picture, factor } = [...this.shown].reverse().find((layer) => row < layer.done * layer.factor) ?? {};
    if (!picture || row < 0 || column < 0 || row >= this.rows || column >= this.columns) return "";
    const position = [...cross];
    PLANES[this.plane].forEach((axis, i) => (position[axis] = [row, column][i]));
    const [y, x] = [row, column].map((index) => Math.floor(index / factor));
    const value = picture.low + (picture.values[y * picture.n_x + Math.min(x, picture.n_x - 1)] / (2 ** picture.bits - 1)) * (picture.high - picture.low);
    return `x ${position[2]}, y ${position[1]}, z ${position[0]}: ${factor > 1 ? "≈ " : ""}${Number(value.toPrecision(4))} ${volume.units}`;
  }

  zoom(by, x, y) {
    this.fitted = false;
    zoomAbout(this.view, by, x - this.canvas.clientWidth / 2, y - this.canvas.clientHeight / 2, [0.02, 40]);
    this.draw();
  }

  fit() {
    const scale = Math.min(this.canvas.clientWidth / this.columns, this.canvas.clientHeight / this.rows);
    this.view = { x: 0, y: 0, scale: scale || 1 };
    this.fitted = true;
    this.draw();
  }

  ask(factor, first, last) {
    return grey("plane", { scan: name, plane: this.plane, at: cross[ACROSS[this.plane]], factor, first, last });
  }

  // Averages of the plane, then voxels of xy and xz.
  async show() {
    const ticket = ++this.ticket;
    this.bar.hidden = true;
    clearTimeout(this.waiting);
    const factors = Object.keys(volume.levels).map(Number);
    const averages = factors.filter((factor) => factor > 1 && factor <= 8).sort((a, b) => b - a);
    try {
      for (const factor of averages) {
        const picture = await this.ask(factor, 0, this.rows);
        if (ticket !== this.ticket) return;
        this.shown = [{ picture, factor, done: picture.n_y }];
        this.draw();
        this.measured();
      }
    } catch (error) {
      if (ticket === this.ticket) toast(error.message, true);
      return;
    }
    if (this.plane !== "yz" || !averages.length) this.waiting = setTimeout(() => this.voxels(), REST_MS);
  }

  async voxels() {
    const ticket = ++this.ticket;
    const full = { n_x: this.columns, n_y: this.rows, bits: 16, low: volume.low, high: volume.high, values: new Uint16Array(this.columns * this.rows) };
    const layer = { picture: full, factor: 1, done: 0 };
    const below = this.shown.filter(({ factor }) => factor > 1).slice(-1);
    try {
      for (let first = 0; first < this.rows; first += PART[this.plane]) {
        const last = Math.min(this.rows, first + PART[this.plane]);
        const part = await this.ask(1, first, last);
        if (ticket !== this.ticket) return;
        full.values.set(part.values, first * this.columns);
        layer.done = last;
        this.shown = [...below, layer];
        this.bar.value = last;
        this.bar.hidden = last === this.rows;
        this.draw();
        if (last === this.rows) this.measured();
      }
    } catch (error) {
      if (ticket === this.ticket) toast(error.message, true);
    }
  }

  measured() {
    if (active === this.plane) measure.refresh();
  }

  draw() {
    const pixels = this.view && sized(this.canvas);
    if (!pixels) return;
    const { ratio } = pixels;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { x, y, scale } = this.view;
    const [left, top] = [width / 2 + x - (this.columns / 2) * scale, height / 2 + y - (this.rows / 2) * scale];
    for (const { picture, factor, done } of this.shown) {
      const size = scale * factor;
      context.imageSmoothingEnabled = size < 2 || factor > 1;
      const image = paint(picture, window_, done);
      context.drawImage(image, 0, 0, picture.n_x, done, left, top, picture.n_x * size, done * size);
    }
    if (measure.tool !== "profile" || active === this.plane) {
      context.save();
      context.translate(left, top);
      context.scale(scale, scale);
      context.lineWidth = 1.5 / scale;
      context.strokeStyle = colour("--mark");
      drawShapes(context, measure.shapes({ width: this.columns, height: this.rows }, this.axes()));
      context.restore();
    }
    const [row, column] = PLANES[this.plane].map((axis) => (cross[axis] + 0.5) * scale);
    context.strokeStyle = colour("--cross");
    context.strokeRect(left + column, -2, 0, height + 4);
    context.strokeRect(-2, top + row, width + 4, 0);
    const um = volume.voxel_size_um;
    ruler(context, fitRuler(width, um ? scale / um : scale, um ? "µm" : "px"), width, height);
    const finest = this.shown[this.shown.length - 1];
    this.canvas.dataset.factor = finest ? finest.factor : "";
    this.more.disabled = Boolean(finest) && finest.factor === 1;
  }

  axes() {
    const [z, y, x] = volume.shape;
    return { ...AXES[this.plane], n: { x, y, z } };
  }
}

function activate(plane) {
  if (plane === active) return;
  active = plane;
  measure.line = null; // it was in another plane
  for (const pane of Object.values(panes)) {
    pane.node.classList.toggle("active", pane.plane === active);
    pane.draw();
  }
  measure.refresh();
}

const pane = () => panes[active];
const of = (axis) => ({ z: 0, y: 1, x: 2 })[axis];
const measure = new Measure($("measure"), {
  voxels: "voxels",
  // averages until all voxels of the plane are here
  layers: () => pane().shown.filter(({ picture, done }) => done === picture.n_y).slice(-1).map(({ picture }) => ({ picture, width: pane().columns, height: pane().rows })),
  plane: () => pane().axes(),
  unit: () => [1, 1],
  size_um: () => (volume.voxel_size_um ? [volume.voxel_size_um, active === "xy" ? volume.voxel_size_um : volume.height_um] : null),
  present: () => ({}),
  options(axis, first, last) {
    const { binning, first: origin, last_row } = volume.crop;
    const start = origin[of(axis)];
    const end = start + (last + 1) * binning - 1;
    return [start + first * binning, axis === "z" ? Math.min(end, last_row) : end];
  },
  grey: () => ({ units: volume.units.replace("_", " "), factor: 1 }),
  scan: () => (volume.crop ? name : null),
  caption: () => `${volume.file}   ${active} ${cross[ACROSS[active]]}`,
  file: () => `${name}_${active}_${cross[ACROSS[active]]}`,
  canvas: () => pane().canvas,
  per_px: () => pane().view.scale,
  setWindow: (low, high) => setWindow(low, high),
  draw: () => Object.values(panes).forEach((each) => each.draw()),
  drag(handler) {
    onDrag = handler;
    document.body.classList.toggle("measuring", Boolean(handler));
    for (const each of TOOLS) press(`tool-${each}`, measure.tool === each);
  },
  written() {},
});

function go(axis, index) {
  const position = Math.min(volume.shape[axis] - 1, Math.max(0, index));
  if (position === cross[axis]) return;
  cross[axis] = position;
  for (const pane of Object.values(panes)) {
    if (ACROSS[pane.plane] === axis) moved(pane);
    else pane.draw();
  }
}

function moved(pane) {
  const index = cross[ACROSS[pane.plane]];
  pane.slider.value = index;
  pane.text.textContent = String(index);
  pane.show();
}

const levelOf = (part) => volume.low + (part / 1000) * (volume.high - volume.low);
const partOf = (value) => Math.round(((value - volume.low) / (volume.high - volume.low)) * 1000);

function setWindow(low, high) {
  window_ = [low, high];
  $("low").value = partOf(low);
  $("high").value = partOf(high);
  $("window").textContent = `${low.toPrecision(3)} to ${high.toPrecision(3)} ${volume.units}`;
  for (const pane of Object.values(panes)) pane.draw();
}

async function start() {
  volume = await get("volume", { scan: name });
  setKey(volume.csrf);
  document.title = $("name").textContent = volume.file;
  const [z, y, x] = volume.shape;
  $("about").textContent = `${x} × ${y} × ${z}${volume.voxel_size_um ? `, voxel ${volume.voxel_size_um.toPrecision(4)} µm` : ""}`;
  if (volume.address) {
    $("address").hidden = false;
    $("address").querySelector("code").textContent = new URL(volume.address, location.href).href;
  }
  $("tools").hidden = false;
  volume.shape.forEach((n, axis) => (cross[axis] = n >> 1));
  for (const plane of Object.keys(PLANES)) panes[plane] = new Pane(plane);
  $("panes").replaceChildren(...Object.values(panes).map((pane) => pane.node));
  setWindow(...volume.usual);
  for (const pane of Object.values(panes)) pane.fit();
  for (const pane of Object.values(panes)) moved(pane);
  pane().node.classList.add("active");
}

$("low").addEventListener("input", () => setWindow(levelOf($("low").valueAsNumber), window_[1]));
$("high").addEventListener("input", () => setWindow(window_[0], levelOf($("high").valueAsNumber)));
$("usual").addEventListener("click", () => setWindow(...volume.usual));
$("fit").addEventListener("click", () => Object.values(panes).forEach((pane) => pane.fit()));
for (const each of TOOLS) $(`tool-${each}`).addEventListener("click", () => measure.pick(each));
$("save").addEventListener("click", () => measure.save());
document.addEventListener("keydown", (event) => event.key === "Escape" && !document.querySelector("dialog[open]") && measure.tool && measure.pick(measure.tool));
$("back").href = `./#${new URLSearchParams({ scan: name })}`;
start().catch((error) => $("panes").replaceChildren(el("p", { class: "bad" }, error.message)));

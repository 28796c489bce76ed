// The grey window: kept per scan and kind of picture, chosen by dragging on the picture or the histogram.
import { $, svg } from "./dom.js";
import { histogram } from "./grey.js";

const [WIDTH, HEIGHT] = [160, 72];
const now = { key: "", picture: null, range: [0, 1] };
let changed = () => {};

export function setUp(onChange) {
  changed = onChange;
  const plot = $("histogram");
  plot.addEventListener("pointerdown", grab);
  plot.addEventListener("dblclick", reset);
}

const first = new Map(); // that of the first picture of a scan, so that others can be compared with it
const stored = (key) => JSON.parse(sessionStorage.getItem(key) || "null");
const current = () => stored(now.key) || first.get(now.key);

// The window in which a picture of a scan is shown.
export function windowOf(scan, kind, picture) {
  const key = `window ${kind} ${scan}`;
  return stored(key) || first.get(key) || picture.usual;
}

// Show the histogram of the picture whose window is chosen from now on; null: of none.
export function show(scan, kind, picture) {
  now.key = `window ${kind} ${scan}`;
  now.picture = picture;
  $("level").classList.toggle("off", !picture);
  if (!picture) return;
  if (!first.has(now.key)) first.set(now.key, picture.usual);
  const [low, high] = first.get(now.key);
  now.range = [Math.max(picture.low, low - (high - low) / 2), Math.min(picture.high, high + (high - low) / 2)];
  draw();
}

function set([low, high]) {
  const least = (now.picture.high - now.picture.low) / 4096;
  sessionStorage.setItem(now.key, JSON.stringify([low, Math.max(high, low + least)]));
  draw();
  changed();
}

// Show this window from now on.
export const choose = (low, high) => now.picture && set([low, high]);

export function reset() {
  if (!now.picture) return;
  sessionStorage.removeItem(now.key);
  draw();
  changed();
}

// Narrow (share below 0) or widen the window, and move it; both as shares of its width.
export function change(wider, lighter) {
  if (!now.picture) return;
  const [low, high] = current();
  const middle = (low + high) / 2 - lighter * (high - low);
  const half = ((high - low) / 2) * Math.exp(wider);
  set([middle - half, middle + half]);
}

function draw() {
  const [from, to] = now.range;
  const [low, high] = current();
  const x = (value) => Math.min(WIDTH, Math.max(0, ((value - from) / (to - from)) * WIDTH));
  const counts = now.picture.counts ?? (now.picture.counts = histogram(now.picture, now.range));
  const most = Math.sqrt(Math.max(...counts, 1));
  const bar = WIDTH / counts.length;
  const path = Array.from(counts, (n, bin) => `V${(HEIGHT - (Math.sqrt(n) / most) * (HEIGHT - 4)).toFixed(1)}H${((bin + 1) * bar).toFixed(1)}`);
  $("histogram").setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  $("histogram").replaceChildren(
    svg("rect", { class: "inside", x: x(low), y: 0, width: Math.max(0, x(high) - x(low)), height: HEIGHT }),
    svg("path", { class: "counts", d: `M0 ${HEIGHT}${path.join("")}V${HEIGHT}Z` }),
    ...[low, high].map((value) => svg("line", { class: "end", x1: x(value), x2: x(value), y1: 0, y2: HEIGHT })));
  $("level-text").textContent = `${short(low)} to ${short(high)}`;
}

const short = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

// Near an end of the window that end follows the pointer, between the ends the window does.
function grab(event) {
  const plot = $("histogram");
  const [from, to] = now.range;
  const value = (pointer) => from + ((pointer.clientX - plot.getBoundingClientRect().left) / plot.clientWidth) * (to - from);
  const start = value(event);
  const [low, high] = current();
  const near = Math.max((high - low) / 4, (to - from) / 40);
  const end = Math.abs(start - low) < near || start < low ? "low" : Math.abs(start - high) < near || start > high ? "high" : "both";
  plot.setPointerCapture(event.pointerId);
  plot.onpointermove = (move) => {
    const by = value(move) - start;
    const ends = [low + (end === "high" ? 0 : by), high + (end === "low" ? 0 : by)];
    if (ends[0] < ends[1]) set(ends);
  };
  plot.onpointerup = () => (plot.onpointermove = null);
}

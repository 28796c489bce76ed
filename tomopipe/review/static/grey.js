// Grey pictures of 8 or 16 bits: the server sends numbers, the window is chosen here.
import { read as request } from "./api.js";

const KEPT = 6; // slices: the candidates of a scan, and those of the next, asked for in advance
const kept = new Map();

export function grey(path, query) {
  const key = `${path} ${JSON.stringify(query)}`;
  const found = kept.get(key) ?? read(path, query);
  kept.delete(key);
  if (path === "slice") kept.set(key, found);
  found.catch(() => kept.delete(key));
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return found;
}

async function read(path, query) {
  const [text, bytes] = await request(path, query, async (response) => [response.headers.get("x-grey"), await response.arrayBuffer()]);
  const facts = JSON.parse(text);
  return { ...facts, values: facts.bits === 8 ? new Uint8Array(bytes) : new Uint16Array(bytes) };
}

// The picture as a canvas, `low` of the window black and `high` white; painted again when either
// changes, or the rows that are `done`.
export function paint(picture, [low, high], done = 0) {
  const { n_x, n_y, values } = picture;
  const painted = `${low} ${high} ${done}`;
  if (picture.painted === painted) return picture.canvas;
  const most = 2 ** picture.bits - 1;
  const unit = (picture.high - picture.low) / most;
  const table = new Uint32Array(most + 1);
  for (let value = 0; value <= most; value++) {
    const level = Math.round(Math.min(1, Math.max(0, (picture.low + value * unit - low) / (high - low || 1))) * 255);
    table[value] = 0xff000000 | (level * 0x010101);
  }
  const canvas = (picture.canvas ??= Object.assign(document.createElement("canvas"), { width: n_x, height: n_y }));
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(n_x, n_y);
  const pixels = new Uint32Array(image.data.buffer);
  for (let index = 0; index < values.length; index++) pixels[index] = table[values[index]];
  context.putImageData(image, 0, 0);
  picture.painted = painted;
  return canvas;
}

// Rows of a picture, or of a part of it, [left, top, right, bottom].
function* rowsOf({ n_x, n_y, values }, part) {
  const [left, top, right, bottom] = part ?? [0, 0, n_x, n_y];
  for (let row = Math.max(0, top); row < Math.min(n_y, bottom); row++) yield values.subarray(row * n_x + Math.max(0, left), row * n_x + Math.min(n_x, right));
}

const unitOf = (picture) => (picture.high - picture.low) / (2 ** picture.bits - 1);

// How many pixels have values in each of `n` equal parts of a range.
export function histogram(picture, [from, to], n = 96, part = null) {
  const counts = new Uint32Array(n);
  const unit = unitOf(picture);
  const every = Math.max(1, Math.floor(picture.values.length / 2e5));
  for (const row of part ? rowsOf(picture, part) : [picture.values]) {
    for (let index = 0; index < row.length; index += part ? 1 : every) {
      const bin = Math.floor(((picture.low + row[index] * unit - from) / (to - from)) * n);
      if (bin >= 0 && bin < n) counts[bin]++;
    }
  }
  return counts;
}

// The values below which so many percent of the pixels lie.
export function percentiles(picture, percents, part = null) {
  const counts = new Float64Array(2 ** picture.bits);
  let total = 0;
  for (const row of rowsOf(picture, part)) {
    total += row.length;
    for (const value of row) counts[value]++;
  }
  return percents.map((percent) => {
    const target = Math.min(total, Math.max(1, Math.ceil((percent / 100) * total)));
    let [at, below] = [0, counts[0]];
    while (below < target && at < counts.length - 1) below += counts[++at];
    return picture.low + at * unitOf(picture);
  });
}

// Values at equal steps along a line in a layer, the mean of `wide` lines beside each other; NaN outside.
export function profile({ picture, width, height }, [x0, y0, x1, y1], n, wide) {
  const [sx, sy] = [picture.n_x / width, picture.n_y / height];
  const [dx, dy] = [x1 - x0, y1 - y0];
  const long = Math.hypot(dx, dy);
  const values = [];
  for (let step = 0; step <= n; step++) {
    let sum = 0;
    for (let line = 0; line < wide; line++) {
      const off = line - (wide - 1) / 2;
      sum += between(picture, (x0 + (dx * step) / n - (off * dy) / long) * sx - 0.5, (y0 + (dy * step) / n + (off * dx) / long) * sy - 0.5);
    }
    values.push(sum / wide);
  }
  return values;
}

// The value between pixels; NaN outside.
function between(picture, x, y) {
  const { n_x, n_y, values } = picture;
  if (x < -0.5 || y < -0.5 || x > n_x - 0.5 || y > n_y - 0.5) return NaN;
  const [cx, cy] = [Math.min(n_x - 1, Math.max(0, x)), Math.min(n_y - 1, Math.max(0, y))];
  const [left, top] = [Math.min(Math.floor(cx), Math.max(0, n_x - 2)), Math.min(Math.floor(cy), Math.max(0, n_y - 2))];
  const at = (column, row) => values[Math.min(n_y - 1, row) * n_x + Math.min(n_x - 1, column)];
  const [fx, fy] = [cx - left, cy - top];
  const value = (at(left, top) * (1 - fx) + at(left + 1, top) * fx) * (1 - fy) + (at(left, top + 1) * (1 - fx) + at(left + 1, top + 1) * fx) * fy;
  return picture.low + value * unitOf(picture);
}

// A minus B, of one size; in the window, about 0, that is a quarter of that of A.
export function minus(a, b) {
  if (a.n_x !== b.n_x || a.n_y !== b.n_y) return null;
  const [ua, ub] = [unitOf(a), unitOf(b)];
  const reach = a.usual[1] - a.usual[0];
  const values = new Uint16Array(a.values.length);
  for (let index = 0; index < values.length; index++) {
    const value = a.low + a.values[index] * ua - (b.low + b.values[index] * ub);
    values[index] = Math.min(65535, Math.max(0, ((value + reach) / (2 * reach)) * 65535));
  }
  return { n_x: a.n_x, n_y: a.n_y, bits: 16, low: -reach, high: reach, usual: [-reach / 4, reach / 4], values };
}

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
  const canvas = (picture.canvas ??= new OffscreenCanvas(n_x, n_y));
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(n_x, n_y);
  const pixels = new Uint32Array(image.data.buffer);
  for (let index = 0; index < values.length; index++) pixels[index] = table[values[index]];
  context.putImageData(image, 0, 0);
  picture.painted = painted;
  return canvas;
}

// How many pixels have values in each of `n` equal parts of a range.
export function histogram(picture, [from, to], n = 96) {
  const counts = new Uint32Array(n);
  const unit = (picture.high - picture.low) / (2 ** picture.bits - 1);
  const every = Math.max(1, Math.floor(picture.values.length / 2e5));
  for (let index = 0; index < picture.values.length; index += every) {
    const bin = Math.floor(((picture.low + picture.values[index] * unit - from) / (to - from)) * n);
    if (bin >= 0 && bin < n) counts[bin]++;
  }
  return counts;
}

// A minus B, of one size; in the window, about 0, that is a quarter of that of A.
export function minus(a, b) {
  if (a.n_x !== b.n_x || a.n_y !== b.n_y) return null;
  const unit = (picture) => (picture.high - picture.low) / (2 ** picture.bits - 1);
  const [ua, ub] = [unit(a), unit(b)];
  const reach = a.usual[1] - a.usual[0];
  const values = new Uint16Array(a.values.length);
  for (let index = 0; index < values.length; index++) {
    const value = a.low + a.values[index] * ua - (b.low + b.values[index] * ub);
    values[index] = Math.min(65535, Math.max(0, ((value + reach) / (2 * reach)) * 65535));
  }
  return { n_x: a.n_x, n_y: a.n_y, bits: 16, low: -reach, high: reach, usual: [-reach / 4, reach / 4], values };
}

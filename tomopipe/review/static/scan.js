// One scan: its sweep, any COR at full size, opposed projections; what will be accepted.
import { get, picture } from "./api.js";
import { $, el, press, px, toast } from "./dom.js";
import { facts } from "./facts.js";
import * as stage from "./stage.js";

const AHEAD = 8; // pages preloaded on each side
const WAIT_MS = 250; // before a full-size slice is asked for
const now = { data: null, mode: "try", cor: null, typed: null, b: null, compare: "", frame: 0, ticket: 0 };
let pages = new Map(); // page -> promise of a picture
let waiting = 0;
let flickering = 0;

export const current = () => now.data;
export const chosen = () => (now.typed !== null ? now.typed : now.cor === null ? "" : trim(now.cor));

// Two decimals, four where they say more.
const trim = (value) => (Math.abs(value - Math.round(value * 100) / 100) < 1e-6 ? value.toFixed(2) : value.toFixed(4));

export async function open(name) {
  const ticket = ++now.ticket;
  const data = await get("scan", { scan: name });
  if (ticket !== now.ticket) return;
  now.data = data;
  pages = new Map();
  now.typed = null;
  alone();
  const grid = data.grid;
  $("slider").disabled = !grid;
  $("slider").max = grid ? grid.cor_px.length - 1 : 0;
  $("row").replaceChildren(...(grid ? grid.rows : []).map((row, at) => el("option", { value: at }, String(row))));
  $("nothing").hidden = Boolean(grid);
  $("nothing").textContent = grid ? "" : data.problem;
  if (now.mode === "overlay" && !(grid && grid.n_pairs)) now.mode = "try";
  modes();
  facts(data, go);
  now.cor = data.cor_px ?? (grid ? grid.cor_px[grid.cor_px.length >> 1] : null);
  if (!grid) {
    stage.show([]);
    labels();
    value();
    return;
  }
  await go(now.cor, { settle: true });
}

const nearest = (cor) => {
  const list = now.data.grid.cor_px;
  let best = 0;
  for (let at = 1; at < list.length; at++) if (Math.abs(list[at] - cor) < Math.abs(list[best] - cor)) best = at;
  return best;
};

function page(at) {
  if (!pages.has(at)) {
    const { grid, scan } = now.data;
    const made = picture("page", grid.moved ? { scan, cor: trim(grid.cor_px[at]) } : { scan, page: at });
    made.catch(() => pages.delete(at));
    pages.set(at, made);
    if (pages.size > 80) pages.delete(pages.keys().next().value);
  }
  return pages.get(at);
}

function preload(at, direction) {
  if (now.data.grid.moved) return; // each of these pages takes the engine a moment
  const count = now.data.grid.cor_px.length;
  for (let step = 1; step <= AHEAD; step++) {
    for (const place of [at + step * direction, at - step * direction]) if (place >= 0 && place < count) page(place);
  }
}

// The picture of a COR in a mode, with the size it has in detector pixels.
async function layer(cor, mode) {
  const { grid, scan } = now.data;
  const row = Number($("row").value) || 0;
  if (mode === "overlay") {
    const image = await picture("overlay", { scan, cor: trim(cor), pair: 0 });
    // a few rows are stretched: edges that meet are looked for along the columns
    return { image, width: grid.n_cols, height: Math.max(grid.n_rows, grid.n_cols / 4) };
  }
  if (mode === "try") {
    const image = await page(nearest(cor));
    const width = image.width * grid.binning;
    return { image, width, height: width };
  }
  const image = await picture("slice", { scan, cor: trim(cor), row });
  return { image, width: image.width, height: image.height }; // in half acquisition wider than the detector
}

// Show a COR; the value is what Enter accepts.
export async function go(cor, { direction = 1, settle = false } = {}) {
  if (!now.data || cor === null) return;
  now.cor = cor;
  const grid = now.data.grid;
  value();
  facts(now.data, go, cor);
  clearTimeout(waiting); // what the scan before waits for is not to be drawn of this one
  if (!grid) return;
  const at = nearest(cor);
  $("slider").value = at;
  $("slider").setAttribute("aria-valuetext", `COR ${px(grid.cor_px[at])}`);
  if (now.mode === "try") {
    await draw();
    preload(at, direction);
  } else {
    // asked for when the hand rests: a slice takes the engine a moment
    waiting = setTimeout(draw, settle ? 0 : WAIT_MS);
  }
}

async function draw() {
  if (!now.data.grid) return;
  const ticket = ++now.frame;
  const { cor, mode, b, data } = now;
  const busy = setTimeout(() => ($("busy").hidden = false), 150);
  try {
    const mine = await layer(cor, mode);
    const other = b === null || !now.compare ? null : await layer(b, mode);
    if (ticket !== now.frame || data !== now.data) return;
    now.pair = [mine, other];
    now.phase = 0;
    stage.show(now.compare === "side" ? [mine, other] : [mine]);
    labels();
    $("stage").dataset.cor = trim(cor);
  } catch (error) {
    if (ticket === now.frame) toast(error.message, true);
  } finally {
    clearTimeout(busy);
    if (ticket === now.frame) $("busy").hidden = true;
  }
}

function labels() {
  const grid = now.data.grid;
  const seen = (cor) => (now.mode === "try" && grid ? grid.cor_px[nearest(cor)] : cor);
  $("label-a").textContent = grid && now.cor !== null ? `${now.b === null ? "" : "A  "}COR ${px(seen(now.cor))}` : "";
  $("label-b").textContent = grid && now.b !== null ? `B  COR ${px(seen(now.b))}` : "";
  const showsB = now.compare === "flicker" && now.phase === 1;
  $("label-a").classList.toggle("off", showsB);
  $("label-b").classList.toggle("off", now.compare !== "side" && !showsB);
  $("label-b").classList.toggle("half", now.compare === "side");
}

function value() {
  const box = $("cor");
  if (document.activeElement !== box) box.value = chosen();
  box.classList.toggle("typed", now.typed !== null);
}

// First and last column in use.
function columns(grid) {
  const first = grid.first_col || 0;
  return [first, first + grid.n_cols - 1];
}

// Next or previous COR: a page of the sweep, or a fraction of a step at full size.
export function step(by) {
  const grid = now.data && now.data.grid;
  if (!grid) return;
  now.typed = null;
  const list = grid.cor_px;
  const direction = by < 0 ? -1 : 1;
  if (now.mode === "try") {
    const at = nearest(now.cor);
    // from between two pages the first step goes to the next page on that side
    const off = list[at] - now.cor;
    const start = Math.abs(off) > 1e-6 && Math.sign(off) === direction ? at - direction : at;
    go(list[Math.min(list.length - 1, Math.max(0, start + by))], { direction });
  } else {
    const size = list.length > 1 ? (list[1] - list[0]) / 5 : 0.1;
    const [first, last] = columns(grid);
    go(Math.min(last, Math.max(first, Math.round((now.cor + by * size) * 1e4) / 1e4)), { direction });
  }
}

// A COR as it is being typed; the picture follows, off the sweep at full size.
export function type(text) {
  now.typed = text;
  const box = $("cor");
  box.value = text;
  value();
  const cor = Number(text);
  const grid = now.data && now.data.grid;
  if (!text || !Number.isFinite(cor) || !grid || cor < columns(grid)[0] || cor > columns(grid)[1]) return;
  const list = grid.cor_px;
  const inside = cor >= list[0] && cor <= list[list.length - 1];
  if (!inside && now.mode === "try" && text.length < String(Math.round(list[0])).length) return;
  if (!inside && now.mode === "try") setMode("full", false);
  go(cor);
}

export const typed = () => now.typed;

export function forget() {
  now.typed = null;
  value();
}

export function setMode(mode, settle = true) {
  const grid = now.data && now.data.grid;
  if (!grid || (mode === "overlay" && !grid.n_pairs)) {
    if (grid) toast("No opposed projections were kept of this scan.");
    return;
  }
  now.mode = mode;
  modes();
  go(now.cor, { settle });
}

function modes() {
  for (const mode of ["try", "full", "overlay"]) press(`mode-${mode}`, mode === now.mode);
  $("row").disabled = now.mode !== "full";
}

export function pin() {
  if (!now.data || !now.data.grid) return;
  now.b = now.cor;
  compare(now.compare);
  labels();
}

// One picture again: what was compared belongs to another scan.
function alone() {
  clearInterval(flickering);
  now.b = now.pair = null;
  now.compare = "";
  press("flicker", false);
  press("side", false);
}

export function compare(how) {
  now.compare = now.b === null ? "" : how;
  press("flicker", now.compare === "flicker");
  press("side", now.compare === "side");
  clearInterval(flickering);
  if (now.compare === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    flickering = setInterval(swap, 500);
  }
  if (now.data && now.data.grid) draw();
}

export function swap() {
  if (!now.pair || !now.pair[1]) return;
  now.phase = 1 - now.phase;
  stage.show([now.pair[now.phase]]);
  labels();
}

export function toggle(how) {
  if (now.b === null) {
    toast("First keep a COR as B (b), then go to another.");
    return;
  }
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (how === "flicker" && now.compare === "flicker" && still) swap();
  else compare(now.compare === how ? "" : how);
}

export const redraw = () => now.data && now.data.grid && go(now.cor, { settle: true });

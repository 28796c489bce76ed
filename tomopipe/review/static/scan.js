// One scan: what is shown of it at which COR, and what Enter writes.
import { get, isDown, picture } from "./api.js";
import { $, coded, drawIn, el, press, px, toast } from "./dom.js";
import { facts, plot, sourceWords } from "./facts.js";
import { grey, minus, paint } from "./grey.js";
import * as level from "./level.js";
import { Measure, TOOLS } from "./measure.js";
import { Stage } from "./stage.js";
import * as strip from "./strip.js";

const AHEAD = 8; // pages of the sweep preloaded on each side
const LEGEND_PX = 20; // below the score curves of candidates
const WAIT_MS = 60; // before a slice is asked for: while the hand moves pages of the sweep are shown
const KINDS = ["slice", "candidates", "rows", "overlay", "difference", "sinogram"];
const now = { data: null, name: null, mode: "slice", cor: null, typed: null, shown: null, b: null, compare: "", frame: 0, drawing: 0, ticket: 0, layers: [], phase: 0, asked: 0, ready: "" };
let pages = new Map(); // page -> promise of a picture
let waiting = 0;
let flickering = 0;
let stage = null;
let measure = null;
let rested = () => {};
let moded = () => {};

export function setUp(onRest, onMode, onWritten) {
  rested = onRest;
  moded = onMode;
  host.written = onWritten;
  level.setUp(repaint);
  new ResizeObserver(() => now.mode === "candidates" && showScores()).observe($("scores"));
  strip.setUp((cor) => (forget(), go(cor, { atOnce: true })), () => go(now.cor, { atOnce: true }));
  stage = new Stage($("picture"), { level: level.change, moved: () => {
    const position = stage.middle();
    if (!position || now.mode !== "slice" || !now.data || !now.data.grid) return;
    strip.look(position);
    showStrip();
  }, pick: (number) => takeOf(now.shown)(now.shown.candidates[number].cor_px) });
  measure = new Measure($("measure"), host);
  stage.shapes = (layer) => measure.shapes(layer);
}

// What tools measure: the pictures in sight, in detector pixels.
const isProjection = () => ["overlay", "difference"].includes(now.mode);
const host = {
  layers: () => now.layers.map((layer, number) => ({ name: now.mode === "candidates" ? `COR ${px(now.data.candidates[number]?.cor_px)}` : undefined, ...layer })),
  plane() {
    const [layer] = now.layers;
    const n = now.data?.shape ? { z: now.data.shape[1] } : {};
    if (!layer || now.mode === "sinogram") return { h: null, v: null, n };
    if (isProjection()) return { h: null, v: "z", n };
    // slices that are narrower than those of the volume, or its crops, count otherwise
    return now.data.is_cut || layer.ofVolume ? { h: null, v: null, n } : { h: "x", v: "y", n: { x: layer.width, y: layer.height, ...n } };
  },
  unit: () => [1, isProjection() && now.data.shape ? now.data.shape[1] / now.layers[0].height : 1],
  size_um: () => (now.data?.pixel_size_um ? [now.data.pixel_size_um, now.data.pixel_size_um] : null),
  present: () => now.data?.crops ?? {},
  options: (axis, first, last) => [first, last],
  grey: () => (now.mode === "sinogram" || isProjection() ? { units: "", factor: 1 } : now.layers[0]?.ofVolume ? { ...now.data.grey, factor: 1 } : now.data.grey),
  scan: () => now.data?.scan,
  caption: () => [now.data.scan, ...(now.mode === "candidates" ? now.data.candidates.map(({ cor_px: cor }) => `COR ${px(cor)}`) : [$("label-a").textContent, now.compare && $("label-b").textContent])].filter(Boolean).join("   "),
  file: () => `${now.data.scan}_${now.mode}_${px(now.cor)}`,
  canvas() {
    stage.isClean = true;
    stage.draw();
    stage.isClean = Boolean(stage.onDrag);
    return stage.canvas;
  },
  per_px: () => stage.scale(),
  setWindow: (low, high) => level.choose(low, high),
  draw: () => stage.draw(),
  drag(handler) {
    stage.onDrag = handler;
    stage.isClean = Boolean(handler);
    $("scan").classList.toggle("measuring", Boolean(handler));
    for (const each of TOOLS) press(`tool-${each}`, measure.tool === each);
  },
  written() {},
};

// Take a tool in hand, or put it away.
export function tool(name) {
  if (!now.data || !now.layers.length) return toast("There is no picture to measure.");
  measure.pick(name);
}

// Put the tool away; true if there was one.
export function untool() {
  if (!measure.tool) return false;
  tool(measure.tool);
  return true;
}

export const save = () => (now.data && now.layers.length ? measure.save() : toast("There is no picture to save."));
export const zoom = (by) => stage.zoom(by);
export const resetZoom = () => stage.resetZoom();
export const current = () => now.data;
export const opening = () => now.name; // the scan that is opened, or open
export const mode = () => now.mode;
export const isMode = (name) => KINDS.includes(name);
// What Enter writes; the table holds hundredths.
export const chosen = () => (now.typed !== null ? now.typed : now.cor === null ? "" : now.cor.toFixed(2));
const hundredths = (cor) => Math.round(cor * 100) / 100;

// Open a scan; `onData`: from now on the page is about it. `calm`: the open one is asked for again; where it is as it
// was, nothing moves, and a COR that somebody went to stays.
export async function open(name, { onData = () => {}, calm = false } = {}) {
  const ticket = ++now.ticket;
  now.name = name;
  let data = null;
  try {
    data = await get("scan", { scan: name }, () => now.name === name && now.data?.scan !== name);
  } catch (error) {
    if (ticket !== now.ticket) return;
    stop();
    throw error;
  }
  const text = JSON.stringify(data);
  if (ticket !== now.ticket || (calm && text === now.text)) return;
  onData();
  const again = now.data && now.data.scan === name;
  const isMoved = again && (now.typed !== null || (calm && (now.cor !== now.first || now.b !== null)));
  const rowShown = again ? row() : 0;
  now.data = data;
  now.text = text;
  for (const candidate of data.candidates) candidate.cor_px = hundredths(candidate.cor_px);
  pages = new Map();
  if (!isMoved) alone();
  if (!again) measure.forget();
  if (!again && document.activeElement.id === "cor") now.typed = null; // the COR of the scan before, edited
  const { grid } = data;
  $("slider").disabled = !grid;
  $("slider").max = grid ? grid.cor_px.length - 1 : 0;
  $("row").replaceChildren(...(grid ? grid.rows : []).map((row, index) => el("option", { value: index }, String(row))));
  $("row").value = rowShown;
  if (!again) strip.begin(name, grid && grid.step_px);
  if (["overlay", "difference"].includes(now.mode) && !(grid && grid.n_pairs)) now.mode = "slice";
  if (!isOpen("candidates")) now.mode = now.mode === "candidates" ? "slice" : now.mode;
  else if (!again) now.mode = "candidates";
  modes();
  facts(data, takeOf(data));
  const start = data.cor_px ?? (grid ? grid.cor_px[grid.cor_px.length >> 1] : null);
  now.first = start === null ? null : hundredths(start);
  if (!isMoved) now.cor = now.first;
  if (now.typed !== null) {
    now.untyped = now.first;
    type(now.typed); // while this scan was on its way
  }
  if (!grid) {
    clearTimeout(waiting);
    nothing(data.problem);
    value();
    if (data.has_slice) await ofVolume(data);
    return;
  }
  await go(now.cor, { atOnce: true });
}

// Of a scan without a sweep: the slice of its volume, if that is of the COR in use.
async function ofVolume(data) {
  try {
    const found = await grey("in-use", { scan: data.scan, v: Date.now() });
    if (now.data !== data) return;
    now.layers = [{ ...asSlice(found, { name: `row ${found.row} of ${found.n_rows}, from ${found.of}` }), width: found.n_x * found.pixel_px, height: found.n_y * found.pixel_px, kind: "slice", ofVolume: true }];
    $("nothing").hidden = true;
    level.show(data.scan, "slice", found);
    repaint();
    $("label-a").textContent = `COR ${px(data.cor_px)}`;
    $("stage").dataset.cor = px(data.cor_px);
    $("stage").dataset.exact = "yes";
  } catch {
    // what is written in its place says what to do
  }
}

// No other scan than the one in sight is opened.
function stop() {
  now.ticket++;
  now.name = now.data?.scan ?? null;
}

function nothing(text) {
  now.frame++;
  now.pair = null;
  now.layers = [];
  now.shown = now.data;
  stage.show([]);
  level.show(now.data.scan, now.mode, null);
  $("label-a").textContent = $("label-b").textContent = "";
  $("strip").classList.add("off");
  $("busy").hidden = true;
  delete $("stage").dataset.cor;
  $("nothing").hidden = false;
  $("nothing").replaceChildren(el("span", {}, ...coded(text)));
}

// Have the slice of another scan ready, which is looked at next.
export async function prepare(name) {
  if (!name || name === now.ready || name === now.data.scan || !["slice", "candidates"].includes(now.mode)) return;
  now.ready = name;
  try {
    const { grid, cor_px: cor, candidates } = await get("scan", { scan: name });
    const cors = candidates.length > 1 ? candidates.map((candidate) => candidate.cor_px) : [cor];
    if (grid && cor !== null) await Promise.all(cors.map((value) => grey("slice", { scan: name, cor: hundredths(value).toFixed(2), row: 0, v: grid.version })));
  } catch {
    // it says what is wrong when it is opened
  }
}

const nearest = (cor) => {
  const list = now.data.grid.cor_px;
  let best = 0;
  for (let index = 1; index < list.length; index++) if (Math.abs(list[index] - cor) < Math.abs(list[best] - cor)) best = index;
  return best;
};

const query = (more) => ({ scan: now.data.scan, ...more, v: now.data.grid.version });

function page(number) {
  if (!pages.has(number)) {
    const made = grey("page", query({ page: number }));
    made.catch(() => pages.delete(number));
    pages.set(number, made);
    if (pages.size > 80) pages.delete(pages.keys().next().value);
  }
  return pages.get(number);
}

function preload(middle, direction) {
  const count = now.data.grid.cor_px.length;
  for (let step = 1; step <= AHEAD; step++) {
    for (const number of [middle + step * direction, middle - step * direction]) if (number >= 0 && number < count) page(number);
  }
}

const row = () => Number($("row").value) || 0;
const asSlice = (found, more) => ({ picture: found, width: found.n_x, height: found.n_y, ...more });

// What a mode shows of a COR, with the size it has in detector pixels.
async function layers(cor, mode) {
  const { grid } = now.data;
  const corText = cor.toFixed(2);
  // a few rows are stretched: edges that meet are looked for along the columns
  const stretched = { width: grid.n_cols, height: Math.max(grid.n_rows, grid.n_cols / 4) };
  if (mode === "overlay") return [{ image: await picture("overlay", query({ cor: corText, pair: 0 })), ...stretched }];
  if (mode === "difference") return [{ picture: await grey("difference", query({ cor: corText, pair: 0 })), ...stretched }];
  if (mode === "sinogram") {
    const found = await grey("sinogram", query({ row: row() }));
    return [{ picture: found, width: found.n_x, height: Math.max(found.n_y, found.n_x / 2), axis: cor - grid.first_col + 0.5 }];
  }
  if (mode === "rows") {
    const found = await Promise.all(grid.rows.map((_, number) => grey("slice", query({ cor: corText, row: number }))));
    const order = grid.rows.map((_, number) => number).sort((a, b) => grid.rows[a] - grid.rows[b]);
    return order.map((number) => asSlice(found[number], { name: `row ${grid.rows[number]}` }));
  }
  if (mode === "candidates") {
    const found = await Promise.all(now.data.candidates.map((candidate) => grey("slice", query({ cor: candidate.cor_px.toFixed(2), row: row() }))));
    return found.map((slice) => asSlice(slice));
  }
  return [asSlice(await grey("slice", query({ cor: corText, row: row() })))];
}

// Whether there is something to show in a mode.
function isOpen(mode) {
  const { grid, candidates } = now.data;
  if (mode === "candidates") return candidates.length > 1;
  return Boolean(grid && (grid.n_pairs || !["overlay", "difference"].includes(mode)));
}

const numberOf = (cor) => now.data.candidates.findIndex((candidate) => candidate.cor_px === cor);

// Show a COR; the value is what Enter writes, and the picture at rest is of that very COR.
export async function go(cor, { direction = 1, atOnce = false } = {}) {
  if (!now.data || cor === null) return;
  now.cor = hundredths(cor);
  const { grid } = now.data;
  if (now.mode === "candidates" && numberOf(now.cor) < 0) {
    now.mode = "slice";
    modes();
  }
  value();
  facts(now.data, takeOf(now.data), now.cor);
  showCandidates();
  clearTimeout(waiting); // what the scan before waits for is not to be drawn of this one
  if (!grid) return;
  if (isOff(now.cor)) return nothing(`COR ${now.cor} is outside the detector columns in use, ${columns(grid).join(" to ")}: there is no slice.`);
  const number = nearest(now.cor);
  $("slider").value = number;
  $("slider").setAttribute("aria-valuetext", `COR ${px(now.cor)}`);
  const passing = now.mode === "slice" && grid.swept && row() === 0 && !now.compare;
  now.frame++; // a page that comes late is of another scan, or another picture
  if (passing) preview(number, atOnce ? 0 : direction);
  // at once, unless one COR follows the other
  const moves = performance.now() - now.asked < 4 * WAIT_MS;
  now.asked = performance.now();
  await new Promise((done) => (waiting = setTimeout(() => draw().then(done), moves && !atOnce ? WAIT_MS : 0)));
}

// While the hand moves: the nearest page of the sweep; those beside it, if it goes on.
async function preview(number, direction) {
  const ticket = now.frame;
  try {
    const found = await page(number);
    if (ticket !== now.frame) return;
    const width = found.n_x * now.data.grid.binning;
    put([{ picture: found, width, height: width }], now.data.grid.cor_px[number], false);
    if (direction) preload(number, direction);
  } catch {
    // the slice comes, or says why not
  }
}

async function draw() {
  if (!now.data.grid || isOff(now.cor)) return;
  const ticket = ++now.drawing;
  const { cor, mode, b, data } = now;
  const fresh = () => ticket === now.drawing && cor === now.cor && mode === now.mode && data === now.data;
  const busy = setTimeout(() => fresh() && ($("busy").hidden = false), 150);
  try {
    const mine = await layers(cor, mode);
    const other = b === null || !now.compare ? null : await layers(b, mode);
    if (!fresh()) return;
    now.frame++; // a page that comes late is not drawn over it
    now.pair = [mine, other];
    now.phase = 0;
    put(other && now.compare !== "flicker" ? together(mine, other) : mine, cor, true);
    showStrip();
  } catch (error) {
    if (!fresh()) return;
    if (!isDown()) toast(error.message, true);
    if (now.shown !== data) nothing(error.message); // what is in sight is of the scan before
  } finally {
    clearTimeout(busy);
    if (fresh()) $("busy").hidden = true;
  }
}

function together(mine, other) {
  if (now.compare === "side") return [...mine, ...other];
  const [a, b] = [mine[0].picture, other[0].picture];
  const found = a && b && minus(a, b);
  return found ? [{ ...mine[0], picture: found, kind: "minus" }] : mine;
}

const kindOf = (layer) => layer.kind || (["rows", "candidates"].includes(now.mode) ? "slice" : now.mode);
// Crops are of slices, also beside a difference of slices.
const stripWindow = (found) => level.windowOf(now.data.scan, "slice", found);
const windowOf = (layer) => level.windowOf(now.data.scan, kindOf(layer), layer.picture);

// Put pictures on the stage; `exact`: they are of the COR that Enter writes.
function put(shown, cor, exact) {
  now.layers = shown;
  now.shown = now.data;
  $("nothing").hidden = true;
  const first = shown[0];
  if (exact) level.show(now.data.scan, kindOf(first), first.picture || null);
  repaint();
  labels(cor, exact);
  if (exact) measure.refresh();
  $("stage").dataset.cor = cor.toFixed(2);
  $("stage").dataset.exact = exact ? "yes" : "no";
}

function repaint() {
  const slice = now.mode === "slice";
  const chosen = now.mode === "candidates" ? numberOf(now.cor) : -1;
  const boxOf = (layer, number) => (number === chosen ? [0, 0, layer.height, layer.width] : slice && now.layers.length === 1 ? strip.box() : null);
  stage.show(now.layers.map((layer, number) => ({ ...layer, box: boxOf(layer, number),
    image: layer.picture ? paint(layer.picture, windowOf(layer)) : layer.image })), { columns: chosen >= 0 ? now.layers.length : 0 });
  if (slice && now.layers.length && now.layers[0].picture) strip.draw(stripWindow);
}

function showStrip() {
  $("strip").classList.toggle("off", now.mode !== "slice");
  const { scan, grid } = now.data;
  const after = () => now.data.scan === scan && (repaint(), grid.swept && preload(nearest(now.cor), 1), rested());
  if (now.mode === "slice") strip.show(query({ cor: now.cor.toFixed(2), row: row() }), stripWindow, { done: after });
  else if (grid) rested();
}

function labels(cor = now.cor, exact = true) {
  const { grid } = now.data;
  const name = now.b === null ? "" : "A  ";
  $("label-a").textContent = grid && cor !== null && now.mode !== "candidates" ? `${name}COR ${exact ? "" : "≈ "}${px(cor)}${now.compare === "minus" ? " minus B" : ""}` : "";
  $("label-b").textContent = grid && now.b !== null ? `B  COR ${px(now.b)}` : "";
  const showsB = now.compare === "flicker" && now.phase === 1;
  $("label-a").classList.toggle("off", showsB);
  $("label-b").classList.toggle("off", !["side", "minus"].includes(now.compare) && !showsB);
  $("label-b").classList.toggle("half", now.compare === "side");
}

const NAMES = { measured: ["p", "Measured"], used: ["f", "Used"], line: ["i", "On the line"] };

function sourceText(sources) {
  const text = sources.map(sourceWords).join("; ");
  return el("span", { title: text }, text);
}

// The CORs between which a person decides: a label under each slice, and its place on the score curves.
function showCandidates() {
  const on = now.mode === "candidates";
  $("scan").classList.toggle("card", on);
  $("candidates").hidden = !on;
  if (!on) return;
  const chosen = numberOf(now.cor);
  drawIn($("candidates"), () => $("candidates").replaceChildren(...now.data.candidates.map(({ names, cor_px: cor, sources }, number) =>
    el("button", { "aria-pressed": number === chosen ? "true" : "false", tabindex: -1, onclick: (event) => (event.currentTarget.blur(), takeOf(now.data)(cor)) },
      el("b", {}, ...names.flatMap((name) => [el("kbd", {}, NAMES[name][0]), ` ${NAMES[name][1]} `]), ` ${px(cor)}\u00a0px`),
      sourceText(sources)))));
  showScores();
}

function showScores() {
  const { clientWidth: width, clientHeight: height } = $("scores");
  const room = { width: Math.max(width, 200), height: Math.max(height - LEGEND_PX, 90) };
  const nodes = plot(now.data, takeOf(now.data), now.cor, room) ?? [el("p", { class: "quiet" }, "No score curves.")];
  drawIn($("scores"), () => $("scores").replaceChildren(...nodes));
}

// Go to a COR by its name; true if its slice was in sight before.
export function takeNamed(name) {
  const { data, mode } = now;
  if (!data) return false;
  const candidate = data.candidates.find(({ names }) => names.includes(name));
  take(candidate?.cor_px ?? { measured: data.prediction?.best_cor_px, used: data.known_px }[name]);
  return Boolean(candidate) && mode === "candidates" && now.shown === data;
}

function value() {
  const box = $("cor");
  if (box.value !== chosen()) box.value = chosen(); // its cursor stays where it is the same
  box.classList.toggle("typed", now.typed !== null);
}

// First and last column in use.
function columns(grid) {
  const first = grid.first_col || 0;
  return [first, first + grid.n_cols - 1];
}

const isOff = (cor) => cor < columns(now.data.grid)[0] || cor > columns(now.data.grid)[1];

// Next or previous COR, in steps of the strip.
export function step(by) {
  const grid = now.data && now.data.grid;
  if (!grid) return;
  now.typed = null;
  const [first, last] = columns(grid);
  go(Math.min(last, Math.max(first, now.cor + by * strip.step())), { direction: by < 0 ? -1 : 1 });
}

// A COR as it is being typed; the picture follows.
export function type(text) {
  if (isDown() && now.typed === null) stop(); // what is typed from now on is for the scan in sight
  if (now.typed === null) now.untyped = now.cor;
  now.typed = text;
  $("cor").value = now.typed;
  value();
  const cor = typedCor();
  if (cor === null) return;
  const list = now.data.grid.cor_px;
  // "5" on the way to "512" is no COR yet
  if ((cor < list[0] || cor > list[list.length - 1]) && text.length < String(Math.round(list[0])).length) return;
  go(cor);
}

// The COR that a text is; a comma is a point before one or two decimals, as in the commands: before three it may be of thousands.
export const corIn = (text) => Number((text ?? "").replace(/^(\d+),(\d{1,2})$/, "$1.$2") || NaN);

// The COR that was typed, of a scan with slices.
function typedCor() {
  const cor = corIn(now.typed);
  return now.data?.grid && Number.isFinite(cor) ? cor : null;
}

// Show a COR that was typed but is not shown; true if there was one.
export function follow() {
  const cor = typedCor();
  if (cor === null || hundredths(cor) === now.cor) return false;
  go(cor, { atOnce: true });
  return true;
}

export const typed = () => now.typed;

// What was typed is the COR; what is typed from now on is another one.
export function settle() {
  const cor = corIn(now.typed);
  if (!Number.isFinite(cor)) return;
  now.cor = hundredths(cor);
  forget();
}

// It was not accepted: Esc brings back the COR of before.
export function unsettle(text) {
  now.typed ??= text;
  value();
}

export function forget() {
  now.typed = null;
  value();
}

// Forget what was typed, and show the COR of before again.
export function untype() {
  if (now.typed === null) return;
  forget();
  if (now.untyped !== now.cor) go(now.untyped, { atOnce: true });
}

// The COR of a finder, or the one before its series was fixed; Enter accepts it.
export function take(cor) {
  if (cor === null || cor === undefined || !now.data.grid) return;
  forget();
  go(hundredths(cor), { atOnce: true });
}

// `take` for what is drawn of a scan, and pressed when another one may be open.
const takeOf = ({ scan }) => (cor) => scan === now.data.scan && take(cor);

export function setMode(mode) {
  if (!now.data) return;
  if (!now.data.grid) return toast(now.data.problem);
  if (!isOpen(mode)) {
    toast(mode === "candidates" ? "Nothing to compare: e shows the CORs of a scan to review side by side, where they differ." : "No opposing projections are stored for this scan.");
    return;
  }
  const card = mode === "candidates";
  if (card) alone();
  now.mode = mode;
  modes();
  go(card && numberOf(now.cor) < 0 ? now.data.candidates[0].cor_px : now.cor, { atOnce: true });
}

function modes() {
  for (const mode of KINDS) press(`mode-${mode}`, mode === now.mode);
  $("mode").textContent = $(`mode-${now.mode}`).firstChild.textContent;
  $("row").disabled = !["slice", "candidates", "sinogram"].includes(now.mode);
  $("mode-candidates").disabled = !isOpen("candidates");
  showCandidates();
  moded();
}

export function pin() {
  if (!now.data || !now.data.grid || isOff(now.cor)) return;
  now.b = now.cor;
  compare(now.compare);
  labels();
}

// One picture again: what was compared belongs to another scan.
function alone() {
  clearInterval(flickering);
  now.b = now.pair = null;
  now.compare = "";
  for (const how of ["flicker", "side", "minus"]) press(how, false);
}

function compare(how) {
  now.compare = now.b === null ? "" : how;
  for (const name of ["flicker", "side", "minus"]) press(name, now.compare === name);
  clearInterval(flickering);
  if (now.compare === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    flickering = setInterval(swap, 500);
  }
  if (now.data && now.data.grid) draw();
}

function swap() {
  if (!now.pair || !now.pair[1]) return;
  now.phase = 1 - now.phase;
  now.layers = now.pair[now.phase];
  repaint();
  labels();
}

export function toggle(how) {
  if (now.b === null) {
    toast("First keep a COR as B (b), then go to another.");
    return;
  }
  if (now.mode === "candidates") {
    now.mode = "slice";
    modes();
  }
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (how === "flicker" && now.compare === "flicker" && still) swap();
  else compare(now.compare === how ? "" : how);
}

export const redraw = () => now.data && now.data.grid && go(now.cor, { atOnce: true });

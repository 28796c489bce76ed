// The slices of `tomopipe sweep`: all in a grid, or two side by side and a slider; one zoom and one grey window.
import { get } from "./api.js";
import { $, el, press, px, toast } from "./dom.js";
import { grey, paint } from "./grey.js";
import { Measure } from "./measure.js";
import { Stage } from "./stage.js";

const now = { sweeps: [], sweep: null, how: "grid", along: 0, at: 0, sides: [0, 0], window: [0, 1], pictures: new Map(), layers: [], ticket: 0 };
let stage = null;
let measure = null;

export async function show(scan) {
  const mine = ++now.ticket;
  try {
    const { sweeps } = await get("sweeps");
    if (mine !== now.ticket) return;
    now.sweeps = sweeps;
  } catch (error) {
    return toast(error.message, true);
  }
  const nameOf = ({ scan: of, name, version }) => `${of} ${name} ${version}`;
  const same = now.sweep && now.sweeps.find((each) => nameOf(each) === nameOf(now.sweep));
  const chosen = same?.scan === scan ? same : now.sweeps.find((each) => each.scan === scan) ?? same ?? now.sweeps[0];
  if (!chosen) {
    now.sweep = null;
    $("sweeps").replaceChildren(el("h2", {}, "Sweeps over options"), el("p", {}, "None yet. In a terminal: ", el("code", {}, "tomopipe sweep preprocess.stripes.method none sorting vo"), "; a second key with values makes a grid."));
    return;
  }
  choose(chosen, chosen === same);
}

function choose(sweep, again = false) {
  if (!again) Object.assign(now, { sweep, along: sweep.keys.length - 1, at: 0, sides: [0, 1], window: sweep.window, pictures: new Map(), how: sweep.keys.length > 1 || sweep.values[0].length > 2 ? "grid" : "pair" });
  now.sweep = sweep;
  const choice = el("select", { id: "sweep-name", onchange: (event) => choose(now.sweeps[event.target.selectedIndex]) },
    ...now.sweeps.map((each) => el("option", { selected: each === sweep }, `${each.scan}: ${each.keys.join(" × ")}`)));
  const canvas = el("canvas", { id: "sweep-picture", role: "img", "aria-label": "Slices of the sweep" });
  const tools = el("section", { id: "sweep-measure", class: "measure", tabindex: -1, "aria-label": "Measure", hidden: true });
  $("sweeps").replaceChildren(
    el("div", { class: "line" }, el("label", {}, "Sweep ", choice),
      el("button", { id: "sweep-grid", onclick: () => arrange("grid"), title: "All slices (g)" }, "Grid"),
      el("button", { id: "sweep-pair", onclick: () => arrange("pair"), title: "Two slices (s)" }, "Side by side"),
      el("button", { id: "sweep-profile", onclick: () => measure.pick("profile"), title: "Grey values along a line (q)" }, "Profile"),
      el("button", { onclick: () => measure.save(), title: "Save what is shown, with a scale bar (S)" }, "Save PNG"),
      el("span", { class: "quiet" }, `row ${sweep.row}, COR ${px(sweep.cor_px)} px`)),
    el("div", { id: "sweep-sides", class: "line" }), canvas, tools);
  stage = new Stage(canvas, { level });
  measure = new Measure(tools, host);
  stage.shapes = (layer) => measure.shapes(layer);
  arrange(now.how);
}

const host = {
  layers: () => now.layers,
  plane: () => ({ h: "x", v: "y", n: { x: now.sweep.shape[1], y: now.sweep.shape[0] } }),
  unit: () => [1, 1],
  size_um: () => (now.sweep.pixel_size_um ? [now.sweep.pixel_size_um, now.sweep.pixel_size_um] : null),
  present: () => ({}),
  grey: () => ({ units: { per_pixel: "1/pixel", per_cm: "1/cm" }[now.sweep.units], factor: 1 }),
  scan: () => null,
  caption: () => `${now.sweep.scan}, row ${now.sweep.row}, COR ${px(now.sweep.cor_px)}`,
  file: () => `${now.sweep.scan}_${now.sweep.name}`,
  canvas: () => stage.canvas,
  per_px: () => stage.scale(),
  setWindow() {},
  draw: () => stage.draw(),
  drag(handler) {
    stage.onDrag = handler;
    press("sweep-profile", Boolean(handler));
  },
};

// Key and values of the sides, null for one key: then A stays while the slider moves B.
function across() {
  const { keys, values } = now.sweep;
  const other = keys.length > 1 ? 1 - now.along : now.along;
  return { key: keys[other], values: values[other], isOne: keys.length === 1 };
}

// What to show: pairs of numbers of a slice and its name.
function shown() {
  const { keys, values } = now.sweep;
  const number = (picks) => (keys.length > 1 ? picks[0] * values[1].length + picks[1] : picks[0]);
  const name = (picks) => picks.map((pick, of) => `${keys[of].split(".").pop()} ${values[of][pick]}`).join(", ");
  const all = keys.length > 1 ? values[0].flatMap((_, i) => values[1].map((__, j) => [i, j])) : values[0].map((_, i) => [i]);
  if (now.how === "grid") return all.map((picks) => [number(picks), name(picks)]);
  const side = (pick) => (keys.length > 1 ? (now.along ? [pick, now.at] : [now.at, pick]) : [pick]);
  const sides = across().isOne ? [now.sides[0], now.at] : now.sides;
  return sides.map((pick, which) => [number(side(pick)), `${"AB"[which]}  ${name(side(pick))}`]);
}

function arrange(how) {
  now.how = how;
  press("sweep-grid", how === "grid");
  press("sweep-pair", how === "pair");
  sides();
  draw();
}

function sides() {
  const { keys, values } = now.sweep;
  const { key, values: ofSides, isOne } = across();
  $("sweep-sides").hidden = now.how === "grid";
  const pick = (which) => el("label", {}, `${"AB"[which]} `, el("select", { "aria-label": `${"AB"[which]}: ${key}`, onchange: (event) => (now.sides[which] = event.target.selectedIndex, draw()) },
    ...ofSides.map((value, index) => el("option", { selected: index === now.sides[which] }, String(value)))));
  if (isOne && now.at === now.sides[0]) now.at = Math.min(1, values[0].length - 1);
  const slider = el("input", { id: "sweep-at", type: "range", min: 0, max: values[now.along].length - 1, step: 1, value: now.at, "aria-label": keys[now.along], oninput: (event) => go(event.target.valueAsNumber) });
  const along = isOne ? `B ${keys[0]}` : el("select", { "aria-label": "Slider of", onchange: (event) => {
    Object.assign(now, { along: event.target.selectedIndex, at: 0, sides: [0, 1] });
    sides();
    draw();
  } }, ...keys.map((each, index) => el("option", { selected: index === now.along }, each)));
  $("sweep-sides").replaceChildren(pick(0), isOne ? "" : pick(1), along, slider, el("output", { id: "sweep-value" }));
  say();
}

const say = () => ($("sweep-value").textContent = String(now.sweep.values[now.along][now.at]));

function go(at) {
  now.at = at;
  $("sweep-at").value = at;
  say();
  draw();
}

function picture(number, factor) {
  const { scan, name, version } = now.sweep;
  const key = `${number} ${factor}`;
  if (!now.pictures.has(key)) {
    const found = grey("sweep", { scan, name, number, factor, v: version });
    found.catch(() => now.pictures.delete(key));
    now.pictures.set(key, found);
  }
  return now.pictures.get(key);
}

async function draw() {
  const mine = ++now.ticket;
  const { keys, values, shape } = now.sweep;
  const each = shown();
  const columns = now.how === "pair" ? each.length : keys.length > 1 ? values[1].length : 0;
  // of many, as many pixels as a zoom of 2 shows
  const cell = (stage.canvas.clientWidth * (window.devicePixelRatio || 1)) / Math.ceil(Math.sqrt(each.length));
  const factor = now.how === "pair" ? 1 : Math.max(1, Math.floor(shape[1] / (2 * cell)));
  try {
    const pictures = await Promise.all(each.map(([number]) => picture(number, factor)));
    if (mine !== now.ticket) return;
    now.layers = pictures.map((found, index) => ({ picture: found, width: shape[1], height: shape[0], name: each[index][1] }));
    repaint(columns);
    measure.refresh();
    stage.canvas.dataset.shown = each.map(([, name]) => name).join("; ");
  } catch (error) {
    if (mine === now.ticket) toast(error.message, true);
  }
}

function repaint(columns = stage.columns) {
  stage.show(now.layers.map((layer) => ({ ...layer, image: paint(layer.picture, now.window) })), { columns });
}

// Wider, and lighter, as shares of the window.
function level(wider, lighter) {
  const [low, high] = now.window;
  const [middle, half] = [(low + high) / 2 - lighter * (high - low), ((high - low) / 2) * Math.exp(wider)];
  now.window = [middle - half, middle + half];
  repaint();
}

function reset() {
  now.window = now.sweep.window;
  repaint();
}

// A key of this view; true if it is one.
export function key({ key: pressed, target }) {
  if (!now.sweep) return false;
  const step = (by) => now.how === "pair" && go(Math.min(now.sweep.values[now.along].length - 1, Math.max(0, now.at + by)));
  const does = { g: () => arrange("grid"), s: () => arrange("pair"), q: () => measure.pick("profile"), S: () => measure.save(), Escape: () => measure.tool && measure.pick(measure.tool),
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), c: () => level(-0.2, 0), C: () => level(0.2, 0), l: () => level(0, 0.1), L: () => level(0, -0.1), w: reset,
    "+": () => stage.zoom(1.25), "=": () => stage.zoom(1.25), "-": () => stage.zoom(0.8), z: () => stage.resetZoom() }[pressed];
  if (!does || (target.id === "sweep-at" && pressed.startsWith("Arrow"))) return false;
  does();
  return true;
}

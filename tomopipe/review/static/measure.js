// Measure on pictures: a region, a profile, a histogram, a picture to save; what the configuration can have of it.
import { post } from "./api.js";
import { el, plain, svg, toast } from "./dom.js";
import { histogram, percentiles, profile } from "./grey.js";
import { frame } from "./plots.js";
import { fitRuler, ruler } from "./zoom.js";

export const TOOLS = ["region", "profile", "histogram"];
const HEIGHT = 150;
const BOX = { left: 64, right: 12, top: 20, bottom: 32 };
const SPAN = { x: "crop_x", y: "crop_y", z: "rows" };
const WORDS = { x: "x", y: "y", z: "rows" };
const short = (value) => (value === 0 ? "0" : Number(value.toPrecision(4)).toString());

// A panel and what is drawn on the pictures of a `host`, which has:
//   layers(): [{picture, width, height, name}] that are measured; plane(): their axes {h, v}, null where there is none,
//     and `n`, how much of each axis a picture has; unit(): detector pixels of one of the picture, [across, down];
//   size_um(): of a detector pixel, [across, down], or null; present(): crops of the configuration;
//   options(axis, first, last): these as the configuration counts; grey(): {units, factor} of values as in volumes; scan(), caption(), file(), canvas(), per_px(): screen
//     pixels of a detector pixel; setWindow(low, high); draw(); drag(handler); written().
export class Measure {
  constructor(node, host) {
    this.node = node;
    this.host = host;
    this.tool = "";
    this.box = {}; // first and last of each axis, both included
    this.line = null; // in pixels of the picture
    this.percent = [0.1, 99.9];
    this.type = ""; // of numbers in volumes; "": as configured
    this.scope = "scan";
    this.width = 1;
    let wide = 0;
    new ResizeObserver(() => {
      if (this.tool && wide !== node.clientWidth) this.plot();
      wide = node.clientWidth;
    }).observe(node);
  }

  // Another scan: what was measured belongs to the one before.
  forget() {
    const present = Object.entries(SPAN).map(([axis, key]) => [axis, this.host.present()[key]]);
    this.box = Object.fromEntries(present.filter(([, ends]) => Array.isArray(ends)));
    this.line = null;
  }

  pick(tool) {
    this.tool = this.tool === tool ? "" : tool;
    this.host.drag(this.tool ? (from, to) => this.drag(from, to) : null);
    this.node.hidden = !this.tool;
    if (this.tool) {
      this.build();
      this.node.focus(); // the next Tab leads into its fields
    }
    this.host.draw();
    return this.tool;
  }

  // The picture has changed: measure again.
  refresh() {
    if (!this.tool) return;
    const axes = Object.keys(this.host.plane().n).join();
    if (axes === this.axes && this.node !== document.activeElement && this.node.contains(document.activeElement)) this.plot();
    else this.build();
  }

  drag(from, to) {
    const { h, v, n } = this.host.plane();
    const [layer] = this.host.layers();
    if (!layer) return;
    this.hold();
    if (this.tool === "profile") this.line = [from.x, from.y, to.x, to.y].map((value) => Math.round(value * 10) / 10);
    else {
      for (const [axis, a, b, size] of [[h, from.x, to.x, layer.width], [v, from.y, to.y, layer.height]]) {
        if (!axis) continue;
        const at = (value) => Math.min(n[axis] - 1, Math.max(0, Math.floor((value / size) * n[axis])));
        this.box[axis] = [at(Math.min(a, b)), at(Math.max(a, b))];
      }
    }
    this.build();
    this.host.draw();
  }

  // While the hand draws the panel stays as high as it is: else the pictures would move below the hand.
  hold() {
    if (this.node.style.height) return;
    this.node.style.height = `${this.node.getBoundingClientRect().height}px`;
    const release = () => (this.node.style.height = "");
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, release, { once: true });
  }

  // What is drawn over a picture, in its pixels.
  shapes(layer, plane = this.host.plane()) {
    if (!this.tool) return [];
    if (this.tool === "profile") return this.line ? [{ kind: "line", at: this.line }] : [];
    const at = this.extent(layer, plane);
    return at ? [{ kind: "box", at }] : [];
  }

  // The box on a picture, [left, top, right, bottom]; null where no axis of it is bounded.
  extent({ width, height }, { h, v, n } = this.host.plane()) {
    if (!this.box[h] && !this.box[v]) return null;
    const ends = (axis, size) => (this.box[axis] ? [(this.box[axis][0] / n[axis]) * size, ((this.box[axis][1] + 1) / n[axis]) * size] : [0, size]);
    const [[left, right], [top, bottom]] = [ends(h, width), ends(v, height)];
    return [left, top, right, bottom];
  }

  number(value, change, more = {}) {
    return el("input", { type: "number", step: "any", value, ...more, onchange: (event) => {
      if (event.target.value === "" || !Number.isNaN(event.target.valueAsNumber)) change(event.target.value === "" ? null : event.target.valueAsNumber);
      this.plot();
      this.host.draw();
    } });
  }

  build() {
    const parts = { region: () => this.region(), profile: () => this.ofLine(), histogram: () => this.ofValues() };
    const done = el("button", { onclick: () => this.pick(this.tool), title: "Put the tool away (Esc)" }, "Done");
    this.out = el("p", { class: "quiet", role: "status" });
    this.picture = el("div", { class: "plot" });
    this.axes = Object.keys(this.host.plane().n).join();
    const [title, ...nodes] = parts[this.tool]();
    this.node.replaceChildren(el("div", { class: "fields" }, el("div", { class: "line" }, el("strong", {}, title), done), ...nodes, this.out), this.picture);
    this.picture.hidden = this.tool === "region";
    this.node.classList.toggle("alone", this.tool === "region");
    this.plot();
  }

  plot() {
    ({ region: () => this.sayRegion(), profile: () => this.drawProfile(), histogram: () => this.drawHistogram() })[this.tool]?.();
  }

  // A region, and the crops that it is in the configuration.
  region() {
    const { n } = this.host.plane();
    const fields = Object.entries(n).map(([axis, size]) => {
      const end = (which) => this.number(this.box[axis]?.[which] ?? "", (value) => {
        const ends = this.box[axis] ?? [0, size - 1];
        ends[which] = value === null ? (which ? size - 1 : 0) : Math.min(size - 1, Math.max(0, Math.round(value)));
        this.box[axis] = ends[0] === 0 && ends[1] === size - 1 ? undefined : [Math.min(...ends), Math.max(...ends)];
      }, { min: 0, max: size - 1, step: 1, placeholder: which ? size - 1 : 0, "aria-label": `${WORDS[axis]} ${which ? "last" : "first"}` });
      return el("label", {}, WORDS[axis], " ", end(0), " to ", end(1));
    });
    return ["Region: drag on the picture", el("div", { class: "line" }, ...fields, el("button", { onclick: () => {
      this.box = {};
      this.build();
      this.host.draw();
    } }, "All")), this.writing("Write crop", () => this.crops())];
  }

  // Crops that differ from those of the configuration; null if none does.
  crops() {
    const present = this.host.present();
    const every = Object.keys(this.host.plane().n).map((axis) => [SPAN[axis], this.box[axis] ? this.host.options(axis, ...this.box[axis]) : "all"]);
    const changed = every.filter(([key, value]) => String(value) !== String(present[key] ?? "all"));
    return changed.length ? Object.fromEntries(changed) : null;
  }

  sayRegion() {
    const { n } = this.host.plane();
    const um = this.host.size_um()?.[0];
    const size = (axis) => (this.box[axis] ? this.box[axis][1] - this.box[axis][0] + 1 : n[axis]);
    const axes = Object.keys(n);
    const crops = Object.entries(this.crops() ?? {}).map(([key, value]) => `${key}: ${Array.isArray(value) ? `[${value.join(", ")}]` : value}`);
    this.out.textContent = [`${axes.map(size).join(" × ")} ${this.host.voxels ?? "px"}`, um ? `${axes.map((axis) => short(size(axis) * um)).join(" × ")} µm` : "", crops.join(", ") || "as in the configuration"].filter(Boolean).join("; ");
  }

  // Grey values along a line.
  ofLine() {
    const ends = this.line ?? ["", "", "", ""];
    const end = (which, word) => this.number(ends[which], (value) => {
      this.line = [0, 1, 2, 3].map((each) => (each === which ? value ?? 0 : this.line?.[each] ?? 0));
    }, { "aria-label": word });
    const width = this.number(this.width, (value) => (this.width = Math.max(1, Math.min(99, Math.round(value ?? 1)))), { min: 1, max: 99, step: 1, "aria-label": "width" });
    return ["Profile: drag a line", el("div", { class: "line" }, el("label", {}, "from ", end(0, "x from"), end(1, "y from")), el("label", {}, "to ", end(2, "x to"), end(3, "y to")), el("label", { title: "Mean across the line" }, "width ", width, " px"))];
  }

  drawProfile() {
    const layers = this.host.layers().filter(({ picture }) => picture);
    this.picture.replaceChildren();
    if (!layers.length) return (this.out.textContent = "This picture has no grey values: choose slices.");
    if (!this.line) return (this.out.textContent = "");
    const [ux, uy] = this.host.unit();
    const [dx, dy] = [(this.line[2] - this.line[0]) * ux, (this.line[3] - this.line[1]) * uy];
    const long = Math.hypot(dx, dy);
    if (long < 1) return (this.out.textContent = "The line is shorter than a pixel.");
    const um = this.host.size_um();
    const perPx = um ? Math.hypot(dx * um[0], dy * um[1]) / long : null;
    const { units, factor } = this.host.grey();
    const curves = layers.map((layer) => profile(layer, this.line, Math.ceil(long), this.width).map((value) => value * factor));
    const every = curves.flat().filter(Number.isFinite);
    if (!every.length) return (this.out.textContent = "The line is outside of the picture.");
    const [low, high] = [every.reduce((a, b) => Math.min(a, b)), every.reduce((a, b) => Math.max(a, b))];
    const { root, atX, atY } = frame(this.picture.clientWidth, HEIGHT, [0, long], [low, high], BOX, { label: "Profile", x: "px", y: `value ${units}`, up: 4 });
    curves.forEach((values, index) => {
      const points = values.map((value, i) => (Number.isFinite(value) ? `${atX((i / (values.length - 1)) * long).toFixed(1)},${atY(value).toFixed(1)}` : null)).filter(Boolean);
      root.append(svg("polyline", { class: `curve c${index % 7}`, points: points.join(" ") }));
    });
    if (perPx) for (const { at, text } of alongTop(long * perPx)) root.append(svg("text", { class: "tick", x: atX(at / perPx), y: 12, "text-anchor": "middle" }, text));
    this.picture.append(root);
    if (curves.length > 1) this.picture.append(el("p", { class: "legend" }, ...layers.map((layer, index) => el("span", {}, el("i", { class: `key c${index % 7}` }), layer.name ?? `${index + 1}`))));
    const mean = every.reduce((a, b) => a + b, 0) / every.length;
    this.out.textContent = `${long.toFixed(1)} px${perPx ? `, ${short(long * perPx)} µm` : ""}; ${short(low)} to ${short(high)}, mean ${short(mean)} ${units}`;
  }

  // Percentiles of the values, of the region where there is one.
  ofValues() {
    const at = (which, word) => this.number(this.percent[which], (value) => (this.percent[which] = Math.min(100, Math.max(0, value ?? [0.1, 99.9][which]))), { min: 0, max: 100, "aria-label": word });
    const type = el("select", { "aria-label": "Type of number", onchange: (event) => (this.type = event.target.value) },
      ...[["", "type as it is"], ["uint16", "uint16"], ["uint8", "uint8"]].map(([value, text]) => el("option", { value, selected: value === this.type }, text)));
    return ["Histogram: drag for a region", el("div", { class: "line" }, el("label", {}, at(0, "lower percentile"), " to ", at(1, "upper percentile"), " %"),
      el("button", { onclick: () => this.range && this.host.setWindow(...this.range) }, "Use as window")),
    this.writing("Write value_range", () => this.range && { ...(this.type ? { dtype: this.type } : {}), value_range: this.range.map((value) => Number((value * this.host.grey().factor).toPrecision(4))) }, type)];
  }

  drawHistogram() {
    const [layer] = this.host.layers();
    this.picture.replaceChildren();
    this.range = null;
    if (!layer?.picture) return (this.out.textContent = "This picture has no grey values: choose slices.");
    const { units, factor } = this.host.grey();
    const [low, high, first, last] = percentiles(layer.picture, [...this.percent, 0, 100], this.part(layer));
    if (!(high > low)) return (this.out.textContent = "The lower percentile must be below the upper one.");
    this.range = [low, high];
    const about = (high - low) * 0.5;
    const span = [Math.max(first, low - about), Math.min(last, high + about)];
    const counts = [...histogram(layer.picture, span, 160, this.part(layer))].map(Math.sqrt);
    const { root, atX, atY } = frame(this.picture.clientWidth, HEIGHT, span.map((value) => value * factor), [0, Math.max(...counts, 1)], { ...BOX, left: 12 }, { label: "Histogram", x: `value ${units}` });
    const bin = (span[1] - span[0]) / counts.length;
    const path = counts.map((n, i) => `V${atY(n).toFixed(1)}H${atX((span[0] + (i + 1) * bin) * factor).toFixed(1)}`);
    root.append(svg("path", { class: "counts", d: `M${atX(span[0] * factor)} ${atY(0)}${path.join("")}V${atY(0)}Z` }),
      ...this.range.map((value) => svg("line", { class: "chosen", x1: atX(value * factor), x2: atX(value * factor), y1: BOX.top, y2: HEIGHT - BOX.bottom })));
    this.picture.append(root);
    this.out.textContent = `${short(low * factor)} to ${short(high * factor)} ${units}; all values ${short(first * factor)} to ${short(last * factor)}${this.extent(layer) ? ", of the region" : ""}`;
  }

  // The region as rows and columns of a picture's own pixels.
  part(layer) {
    const at = this.extent(layer);
    if (!at) return null;
    const [sx, sy] = [layer.picture.n_x / layer.width, layer.picture.n_y / layer.height];
    return [Math.floor(at[0] * sx), Math.floor(at[1] * sy), Math.ceil(at[2] * sx), Math.ceil(at[3] * sy)];
  }

  writing(text, options, ...more) {
    if (!this.host.scan()) return null; // a stack has no options of its own
    const scope = el("select", { "aria-label": "Of which scans", onchange: (event) => (this.scope = event.target.value) },
      ...[["scan", "of this scan"], ["series", "of its series"], ["all", "of all scans"]].map(([value, words]) => el("option", { value, selected: value === this.scope }, words)));
    return el("div", { class: "line" }, ...more, scope, el("button", { onclick: () => (options() ? this.ask(options()) : toast("As in the configuration: there is nothing to write.")) }, `${text} …`));
  }

  // Show the change of config.yaml, and write it if that is wanted.
  async ask(options) {
    const wish = { scan: this.host.scan(), scope: this.scope, options };
    try {
      const shown = await post("options", wish);
      if (!shown.diff) return toast("config.yaml has this already.");
      if (!(await isWanted(shown))) return;
      await post("options", { ...wish, seen: shown.seen });
      toast("In config.yaml; the next run follows it. The former lines are in config.history.diff beside it.");
      this.host.written();
    } catch (error) {
      toast(error.message, true);
    }
  }

  // Save what is shown, with a bar of a round length.
  async save() {
    const canvas = this.host.canvas(); // without what is no part of the picture
    const copy = el("canvas", { width: canvas.width, height: canvas.height });
    const context = copy.getContext("2d", { alpha: false });
    context.drawImage(canvas, 0, 0);
    this.host.draw();
    const ratio = window.devicePixelRatio || 1;
    context.scale(ratio, ratio);
    const [width, height] = [canvas.width / ratio, canvas.height / ratio];
    const um = this.host.size_um();
    const made = fitRuler(width, um ? this.host.per_px() / um[0] : this.host.per_px(), um ? "µm" : "px");
    ruler(context, made, width, height, this.host.caption());
    const blob = await new Promise((done) => copy.toBlob(done, "image/png"));
    const link = el("a", { href: URL.createObjectURL(blob), download: `${this.host.file()}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    toast(`Saved with a bar of ${made.text}`);
  }
}

// Ticks in µm above a plot.
function alongTop(long_um) {
  const power = 10 ** Math.floor(Math.log10(long_um / 4));
  const step = power * [10, 5, 2, 1].find((n) => n * power <= long_um / 3);
  const found = [];
  for (let at = step; at <= long_um * 1.0001; at += step) found.push({ at, text: short(at) });
  found[found.length - 1].text += " µm";
  return found;
}

// Whether a person wants a change of the configuration, which is shown.
function isWanted({ path, diff, remarks }) {
  const lines = diff.split("\n").slice(2).map((line) => el("span", { class: line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null }, `${line}\n`));
  const dialog = el("dialog", { id: "change", "aria-labelledby": "change-title" },
    el("h2", { id: "change-title", tabindex: -1, autofocus: true }, "Change of the configuration"),
    el("p", { class: "quiet" }, plain(path)), el("pre", {}, ...lines), ...remarks.map((text) => el("p", { class: "bad" }, text)),
    el("p", { class: "line" }, el("button", { class: "main", onclick: () => dialog.close("write") }, "Write"), el("button", { onclick: () => dialog.close("") }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    dialog.remove();
    done(dialog.returnValue === "write");
  }));
}

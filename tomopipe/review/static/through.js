// The slice of one row through a series, in its order (that of time for views of a file): each at its own COR in use.
import { $, el, plain, px, signs, time } from "./dom.js";
import { grey, paint } from "./grey.js";
import { all, isIn } from "./queue.js";
import { sized } from "./zoom.js";

const KEPT = 40;
const now = { key: null, scans: [], scan: null, row: null, ticket: 0, window: null, pictures: new Map(), shown: null, drawn: "", busy: false };
let canvas = null;

// The nodes for a series; `at`: the scan to begin with.
export function build(key, at, onOpen) {
  if (key !== now.key) Object.assign(now, { key, row: null, window: null });
  now.scan = at ?? now.scan;
  canvas = el("canvas", { id: "through-picture", role: "img", "aria-label": "Slice at the COR in use" });
  new ResizeObserver(draw).observe(canvas);
  return el("section", { id: "through" },
    el("h3", {}, "Slices through the series, each at its COR in use"),
    canvas,
    el("div", { class: "line" },
      el("input", { id: "time", type: "range", min: 0, step: 1, "aria-label": "Scans of the series in order", oninput: (event) => go(event.target.valueAsNumber) }),
      el("label", {}, "row ", el("input", { id: "through-row", type: "number", min: 0, onchange: (event) => {
        now.row = Number.isNaN(event.target.valueAsNumber) ? null : Math.max(0, Math.round(event.target.valueAsNumber));
        forget();
      } })),
      el("button", { onclick: () => now.scan && onOpen(now.scan) }, "Open scan")),
    el("p", { id: "through-text", role: "status" }));
}

// The scans as they are now: of those that changed the slices are others.
export function refresh() {
  now.scans = all().filter((scan) => scan.series === now.key && !scan.refused && !isIn(scan, "not_selected") && scan.cor_px !== null)
    .sort((a, b) => a.index - b.index);
  $("through").hidden = now.scans.length < 2;
  $("time").max = Math.max(0, now.scans.length - 1);
  forget();
}

function forget() {
  now.ticket = Date.now();
  now.pictures.clear();
  if (now.scans.length > 1) go(Math.max(0, place()));
}

const place = () => now.scans.findIndex((scan) => scan.scan === now.scan);

// One scan back or forth; true if there is a slider.
export function step(by) {
  if (!$("time") || now.scans.length < 2) return false;
  go(Math.min(now.scans.length - 1, Math.max(0, place() + by)));
  return true;
}

const wanted = () => `${now.scan} ${now.ticket}`;

// Show a scan by its place; what the hand passes meanwhile is left out.
async function go(number) {
  now.scan = now.scans[number].scan;
  $("time").value = number;
  tell();
  if (now.busy) return;
  now.busy = true;
  for (let target = null; target !== wanted();) {
    target = wanted();
    now.shown = await slice(now.scan).catch((error) => ({ error: error.message }));
    now.drawn = target;
    draw();
  }
  now.busy = false;
  tell();
  for (const beside of [place() + 1, place() - 1]) if (now.scans[beside]) slice(now.scans[beside].scan).catch(() => {});
}

function slice(scan) {
  const { pictures } = now;
  if (!pictures.has(scan)) {
    const found = grey("in-use", { scan, v: now.ticket, ...(now.row === null ? {} : { row: now.row }) });
    found.catch(() => pictures.delete(scan));
    pictures.set(scan, found);
    if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(scan);
}

// The scan under the slider: in words, and in the plots below.
function tell() {
  const scan = now.scans[place()];
  const shown = now.drawn === wanted() ? now.shown : null; // else it is of the scan before
  const first_s = now.scans[0].time_s;
  const after = scan.time_s > first_s && first_s !== null ? `, ${time(scan.time_s - first_s)} after the first` : "";
  const picture = shown && !shown.error ? `; row ${shown.row} of ${shown.n_rows}, from ${shown.of}` : "";
  $("time").setAttribute("aria-valuetext", scan.scan);
  $("through-text").textContent = plain(`${scan.scan}${after}: COR ${scan.cor_text || px(scan.cor_px)} px, ${signs.sources[scan.source] || scan.state}${picture}`) + (shown?.error ? `; ${plain(shown.error)}` : "");
  for (const point of document.querySelectorAll("#series .point")) point.classList.toggle("here", point.dataset.scan === scan.scan);
}

// All in the window of the first: what becomes lighter in time is seen.
function draw() {
  const size = canvas.isConnected && sized(canvas);
  if (!size) return;
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = getComputedStyle(canvas).backgroundColor;
  context.fillRect(0, 0, size.width, size.height);
  if (!now.shown || now.shown.error) return;
  now.window ??= now.shown.usual;
  if (document.activeElement?.id !== "through-row") $("through-row").value = now.shown.row;
  const { n_x, n_y } = now.shown;
  const scale = Math.min(size.width / n_x, size.height / n_y);
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(paint(now.shown, now.window), (size.width - n_x * scale) / 2, (size.height - n_y * scale) / 2, n_x * scale, n_y * scale);
}

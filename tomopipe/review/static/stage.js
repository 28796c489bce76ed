// The canvas: pictures side by side under one zoom and pan, in unbinned detector pixels.
import { $, colour } from "./dom.js";
import { hold, sized, zoomAbout } from "./zoom.js";

const canvas = $("picture");
const context = canvas.getContext("2d", { alpha: false });
const view = { scale: 0, x: 0, y: 0 }; // scale 0: fit
// {image, width, height}, and where there are: axis, a column to mark; box, a region to frame; name
let shown = [];
let inOneRow = false;
let onLevel = () => {};
let onMoved = () => {};
let onPick = () => {};

export function setUp(level, moved, pick) {
  onLevel = level;
  onMoved = moved;
  onPick = pick;
}

const fit = (layer, width, height) => 0.98 * Math.min(width / layer.width, height / layer.height);

// As many columns as make the pictures largest.
function cells(width, height) {
  const n = Math.max(shown.length, 1);
  if (inOneRow) return { columns: n, width: width / n, height };
  let best = { columns: 1, scale: 0 };
  for (let columns = 1; columns <= n; columns++) {
    const scale = shown.length ? fit(shown[0], width / columns, height / Math.ceil(n / columns)) : 1;
    if (scale > best.scale) best = { columns, scale };
  }
  return { columns: best.columns, width: width / best.columns, height: height / Math.ceil(n / best.columns) };
}

export function show(layers, { inRow = false } = {}) {
  shown = layers.filter(Boolean);
  inOneRow = inRow;
  draw();
}

export function resetZoom() {
  view.scale = view.x = view.y = 0;
  draw();
  onMoved();
}

// The middle of what is seen of a picture, row and column; null while all of it is.
export function middle() {
  if (view.scale <= 1.2 || !shown.length) return null;
  const cell = cells(canvas.clientWidth, canvas.clientHeight);
  const scale = fit(shown[0], cell.width, cell.height) * view.scale;
  return [shown[0].height / 2 - view.y / scale, shown[0].width / 2 - view.x / scale];
}

function draw() {
  const size = sized(canvas);
  if (!size) return;
  const { ratio, width, height } = size;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = getComputedStyle(canvas).backgroundColor;
  context.fillRect(0, 0, width, height);
  const cell = cells(width, height);
  shown.forEach((layer, index) => {
    const [left, top] = [(index % cell.columns) * cell.width, Math.floor(index / cell.columns) * cell.height];
    context.save();
    context.beginPath();
    context.rect(left, top, cell.width, cell.height);
    context.clip();
    const scale = fit(layer, cell.width, cell.height) * (view.scale || 1);
    context.translate(left + cell.width / 2 + view.x * ratio, top + cell.height / 2 + view.y * ratio);
    context.scale(scale, scale);
    // big pixels are shown as they are, small ones averaged
    context.imageSmoothingEnabled = (scale * layer.width) / layer.image.width < 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(layer.image, -layer.width / 2, -layer.height / 2, layer.width, layer.height);
    mark(layer, scale, ratio);
    context.restore();
    if (layer.name) name(layer.name, left, top + cell.height, ratio);
  });
}

function mark(layer, scale, ratio) {
  context.lineWidth = (1.5 * ratio) / scale;
  context.strokeStyle = colour("--mark");
  if (layer.axis !== undefined) {
    context.beginPath();
    context.moveTo(layer.axis - layer.width / 2, -layer.height / 2);
    context.lineTo(layer.axis - layer.width / 2, layer.height / 2);
    context.stroke();
  }
  if (layer.box) {
    const [top, left, bottom, right] = layer.box;
    context.lineWidth = (0.75 * ratio) / scale;
    context.strokeRect(left - layer.width / 2, top - layer.height / 2, right - left, bottom - top);
  }
}

function name(text, left, bottom, ratio) {
  context.font = `${13 * ratio}px system-ui, sans-serif`;
  const width = context.measureText(text).width;
  context.fillStyle = colour("--tag");
  context.fillRect(left + 8 * ratio, bottom - 28 * ratio, width + 12 * ratio, 20 * ratio);
  context.fillStyle = colour("--on-tag");
  context.fillText(text, left + 14 * ratio, bottom - 14 * ratio);
}

export function zoom(factor, atX = null, atY = null) {
  const cell = cells(canvas.clientWidth, canvas.clientHeight);
  const x = atX === null ? 0 : (atX % cell.width) - cell.width / 2;
  const y = atY === null ? 0 : (atY % cell.height) - cell.height / 2;
  view.scale ||= 1;
  zoomAbout(view, factor, x, y, [0.5, 40]);
  draw();
  onMoved();
}

hold(canvas, zoom);
canvas.addEventListener("dblclick", resetZoom);
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
let pressed = null;
canvas.addEventListener("pointerdown", (event) => (pressed = event.button === 0 ? [event.offsetX, event.offsetY] : null));
canvas.addEventListener("click", (event) => {
  const still = pressed && Math.hypot(event.offsetX - pressed[0], event.offsetY - pressed[1]) < 4;
  if (still && inOneRow) onPick(Math.floor(event.offsetX / (canvas.clientWidth / shown.length)));
});
canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  // with the right button, or Shift: to the right wider, up lighter
  if (event.buttons === 2 || event.shiftKey) return onLevel(event.movementX / 200, -event.movementY / 300);
  view.x += event.movementX;
  view.y += event.movementY;
  draw();
});
canvas.addEventListener("pointerup", () => onMoved());
new ResizeObserver(draw).observe(canvas);

// The canvas: one or two pictures under one zoom and pan, in unbinned detector pixels.
import { $ } from "./dom.js";

const canvas = $("picture");
const context = canvas.getContext("2d", { alpha: false });
const view = { scale: 0, x: 0, y: 0 }; // scale 0: fit
let shown = []; // [{image, width, height}], one, or two side by side

function fit(layer, width, height) {
  return 0.98 * Math.min(width / layer.width, height / layer.height);
}

export function show(layers) {
  shown = layers.filter(Boolean);
  draw();
}

export function resetZoom() {
  view.scale = view.x = view.y = 0;
  draw();
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = getComputedStyle(canvas).backgroundColor;
  context.fillRect(0, 0, width, height);
  const part = width / Math.max(shown.length, 1);
  shown.forEach((layer, at) => {
    context.save();
    context.beginPath();
    context.rect(at * part, 0, part, height);
    context.clip();
    const scale = fit(layer, part, height) * (view.scale || 1);
    context.translate(at * part + part / 2 + view.x * ratio, height / 2 + view.y * ratio);
    context.scale(scale, scale);
    // big pixels are shown as they are, small ones averaged
    context.imageSmoothingEnabled = (scale * layer.width) / layer.image.width < 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(layer.image, -layer.width / 2, -layer.height / 2, layer.width, layer.height);
    context.restore();
  });
}

export function zoom(factor, atX = null, atY = null) {
  const old = view.scale || 1;
  const now = Math.min(40, Math.max(0.5, old * factor));
  const part = canvas.clientWidth / Math.max(shown.length, 1);
  // keep what lies under the pointer where it is
  const x = atX === null ? 0 : (atX % part) - part / 2;
  const y = atY === null ? 0 : atY - canvas.clientHeight / 2;
  view.x = x - ((x - view.x) * now) / old;
  view.y = y - ((y - view.y) * now) / old;
  view.scale = now;
  draw();
}

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
  },
  { passive: false },
);
canvas.addEventListener("dblclick", resetZoom);
canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  view.x += event.movementX;
  view.y += event.movementY;
  draw();
});
new ResizeObserver(draw).observe(canvas);

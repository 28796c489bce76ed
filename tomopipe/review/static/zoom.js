import { colour } from "./dom.js";

// Zoom and pan of a canvas. A view is a scale, and how far the middle of the picture lies from that of its cell.

// Give a canvas as many pixels as it has on the screen; null while it has none.
export function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return null;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return { ratio, width, height };
}

// Scale a view within limits, and keep what lies x and y from the middle of the cell where it is.
export function zoomAbout(view, factor, x, y, [least, most]) {
  const old = view.scale;
  view.scale = Math.min(most, Math.max(least, old * factor));
  view.x = x - ((x - view.x) * view.scale) / old;
  view.y = y - ((y - view.y) * view.scale) / old;
}

// The wheel zooms; what is held stays in hand outside the canvas too.
export function hold(canvas, zoom) {
  const wheel = (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
  };
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
}

// A bar of a round length, at most a third of `width`; `perUnit`: screen pixels of a unit.
export function fitRuler(width, perUnit, unit) {
  const most = width / 3 / perUnit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = power * [5, 2, 1].find((n) => n * power <= most);
  const isLong = unit === "µm" && length >= 1000;
  return { long: length * perUnit, text: `${Number((isLong ? length / 1000 : length).toPrecision(1))} ${isLong ? "mm" : unit}` };
}

// Draw it at the lower right, with a text at the upper left.
export function ruler(context, { long, text }, width, height, caption = "") {
  context.font = "13px system-ui, sans-serif";
  const wide = Math.max(long, context.measureText(text).width);
  context.fillStyle = colour("--tag");
  context.fillRect(width - wide - 20, height - 34, wide + 16, 30);
  if (caption) context.fillRect(4, 4, Math.min(context.measureText(caption).width, width - 20) + 12, 22);
  context.fillStyle = colour("--on-tag");
  context.fillRect(width - long - 12, height - 12, long, 3);
  context.textAlign = "left";
  if (caption) context.fillText(caption, 10, 20, width - 20);
  context.textAlign = "right";
  context.fillText(text, width - 12, height - 17);
}

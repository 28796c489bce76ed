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

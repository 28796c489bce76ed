// A canvas: pictures side by side under one zoom and pan, in unbinned detector pixels.
import { colour } from "./dom.js";
import { hold, sized, zoomAbout } from "./zoom.js";

const fit = (layer, width, height) => 0.98 * Math.min(width / layer.width, height / layer.height);

export class Stage {
  // `level`: the grey window is dragged; `moved`: the view was; `pick`: a picture of a row was clicked.
  constructor(canvas, { level = () => {}, moved = () => {}, pick = null } = {}) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.view = { scale: 0, x: 0, y: 0 }; // scale 0: fit
    // {image, width, height}, and where there are: axis, a column to mark; box, a region to frame; name
    this.shown = [];
    this.columns = 0; // 0: as many as make the pictures largest
    this.shapes = () => []; // of a layer: boxes and lines, [left, top, right, bottom]
    this.isClean = false; // without the frame of a region
    this.onDrag = null; // while a tool is in hand: from and to, in the pixels of a picture
    Object.assign(this, { onLevel: level, onMoved: moved, onPick: pick });
    hold(canvas, (...how) => this.zoom(...how));
    canvas.addEventListener("dblclick", () => this.resetZoom());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.hands();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  hands() {
    let pressed = null;
    this.canvas.addEventListener("pointerdown", (event) => (pressed = event.button === 0 ? { offsetX: event.offsetX, offsetY: event.offsetY, from: this.shown.length ? this.at(event) : null } : null));
    this.canvas.addEventListener("click", (event) => {
      const still = pressed && Math.hypot(event.offsetX - pressed.offsetX, event.offsetY - pressed.offsetY) < 4;
      if (still && this.onPick && this.columns && !this.onDrag) this.onPick(this.at(event).number);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      // with the right button, or Shift: to the right wider, up lighter
      if (event.buttons === 2 || event.shiftKey) return this.onLevel(event.movementX / 200, -event.movementY / 300);
      if (this.onDrag && pressed?.from && this.shown[pressed.from.number]) return this.onDrag(pressed.from, this.at(event, pressed.from.number));
      this.view.x += event.movementX;
      this.view.y += event.movementY;
      this.draw();
    });
    this.canvas.addEventListener("pointerup", () => this.onMoved());
  }

  cells(width, height) {
    const n = Math.max(this.shown.length, 1);
    const of = (columns) => ({ columns, width: width / columns, height: height / Math.ceil(n / columns) });
    if (this.columns) return of(this.columns);
    let best = { columns: 1, scale: 0 };
    for (let columns = 1; columns <= n; columns++) {
      const cell = of(columns);
      const scale = this.shown.length ? fit(this.shown[0], cell.width, cell.height) : 1;
      if (scale > best.scale) best = { columns, scale };
    }
    return of(best.columns);
  }

  show(layers, { columns = 0 } = {}) {
    this.shown = layers.filter(Boolean);
    this.columns = columns;
    this.draw();
  }

  resetZoom() {
    Object.assign(this.view, { scale: 0, x: 0, y: 0 });
    this.draw();
    this.onMoved();
  }

  // Screen pixels per pixel of the first picture.
  scale() {
    const cell = this.cells(this.canvas.clientWidth, this.canvas.clientHeight);
    return this.shown.length ? fit(this.shown[0], cell.width, cell.height) * (this.view.scale || 1) : 1;
  }

  // The middle of what is seen of a picture, row and column; null while all of it is.
  middle() {
    if (this.view.scale <= 1.2 || !this.shown.length) return null;
    const scale = this.scale();
    return [this.shown[0].height / 2 - this.view.y / scale, this.shown[0].width / 2 - this.view.x / scale];
  }

  // What lies under the pointer: number of a picture, by default the nearest, and the position in it.
  at({ offsetX, offsetY }, of = null) {
    const cell = this.cells(this.canvas.clientWidth, this.canvas.clientHeight);
    const place = (offset, size) => Math.max(0, Math.floor(offset / size));
    const number = of ?? Math.min(this.shown.length - 1, place(offsetY, cell.height) * cell.columns + Math.min(cell.columns - 1, place(offsetX, cell.width)));
    const layer = this.shown[number];
    const scale = fit(layer, cell.width, cell.height) * (this.view.scale || 1);
    const [left, top] = [(number % cell.columns) * cell.width, Math.floor(number / cell.columns) * cell.height];
    return { number, x: layer.width / 2 + (offsetX - left - cell.width / 2 - this.view.x) / scale, y: layer.height / 2 + (offsetY - top - cell.height / 2 - this.view.y) / scale };
  }

  draw() {
    const size = sized(this.canvas);
    if (!size) return;
    const { context, view } = this;
    const { ratio, width, height } = size;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(this.canvas).backgroundColor;
    context.fillRect(0, 0, width, height);
    const cell = this.cells(width, height);
    this.shown.forEach((layer, index) => {
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
      this.mark(layer, scale, ratio);
      context.restore();
      if (layer.name) this.name(layer.name, left, top + cell.height, cell.width, ratio);
    });
  }

  mark(layer, scale, ratio) {
    const { context } = this;
    context.translate(-layer.width / 2, -layer.height / 2);
    context.lineWidth = (1.5 * ratio) / scale;
    context.strokeStyle = colour("--mark");
    if (layer.axis !== undefined) {
      context.beginPath();
      context.moveTo(layer.axis, 0);
      context.lineTo(layer.axis, layer.height);
      context.stroke();
    }
    drawShapes(context, this.shapes(layer));
    if (layer.box && !this.isClean) {
      const [top, left, bottom, right] = layer.box;
      context.lineWidth = (0.75 * ratio) / scale;
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }

  name(text, left, bottom, most, ratio) {
    const { context } = this;
    context.font = `${13 * ratio}px system-ui, sans-serif`;
    const width = Math.min(context.measureText(text).width, most - 28 * ratio);
    context.fillStyle = colour("--tag");
    context.fillRect(left + 8 * ratio, bottom - 28 * ratio, width + 12 * ratio, 20 * ratio);
    context.fillStyle = colour("--on-tag");
    context.fillText(text, left + 14 * ratio, bottom - 14 * ratio, width);
  }

  zoom(factor, atX = null, atY = null) {
    const cell = this.cells(this.canvas.clientWidth, this.canvas.clientHeight);
    const x = atX === null ? 0 : (atX % cell.width) - cell.width / 2;
    const y = atY === null ? 0 : (atY % cell.height) - cell.height / 2;
    this.view.scale ||= 1;
    zoomAbout(this.view, factor, x, y, [0.5, 40]);
    this.draw();
    this.onMoved();
  }
}

// Boxes and lines over a picture, in its pixels; with a dark rim, so that they are seen on white without colour.
export function drawShapes(context, shapes) {
  const { lineWidth } = context;
  for (const { kind, at: [left, top, right, bottom] } of shapes) {
    context.beginPath();
    if (kind === "box") context.rect(left, top, right - left, bottom - top);
    else {
      context.moveTo(left, top);
      context.lineTo(right, bottom);
    }
    for (const [name, wide] of [["--tag", 3], ["--mark", 1]]) {
      context.strokeStyle = colour(name);
      context.lineWidth = wide * lineWidth;
      context.stroke();
    }
  }
  context.lineWidth = lineWidth;
}

// The strip: the same region of the slices around the COR, in steps that double outwards.
import { $, drawIn, el, px } from "./dom.js";
import { grey, paint } from "./grey.js";

const STEPS_PX = [0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const WAIT_MS = 200;
const now = { scan: "", step: STEPS_PX[0], position: null, grey: null, ticket: 0, timer: 0, key: "" };
let choose = () => {};
let stepped = () => {};

export function setUp(onChoose, onStep) {
  choose = onChoose;
  stepped = onStep;
  $("strip").addEventListener("wheel", (event) => {
    event.preventDefault();
    finer(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
}

export const step = () => now.step;
export const box = () => now.grey && now.grey.box;

// Another scan: steps as coarse as its sweep, and the region where most is seen.
export function begin(scan, stepPx) {
  clearTimeout(now.timer);
  now.ticket++;
  Object.assign(now, { scan, position: null, grey: null, key: "" });
  if (stepPx) now.step = STEPS_PX.reduce((best, candidate) => (Math.abs(candidate - stepPx) < Math.abs(best - stepPx) ? candidate : best));
  $("strip").replaceChildren();
}

export function finer(by) {
  const index = STEPS_PX.indexOf(now.step) - by;
  now.step = STEPS_PX[Math.min(STEPS_PX.length - 1, Math.max(0, index))];
  stepped();
}

// Look at another region: around a position in the slice, row and column.
export function look(position) {
  now.position = position.map((value) => Math.max(0, Math.round(value)));
}

// Ask for the crops about a COR when the hand rests.
export function show(query, windowFor, { done = () => {} } = {}) {
  const about = now.position ? { y: now.position[0], x: now.position[1] } : {};
  const asked = { ...query, step: now.step, ...about };
  const key = JSON.stringify(asked);
  if (key === now.key) return done();
  const mine = ++now.ticket;
  clearTimeout(now.timer);
  now.timer = setTimeout(async () => {
    try {
      const found = await grey("strip", asked);
      if (mine !== now.ticket) return;
      const [top, left, bottom, right] = found.box;
      now.position ??= [(top + bottom) >> 1, (left + right) >> 1];
      Object.assign(now, { grey: found, key: JSON.stringify({ ...query, step: asked.step, y: now.position[0], x: now.position[1] }) });
      drawIn($("strip"), () => mine === now.ticket && (build(Number(query.cor)), draw(windowFor)));
    } catch {
      if (mine !== now.ticket) return;
      $("strip").replaceChildren(); // the slice itself says what is wrong
    }
    done();
  }, WAIT_MS);
}

function build(cor) {
  const { cor_px: values, n_y } = now.grey;
  $("strip").replaceChildren(...values.map((value) => {
    const isCurrent = Math.abs(value - cor) < 1e-6;
    return el("button", { class: "crop", "aria-pressed": isCurrent ? "true" : "false", tabindex: -1, title: isCurrent ? "This COR" : "Choose this COR",
      onclick: (event) => {
        event.currentTarget.blur();
        choose(value);
      } },
      el("canvas", { width: now.grey.n_x / values.length, height: n_y }), el("span", {}, isCurrent ? px(value) : offset(value - cor)));
  }));
}

const offset = (by) => `${by < 0 ? "−" : "+"}${Math.abs(by).toFixed(2).replace(/0$/, "")}`;

// In the window of slices.
export function draw(windowFor) {
  if (!now.grey) return;
  const image = paint(now.grey, windowFor(now.grey));
  [...$("strip").querySelectorAll("canvas")].forEach((canvas, index) => {
    const context = canvas.getContext("2d", { alpha: false });
    context.drawImage(image, index * canvas.width, 0, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
  });
}

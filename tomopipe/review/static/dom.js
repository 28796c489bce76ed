// The theme of a page, and small helpers. Text from the campaign only ever becomes text nodes, never markup.
const prefersLight = matchMedia("(prefers-color-scheme: light)");
prefersLight.addEventListener("change", setTheme);
setTheme();

function setTheme() {
  document.documentElement.dataset.theme = localStorage.getItem("theme") || (prefersLight.matches ? "light" : "dark");
}

export const $ = (id) => document.getElementById(id);

// Without the characters that turn around the text after them, such as U+202E in the name of a file.
export const plain = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

// A text of nodes, in which what stands between backticks is code.
export const coded = (text) => text.split(/`([^`]+)`/).map((part, index) => (index % 2 ? el("code", {}, part) : part));

// Shapes of states and words of sources, as tomopipe/campaign/state/signs.py has them; colours are in signs.css.
export const signs = { paths: {}, sources: {}, short: {} };

export const sign = (state, more = "") =>
  svg("svg", { class: `dot st-${state} ${more}`, "data-state": state, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svg("path", { d: signs.paths[state] }));

// A name that is cut in its middle where there is no room: its end, most often a number, stays.
const END = 8;
export function named(text) {
  const letters = [...text];
  const cut = letters.length - Math.min(END, letters.length >> 1);
  return el("span", { class: "name" }, el("span", {}, letters.slice(0, cut).join("")), el("b", {}, letters.slice(cut).join("")));
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child.nodeType ? child : plain(`${child}`))));
  return node;
}

// A click begins and ends on one node, and a field that is typed in is not replaced: until then drawing waits.
let pressed = null;
const waiting = new Map(); // what to draw, by node
addEventListener("pointerdown", (event) => (pressed = event.button ? null : event.target), true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => (pressed = null, drawWaiting())), true);
addEventListener("focusout", () => setTimeout(drawWaiting), true);

function drawWaiting() {
  const draws = [...waiting];
  waiting.clear();
  for (const [node, draw] of draws) drawIn(node, draw);
}

// Draw what a node holds; while it is pressed or a field in it is typed in, once that is over.
export function drawIn(node, draw) {
  const field = document.activeElement;
  if (node.contains(pressed) || (node.contains(field) && field.matches("select, input:not([type=checkbox])"))) waiting.set(node, draw);
  else draw();
}

// Colours stand in style.css alone; a canvas asks for them by name.
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

export const px = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export const time = (s) => (s === null ? "" : s < 1 ? "< 1 s" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`);

export const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

let timer = 0;
let errors = ""; // since the last key or press: what is said after them does not hide them
for (const event of ["keydown", "pointerdown"]) addEventListener(event, () => (errors = ""), true);

export function toast(message, bad = false) {
  const [node, text] = [$("toast"), plain(message)];
  node.textContent = errors.includes(text) ? errors : `${errors} ${text}`.trim();
  if (bad) errors = node.textContent;
  node.classList.toggle("bad", errors !== "");
  node.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => {
    node.hidden = true;
    errors = "";
  }, errors ? 8000 : 2500);
}

export function press(id, on) {
  $(id).setAttribute("aria-pressed", on ? "true" : "false");
}

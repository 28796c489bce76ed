// The queue: filters, search, grouping; only the rows in sight are in the page.
import { $, drawIn, el, named, px, sign, toast } from "./dom.js";

const ROW = 46;
const state = { scans: [], states: {}, sets: {}, shown: [], lines: [], hidden: new Set(), thumbnails: new Map(), ticked: new Set(), tickedLast: null, selected: null, onOpen: () => {} };

export function setUp(onOpen) {
  state.onOpen = onOpen;
  $("search").addEventListener("input", refresh);
  $("group").addEventListener("change", refresh);
  $("list").addEventListener("scroll", paint, { passive: true });
  new ResizeObserver(paint).observe($("list"));
}

export function setScans({ scans, states, sets }) {
  Object.assign(state, { scans, states, sets });
  state.thumbnails.clear();
  state.ticked = new Set(scans.map((scan) => scan.scan).filter((name) => state.ticked.has(name)));
  filters();
  refresh();
}

export const all = () => state.scans;
export const find = (name) => state.scans.find((scan) => scan.scan === name && !scan.refused);
// Whether the state of a scan is one of a set, as tomopipe/campaign/state/facts.py names them.
export const isIn = (scan, set) => state.sets[set].includes(scan.state);
export const selected = () => state.selected;

export const ticked = () => [...state.ticked];

// Tick or untick a scan; with `range` all from the last one to this one.
export function tick(name, range = false) {
  if (!find(name)) return;
  const on = !state.ticked.has(name);
  const shown = names();
  const [first, last] = [shown.indexOf(state.tickedLast), shown.indexOf(name)].sort((a, b) => a - b);
  for (const each of range && first >= 0 ? shown.slice(first, last + 1) : [name]) {
    if (on) state.ticked.add(each);
    else state.ticked.delete(each);
  }
  state.tickedLast = name;
  paint();
}

export function untick(some = ticked()) {
  for (const name of some) state.ticked.delete(name);
  paint();
}

export function select(name) {
  state.selected = name;
  const index = state.lines.findIndex((line) => line.scan && line.scan.scan === name);
  if (index >= 0) {
    const list = $("list");
    const top = index * ROW;
    if (top < list.scrollTop + ROW) list.scrollTop = Math.max(0, top - ROW);
    else if (top + 2 * ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + 2 * ROW - list.clientHeight;
  }
  paint();
}

// The browser empties the box by itself on Esc, and tells nobody.
export function search(text) {
  $("search").value = text;
  refresh();
}

const names = () => state.shown.filter((scan) => !scan.refused).map((scan) => scan.scan);
export const first = () => names()[0] ?? null;

// The next scan of the queue as it is shown; the first one from nowhere.
export function step(by) {
  const shown = names();
  if (!shown.length) return null;
  const index = shown.indexOf(state.selected);
  if (index < 0) return shown[0];
  return shown[Math.min(shown.length - 1, Math.max(0, index + by))];
}

// The next scan that nobody has decided on: a decision moves scans in the queue.
export function undecided() {
  const index = state.shown.findIndex((scan) => scan.scan === state.selected);
  const next = state.shown.slice(index + 1).find((scan) => !scan.refused && !isIn(scan, "decided"));
  return next ? next.scan : null;
}

function filters() {
  const counts = {};
  for (const scan of state.scans) counts[scan.state] = (counts[scan.state] || 0) + 1;
  const chips = Object.entries(state.states)
    .filter(([name]) => counts[name])
    .map(([name, meaning]) =>
      el("button", { class: "chip", title: meaning, "aria-pressed": state.hidden.has(name) ? "false" : "true", "data-state": name,
        onclick: (event) => {
          const shown = state.hidden.delete(name);
          if (!shown) state.hidden.add(name);
          event.currentTarget.setAttribute("aria-pressed", shown);
          refresh();
        } },
        sign(name), `${name} `, el("b", {}, String(counts[name]))));
  drawIn($("filters"), () => $("filters").replaceChildren(...chips));
}

// Whether the search finds a scan; it finds all where nothing is searched for.
export function finds(scan) {
  const wanted = $("search").value.trim().toLowerCase();
  return !wanted || `${scan.scan} ${scan.series} ${scan.why} ${scan.note}`.toLowerCase().includes(wanted);
}

function refresh() {
  state.shown = state.scans.filter((scan) => !state.hidden.has(scan.state) && finds(scan));
  state.lines = [];
  if ($("group").value === "series") {
    const bySeries = new Map();
    for (const scan of state.shown) bySeries.set(scan.series, [...(bySeries.get(scan.series) || []), scan]);
    state.shown = [];
    for (const [series, scans] of [...bySeries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      scans.sort((a, b) => a.index - b.index || (a.scan < b.scan ? -1 : 1));
      state.lines.push({ series, count: scans.length }, ...scans.map((scan) => ({ scan })));
      state.shown.push(...scans);
    }
  } else {
    state.lines = state.shown.map((scan) => ({ scan }));
  }
  paint();
}

const paint = () => drawIn($("rows"), drawRows);

function drawRows() {
  const list = $("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(state.lines.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const nodes = [];
  for (let index = first; index < last; index++) {
    const node = line(state.lines[index]);
    node.style.top = `${index * ROW}px`;
    nodes.push(node);
  }
  $("rows").style.height = `${state.lines.length * ROW}px`;
  $("rows").replaceChildren(...nodes);
  const away = state.ticked.size - state.shown.filter((scan) => state.ticked.has(scan.scan)).length;
  $("ticked").hidden = !state.ticked.size;
  $("ticked").firstElementChild.textContent = `${state.ticked.size} ticked${away ? `, ${away} not shown` : ""}`;
  if (!state.lines.length) $("rows").append(el("p", { class: "quiet" }, state.scans.length ? "No scan matches the search and the states shown." : "No scans yet."));
}

function line(entry) {
  if (!entry.scan) {
    return el("div", { class: "row head", title: entry.series }, named(entry.series || "(no prefix)"), el("span", { class: "count" }, String(entry.count)));
  }
  const scan = entry.scan;
  const isSelected = scan.scan === state.selected;
  const mark = scan.rerun ? " ✎" : "";
  const [corText, error] = (scan.cor_text || "–").split(" ± ");
  const about = [scan.why, ...scan.warnings].filter(Boolean);
  return el("div", { class: "row", role: "option", id: isSelected ? "here" : null, "aria-selected": isSelected ? "true" : "false", "data-scan": scan.scan,
    title: [scan.scan, ...about].join(": "), "aria-label": [scan.scan, scan.state, `${scan.cor_text || "–"} px`, ...about].join(", "),
    onclick: () => (scan.refused ? toast(scan.why, true) : state.onOpen(scan.scan)) },
    sign(scan.state, scan.warnings.length ? "warned" : ""),
    scan.refused ? null : el("input", { type: "checkbox", class: "tick", tabindex: -1, "aria-label": `tick ${scan.scan}`, checked: state.ticked.has(scan.scan),
      onclick: (event) => {
        event.stopPropagation();
        event.target.blur(); // the next key is for the page
        tick(scan.scan, event.shiftKey);
      } }),
    thumbnail(scan),
    named(scan.scan),
    el("span", { class: "cor" }, corText, mark),
    // the cause has the line for itself, and an error is before it: the line above is for the name
    el("span", { class: scan.why ? "why alone" : "why" }, [error ? `± ${error} px` : "", scan.why || scan.state, ...scan.warnings].filter(Boolean).join("; ")),
    scan.why || scan.confidence === null ? null : el("span", { class: "confidence" }, scan.confidence.toFixed(2)));
}

function thumbnail(scan) {
  const src = `api/thumbnail?${new URLSearchParams({ scan: scan.scan, cor: px(scan.cor_px) })}`;
  const none = el("i", { class: "thumb" });
  if (!scan.swept || scan.cor_px === null || scan.refused) return none;
  // rows are drawn often: one picture, and one request, until the queue changes
  const failed = (event) => {
    state.thumbnails.set(src, none);
    event.target.replaceWith(none);
  };
  if (!state.thumbnails.has(src)) state.thumbnails.set(src, el("img", { class: "thumb", src, alt: "", onerror: failed }));
  return state.thumbnails.get(src);
}

// Start, keys, views, and the look now and then at what others changed.
import * as api from "./api.js";
import * as decide from "./decide.js";
import { $, coded, el, many, signs, toast } from "./dom.js";
import { factsOf, setUp as setUpFacts } from "./facts.js";
import * as level from "./level.js";
import * as nextRun from "./next_run.js";
import * as panels from "./panels.js";
import * as queue from "./queue.js";
import * as scan from "./scan.js";
import * as series from "./series.js";
import * as sweeps from "./sweeps.js";
import * as strip from "./strip.js";
import * as through from "./through.js";

const LOOK_MS = 10000;
const FIRST_MS = 1000; // the queue and the first slice come before what the next run redoes
const app = { view: "scan", fault: "", closed: "", problem: "", outdated: false, fixCor: {}, marks: {}, loads: 0, loaded: 0, asking: false, skipping: new Set() };

async function load() {
  const mine = ++app.loads;
  const found = await api.get("queue");
  if (mine < app.loaded) return; // what was asked for later is here
  app.loaded = mine;
  api.setKey(found.csrf);
  app.fixCor = found.fix_cor;
  app.closed = found.closed;
  app.problem = found.problem;
  banner();
  setTimeout(nextRun.plan, app.marks.table_sha256 ? 0 : FIRST_MS);
  app.marks = { table_sha256: found.table_sha256, read: found.read, closed: found.closed };
  $("campaign").textContent = found.campaign;
  document.title = `${found.campaign} · review`;
  $("report").hidden = !found.report;
  Object.assign(signs, found.signs);
  queue.setScans(found);
  $("notes").hidden = !found.notes.length;
  $("notes").firstChild.textContent = `${many(found.notes.length, "file")} could not be read`;
  $("notes").lastChild.replaceChildren(...found.notes.map((text) => el("li", {}, text)));
}

// Open a scan. What is typed from now on is for it; `ahead`: so is what is in the box.
async function open(name, { ahead = false } = {}) {
  if (!name) return;
  if (!ahead && name !== queue.selected()) scan.forget();
  queue.select(name);
  app.outdated = false;
  if (app.view !== "scan") view("scan");
  try {
    await scan.open(name, { onData: () => queue.select(name) });
  } catch (error) {
    stay();
    if (queue.selected() !== name) scan.forget();
    if (!api.isDown()) toast(error.message, true);
  }
}

// Queue, picture and box are of one scan.
function stay() {
  const name = scan.current()?.scan ?? null;
  app.outdated = true;
  if (name !== queue.selected()) queue.select(name);
}

// Open what the address names: a scan, and one of the views or pictures.
async function start() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const [name, shown] = [asked.get("scan"), asked.get("view")];
  const known = queue.find(name);
  const opened = known ? name : queue.selected() ?? queue.step(1);
  await open(opened);
  if (name !== null && !known) toast(`The address names ${name}: there is no such scan in this campaign.`, true);
  if (app.view !== "scan" || queue.selected() !== opened) return; // somebody went on
  if (scan.isMode(shown) && shown !== scan.mode()) scan.setMode(shown);
  if (document.querySelector(`#views [data-view="${CSS.escape(shown)}"]`)) view(shown);
}

// What is shown, in the address: whoever gets the link sees the same.
function keepAddress() {
  const data = scan.current();
  if (data) history.replaceState(null, "", `#${new URLSearchParams({ scan: data.scan, view: app.view === "scan" ? scan.mode() : app.view })}`);
}

function banner() {
  const waiting = decide.waiting();
  const words = waiting.length ? [`Waiting to be sent: ${waiting.join("; ")}.`] : [];
  const text = app.fault ? [app.fault, "Nothing can be accepted until then.", ...words].join(" ") : app.closed || app.problem || decide.problem();
  $("connection").firstChild.replaceWith(el("p", {}, ...coded(text)));
  $("connection").hidden = !text;
  $("retry").hidden = !app.fault;
  $("accept").disabled = $("ticked-set").disabled = Boolean(app.fault || app.closed);
}

// A connection is lost, or back: then what waited is sent, and all is looked at again.
async function reconnect(fault) {
  const before = app.fault;
  app.fault = fault;
  banner();
  if (fault) return stay();
  if (before === api.NOT_YET) return; // nothing was lost
  try {
    await load();
    await decide.resend();
    if (!queue.selected() && app.view === "scan") return await start();
    if (app.view === "series") series.refresh(); // of the series that was chosen
    else view(app.view);
    if (app.view === "scan") scan.redraw();
  } catch (error) {
    if (!api.isDown()) toast(error.message, true);
  }
}

function view(name) {
  app.view = name;
  document.body.dataset.view = name;
  for (const node of document.querySelectorAll(".view")) node.hidden = node.id !== name && !(name === "scan" && node.id === "facts");
  for (const button of document.querySelectorAll("#views button")) button.setAttribute("aria-pressed", button.dataset.view === name ? "true" : "false");
  const selected = queue.find(queue.selected());
  if (name === "series") series.show(app.fixCor, selected ? selected.series : null, queue.selected());
  if (name === "sweeps") sweeps.show(queue.selected());
  if (name === "plan") nextRun.plan();
  if (name === "jobs") panels.jobs();
  if (name === "scan" && app.loaded && !queue.selected()) open(queue.step(1)); // the first one never came
  else if (name === "scan") freshen();
  keepAddress();
}

// What others changed, or a decision, in what is in sight.
async function freshen() {
  const name = scan.opening();
  if (!app.outdated || app.view !== "scan" || !name) return;
  app.outdated = false;
  try {
    await scan.open(name, { onData: () => name === queue.selected() || queue.select(name), calm: true });
  } catch (error) {
    stay();
    trouble(error);
  }
}

async function accept() {
  const data = scan.current();
  const text = scan.chosen();
  if (!data || data.scan !== queue.selected()) return; // the one that is opened comes first
  if (!text) return toast(`${data.scan} has no COR yet: type one, then Enter.`);
  if (api.isDown()) {
    toast(`${data.scan} is not accepted: there is no connection.`, true);
    return;
  }
  if (app.closed) return toast(app.closed, true);
  const known = queue.find(data.scan);
  if (known && !queue.finds(known)) {
    toast(`${data.scan} is not accepted: the search does not find it. Type / and Enter to open what it finds, / and Esc to end it.`, true);
    return;
  }
  if (scan.follow()) {
    toast(`${data.scan}: this is COR ${text}; Enter again accepts it`);
    return;
  }
  const next = queue.undecided();
  const typed = scan.typed();
  scan.settle();
  if (!(await decide.write(data.scan, { cor_px: text }, { stay: false }))) return [queue.selected(), scan.current().scan].every((name) => name === data.scan) && scan.unsettle(typed);
  toast(`${data.scan}: ${scan.corIn(text).toFixed(2)} px, in the table${next ? "" : "; all after it are decided"}`);
  if (queue.selected() !== data.scan) return freshen(); // another one was opened meanwhile
  open(next || data.scan, { ahead: true });
}

// One COR for all ticked scans.
async function setTicked() {
  const text = $("ticked-cor").value.trim();
  if (!text || api.isDown()) return $("ticked-cor").focus();
  const decisions = queue.ticked().map((name) => ({ scan: name, cells: { cor_px: text } }));
  const saved = await decide.writeAll(decisions, (scans) => `${scans}: ${text.replace(",", ".")} px, in the table. u undoes it`);
  if (saved) queue.untick(saved);
}

async function undo() {
  const typed = scan.typed();
  const name = await decide.undo();
  if (name && scan.typed() === typed) open(name);
  else freshen();
}

async function skip() {
  const data = scan.current();
  if (!data || data.scan !== queue.selected() || app.skipping.has(data.scan)) return;
  const taken = data.cells.select === "no";
  const next = taken ? null : queue.undecided(); // a skipped scan goes to the end of the queue
  if (next) scan.forget();
  app.skipping.add(data.scan); // pressed again meanwhile it would lead away whoever came back
  const isWritten = await decide.write(data.scan, { select: taken ? "auto" : "no" }, { stay: !next });
  app.skipping.delete(data.scan);
  if (!isWritten) return;
  toast(`${data.scan}: ${taken ? "taken again" : "skipped"}`);
  if (next && queue.selected() === data.scan) open(next, { ahead: true });
}

function nextView() {
  const names = [...document.querySelectorAll("#views button")].map((button) => button.dataset.view);
  view(names[(names.indexOf(app.view) + 1) % names.length]);
}

function menu() {
  $("menu").open = true;
  $("menu").querySelector("[aria-pressed=true]").focus();
}

function closeMenu() {
  const within = $("menu").contains(document.activeElement);
  $("menu").open = false;
  if (within) document.activeElement.blur();
}

const next = () => open(queue.step(1));
const previous = () => open(queue.step(-1));
const keys = [
  ["Enter", "accept the COR, go to the next scan without a decision", { Enter: accept }],
  ["0–9 . ,", "type a COR; Enter accepts it", {}],
  ["u", "undo the last decision, also of an earlier day", { u: undo }],
  ["y", "tick or untick this scan; ticked ones get one COR. Shift and click: all from the last one", { y: () => queue.tick(queue.selected()) }],
  ["j / k, ↓ / ↑", "next, previous scan of the queue", { j: next, ArrowDown: next, k: previous, ArrowUp: previous }],
  ["← / →", "previous, next COR in steps of the strip; with Shift ten at a time. Series: the slice of the scan before, after; Sweeps: the slider", { ArrowLeft: (event) => scan.step(event.shiftKey ? -10 : -1), ArrowRight: (event) => scan.step(event.shiftKey ? 10 : 1) }],
  ["[ / ]", "coarser, finer steps; also the wheel over the strip", { "[": () => strip.finer(-1), "]": () => strip.finer(1) }],
  ["p", "the measured COR; Enter accepts it, also where the series replaced it", { p: () => scan.takeNamed("measured") }],
  ["f", "the COR in use", { f: () => scan.takeNamed("used") }],
  ["i", "the COR on the line of the series", { i: () => scan.takeNamed("line") }],
  ["P / F / I", "accept the measured COR, that in use, that on the line, if its slice is shown; else go there",
    { P: () => scan.takeNamed("measured") && accept(), F: () => scan.takeNamed("used") && accept(), I: () => scan.takeNamed("line") && accept() }],
  ["e", "measured, used and on the line, side by side", { e: () => scan.setMode("candidates") }],
  ["t", "the slice", { t: () => scan.setMode("slice") }],
  ["r", "the slices of all stored rows", { r: () => scan.setMode("rows") }],
  ["o", "0 and 180 degrees over each other: grey where they agree", { o: () => scan.setMode("overlay") }],
  ["d", "the difference of 0 and 180 degrees", { d: () => scan.setMode("difference") }],
  ["g", "the sinogram with the axis", { g: () => scan.setMode("sinogram") }],
  ["a", "all pictures and comparisons, as a menu", { a: menu }],
  ["b", "keep this COR as B", { b: scan.pin }],
  ["Space", "flicker between A and B", { " ": () => scan.toggle("flicker") }],
  ["s / m", "A and B side by side, also in Sweeps (g: its grid); A minus B", { s: () => scan.toggle("side"), m: () => scan.toggle("minus") }],
  ["c / C", "more, less contrast; also drag with the right button", { c: () => level.change(-0.2, 0), C: () => level.change(0.2, 0) }],
  ["l / L", "lighter, darker", { l: () => level.change(0, 0.1), L: () => level.change(0, -0.1) }],
  ["w", "reset the window", { w: level.reset }],
  ["+ / −", "zoom; also the wheel. Drag to move", { "+": () => scan.zoom(1.25), "=": () => scan.zoom(1.25), "-": () => scan.zoom(0.8) }],
  ["z", "whole picture", { z: scan.resetZoom }],
  ["R / q / h", "a region, which crops volumes; a profile; a histogram and value_range. Drag on the picture, or type", { R: () => scan.tool("region"), q: () => scan.tool("profile"), h: () => scan.tool("histogram") }],
  ["S", "save the picture as PNG, with a scale bar", { S: () => scan.save() }],
  ["x", "skip this scan and go to the next, or select it again", { x: skip }],
  ["v", "scans, series, sweeps, the next run, jobs in turn", { v: nextView }],
  ["n", "write a note", { n: () => ($("note")?.focus(), $("note")?.setSelectionRange(-1, -1)) }],
  ["/", "search; Enter opens the first hit", { "/": () => ($("search").focus(), $("search").select()) }],
  ["Esc", "clear the typed COR and the search, leave a field, put a tool away", { Escape: () => ($("menu").open ? closeMenu() : scan.typed() === null && scan.untool() ? null : scan.typed() === null ? queue.search("") : scan.untype()) }],
  ["?", "these keys", { "?": () => $("help").showModal() }],
];
const action = Object.assign({}, ...keys.map(([, , does]) => does));

// Enter and ↓ in the search: its first hit.
function openHit(event) {
  event.preventDefault();
  const hit = queue.first();
  if (!hit) return;
  event.target.blur();
  open(hit);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.repeat && ["Enter", "P", "F", "I", "x", "u"].includes(event.key)) return; // a key that is held decides once
  const field = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (field) {
    if (event.key === "Escape") {
      if (field.id === "search") queue.search("");
      field.blur();
      if (field.id === "cor") scan.untype();
    }
    if (field.id === "search" && ["Enter", "ArrowDown"].includes(event.key)) openHit(event);
    else if (event.key === "Enter" && field.id === "cor") {
      event.preventDefault();
      field.blur();
      accept();
    } else if (event.key === "Enter" && field.id === "ticked-cor") {
      field.blur();
      setTicked();
    } else if (field.id === "note" && ["Enter", "Escape"].includes(event.key)) saveNote(field);
    else if (event.key === "Enter") field.blur();
    return;
  }
  // a button in focus keeps Enter and space
  if (event.target.closest("button, summary, [role=button]") && (event.key === "Enter" || event.key === " ")) return;
  if (app.view === "scan" && /^[0-9.,]$/.test(event.key)) {
    event.preventDefault();
    scan.type((scan.typed() ?? "") + event.key);
  } else if (app.view === "scan" && event.key === "Backspace" && scan.typed() !== null) {
    event.preventDefault();
    scan.type(scan.typed().slice(0, -1));
  } else if (app.view === "series" && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    if (!event.target.closest("input[type=range]:not(#time)") && through.step(event.key === "ArrowLeft" ? -1 : 1)) event.preventDefault();
  } else if (app.view === "sweeps" && sweeps.key(event)) {
    event.preventDefault();
  } else if (action[event.key] && (app.view === "scan" || ["j", "k", "?", "/", "u", "v"].includes(event.key))) {
    event.preventDefault();
    action[event.key](event);
  }
}

function wire() {
  document.addEventListener("keydown", onKey);
  const click = { accept, undo, "ticked-set": setTicked, "ticked-none": () => queue.untick(), pin: scan.pin, "mode-slice": action.t, "mode-candidates": action.e, "mode-rows": action.r, "mode-overlay": action.o,
    "mode-difference": action.d, "mode-sinogram": action.g, flicker: action[" "], side: action.s, minus: action.m, "tool-region": action.R, "tool-profile": action.q, "tool-histogram": action.h, save: action.S, "help-button": action["?"], "help-close": () => $("help").close(), theme, retry: api.retry };
  for (const [id, does] of Object.entries(click)) {
    $(id).addEventListener("click", (event) => {
      if (event.detail) event.currentTarget.blur(); // the next Enter is for the scan, not for the button
      does();
    });
  }
  document.addEventListener("pointerdown", (event) => $("menu").contains(event.target) || closeMenu());
  $("views").addEventListener("click", (event) => event.target.dataset.view && (view(event.target.dataset.view), event.target.blur()));
  $("slider").addEventListener("input", (event) => {
    scan.forget();
    scan.go(scan.current().grid.cor_px[Number(event.target.value)]);
  });
  $("cor").addEventListener("input", (event) => scan.type(event.target.value));
  $("row").addEventListener("change", (event) => (event.target.blur(), scan.redraw()));
  $("facts").addEventListener("change", onFact);
  $("facts").addEventListener("click", (event) => event.target.id === "clear" && decide.write(factsOf(), { cor_px: "" }));
  $("keys").replaceChildren(...keys.flatMap(([key, words]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)]));
}

// A note that was refused is sent again on the next Enter or Esc.
async function saveNote(field) {
  const before = field.defaultValue;
  if (field.value === before) return;
  field.defaultValue = field.value;
  const written = await decide.write(factsOf(), { note: field.value }, { seen: { note: before } }); // the row of the queue may be newer
  if (written === null && !api.isDown()) field.defaultValue = before;
}

async function onFact({ target }) {
  if (target.id === "note") saveNote(target);
  if (target.id === "select") {
    target.blur();
    const written = await decide.write(factsOf(), { select: target.value });
    if (written === null && !api.isDown()) for (const option of target.options) option.selected = option.defaultSelected;
  }
  if (target.id === "stamp") localStorage.setItem("stamp", target.checked ? "yes" : "no");
}

function theme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

// After a decision.
async function changed({ stay = true } = {}) {
  await load();
  app.outdated = true; // the open scan or its series, until it is looked at again
  if (app.view === "series") series.refresh();
  if (stay) freshen();
}

async function look() {
  try {
    if (!document.hidden) {
      const marks = await api.get("changes");
      if (Object.keys(marks).some((key) => marks[key] !== app.marks[key])) {
        await load();
        app.outdated = true;
        if (app.view === "series") series.refresh();
      }
      freshen(); // neither is waited for: a scan, or a cluster, may take its time to answer
      if (!app.asking) live();
    }
  } catch (error) {
    trouble(error);
  }
  setTimeout(look, LOOK_MS);
}

// Jobs at work, and those that failed.
async function live() {
  app.asking = true;
  try {
    const found = app.view === "jobs" ? await panels.jobs() : await api.get("status");
    const sum = (state) => (found ? found.steps.reduce((total, step) => total + step[state], 0) : 0);
    const words = ["running", "failed", "lost"].filter(sum).map((state) => `${many(sum(state), "job")} ${state}`); // the queue counts scans
    if (found?.ended) words.unshift(found.ended);
    $("live").textContent = words.join(", ");
    $("live").classList.toggle("bad", sum("lost") + sum("failed") > 0);
  } catch (error) {
    trouble(error);
  }
  app.asking = false;
}

function trouble(error) {
  if (error instanceof api.NoConnection) return; // the banner says so
  $("live").textContent = error.message;
  $("live").classList.add("bad");
}

queue.setUp(open);
setUpFacts(open);
scan.setUp(() => scan.prepare(queue.undecided() || queue.step(1)), keepAddress, nextRun.plan);
series.setUp(open);
decide.setUp(changed, banner);
api.setUp(reconnect);
wire();
view("scan");
addEventListener("hashchange", start);
try {
  await load();
  performance.mark("queue-shown");
  await start();
} catch (error) {
  toast(error.message, true);
}
look();

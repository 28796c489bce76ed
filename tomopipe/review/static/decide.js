// Decisions: into the campaign table at once; a conflict is shown; the last ones can be undone.
import { NoConnection, post } from "./api.js";
import { $, el, many, toast } from "./dom.js";
import { find } from "./queue.js";

const done = []; // lists of {scan, before, after}: what was decided at once
const unsent = new Map(); // {cells, seen} by scan: decisions that wait for a connection
let changed = async () => {};
let waits = () => {};

export function setUp(onChange, onWait) {
  changed = onChange;
  waits = onWait;
  addEventListener("beforeunload", (event) => unsent.size && event.preventDefault());
}

const words = (cells) => Object.entries(cells).map(([key, value]) => `${key} ${value || "(empty)"}`).join(", ");
export const waiting = () => [...unsent].map(([name, { cells }]) => `${name}: ${words(cells)}`);

function wait(name, cells, seen) {
  const before = unsent.get(name);
  unsent.set(name, { cells: { ...before?.cells, ...cells }, seen: before?.seen ?? seen });
  waits();
}

// Send what waits for the connection; a row that somebody changed meanwhile is asked about.
export async function resend() {
  for (const [name, { cells, seen }] of [...unsent]) {
    unsent.delete(name);
    waits();
    if (await write(name, cells, { seen })) toast(`${name}: ${words(cells)}, in the table`);
  }
}

const cellsOf = (scan) => ({ select: scan.select, cor_px: scan.manual, note: scan.note });

// Send decisions; the answer by scan, and those that are in the table now.
async function send(decisions, undoable) {
  const stamp = undoable && localStorage.getItem("stamp") === "yes";
  const asked = decisions.map(({ scan, cells, seen }) => ({ scan, cells, seen: seen || cellsOf(find(scan)), stamp: stamp && "cor_px" in cells, undo: !undoable }));
  const answer = await post("decide", { decisions: asked });
  const saved = asked.filter(({ scan }) => answer[scan].saved);
  if (undoable && saved.length) done.push(saved.map(({ scan, seen }) => ({ scan, before: seen, after: answer[scan].cells })));
  for (const { scan } of saved) take(scan, answer[scan].cells);
  return { answer, saved: saved.map(({ scan }) => scan) };
}

// Write cells of a scan; true if they are in the table now, null if nothing could be written.
export async function write(name, cells, { undoable = true, seen = null } = {}) {
  if (!find(name)) return false;
  const before = seen || cellsOf(find(name));
  try {
    const { answer, saved } = await send([{ scan: name, cells, seen }], undoable);
    if (!saved.length) return await conflict(name, cells, answer[name].cells, undoable);
    await changed(name);
    return true;
  } catch (error) {
    if (error instanceof NoConnection && undoable) wait(name, cells, before);
    else toast(lost(error), true);
    return null;
  }
}

function take(name, cells) {
  const scan = find(name);
  if (scan) Object.assign(scan, { select: cells.select, manual: cells.cor_px, note: cells.note });
}

const lost = (error) => (error instanceof NoConnection ? "No connection to tomopipe review: not written, or not confirmed. Do it again." : error.message);

// Write cells of many scans at once; the names of those that are in the table now, null if nothing could be written.
// One toast says what was done, in the words of `says`, and what was not: a second one would hide the first.
export async function writeAll(decisions, says, { undoable = true } = {}) {
  try {
    const { saved } = await send(decisions, undoable);
    await changed("");
    const left = decisions.map(({ scan }) => scan).filter((scan) => !saved.includes(scan));
    const told = saved.length ? [says(many(saved.length, "scan"))] : [];
    if (left.length) told.push(`Changed by someone else meanwhile, and left as they are: ${left.join(", ")}`);
    toast(told.join(". "), left.length > 0);
    return saved;
  } catch (error) {
    toast(lost(error), true);
    return null;
  }
}

// What takes one of `done` back: the cells that it changed, as they were.
function taken({ scan, before, after }) {
  const cells = Object.fromEntries(Object.entries(before).filter(([key, cell]) => cell !== after[key]));
  return { scan, cells, seen: after };
}

export async function undo() {
  const last = done.pop();
  if (!last) {
    toast("Nothing to undo.");
    return null;
  }
  const position = done.length;
  const keep = (...lists) => done.splice(position, 0, ...lists); // for the next u, below what was decided meanwhile
  if (last.length > 1) {
    const back = await writeAll(last.filter(({ scan }) => find(scan)).map(taken), (scans) => `${scans}: as before`, { undoable: false });
    // one by one: of a scan that someone else has changed the next u asks, and others come after it
    keep(...(back ? last.filter(({ scan }) => !back.includes(scan)).map((decision) => [decision]) : [last]));
    return null;
  }
  const { scan, cells, seen } = taken(last[0]);
  const written = await write(scan, cells, { undoable: false, seen });
  if (written === null) keep(last);
  if (!written) return null;
  toast(`${scan}: as before`);
  return scan;
}

function conflict(name, mine, theirs, undoable) {
  $("conflict-body").replaceChildren(
    el("p", {}, `${name} stands otherwise in the campaign table by now.`),
    el("table", {}, el("tr", {}, el("th", {}, "there"), el("td", {}, words(theirs))), el("tr", {}, el("th", {}, "yours"), el("td", {}, words(mine)))));
  const dialog = $("conflict");
  dialog.showModal();
  return new Promise((resolve) => {
    const finish = async (result) => {
      dialog.close();
      resolve(await result());
    };
    $("conflict-theirs").onclick = () => finish(async () => {
      await changed(name, { stay: true });
      return false;
    });
    $("conflict-mine").onclick = () => finish(() => write(name, mine, { undoable, seen: theirs }));
    dialog.oncancel = (event) => event.preventDefault();
  });
}

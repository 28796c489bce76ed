// Decisions: into the campaign table at once; a conflict is shown; its history says what can be undone.
import { NoConnection, get, post } from "./api.js";
import { $, el, many, toast } from "./dom.js";
import { find } from "./queue.js";
import { current } from "./scan.js";

const over = new Set(); // acts of which a row that someone else changed was kept
let unsure = null; // an act whose undo was not confirmed
let fault = ""; // why the history could not be written
const written = new Map(); // rows as this page wrote them last: what is shown of the open scan may be older
const unsent = new Map(); // {cells, seen} by scan: decisions that wait for a connection
let changed = async () => {};
let waits = () => {};
let turn = Promise.resolve();
let acts = 0; // that are not done

// One act after the other: each begins from the table as the one before left it.
const inTurn = (act) => (...words) => {
  const run = () => act(...words).finally(() => acts--);
  acts++;
  return (turn = turn.then(run, run));
};

export function setUp(onChange, onWait) {
  changed = onChange;
  waits = onWait;
  addEventListener("beforeunload", (event) => (unsent.size || acts > 1) && event.preventDefault());
}

const words = (cells) => Object.entries(cells).map(([key, value]) => `${key} ${value || "(empty)"}`).join(", ");
export const problem = () => fault;
export const waiting = () => [...unsent].map(([name, { cells }]) => `${name}: ${words(cells)}`);

function wait(name, cells, seen) {
  const before = unsent.get(name);
  unsent.set(name, { cells: { ...before?.cells, ...cells }, seen: { ...seen, ...before?.seen } });
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

export const cellsOf = (scan) => ({ select: scan.select, cor_px: scan.manual, note: scan.note });
const cellsShown = (name) => (current()?.scan === name ? current().cells : cellsOf(find(name))); // may be older than the queue

// Send decisions, or what takes an act back; the rows now, those that are as decided, and the decisions left.
async function send(decisions, undoes = "") {
  const stamp = !undoes && localStorage.getItem("stamp") === "yes";
  const asked = decisions.map(({ scan, cells, seen }) => ({ scan, cells, seen: seen || cellsOf(find(scan)), stamp: stamp && "cor_px" in cells, undoes }));
  const { rows, problem: text } = await post("decide", { decisions: asked });
  fault = text;
  if (!undoes) unsure = null; // the history knows what came last
  waits();
  const saved = asked.map(({ scan }) => scan).filter((scan) => rows[scan].saved);
  for (const scan of saved) take(scan, rows[scan].cells);
  return { rows, saved, left: decisions.filter(({ scan }) => !saved.includes(scan)) };
}

// Write cells of a scan; true if they are in the table now, null if nothing could be written. `seen`: the cells that
// were shown, where not as in the queue. `stay`: the page goes on showing the scan.
export const write = inTurn(writeNow);

async function writeNow(name, cells, { seen = null, stay = true } = {}) {
  if (!find(name)) return false;
  const before = seen || cellsShown(name);
  try {
    const { rows, left } = await send([{ scan: name, cells, seen: before }]);
    if (left.length && (written.get(name) === JSON.stringify(rows[name].cells) || (await overrules(left, rows)))) return await writeNow(name, cells, { seen: rows[name].cells, stay });
    await changed({ stay: stay || left.length > 0 });
    return !left.length;
  } catch (error) {
    if (error instanceof NoConnection) wait(name, cells, before);
    else toast(lost(error), true);
    return null;
  }
}

function take(name, cells) {
  const scan = find(name);
  if (scan) Object.assign(scan, { select: cells.select, manual: cells.cor_px, note: cells.note });
  written.set(name, JSON.stringify(cells));
}

const lost = (error) => (error instanceof NoConnection ? "No connection to tomopipe review: not written, or not confirmed. Do it again." : error.message);

// Write cells of many scans at once; the names of those that are in the table now, null if nothing could be written.
// One toast says what was done, in the words of `says`, and what was not: a second one would hide the first.
export const writeAll = inTurn(async (decisions, says) => {
  try {
    const { saved, left } = await send(decisions);
    await changed();
    const told = saved.length ? [says(many(saved.length, "scan"))] : [];
    if (left.length) told.push(`Changed by someone else meanwhile, not overwritten: ${left.map(({ scan }) => scan).join(", ")}`);
    toast(told.join(". "), left.length > 0);
    return saved;
  } catch (error) {
    toast(lost(error), true);
    return null;
  }
});

// Take back the last act of this user on the page, also of an earlier day; its scan if it is of one.
export const undo = inTurn(async () => {
  try {
    const act = unsure ?? (await get("undo", { skip: [...over].join(" ") }));
    if (!act.rows.length) {
      toast("Nothing to undo.");
      return null;
    }
    unsure = act;
    const { rows, saved, left } = await send(act.rows, act.act);
    const mine = left.length && (await overrules(left, rows)) ? left.map((row) => ({ ...row, seen: rows[row.scan].cells })) : [];
    if (mine.length) saved.push(...(await send(mine, act.act)).saved);
    unsure = null;
    if (saved.length < act.rows.length) over.add(act.act);
    await changed({ stay: act.rows.length > 1 || !saved.length });
    if (saved.length) toast(`${saved.length === 1 ? saved[0] : many(saved.length, "scan")}: as before`);
    return act.rows.length === 1 && saved.length ? saved[0] : null;
  } catch (error) {
    if (!(error instanceof NoConnection)) unsure = null;
    toast(lost(error), true);
    return null;
  }
});

// Ask about rows that someone else has changed; true if they are to be as decided here. A key that was pressed before
// the question came does not answer it.
function overrules(left, rows) {
  $("conflict-body").replaceChildren(...left.flatMap(({ scan, cells }) => [
    el("p", {}, `${scan} was changed in the campaign table meanwhile.`),
    el("table", {}, el("tr", {}, el("th", {}, "there"), el("td", {}, words(rows[scan].cells))), el("tr", {}, el("th", {}, "yours"), el("td", {}, words(cells))))]));
  const dialog = $("conflict");
  dialog.showModal();
  return new Promise((resolve) => {
    let isMine = false;
    $("conflict-theirs").onclick = () => dialog.close();
    $("conflict-mine").onclick = () => {
      isMine = true;
      dialog.close();
    };
    dialog.oncancel = (event) => event.preventDefault(); // a browser asks but once
    dialog.onclose = () => resolve(isMine);
  });
}

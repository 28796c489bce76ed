// Decisions: into the campaign table at once; a conflict is shown; the last ones can be undone.
import { post } from "./api.js";
import { $, el, many, toast } from "./dom.js";
import { find } from "./queue.js";

const done = []; // lists of {scan, before, after}: what was decided at once
let changed = async () => {};

export function setUp(onChange) {
  changed = onChange;
}

const cellsOf = (scan) => ({ select: scan.select, cor_px: scan.manual, note: scan.note });

// Send decisions; the answer by scan, and those that are in the table now.
async function send(decisions, undoable) {
  const stamp = undoable && localStorage.getItem("stamp") === "yes";
  const asked = decisions.map(({ scan, cells, seen }) => ({ scan, cells, seen: seen || cellsOf(find(scan)), stamp: stamp && "cor_px" in cells }));
  const answer = await post("decide", { decisions: asked });
  const saved = asked.filter(({ scan }) => answer[scan].saved);
  if (undoable && saved.length) done.push(saved.map(({ scan, seen }) => ({ scan, before: seen, after: answer[scan].cells })));
  for (const { scan } of saved) take(scan, answer[scan].cells);
  return { answer, saved: saved.map(({ scan }) => scan) };
}

// Write cells of a scan; true if they are in the table now.
export async function write(name, cells, { undoable = true, seen = null } = {}) {
  if (!find(name)) return false;
  try {
    const { answer, saved } = await send([{ scan: name, cells, seen }], undoable);
    if (!saved.length) return await conflict(name, cells, answer[name].cells, undoable);
    await changed(name);
    return true;
  } catch (error) {
    toast(lost(error), true);
    return false;
  }
}

function take(name, cells) {
  const scan = find(name);
  if (scan) Object.assign(scan, { select: cells.select, manual: cells.cor_px, note: cells.note });
}

// A server that is gone: what was decided is still on the page.
const lost = (error) => (error instanceof TypeError ? "No connection to tomopipe review: nothing was written. Start it again, and decide again." : error.message);

// Write cells of many scans at once; the names of those that are in the table now.
export async function writeAll(decisions, { undoable = true } = {}) {
  try {
    const { saved } = await send(decisions, undoable);
    await changed("");
    const left = decisions.map(({ scan }) => scan).filter((scan) => !saved.includes(scan));
    if (left.length) toast(`Changed by someone else meanwhile, and left as they are: ${left.join(", ")}`, true);
    return saved;
  } catch (error) {
    toast(lost(error), true);
    return [];
  }
}

export async function undo() {
  const last = done.pop();
  if (!last) {
    toast("Nothing to undo.");
    return null;
  }
  if (last.length > 1) {
    const back = await writeAll(last.map(({ scan, before, after }) => ({ scan, cells: before, seen: after })), { undoable: false });
    if (!back.length) done.push(last);
    else toast(`${many(back.length, "scan")}: as before`);
    return null;
  }
  const [{ scan, before, after }] = last;
  if (!(await write(scan, { ...before }, { undoable: false, seen: after }))) return null;
  toast(`${scan}: as before`);
  return scan;
}

function conflict(name, mine, theirs, undoable) {
  const words = (cells) => Object.entries(cells).map(([key, value]) => `${key} ${value || "(empty)"}`).join(", ");
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

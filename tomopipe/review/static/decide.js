// Decisions: into the campaign table at once; a conflict is shown; the last ones can be undone.
import { post } from "./api.js";
import { $, el, toast } from "./dom.js";
import { find } from "./queue.js";

const done = []; // {scan, before, after}
let changed = async () => {};

export function setUp(onChange) {
  changed = onChange;
}

const cellsOf = (scan) => ({ select: scan.select, cor_px: scan.manual, note: scan.note });

// Write cells of a scan; true if they are in the table now.
export async function write(name, cells, { undoable = true, seen = null } = {}) {
  const scan = find(name);
  if (!scan) return false;
  const before = seen || cellsOf(scan);
  try {
    const stamp = undoable && localStorage.getItem("stamp") === "yes" && "cor_px" in cells;
    const answer = await post("decide", { scan: name, cells, seen: before, stamp });
    if (!answer.saved) return await conflict(name, cells, answer.cells, undoable);
    if (undoable) done.push({ scan: name, before, after: answer.cells });
    scan.select = answer.cells.select;
    scan.manual = answer.cells.cor_px;
    scan.note = answer.cells.note;
    await changed(name);
    return true;
  } catch (error) {
    toast(error.message, true);
    return false;
  }
}

export async function undo() {
  const last = done.pop();
  if (!last) {
    toast("Nothing to undo.");
    return null;
  }
  const cells = { ...last.before };
  if (!(await write(last.scan, cells, { undoable: false, seen: last.after }))) return null;
  toast(`${last.scan}: as before`);
  return last.scan;
}

function conflict(name, mine, theirs, undoable) {
  const said = (cells) => Object.entries(cells).map(([key, value]) => `${key} ${value || "(empty)"}`).join(", ");
  $("conflict-body").replaceChildren(
    el("p", {}, `${name} stands otherwise in the campaign table by now.`),
    el("table", {}, el("tr", {}, el("th", {}, "there"), el("td", {}, said(theirs))), el("tr", {}, el("th", {}, "yours"), el("td", {}, said(mine)))));
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

// The line through the trusted scans of a series, and its CORs for those that need review.
import { get } from "./api.js";
import { cellsOf, writeAll } from "./decide.js";
import { $, drawIn, el, px } from "./dom.js";
import { linePlot } from "./plots.js";
import { all, isIn } from "./queue.js";

const ticks = new Map(); // scans that were ticked, or unticked, by hand
let ticket = 0;

// A line in words, in pixels; n is the index.
export const course = (line) => `${px(line.start_px)}${line.slope_px ? ` ${line.slope_px < 0 ? "−" : "+"} ${px(Math.abs(line.slope_px), 3)} n` : ""}`;

export async function show(key, { selected, onOpen, width }) {
  const mine = ++ticket;
  const found = await get("line", { series: key });
  if (mine !== ticket) return;
  const trusted = new Set(found.trusted);
  const rows = all().filter((scan) => scan.series === key && !scan.refused && !isIn(scan, "not_selected"))
    .map((scan) => ({ ...scan, trusted: trusted.has(scan.scan) })).sort((a, b) => a.index - b.index);
  const { line, on_line: onLine } = found;
  if (!line) {
    $("series-line").replaceChildren(el("p", { class: "quiet" }, `No line: ${trusted.size} of ${rows.length} scans are trusted; a line needs three.`));
    return;
  }
  const plot = linePlot(rows.filter((row) => row.cor_px !== null && onLine[row.scan] !== null), line, { onLine, along: found.along, selected, onOpen, width });
  const spread = line.spread_px === null ? "too few scans for the scatter" : `scatter ${px(line.spread_px)} px (band: 3x)`;
  drawIn($("series-line"), () => $("series-line").replaceChildren(
    el("h3", {}, found.model ? `The ${found.model} (fix_cor.over_time)` : `Robust line through the ${trusted.size} trusted scans (by hand, or predicted without doubt)`),
    el("p", {}, `COR = ${course(line)} px, ${spread}`),
    el("div", { class: "plot" }, plot), ...offers(rows.filter((row) => isIn(row, "to_review") && onLine[row.scan] !== null), line, onLine)));
}

function offers(rows, line, onLine) {
  if (!rows.length) return [el("p", { class: "quiet" }, "No scan of this series needs review.")];
  const on = (row) => onLine[row.scan];
  const hasScatter = line.spread_px !== null;
  const taken = (row) => ticks.get(row.scan) ?? (hasScatter && !row.confident_outlier);
  const button = el("button", { id: "accept-line", class: "main", onclick: async () => {
    const decisions = rows.filter(taken).map((row) => ({ scan: row.scan, cells: { cor_px: on(row).toFixed(2) }, seen: cellsOf(row) }));
    button.disabled = true;
    await writeAll(decisions, (scans) => `${scans}: the COR of the line, in the table. u undoes it`);
    count();
  } });
  const count = () => {
    const n = rows.filter(taken).length;
    button.textContent = `Accept the line for ${n === 1 ? "this scan" : `these ${n} scans`}`;
    button.disabled = n === 0;
  };
  count();
  const tick = (row) => el("input", { type: "checkbox", checked: taken(row), "aria-label": `accept for ${row.scan}`, onchange: (event) => {
    ticks.set(row.scan, event.target.checked);
    count();
  } });
  const measured = (row) => (row.measured_px === null ? "–" : `${px(row.measured_px)} (${px(row.confidence)}${row.is_accepted ? "" : ", not accepted"})`);
  const away = (row) => (row.cor_px === null ? "–" : px(row.cor_px - on(row)));
  return [
    el("table", { id: "line-scans" },
      el("tr", {}, ...["", "scan", "state", "measured", "now", "on the line", "now minus line"].map((text, column) => el("th", { class: column > 2 ? "num" : null, title: text === "measured" ? "px (confidence)" : null }, text))),
      ...rows.map((row) => el("tr", {}, el("td", {}, tick(row)), el("td", {}, row.scan), el("td", { class: "quiet", title: row.why }, row.state),
        el("td", { class: "num" }, measured(row)), el("td", { class: "num" }, px(row.cor_px)), el("td", { class: "num" }, px(on(row))), el("td", { class: "num" }, away(row))))),
    hasScatter ? "" : el("p", { class: "quiet" }, "Not ticked at first: a line through so few scans may be far off beyond them. Compare the slices in Scans."),
    hasScatter && rows.some((row) => row.confident_outlier) ? el("p", { class: "quiet" }, "Not ticked at first: outliers with a confident prediction, which may belong to another series.") : "",
    el("p", { class: "line" }, button)];
}

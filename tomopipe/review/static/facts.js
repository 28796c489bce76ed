// The column beside the picture: what is known of the scan.
import { $, coded, drawIn, el, named, px, signs } from "./dom.js";
import { scoreLegend, scorePlot } from "./plots.js";

let drawn = null; // what the column shows, so that scrubbing only moves the line
let openScan = () => {};

export function setUp(onOpen) {
  openScan = onOpen;
}

export const factsOf = () => drawn.scan;
export const facts = (data, go, cor = null) => drawIn($("facts"), () => draw(data, go, cor));

function draw(data, go, cor) {
  const node = $("facts");
  if (drawn !== data) {
    drawn = data;
    node.replaceChildren(head(data), ...fixing(data, go), ...scores(data, go, cor), ...neighbours(data), ...failures(data), note(data), ...history(data));
    return;
  }
  const old = node.querySelector(".score");
  const made = old && plot(data, go, cor);
  if (made) old.replaceChildren(...made);
}

function head(data) {
  const shape = data.shape ? `${data.shape[0]} angles, ${data.shape[1]} × ${data.shape[2]} px` : "size unknown";
  return el("div", {},
    el("h2", {}, data.scan),
    el("p", { class: "quiet" }, `${data.series || "(no prefix)"} · ${data.index} · ${shape}`),
    Number(data.cells.cor_px)
      ? el("p", { class: "big" }, `${data.cells.cor_px} px`, el("small", {}, " by hand"))
      : el("p", { class: "big" }, data.known_px === null ? "no COR" : `${data.known_text} px`, el("small", {}, ` ${signs.sources[data.source] || data.source}`)),
    data.volume ? el("p", {}, el("a", { href: `volume.html#${encodeURIComponent(data.scan)}`, target: "_blank" }, "Volume")) : null,
    data.reason ? el("p", { class: "why" }, ...coded(data.reason)) : null,
    data.to_do ? el("p", { id: "to-do" }, ...coded(data.to_do)) : null,
    ...data.warnings.map((text) => el("p", { class: "why" }, ...coded(text))));
}

export function sourceWords([source, confidence]) {
  return [signs.sources[source] || source, confidence].filter(Boolean).join(", ");
}

export function plot(data, go, cor, size) {
  const p = data.prediction;
  if (!p) return null;
  const marks = [
    ...data.candidates.map((candidate) => ["candidate", candidate.cor_px]),
    ...p.curves.map((curve) => ["estimate", curve.best_cor_px]),
    ["chosen", data.cells.cor_px ? Number(data.cells.cor_px) : data.known_px],
    ["at", cor],
  ];
  const picture = scorePlot(p.curves, marks, (value) => go(Math.round(value * 20) / 20), size);
  return picture && [picture, scoreLegend(marks, size && p.curves)]; // the column lists the methods
}

const confidenceOf = (p) => (p.confidence === null ? "" : `confidence ${p.confidence.toFixed(2)}`);

function scores(data, go, cor) {
  const p = data.prediction;
  const title = el("h3", {}, "Prediction");
  if (!p) return Number(data.cells.cor_px) ? [title, el("p", { class: "quiet" }, "None to compare this COR with; ", el("code", {}, `tomopipe run --predict ${data.word}`), " makes one.")] : [];
  const parts = [title,
    p.is_in_reason ? null : el("p", {}, ...coded([p.verdict, p.reason || confidenceOf(p)].filter(Boolean).join(": "))),
    p.method ? el("p", { class: "quiet" }, `by ${p.method}${p.model ? `, model ${p.model.name} ` : ""}`, p.model ? el("code", { title: `sha256 ${p.model.sha256}` }, p.model.sha256.slice(0, 12)) : null) : null].filter(Boolean);
  if (p.roll_deg !== null) parts.push(el("p", { class: "quiet" }, `Roll of ${p.roll_deg.toFixed(2)}° measured and corrected`));
  if (p.pitch_deg) parts.push(el("p", { class: "quiet" }, `Axis leans along the beam by ${p.pitch_deg}°`));
  if (p.lacks_pitch) parts.push(el("p", { class: "quiet" }, "Lean of the axis along the beam: not measured"));
  if (p.roll_px_per_100_rows) parts.push(el("p", { class: "quiet" }, `Tilted axis: ${p.roll_px_per_100_rows} px per 100 rows`));
  const picture = plot(data, go, cor);
  if (picture) parts.push(el("div", { class: "plot score" }, ...picture));
  const withCurve = p.curves.filter((curve) => curve.cor_px.length > 1);
  if (p.curves.length) parts.push(el("ul", { class: "methods" }, ...p.curves.map((curve) =>
    el("li", {}, el("button", { onclick: () => curve.best_cor_px !== null && go(curve.best_cor_px), title: "Go to its best COR" },
      el("i", { class: `key c${withCurve.indexOf(curve) % 7}` }), el("span", {}, curve.method), el("span", { class: "num" }, px(curve.best_cor_px)),
      el("span", { class: "num quiet" }, curve.confidence === null ? "" : curve.confidence.toFixed(2)))))));
  const kinds = p.evidence.filter((curve) => curve.cor_px.length > 1);
  if (kinds.length) {
    parts.push(el("details", {}, el("summary", {}, "Measures"),
      el("div", { class: "plot" }, scorePlot(kinds, [["at", cor]], (value) => go(Math.round(value * 20) / 20))),
      el("ul", { class: "methods" }, ...kinds.map((curve, index) => el("li", {}, el("i", { class: `key c${index % 7}` }), ` ${curve.method}`)))));
  }
  return parts.length > 1 ? parts : []; // all of it is in the reason
}

// The COR before its series was fixed; all else of it is in the reason.
function fixing(data, go) {
  const fix = data.fix;
  const used = Number(data.cells.cor_px) || fix?.after_px;
  if (!fix || fix.before_px === null || fix.before_px === used) return [];
  return [el("button", { onclick: () => go(fix.before_px) }, `Use ${px(fix.before_px)}`)];
}

function neighbours(data) {
  if (data.neighbours.length < 2) return [];
  return [el("h3", {}, "In its series"),
    el("table", {}, ...data.neighbours.map((row) =>
      el("tr", { class: row.scan === data.scan ? "here" : "", tabindex: row.scan === data.scan ? null : 0, onclick: () => openScan(row.scan),
        onkeydown: (event) => event.key === "Enter" && (event.stopPropagation(), openScan(row.scan)) },
        el("td", { class: "of", title: row.scan }, named(row.scan)), el("td", { class: "num" }, row.manual || px(row.after_px)), el("td", { class: "quiet" }, signs.short[row.manual ? "manual" : row.source] || row.source))))];
}

function failures(data) {
  return data.failures.flatMap((failure) => [
    el("h3", {}, `Failed: ${failure.step}`), el("p", { class: "why" }, ...coded(failure.reason)), failure.log ? el("pre", {}, failure.log) : null]).filter(Boolean);
}

function note(data) {
  return el("div", {}, el("h3", {}, "Campaign table"),
    el("label", { class: "field" }, "select", el("select", { id: "select" }, ...["auto", "yes", "no"].map((value) =>
      el("option", { value, selected: value === data.cells.select }, value)))),
    el("label", { class: "field" }, "note", el("input", { id: "note", value: data.cells.note, placeholder: "remark  n" })),
    el("label", { class: "field" }, el("input", { id: "stamp", type: "checkbox", checked: localStorage.getItem("stamp") === "yes" }), "add source and time to the note"),
    data.cells.cor_px ? el("button", { id: "clear" }, "Remove the COR set by hand") : null);
}

const NEWEST = 5; // entries of the history that are always in sight

// What people changed in the row of the scan, the latest first.
function history(data) {
  if (!data.history.length) return [];
  const rows = data.history.map((entry) => {
    const cells = `${entry.column === "cor_px" ? "" : `${entry.column}: `}${entry.before || "–"} → ${entry.after || "–"}${entry.undoes ? " (undo)" : ""}`;
    return el("tr", { title: `by ${entry.by}, ${entry.time}` }, el("td", { class: "quiet" }, minute(entry.time)), el("td", {}, entry.who), el("td", {}, cells));
  });
  const earlier = rows.splice(NEWEST);
  return [el("h3", {}, "History"), el("table", { id: "history" }, ...rows),
    earlier.length ? el("details", {}, el("summary", {}, `${earlier.length} earlier`), el("table", {}, ...earlier)) : ""];
}

// A time of the history as the clock here shows it.
function minute(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.valueOf()) ? iso : new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16).replace("T", " ");
}

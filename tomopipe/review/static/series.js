// COR along each series, and what other options of fix_cor would make of it.
import { get } from "./api.js";
import { $, drawIn, el, px, sign, signs, toast } from "./dom.js";
import * as line from "./line.js";
import { seriesPlot } from "./plots.js";
import { all } from "./queue.js";
import * as through from "./through.js";

let options = {}; // of fix_cor, as configured at first
let key = null;
let openScan = () => {};
let ticket = 0;
export let refresh = () => {};

export function setUp(onOpen) {
  openScan = onOpen;
}

export async function show(config, series, selected) {
  if (key === null) options = { ...config };
  const names = [...new Set(all().filter((s) => !s.refused).map((s) => s.series))].sort();
  if (series !== null && series !== undefined) key = series;
  if (!names.includes(key)) key = names[0] ?? "";
  const both = () => (through.refresh(), Promise.all([lined(selected), update(config, selected)]));
  refresh = both;
  const choice = el("select", { id: "series-name", onchange: (event) => {
    key = event.target.value;
    $("through").replaceWith(through.build(key, null, openScan));
    both();
  } }, ...names.map((name) => el("option", { value: name, selected: name === key }, name || "(no prefix)")));
  const slider = el("input", { id: "max-delta", type: "range", min: 1, max: 100, step: 1, value: options.max_delta_px, oninput: (event) => {
    options.max_delta_px = Number(event.target.value);
    update(config, selected);
  } });
  const protect = el("input", { id: "protect", type: "checkbox", checked: options.protect_manual, onchange: (event) => {
    options.protect_manual = event.target.checked;
    update(config, selected);
  } });
  $("series").replaceChildren(
    el("div", { class: "line" }, el("label", {}, "Series ", choice)),
    through.build(key, selected, openScan),
    el("div", { id: "series-line" }),
    el("h3", {}, "The rule for outliers"),
    el("div", { class: "line" }, el("label", {}, "Upper bound, max_delta_px ", slider, el("output", { id: "max-delta-value" })),
      el("label", {}, protect, " protect_manual"),
      el("button", { onclick: () => { options = { ...config }; show(config, key, selected); } }, "As configured")),
    el("p", { id: "limit" }),
    el("div", { id: "series-plot", class: "plot" }),
    el("p", { class: "legend" }, ...signs.in_series.flatMap((state) => [sign(state), state]), el("i", { class: "mark" }, ), "before fixing"),
    el("div", { id: "series-changes" }));
  await both();
}

const room = () => Math.max(480, Math.min(1800, $("series-plot").clientWidth || 960));

async function lined(selected) {
  try {
    await line.show(key, { selected, onOpen: openScan, width: room() });
  } catch (error) {
    toast(error.message, true);
  }
}

async function update(config, selected) {
  const mine = ++ticket;
  $("max-delta-value").textContent = `${options.max_delta_px} px`;
  try {
    const { rows, along, median_px, model, limit_px, limit_from } = await get("trial", { series: key, max_delta_px: options.max_delta_px, protect_manual: options.protect_manual });
    if (mine !== ticket) return;
    const plot = seriesPlot(rows, { line: model ?? (median_px === null ? null : { start_px: median_px, slope_px: 0 }), along, selected, onOpen: openScan, width: room() });
    $("limit").textContent = limit_px === null ? "" : `Limit in use (the band): ±${px(limit_px)} px from ${model ? `the ${model.name}, ${line.course(model)}` : `the median ${px(median_px)}`}: ${limit_from}.`;
    drawIn($("series-plot"), () => $("series-plot").replaceChildren(plot || el("p", { class: "quiet" }, "No COR is known in this series yet.")));
    drawIn($("series-changes"), () => $("series-changes").replaceChildren(...changes(rows, config)));
  } catch (error) {
    toast(error.message, true);
  }
}

function changes(rows, config) {
  const changed = rows.filter((row) => row.changes);
  const same = options.max_delta_px === config.max_delta_px && options.protect_manual === config.protect_manual;
  const yaml = `fix_cor: {max_delta_px: ${options.max_delta_px}, protect_manual: ${options.protect_manual}}`;
  const head = el("h3", {}, changed.length ? `${changed.length} would change against the results` : "Nothing would change against the results");
  const table = el("table", {},
    el("tr", {}, ...["scan", "now", "would be", "from", "why"].map((text, column) => el("th", { class: column === 1 || column === 2 ? "num" : null }, text))),
    ...changed.map((row) => el("tr", { tabindex: 0, onclick: () => openScan(row.scan), onkeydown: (e) => e.key === "Enter" && (e.stopPropagation(), openScan(row.scan)) },
      el("td", {}, row.scan), el("td", { class: "num" }, px(row.now_px)), el("td", { class: "num" }, px(row.after_px)), el("td", {}, signs.short[row.source] || row.source), el("td", { class: "quiet" }, row.reason))));
  return [head, changed.length ? table : null, same ? null : el("p", {}, "To apply this, write in config.yaml: ", el("code", {}, yaml))].filter(Boolean);
}

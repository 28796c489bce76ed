// Line plots as SVG: scores against COR, COR against index.
import { el, px, signs, svg } from "./dom.js";

export function scale(from, to, low, high) {
  const span = to - from || 1;
  return (value) => low + ((value - from) / span) * (high - low);
}

export function ticks(low, high, about, whole = false) {
  const span = high - low || 1;
  const raw = whole ? Math.max(1, span / about) : span / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) found.push(v);
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

export function frame(width, height, x, y, box, names) {
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": names.label });
  const across = ticks(x[0], x[1], width / 90, names.whole);
  const atX = scale(x[0], x[1], box.left, width - box.right);
  const atY = scale(y[0], y[1], height - box.bottom, box.top);
  for (const value of across.values) {
    root.append(
      svg("line", { class: "grid", x1: atX(value), x2: atX(value), y1: box.top, y2: height - box.bottom }),
      svg("text", { class: "tick", x: atX(value), y: height - box.bottom + 14, "text-anchor": "middle" },
        value.toFixed(across.digits)),
    );
  }
  if (names.y) {
    const up = ticks(y[0], y[1], names.up ?? height / 60);
    for (const value of up.values) {
      root.append(
        svg("line", { class: "grid", y1: atY(value), y2: atY(value), x1: box.left, x2: width - box.right }),
        svg("text", { class: "tick", x: box.left - 6, y: atY(value) + 4, "text-anchor": "end" },
          value.toFixed(up.digits)),
      );
    }
    root.append(svg("text", { class: "axis", x: 4, y: 12 }, names.y));
  }
  root.append(svg("text", { class: "axis", x: width - box.right, y: height - 3, "text-anchor": "end" }, names.x));
  return { root, atX, atY };
}

// Score curves of all methods, each scaled to its own best and worst.
export function scorePlot(curves, marks, onPick, { width, height } = { width: 360, height: 170 }) {
  const drawn = curves.filter((curve) => curve.cor_px.length > 1);
  if (!drawn.length) return null;
  const box = { left: 8, right: 8, top: 18, bottom: 30 };
  const candidates = marks.filter(([kind]) => kind === "candidate").map(([, value]) => value);
  const every = [...drawn.flatMap((curve) => curve.cor_px), ...candidates];
  const x = [Math.min(...every), Math.max(...every)];
  const { root, atX, atY } = frame(width, height, x, [0, 1], box, { label: "Scores against COR", x: "COR (px)" });
  root.append(svg("text", { class: "axis", x: box.left, y: 12 }, "score, from worst to best"));
  drawn.forEach((curve, index) => {
    const low = Math.min(...curve.score);
    const high = Math.max(...curve.score);
    const level = scale(low, high, 0.03, 0.97);
    const points = curve.cor_px.map((v, i) => `${atX(v).toFixed(1)},${atY(level(curve.score[i])).toFixed(1)}`);
    root.append(svg("polyline", { class: `curve c${index % 7}`, points: points.join(" ") }));
  });
  const known = marks.filter(([, value]) => value !== null);
  const lines = known.filter(([, value]) => value >= x[0] && value <= x[1]);
  const beyond = known.find(([kind, value]) => kind === "at" && !lines.some((line) => line[1] === value));
  if (beyond) root.append(svg("text", { class: "axis", x: box.left, y: height - 3 }, `COR ${px(beyond[1])}: beyond the sweep and its curves`));
  for (const [kind, value] of lines) {
    root.append(svg("line", { class: kind, x1: atX(value), x2: atX(value), y1: box.top, y2: height - box.bottom }));
  }
  root.addEventListener("click", (event) => {
    const spot = root.getBoundingClientRect();
    const back = scale(box.left, width - box.right, x[0], x[1]);
    onPick(back(((event.clientX - spot.left) / spot.width) * width));
  });
  return root;
}

const LINES = { candidate: "candidate", estimate: "best", chosen: "in use", at: "shown" };

// What the lines of a score plot are; `curves` also where no list beside it names them.
export function scoreLegend(marks, curves = []) {
  const kinds = Object.keys(LINES).filter((kind) => marks.some(([name, value]) => name === kind && value !== null));
  return el("p", { class: "legend" },
    ...curves.filter((curve) => curve.cor_px.length > 1).map((curve, index) => el("span", {}, el("i", { class: `key c${index % 7}` }), curve.method)),
    ...kinds.map((kind) => el("span", {}, svg("svg", { viewBox: "0 0 6 12", "aria-hidden": "true" }, svg("line", { class: kind, x1: 3, x2: 3, y1: 0, y2: 12 })), LINES[kind])));
}

// The sign of a state as a mark of a plot.
const mark = (state, x, y, large) => svg("path", { class: `after st-${state}`, d: signs.paths[state], transform: `translate(${x} ${y}) scale(${large ? 1.4 : 1})` });

// The horizontal axis of a series: indices, or recorded times; `at` gives the place of a row.
function alongOf(rows, { name, places }) {
  const at = (row) => places[row.scan] ?? row.index;
  const every = rows.map(at);
  const [first, last] = [Math.min(...every), Math.max(...every)];
  const whole = name === "index";
  const pad = whole ? 0.5 : 0.02 * (last - first || 1);
  return { at, whole, name, x: [first - pad, last + pad] };
}

// COR against index or time: before (hollow), after (full), the median or the model over time, and the limit band.
export function seriesPlot(rows, { line, along, selected, onOpen, width }) {
  const known = rows.filter((row) => row.after_px !== null || row.before_px !== null);
  if (!known.length) return null;
  const height = Math.round(Math.min(620, Math.max(340, width * 0.4)));
  const box = { left: 64, right: 16, top: 20, bottom: 34 };
  const values = known.flatMap((row) => [row.before_px, row.after_px]).filter((v) => v !== null);
  const limit = known.map((row) => row.limit_px).find((v) => v !== null && v !== undefined) ?? null;
  const banded = line !== null && limit !== null;
  const on = (row) => line.start_px + line.slope_px * row.index;
  const { at, whole, name, x } = alongOf(known, along);
  // over time a line may bend where recording paused
  const ends = known.map((row) => [at(row), row]).sort(([a], [b]) => a - b);
  const beyond = (end, n) => [n, { index: whole ? n : end[1].index }];
  const course = banded ? [beyond(ends[0], x[0]), ...(whole ? [] : ends), beyond(ends[ends.length - 1], x[1])] : [];
  if (banded) values.push(...course.flatMap(([, row]) => [on(row) - limit, on(row) + limit]));
  const pad = 0.06 * (Math.max(...values) - Math.min(...values)) || 1;
  const y = [Math.min(...values) - pad, Math.max(...values) + pad];
  const { root, atX, atY } = frame(width, height, x, y, box, { label: "COR along the series", whole, x: name, y: "COR (px)" });
  if (banded) {
    const points = (off, ordered) => ordered.map(([n, row]) => `${atX(n)},${atY(on(row) + off)}`);
    root.append(
      svg("polygon", { class: "band", points: [...points(limit, course), ...points(-limit, [...course].reverse())].join(" ") }),
      svg("polyline", { class: "median", fill: "none", points: points(0, course).join(" ") }),
    );
  }
  for (const row of known) {
    const pointX = atX(at(row));
    const group = svg("g", { class: `point${row.scan === selected ? " here" : ""}`, "data-scan": row.scan, tabindex: 0,
      role: "button", "aria-label": `${row.scan}, COR ${px(row.after_px)}`, onclick: () => onOpen(row.scan),
      onkeydown: (event) => event.key === "Enter" && onOpen(row.scan) });
    group.append(svg("title", {}, `${row.scan}\n${px(row.before_px)} → ${px(row.after_px)}  ${signs.sources[row.source] || row.source}\n${row.reason || ""}`));
    if (row.before_px !== null && row.after_px !== null && Math.abs(row.before_px - row.after_px) > 0.005) {
      group.append(svg("line", { class: "moved", x1: pointX, x2: pointX, y1: atY(row.before_px), y2: atY(row.after_px) }),
        svg("circle", { class: "before", cx: pointX, cy: atY(row.before_px), r: 4 }));
    }
    const value = row.after_px ?? row.before_px;
    group.append(mark(row.state, pointX, atY(value), row.scan === selected));
    root.append(group);
  }
  return root;
}

const LABEL_WIDTH = 76; // of labels beyond the axis, px

// Distance from the line against index or time, on an axis where 0.2 px shows; what lies beyond stands at its edge.
export function linePlot(rows, line, { onLine, along, selected, onOpen, width }) {
  const height = 300;
  const box = { left: 64, right: 16, top: 20, bottom: 34 };
  const away = (row) => row.cor_px - onLine[row.scan];
  const trusted = rows.filter((row) => row.trusted).map((row) => Math.abs(away(row)));
  const spreadPx = line.spread_px ?? 0;
  const reach = Math.min(Math.max(5, 3.5 * spreadPx), Math.max(1, 5 * spreadPx, 1.2 * Math.max(0, ...trusted)));
  const { at, whole, name, x } = alongOf(rows, along);
  const { root, atX, atY } = frame(width, height, x, [-reach, reach], box, { label: "Distance from the line", whole, x: name, y: "COR minus the line (px)" });
  const spread = Math.min(reach, 3 * line.spread_px);
  if (spread) root.append(svg("rect", { class: "band", x: box.left, y: atY(spread), width: width - box.left - box.right, height: atY(-spread) - atY(spread) }));
  root.append(
    svg("line", { class: "median", x1: box.left, x2: width - box.right, y1: atY(0), y2: atY(0) }));
  const ends = {}; // of labels at each edge: where the last one of each line is
  for (const row of [...rows].sort((one, other) => at(one) - at(other))) {
    const off = away(row);
    const group = svg("g", { class: `point${row.scan === selected ? " here" : ""}`, "data-scan": row.scan, tabindex: 0, role: "button",
      "aria-label": `${row.scan}, ${px(off)} px from the line`, onclick: () => onOpen(row.scan), onkeydown: (event) => event.key === "Enter" && onOpen(row.scan) });
    const [pointX, y] = [atX(at(row)), atY(Math.max(-reach, Math.min(reach, off)))];
    const tip = off > reach ? `M${pointX - 5} ${y + 8}h10l-5 -8z` : `M${pointX - 5} ${y - 8}h10l-5 8z`;
    group.append(svg("title", {}, `${row.scan}\n${px(row.cor_px)} px, ${px(off)} from the line`),
      Math.abs(off) > reach ? svg("path", { class: `after st-${row.state}`, d: tip }) : mark(row.state, pointX, y, row.scan === selected));
    if (Math.abs(off) > reach) {
      const isRight = pointX > width / 2;
      const taken = (ends[off > 0] ??= []);
      const level = [...taken, -Infinity].findIndex((last) => pointX - last > LABEL_WIDTH);
      taken[level] = pointX;
      group.append(svg("text", { class: "beyond", x: pointX + (isRight ? -8 : 8), y: y + (off > 0 ? 10 + 12 * level : -3 - 12 * level), "text-anchor": isRight ? "end" : "start" }, `${off > 0 ? "+" : "−"}${px(Math.abs(off))} px`));
    }
    root.append(group);
  }
  return root;
}

// What the next run redoes, as `tomopipe plan` says.
import { get } from "./api.js";
import { $, coded, el, time } from "./dom.js";

let asking = false;
let again = false;

// Ask for it; once more, and no more often, if something changed before the answer came.
export async function plan() {
  again = asking;
  if (asking) return;
  asking = true;
  $("plan-body").setAttribute("aria-busy", "true");
  do {
    again = false;
    try {
      const found = await get("plan");
      if (again) continue;
      $("next").textContent = `Next run: ${found.summary}`;
      $("next").title = found.jobs.map((job) => `${job.rule} ${job.scan || job.series || job.stack}`).join("\n");
      body(planned(found));
    } catch (error) {
      if (again) continue;
      $("next").textContent = error.message;
      body([el("p", { id: "plan-state", class: "bad" }, error.message)]);
    }
  } while (again);
  asking = false;
  $("plan-body").removeAttribute("aria-busy");
}

const counts = (found) => found.counts.join(" · ") || "Nothing to do.";

function body(nodes) {
  $("plan-body").replaceChildren(el("h2", {}, "What the next run will redo"), ...nodes.filter(Boolean));
}

function planned(found) {
  const sums = [counts(found)];
  if (found.seconds >= 1) sums.push(`${found.n_open ? "up to" : "about"} ${time(found.seconds)} of one core`);
  if (found.bytes >= 5e6) sums.push(`${(found.bytes / 1e9).toFixed(2)} GB of disk`);
  return [
    el("p", { id: "plan-state" }, found.blocked ? "The run will stop." : sums.join(" · ")),
    found.blocked ? el("p", { class: "bad" }, ...coded(found.blocked)) : null,
    ...found.failures.map((text) => el("p", { class: "bad" }, ...coded(text))),
    found.jobs.length ? el("p", { class: "quiet" }, "Start it in a terminal: ", el("code", {}, "tomopipe run"), ". Its progress is under Jobs.") : null,
    found.jobs.length ? table(found.rows) : el("p", { class: "quiet" }, "Every result is up to date with the campaign table."),
  ];
}

// A row for each scan.
function table(rows) {
  return el("table", {}, el("tr", {}, ...["scan", "what runs", "why"].map((text) => el("th", {}, text))),
    ...rows.map((row) => el("tr", {}, el("td", {}, row.of), el("td", {}, row.steps.join(", ")), el("td", { class: "quiet" }, ...coded(row.why)))));
}

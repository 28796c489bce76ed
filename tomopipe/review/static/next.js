// What the next run redoes: as expected at once after a decision, then as `tomopipe plan` says.
import { get, post } from "./api.js";
import { $, counted, el, time } from "./dom.js";

const PLAN_MS = 8000; // after the last decision: a dry run takes the cores from the pictures
const now = { ticket: 0, timer: 0, planning: false, shown: null };

// Tell it at once; ask for the plan when there are no more decisions.
export async function decided({ plans = true } = {}) {
  const mine = ++now.ticket;
  if (plans) {
    clearTimeout(now.timer);
    now.timer = setTimeout(plan, PLAN_MS);
  }
  try {
    const found = await get("expected");
    if (mine !== now.ticket || named(found.jobs) === now.shown) return; // the plan said so already
    line(found.jobs, " (expected)");
    body([el("p", { id: "plan-state" }, said(found.jobs), el("b", { class: "quiet" }, " (expected)")), table(found)]);
  } catch (error) {
    if (mine === now.ticket) $("next").textContent = error.message;
  }
}

const said = (jobs) => (jobs.length ? counted(jobs.map((job) => job.rule), " · ") : "Nothing to do.");

const named = (jobs) => jobs.map((job) => `${job.rule} ${job.scan || job.series || job.stack || ""}`).sort().join("\n");

function line(jobs, mark) {
  now.shown = named(jobs);
  $("next").replaceChildren(`Next run${mark}: ${said(jobs)}`);
  $("next").title = now.shown;
}

function body(nodes) {
  const button = el("button", { id: "plan-again", onclick: plan }, "Work it out again");
  $("plan-body").replaceChildren(el("h2", {}, "What the next run will redo"), ...nodes.filter(Boolean), button);
}

export async function plan() {
  clearTimeout(now.timer);
  if (now.planning) return; // the server heeds what was decided meanwhile
  now.planning = true;
  $("plan-body").setAttribute("aria-busy", "true");
  if ($("plan-state")) $("plan-state").append(" working it out …");
  else body([el("p", { class: "quiet", id: "plan-state" }, "working it out: a dry run, nothing is started …")]);
  try {
    let found = await post("plan");
    while (found.state === "working") {
      await new Promise((done) => setTimeout(done, 400));
      found = await get("plan");
    }
    if (found.state !== "done") throw new Error(found.error || "no plan");
    now.ticket++; // what was expected is known by now
    line(found.jobs, "");
    body(planned(found));
  } catch (error) {
    body([el("p", { id: "plan-state", class: "bad" }, error.message)]);
  }
  $("plan-body").removeAttribute("aria-busy");
  now.planning = false;
}

function planned(found) {
  const sums = [said(found.jobs)];
  if (found.seconds !== null && found.jobs.length) sums.push(`about ${time(found.seconds)} of one core`);
  if (found.bytes) sums.push(`${(found.bytes / 1e9).toFixed(2)} GB of disk`);
  return [
    el("p", { id: "plan-state" }, found.blocked ? "The run will stop." : sums.join(" · ")),
    found.blocked ? el("p", { class: "bad" }, found.blocked) : null,
    ...found.failures.map((text) => el("p", { class: "bad" }, text)),
    table(found) || el("p", { class: "quiet" }, "Every result is up to date with the campaign table."),
  ];
}

// A row for each scan; of what is only expected, for each job.
function table(found) {
  if (!found.jobs.length) return null;
  const each = (job) => ({ of: job.scan || job.series || job.stack || "campaign", steps: [job.rule], perhaps: [], why: "" });
  return el("table", {}, el("tr", {}, ...["scan", "what runs", "perhaps", "why"].map((text) => el("th", {}, text))),
    ...(found.rows || found.jobs.map(each)).map((row) => el("tr", {}, el("td", {}, row.of), el("td", {}, row.steps.join(", ")), el("td", { class: "quiet" }, row.perhaps.join(", ")), el("td", { class: "quiet" }, row.why))));
}

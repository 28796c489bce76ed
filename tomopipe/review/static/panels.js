// What the next run will redo, and what runs now.
import { get, post } from "./api.js";
import { $, el, toast } from "./dom.js";

const time = (s) => (s === null ? "" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`);

export async function plan() {
  const button = el("button", { class: "main", id: "plan-again", onclick: plan }, "Work it out again");
  $("plan").replaceChildren(el("h2", {}, "What the next run will redo"), el("p", { class: "quiet", id: "plan-state" }, "working it out: a dry run, nothing is started …"));
  try {
    let found = await post("plan");
    while (found.state === "working") {
      await new Promise((done) => setTimeout(done, 400));
      found = await get("plan");
    }
    if (found.state !== "done") throw new Error(found.error || "no plan");
    $("plan").replaceChildren(el("h2", {}, "What the next run will redo"), ...planned(found), button);
  } catch (error) {
    $("plan-state").textContent = error.message;
    $("plan").append(button);
  }
}

function planned(found) {
  const counts = new Map();
  for (const job of found.jobs) counts.set(job.rule, (counts.get(job.rule) || 0) + 1);
  const sums = [...counts].map(([rule, n]) => `${n} ${rule}`);
  if (found.seconds !== null && found.jobs.length) sums.push(`about ${time(found.seconds)}, one job after the other`);
  if (found.bytes) sums.push(`${(found.bytes / 1e9).toFixed(2)} GB of new volumes and stacks`);
  return [
    el("p", { id: "plan-state" }, found.blocked ? "The run will stop." : found.jobs.length ? sums.join(" · ") : "Nothing to do."),
    ...(found.blocked ? [el("p", { class: "bad" }, found.blocked)] : []),
    ...found.failures.map((text) => el("p", { class: "bad" }, text)),
    found.jobs.length
      ? el("table", {}, el("tr", {}, ...["step", "scan or series", "", "why"].map((text) => el("th", {}, text))),
          ...found.jobs.map((job) => el("tr", {}, el("td", {}, job.rule), el("td", {}, job.scan || job.series), el("td", { class: "quiet" }, job.certain ? "" : "if its COR changes"), el("td", { class: "quiet" }, job.reason))))
      : el("p", { class: "quiet" }, "Every result is up to date with the campaign table."),
  ];
}

export async function jobs() {
  try {
    const found = await get("status");
    const shown = found.steps.map((step) => {
      const total = step.queued + step.running + step.done + step.failed + step.lost;
      return el("tr", {}, el("td", {}, step.step),
        el("td", {}, el("progress", { max: total || 1, value: step.done, "aria-label": `${step.step}: ${step.done} of ${total}` })),
        ...["queued", "running", "done", "failed", "lost"].map((state) => el("td", { class: `num ${step[state] && (state === "failed" || state === "lost") ? "bad" : ""}` }, step[state] ? String(step[state]) : "")),
        el("td", { class: "num" }, time(step.median_s)), el("td", { class: "num" }, time(step.eta_s)));
    });
    const order = { lost: 0, failed: 1, running: 2 };
    const each = found.jobs.sort((a, b) => order[a.state] - order[b.state]).map((job) =>
      el("details", { class: "job" }, el("summary", {}, el("i", { class: "dot", "data-state": job.state }), ` ${job.state}  ${job.step}  ${job.key}  ${job.host}`),
        job.error ? el("p", { class: "bad" }, job.error) : null, job.log_tail ? el("pre", {}, job.log_tail) : null));
    $("jobs").replaceChildren(el("h2", {}, "Jobs"),
      found.steps.length
        ? el("table", {}, el("tr", {}, ...["step", "", "queued", "running", "done", "failed", "lost", "usual time", "left, about"].map((text, at) => el("th", { class: at > 1 ? "num" : null }, text))), ...shown)
        : el("p", { class: "quiet" }, "No job has run yet."), ...each);
    return found;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

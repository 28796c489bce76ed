// What the next run will redo, and what runs now.
import { get, post } from "./api.js";
import { $, el, toast } from "./dom.js";

const time = (s) => (s === null ? "" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`);

function counted(names, between = ", ") {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) || 0) + 1);
  return [...counts].map(([name, n]) => `${n} ${name}`).join(between);
}

function starts(pending) {
  const known = pending.map((job) => job.start_s).filter((start) => start !== null);
  return known.length ? `; the next expected to start ${new Date(1000 * Math.min(...known)).toLocaleString()}` : "";
}

let planning = false;

export async function plan() {
  if (planning) return; // the server heeds what was decided meanwhile
  planning = true;
  const button = el("button", { id: "plan-again", onclick: plan }, "Work it out again");
  const head = el("h2", {}, "What the next run will redo");
  if ($("plan-state")) {
    $("plan-state").textContent = "working it out again …";
    $("plan-body").setAttribute("aria-busy", "true");
  } else $("plan-body").replaceChildren(head, el("p", { class: "quiet", id: "plan-state" }, "working it out: a dry run, nothing is started …"));
  try {
    let found = await post("plan");
    while (found.state === "working") {
      await new Promise((done) => setTimeout(done, 400));
      found = await get("plan");
    }
    if (found.state !== "done") throw new Error(found.error || "no plan");
    $("plan-body").replaceChildren(head, ...planned(found), button);
  } catch (error) {
    $("plan-body").replaceChildren(head, el("p", { id: "plan-state", class: "bad" }, error.message), button);
  }
  $("plan-body").removeAttribute("aria-busy");
  planning = false;
}

function planned(found) {
  const sums = found.jobs.length ? [counted(found.jobs.map((job) => job.rule), " · ")] : [];
  if (found.seconds !== null && found.jobs.length) sums.push(`about ${time(found.seconds)} of one core`);
  if (found.bytes) sums.push(`${(found.bytes / 1e9).toFixed(2)} GB of disk`);
  return [
    el("p", { id: "plan-state" }, found.blocked ? "The run will stop." : found.jobs.length ? sums.join(" · ") : "Nothing to do."),
    ...(found.blocked ? [el("p", { class: "bad" }, found.blocked)] : []),
    ...found.failures.map((text) => el("p", { class: "bad" }, text)),
    found.jobs.length
      ? el("table", {}, el("tr", {}, ...["scan", "what runs", "perhaps", "why"].map((text) => el("th", {}, text))),
          ...found.rows.map((row) => el("tr", {}, el("td", {}, row.of), el("td", {}, row.steps.join(", ")), el("td", { class: "quiet" }, row.perhaps.join(", ")), el("td", { class: "quiet" }, row.why))))
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
    const waiting = found.pending.length
      ? [el("p", { id: "pending" }, `In SLURM's queue: ${counted(found.pending.map((job) => job.name))}${starts(found.pending)}`)] : [];
    const order = { lost: 0, failed: 1, running: 2 };
    const each = found.jobs.sort((a, b) => order[a.state] - order[b.state]).map((job) =>
      el("details", { class: "job" }, el("summary", {}, el("i", { class: "dot", "data-state": job.state }), ` ${job.state}  ${job.step}  ${job.key}  ${job.host}`),
        job.error ? el("p", { class: "bad" }, job.error) : null, job.log_tail ? el("pre", {}, job.log_tail) : null));
    $("jobs").replaceChildren(el("h2", {}, "Jobs"),
      found.steps.length
        ? el("table", {}, el("tr", {}, ...["step", "", "queued", "running", "done", "failed", "lost", "usual time", "left, about"].map((text, at) => el("th", { class: at > 1 ? "num" : null }, text))), ...shown)
        : el("p", { class: "quiet" }, "No job has run yet."), ...waiting, ...each);
    return found;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

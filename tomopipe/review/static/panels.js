// What runs now.
import { get } from "./api.js";
import { $, coded, drawIn, el, sign, toast } from "./dom.js";

const opened = new Set(); // jobs whose error and log are in sight

// A job; the same node while nothing about it changes.
function shownJob(job) {
  const [name, text] = [`${job.step} ${job.key}`, JSON.stringify(job)];
  return [...$("jobs").children].find((node) => node.text === text) ?? Object.assign(
    el("details", { class: "job", open: opened.has(name), ontoggle: (event) => opened[event.target.open ? "add" : "delete"](name) }, el("summary", {}, sign(job.state), ` ${job.state}  ${job.step}  ${job.key}  ${job.host}`),
      job.error ? el("p", { class: "bad" }, ...coded(job.error)) : null, job.log_tail ? el("pre", {}, job.log_tail) : null), { text });
}

// Replace children, except those that stay: they are still scrolled, selected and in focus.
function replace(parent, ...children) {
  const nodes = children.filter(Boolean);
  for (const child of [...parent.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, at) => parent.children[at] === node || parent.insertBefore(node, parent.children[at] ?? null));
}

export async function jobs() {
  try {
    const found = await get("status");
    const shown = found.steps.map((step) => {
      const total = step.queued + step.running + step.done + step.failed + step.lost;
      return el("tr", {}, el("td", {}, step.step),
        el("td", {}, el("progress", { max: total || 1, value: step.done, "aria-label": `${step.step}: ${step.done} of ${total}` })),
        ...["queued", "running", "done", "failed", "lost"].map((state) => el("td", { class: `num ${step[state] && (state === "failed" || state === "lost") ? "bad" : ""}` }, step[state] ? String(step[state]) : "")));
    });
    const order = { lost: 0, failed: 1, running: 2, pending: 3 };
    const each = found.jobs.sort((a, b) => order[a.state] - order[b.state]);
    drawIn($("jobs"), () => replace($("jobs"), el("h2", {}, "Jobs"),
      found.steps.length
        ? el("table", {}, el("tr", {}, ...["step", "", "to do", "running", "done", "failed", "lost"].map((text, column) => el("th", { class: column > 1 ? "num" : null }, text))), ...shown)
        : el("p", { class: "quiet" }, "No job has run yet."),
      found.steps.length ? el("p", { class: "quiet" }, found.counted, ".") : null,
      ...[found.stopped, found.time.sentence, found.time.remark].filter(Boolean).map((text) => el("p", {}, ...coded(text))), ...each.map(shownJob))); // made as they are drawn: one may have been opened meanwhile
    return found;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

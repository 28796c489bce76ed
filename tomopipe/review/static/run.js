// The next run: start it, watch it, stop it; where the server was started with --allow-run.
import { get, post } from "./api.js";
import { $, el, toast } from "./dom.js";

const LOOK_MS = 1000;
const WORDS = { idle: "", running: "The run is under way.", done: "The run has ended: all is done.", stopped: "The run was stopped; what was done stays.",
  failed: "The run has ended; some jobs failed.", elsewhere: "" };
let timer = 0;
let last = "";
let ended = () => {};

export function setUp(onEnd) {
  ended = onEnd;
}

// Look once, and again while something runs.
export async function watch() {
  clearTimeout(timer);
  try {
    const found = await get("run");
    draw(found);
    if (last === "running" && found.state !== "running") ended();
    last = found.state;
    if (["running", "elsewhere"].includes(found.state)) timer = setTimeout(watch, LOOK_MS);
  } catch (error) {
    $("run-state").textContent = error.message;
    timer = setTimeout(watch, 5 * LOOK_MS);
  }
}

async function ask(what) {
  try {
    draw(await post(`run/${what}`));
    last = "running";
  } catch (error) {
    toast(error.message, true);
  }
  watch();
}

function draw(found) {
  const running = found.state === "running";
  const words = running && found.stopping ? "Stopping: the jobs are being ended." : (WORDS[found.state] ?? "Nothing is started from here: type tomopipe run, or start this page with --allow-run.");
  const steps = running && found.n_all ? `${found.n_done} of ${found.n_all} jobs done.` : "";
  $("run-state").textContent = [words, found.error, steps, ...(found.said ?? [])].filter(Boolean).join(" ");
  $("run-state").className = found.error || found.state === "failed" ? "bad" : found.state === "not allowed" ? "quiet" : "";
  $("run-start").hidden = !["idle", "done", "failed", "stopped"].includes(found.state);
  $("run-stop").hidden = !running;
  $("run-stop").disabled = Boolean(found.stopping);
  const bar = $("run-bar");
  bar.hidden = !running;
  if (found.n_all) {
    bar.max = found.n_all;
    bar.value = found.n_done;
  } else bar.removeAttribute("value");
  const old = $("run-tail").firstChild;
  const open = old ? old.open : found.state === "failed";
  $("run-tail").replaceChildren(...(found.tail
    ? [el("details", { open: open || found.state === "failed" }, el("summary", {}, "Last lines of its log"), el("pre", { tabindex: 0 }, found.tail))] : []));
}

export function wire() {
  $("run-start").addEventListener("click", () => ask("start"));
  $("run-stop").addEventListener("click", () => ask("stop"));
}

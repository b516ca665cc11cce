// SPDX-License-Identifier: MIT
// The health page's parts about processes: whether each service is ready, what the workers hold, what troubles there are.

import { fill, h } from "../dom.js";
import * as format from "../format.js";
import { byLabel, parseFigures } from "../prometheus.js";
import { table, tableRow } from "../tables.js";

const NAMES = {
  process: "Process",
  bus: "Bus",
  database: "Database",
  progress: "Progress",
  workers: "Workers",
  MetricListener: "Metric Listener",
  MetricStorer: "Metric Storer",
  ModelScheduler: "Model Scheduler",
  AnomalyService: "Anomaly Service",
  AlertService: "Alert Service",
  WebService: "HTTP service",
};
const WORKER_FIGURES = {
  resident: "htmengine_worker_resident_bytes",
  models: "htmengine_worker_models",
  held: "htmengine_worker_model_bytes",
  read: "htmengine_worker_swapped_in_total",
  left: "htmengine_worker_swapped_out_total",
  checkpoints: "htmengine_worker_checkpoints_total",
  written: "htmengine_worker_checkpoint_bytes_total",
};
/** Rejected samples that the page shows; the API has more. */
const SHOWN_REJECTS = 20;

const WORKER_HEADS = ["Worker", "Memory", "Models", "Models' memory", "Read from disk", "Made room", "Checkpoints", "Written"];

//: What every process checks, beside its services.
const COMMON = ["process", "bus", "database", "progress"];

/** Fill a panel with the checks of /readyz, and a row for each of the other processes. */
export function showServices(panel, { checks = {} }, processes) {
  const rows = Object.entries(checks).map(([name, { ok, detail }]) => tableRow([NAMES[name] ?? name, readiness(ok, detail)]));
  fill(panel, h("h2", {}, "Services"), table(["Service", "State"], [...rows, ...processes.map(processRow)]));
}

function processRow({ address, detail, checks }) {
  const services = Object.keys(checks).filter((name) => !COMMON.includes(name));
  const title = services.map((name) => NAMES[name] ?? name).join(", ") || "Process";
  const failing = Object.entries(checks).filter(([, { ok }]) => !ok).map(([name, { detail: why }]) => `${NAMES[name] ?? name}: ${why}`);
  const why = detail || failing.join("; ");
  return tableRow([h("span", {}, title, h("span", { class: "muted small block" }, address)), readiness(!why, why)]);
}

function readiness(ok, detail) {
  return ok ? h("span", { class: "state state-active" }, "Ready") : h("span", { class: "failure" }, `✗ ${detail}`);
}

/** Fill a panel with the figures of each worker process: this process's, and those of the others. */
export function showWorkers(panel, figures, processes) {
  const pages = [["", figures], ...processes.map(({ address, figures: others }) => [`${address} `, others])];
  const workers = pages.flatMap(([prefix, page]) =>
    [...byLabel(parseFigures(page), "worker", WORKER_FIGURES)].sort(([one], [other]) => one - other).map(([worker, found]) => [prefix + worker, found]),
  );
  const content = workers.length
    ? h("div", { class: "wide-table", tabindex: "0", role: "region", "aria-label": "Figures of the workers" }, table(WORKER_HEADS, workers.map(workerRow)))
    : h("p", { class: "muted small" }, "The workers belong to other processes: name their ports in [telemetry] peers.");
  fill(panel, h("h2", {}, "Workers"), content);
}

function workerRow([worker, { resident, models, held, read, left, checkpoints, written }]) {
  const counts = [format.bytes(resident), count(models), format.bytes(held), count(read), count(left), count(checkpoints), format.bytes(written)];
  return tableRow([worker, ...counts]);
}

const count = (number) => (number === undefined ? "–" : format.count(number));

/** Fill a panel with the last rejected samples; it is not there when there are none. */
export function showRejects(panel, rejects) {
  panel.hidden = !rejects.length;
  const lines = rejects.slice(0, SHOWN_REJECTS).map(({ reason, sender, line, rejected_at: at }) =>
    h("li", {}, h("code", {}, line), h("span", { class: "muted small block" }, `${reason}, from ${sender}, ${format.time(at)}`)),
  );
  fill(panel, h("h2", {}, "Rejected samples"), h("ul", { class: "troubles" }, ...lines));
}

/** Fill a panel with what the operator should know of; it is not there when all is well. */
export function showTroubles(panel, troubles) {
  panel.hidden = !troubles.length;
  const lines = troubles.map(({ source, message, since }) =>
    h("li", {}, h("span", { class: "failure" }, message), h("span", { class: "muted small block" }, `${source}, since ${format.time(since)}`)),
  );
  fill(panel, h("h2", {}, "Troubles"), h("ul", { class: "troubles" }, ...lines));
}

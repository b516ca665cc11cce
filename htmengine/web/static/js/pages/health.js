// SPDX-License-Identifier: MIT
// How the engine is: what comes in and goes out, where samples wait, what was rejected, whether each service runs.

import { get, getFigures, getHealth, isAbort, send, tolerate } from "../api.js";
import { connection } from "../connection.js";
import { fill, h, setText } from "../dom.js";
import { errorBox } from "../empty.js";
import { factList, showLedger } from "../facts.js";
import * as format from "../format.js";
import { Rate } from "../rates.js";
import { drawSparkline } from "../sparkline.js";
import { STATES, stateMark } from "../states.js";
import { repeated } from "../tasks.js";
import { table, tableRow } from "../tables.js";
import { toast } from "../toasts.js";
import { showRejects, showServices, showTroubles, showWorkers } from "./health_services.js";

const REFRESH_MS = 2000;
const FLOWS = [
  ["received", "Received", "samples taken from clients"],
  ["stored", "Stored", "rows in the database"],
  ["scored", "Scored", "rows with an anomaly score"],
];
const PANELS = ["Engine", "Services", "Ledger", "Queues", "Metrics", "Workers", "Troubles", "Rejected samples"];
const QUEUES = {
  samples: ["Samples", "from the listener to the storer"],
  model_input: ["Model input", "from the storer to the models"],
  results: ["Results", "from the models to the anomaly service"],
};

export function openHealth(main) {
  document.title = "Health · HTM Engine";
  const page = new HealthPage(main);
  page.load();
  return () => page.close();
}

class HealthPage {
  #main;
  #tiles = FLOWS.map(([key, title, help]) => ({ key, rate: new Rate(), ...tile(title, help) }));
  #parts = null;
  #given = new AbortController();
  #end;
  #back = () => this.load();

  constructor(main) {
    this.#main = main;
    this.#end = repeated(() => this.load(), REFRESH_MS);
    connection.addEventListener("back", this.#back);
  }

  close() {
    this.#given.abort();
    this.#end();
    connection.removeEventListener("back", this.#back);
  }

  async load() {
    try {
      const answers = ["status", "ledger", "session", "processes", "rejects"].map((path) => get(path, {}, this.#given.signal));
      const [status, ledger, session, { processes }, { rejects }] = await Promise.all(answers);
      const [report, figures] = await Promise.all([getHealth(this.#given.signal), getFigures(this.#given.signal)]);
      if (!this.#parts) this.#build(session);
      this.#show(status, ledger);
      showServices(this.#parts.services, report, processes);
      showRejects(this.#parts.rejects, rejects);
      showWorkers(this.#parts.workers, figures, processes);
    } catch (error) {
      tolerate(error);
      if (isAbort(error) || this.#parts) return; // the old figures stay
      fill(this.#main, h("div", { class: "page" }, h("h1", {}, "Health"), errorBox(error, () => this.load())));
    }
  }

  #build(session) {
    this.#parts = layout(this.#tiles, session);
    fill(this.#main, this.#parts.page);
  }

  #show(status, ledger) {
    const at = Date.now() / 1000;
    for (const { key, rate, number, speed, canvas } of this.#tiles) {
      setText(number, format.count(ledger[key]));
      setText(speed, format.rate(rate.take(at, ledger[key])));
      drawSparkline(canvas, rate.history);
    }
    this.#showBacklog(ledger);
    showEngine(this.#parts.engine, status);
    showQueues(this.#parts.queues, status.queues);
    showMetrics(this.#parts.metrics, status.metrics);
    showLedger(this.#parts.ledger, ledger);
    showTroubles(this.#parts.troubles, status.troubles);
  }

  #showBacklog({ waiting, scored, newest_stored: stored, newest_scored: newest }) {
    const { waiting: number, progress, lag } = this.#parts;
    setText(number, format.count(waiting));
    Object.assign(progress, { max: Math.max(1, scored + waiting), value: scored });
    const behind = newest !== null && stored > newest ? `; scores are ${format.duration(stored - newest)} behind the newest sample` : "";
    setText(lag, waiting ? `of samples whose metrics have a model or are to get one${behind}` : "scores are up to date");
  }
}

function tile(title, help) {
  const number = h("span", { class: "tile-number" }, "–");
  const speed = h("span", { class: "tile-speed" }, "–");
  const canvas = h("canvas", { class: "sparkline", "aria-hidden": "true", "data-width": 160, "data-height": 28 });
  const element = h(
    "section",
    { class: "panel tile", "aria-label": title },
    h("h2", {}, title),
    number,
    h("p", { class: "tile-line" }, speed, canvas),
    h("p", { class: "muted small" }, help),
  );
  return { element, number, speed, canvas };
}

function layout(tiles, session) {
  const waiting = h("span", { class: "tile-number" }, "–");
  const progress = h("progress", { "aria-label": "Scored part of the stored samples" });
  const lag = h("p", { class: "muted small" });
  const backlog = h("section", { class: "panel tile", "aria-label": "Waiting" }, h("h2", {}, "Waiting for a score"), waiting, progress, lag);
  const [engine, services, ledger, queues, metrics, workers, troubles, rejects] = PANELS.map((label) => h("section", { class: "panel", "aria-label": label }));
  const logOut = h("button", { type: "button", onclick: forget }, "Log out");
  const page = h(
    "div",
    { class: "page" },
    h("div", { class: "page-head" }, h("h1", {}, "Health"), h("span", { class: "spring" }), session.tokens ? logOut : null),
    h("div", { class: "tiles" }, ...tiles.map(({ element }) => element), backlog),
    troubles,
    h("div", { class: "panels" }, engine, services, ledger, queues, metrics),
    workers,
    rejects,
  );
  return { page, waiting, progress, lag, engine, services, ledger, queues, metrics, workers, troubles, rejects };
}

async function forget() {
  await send("DELETE", "session");
  toast("Logged out.");
  location.reload();
}

function showEngine(panel, { version, now, started, event_clients: clients }) {
  fill(
    panel,
    h("h2", {}, "Engine"),
    factList([
      ["Version", version],
      ["Running for", format.duration(now - started)],
      ["Since", format.time(started)],
      ["Its clock", format.time(now)],
      ["Live clients", format.count(clients)],
    ]),
  );
}

function showQueues(panel, queues) {
  const rows = Object.entries(queues).map(([name, waiting]) => {
    const [title, help] = QUEUES[name] ?? [name, ""];
    return tableRow([h("span", {}, title, h("span", { class: "muted small block" }, help)), waiting === null ? "not made yet" : format.count(waiting)]);
  });
  fill(panel, h("h2", {}, "Queues"), table(["Queue", "Messages waiting"], rows));
}

function showMetrics(panel, metrics) {
  const rows = Object.entries(metrics).map(([status, number]) => tableRow([number ? stateMark(status) : STATES[status].word, format.count(number)]));
  fill(panel, h("h2", {}, "Metrics"), table(["State", "Metrics"], rows));
}

// SPDX-License-Identifier: MIT
// One metric: its plot, its model, its ledger, its anomalies, and what can be done with it.

import { monitor, remove, unmonitor } from "../actions.js";
import { remember } from "../address.js";
import { get, isAbort, metricPath, tolerate } from "../api.js";
import { connection } from "../connection.js";
import { fill, h } from "../dom.js";
import { emptyBox, errorBox } from "../empty.js";
import { sendingCommand } from "../engine.js";
import { showLedger, showModel } from "../facts.js";
import * as format from "../format.js";
import { incidentLink, stateBadge } from "../incident_view.js";
import { gravity, sinceText } from "../incident_words.js";
import { subscribe } from "../live.js";
import { PlotPanel } from "../plot/panel.js";
import { ANOMALOUS, scoreMark, showScore } from "../scores.js";
import { showState, stateMark } from "../states.js";
import { repeated, spaced } from "../tasks.js";
import { announce } from "../toasts.js";

const REFRESH_MS = 5000;
const ADDRESS_MS = 400;
const FIRST_SAMPLE_MS = 200;
const CATCHING_UP_MS = 3000;
const ANOMALIES = 20;
const INCIDENTS = 50;

export function openMetric(main, { uid, query }) {
  const page = new MetricPage(main, uid, viewOf(query));
  page.load();
  return () => page.close();
}

class MetricPage {
  #main;
  #uid;
  #view;
  #metric = null;
  #panel = null;
  #parts = null;
  #opening = null;
  #ends = [];
  #given = new AbortController();
  #back = () => (this.#metric ? this.#reload() : this.load());
  #refreshSoon = spaced(() => this.#refresh(), FIRST_SAMPLE_MS);
  #reloadSoon = spaced(() => this.#panel?.reload().catch(tolerate), CATCHING_UP_MS);
  #saveView = spaced(() => remember(this.#view), ADDRESS_MS);

  constructor(main, uid, view) {
    this.#main = main;
    this.#uid = uid;
    this.#view = view;
    document.title = "Metric · HTM Engine";
    connection.addEventListener("back", this.#back);
  }

  close() {
    this.#given.abort();
    connection.removeEventListener("back", this.#back);
    this.#stop();
  }

  async load() {
    this.#stop();
    fill(this.#main, h("div", { class: "page" }, h("p", { class: "loading-line", role: "status" }, "Loading…")));
    try {
      this.#metric = await this.#get();
      document.title = `${this.#metric.name} · HTM Engine`;
      this.#parts = layout(this.#metric, this.#actions());
      fill(this.#main, this.#parts.page);
      this.#showMetric();
      await this.#openPlot();
      await this.#showRest();
      if (this.#given.signal.aborted) return;
      this.#ends.push(
        repeated(() => this.#refresh(), REFRESH_MS),
        subscribe({ metric: this.#metric.name }, (result) => this.#live(result), () => this.#reload()),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  #get = (rest = "", parameters = {}) => get(metricPath(this.#uid, rest), parameters, this.#given.signal);

  #stop() {
    this.#saveView.cancel();
    this.#refreshSoon.cancel();
    this.#reloadSoon.cancel();
    this.#panel?.close();
    this.#panel = null;
    this.#ends.splice(0).forEach((end) => end());
  }

  #fail(error) {
    if (isAbort(error)) return;
    const box =
      error.status === 404
        ? emptyBox("There is no such metric", "It may have been deleted.", h("a", { href: "#/metrics" }, "All metrics"))
        : errorBox(error, () => this.load());
    fill(this.#main, h("div", { class: "page" }, box));
    tolerate(error);
  }

  /** However often it is called at a time, one plot is made. */
  #openPlot() {
    this.#opening ??= this.#makePlot().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #makePlot() {
    const panel = new PlotPanel(this.#metric, (view, following) => {
      this.#view = following ? { from: null, until: null } : { from: Math.round(view.from), until: Math.round(view.until) };
      this.#saveView();
    });
    fill(this.#parts.plot, panel.element);
    const opened = await panel.open(this.#view?.from ? this.#view : null);
    if (this.#given.signal.aborted) panel.close();
    else if (opened) this.#panel = panel;
    else fill(this.#parts.plot, noSamples(this.#metric.name));
  }

  #live(result) {
    if (result.uid !== this.#uid) return; // a name that reads as a pattern matches others, too
    if (result.rowid <= this.#metric.rows) this.#reloadSoon(); // a row that is drawn already gets its score
    this.#metric.newest = result;
    this.#metric.rows = Math.max(this.#metric.rows, result.rowid);
    this.#metric.last_timestamp = Math.max(this.#metric.last_timestamp, result.timestamp);
    this.#showMetric();
    if (this.#panel) this.#panel.add(result);
    else this.#refreshSoon(); // the first sample: there is something to plot now
    if (result.anomaly_score >= ANOMALOUS) announce(`Anomalous: ${format.value(result.value)} at ${format.time(result.timestamp)}`);
  }

  async #refresh() {
    const before = this.#metric;
    try {
      this.#metric = await this.#get();
      this.#showMetric();
      await this.#showRest();
      if (!this.#panel && this.#metric.rows) await this.#openPlot();
      else if (this.#panel && (this.#metric.last_timestamp > this.#panel.newest || changed(before, this.#metric))) {
        await this.#panel.reload();
      }
    } catch (error) {
      if (error.status === 404) this.#fail(error);
      tolerate(error);
    }
  }

  async #reload() {
    await this.#refresh();
    await this.#panel?.reload().catch(tolerate);
  }

  #showMetric() {
    const { state, score, model, stop, start } = this.#parts;
    showState(state, this.#metric.status);
    showScore(score, this.#metric.newest?.anomaly_score);
    showModel(model, this.#metric);
    const has = this.#metric.status !== "UNMONITORED";
    stop.hidden = !has;
    start.textContent = has ? "New model…" : "Start model…";
  }

  async #showRest() {
    const [ledger, { incidents }, { anomalies }] = await Promise.all([
      this.#get("/ledger"),
      get("incidents", { metric: this.#uid, limit: INCIDENTS }, this.#given.signal),
      get("anomalies", { metric: this.#uid, limit: ANOMALIES }, this.#given.signal),
    ]);
    showLedger(this.#parts.ledger, ledger);
    showIncidents(this.#parts.incidents, incidents);
    this.#panel?.setSpans(incidents.map(spanOf));
    showAnomalies(this.#parts.anomalies, anomalies, (timestamp) => this.#goTo(timestamp));
  }

  #goTo(timestamp) {
    const half = 43200;
    this.#panel?.show({ from: timestamp - half, until: timestamp + half });
  }

  #actions() {
    const then = (action) => async () => (await action(this.#metric)) && this.#reload();
    const gone = async () => {
      if (await remove(this.#metric)) location.hash = "#/metrics";
    };
    return { monitor: then(monitor), unmonitor: then(unmonitor), remove: gone };
  }
}

function viewOf(query) {
  const [from, until] = [Number(query.get("from")), Number(query.get("until"))];
  return from && until > from ? { from, until } : null;
}

/** Whether the model is another, which scores all rows again. */
function changed(before, now) {
  return now.model?.generation !== before.model?.generation || now.status !== before.status;
}

function layout(metric, actions) {
  const state = stateMark(metric.status);
  const score = scoreMark(metric.newest?.anomaly_score);
  const start = h("button", { type: "button", onclick: actions.monitor }, "Start model…");
  const stop = h("button", { type: "button", onclick: actions.unmonitor }, "Stop model…");
  const remover = h("button", { type: "button", class: "danger", onclick: actions.remove }, "Delete…");
  const rule = h("button", { type: "button", onclick: () => ruleFor(metric) }, "Rule from here…");
  const plot = h("div", { class: "plot-column" });
  const [incidents, model, ledger, anomalies] = ["Incidents", "Model", "Ledger", "Anomalies"].map((label) =>
    h("section", { class: "panel", "aria-label": label }),
  );
  const page = h(
    "div",
    { class: "page" },
    h("a", { class: "small back", href: "#/metrics" }, "← All metrics"),
    h(
      "div",
      { class: "page-head" },
      h("h1", { class: "metric-name" }, metric.name),
      state,
      score,
      h("span", { class: "spring" }),
      h("div", { class: "button-row" }, rule, start, stop, remover),
    ),
    metric.text && h("p", { class: "metric-text small", "aria-label": "All labels" }, metric.text),
    h("div", { class: "metric-grid" }, plot, h("div", { class: "side" }, incidents, model, ledger, anomalies)),
  );
  return { page, state, score, start, stop, plot, incidents, model, ledger, anomalies };
}

function ruleFor({ name }) {
  location.hash = `#/rules?${new URLSearchParams({ metrics: name })}`;
}

function noSamples(name) {
  return h(
    "section",
    { class: "panel" },
    emptyBox(
      "No samples yet",
      "The plot appears with the first sample:",
      sendingCommand(name),
    ),
  );
}

function showIncidents(panel, incidents) {
  const now = Date.now() / 1000;
  const rows = incidents.map((incident) =>
    h("li", {}, h("a", { href: incidentLink(incident) }, incident.title), stateBadge(incident), h("span", { class: "muted" }, sinceText(incident, now))),
  );
  fill(
    panel,
    h("h2", {}, "Incidents"),
    rows.length ? h("ul", { class: "plain-list short" }, ...rows) : h("p", { class: "muted small" }, "None so far."),
  );
}

/** Where the plot shades an incident: as grave as it was, also when it is over. */
const spanOf = (incident) => ({ from: incident.timestamp, until: incident.last_timestamp, level: gravity({ ...incident, phase: "OPEN" }) });

function showAnomalies(panel, anomalies, goTo) {
  const rows = anomalies.map(({ timestamp, value, anomaly_score: score }) =>
    h(
      "li",
      {},
      h("button", { type: "button", class: "plain", onclick: () => goTo(timestamp), title: "Show it in the plot" }, format.time(timestamp)),
      h("span", { class: "muted" }, format.value(value)),
      scoreMark(score),
    ),
  );
  fill(
    panel,
    h("h2", {}, "Newest anomalies"),
    rows.length ? h("ul", { class: "anomaly-list" }, ...rows) : h("p", { class: "muted small" }, "None so far."),
  );
}

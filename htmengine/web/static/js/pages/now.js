// SPDX-License-Identifier: MIT
// What matters now: open incidents, one of them in full, those that are over, and where the fleet is unusual.

import { get, isAbort, tolerate } from "../api.js";
import { connection } from "../connection.js";
import { fill, h, setText } from "../dom.js";
import { emptyBox, errorBox } from "../empty.js";
import { sendingCommand } from "../engine.js";
import * as format from "../format.js";
import { heatTable } from "../heat.js";
import { incidentLink, showIncident, stateBadge } from "../incident_view.js";
import { gravity, pagedText, sinceText } from "../incident_words.js";
import { repeated } from "../tasks.js";
import { announce } from "../toasts.js";

const REFRESH_MS = 10000;
const MOST = 200;
const OVER_S = 86400;

export function openNow(main, { uid: id }) {
  document.title = "Now · HTM Engine";
  const page = new NowPage(main, id);
  page.load();
  return () => page.close();
}

class NowPage {
  #parts = layout();
  #id;
  #shown = null;
  #given = new AbortController();
  #loading = new AbortController();
  #ends;

  constructor(main, id) {
    this.#id = id ?? null;
    main.append(this.#parts.page);
    const load = () => this.load();
    connection.addEventListener("back", load);
    this.#ends = [repeated(load, REFRESH_MS), () => connection.removeEventListener("back", load), () => this.#given.abort(), () => this.#loading.abort()];
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  async load() {
    try {
      const [found, unusual] = await Promise.all([
        get("incidents", { limit: MOST }, this.#given.signal),
        get("unusual", {}, this.#given.signal),
      ]);
      this.#show(found, unusual);
      await this.#showOne(found.incidents);
    } catch (error) {
      if (isAbort(error)) return;
      tolerate(error);
      if (!this.#shown) fill(this.#parts.detail, errorBox(error, () => this.load()));
    }
  }

  #show({ incidents, rules, metrics, touched }, unusual) {
    const { title, sub, budget, open, over, overHead, heat } = this.#parts;
    const now = Date.now() / 1000;
    const opened = gravestFirst(incidents);
    const ended = incidents.filter(({ phase, over_at: at }) => phase === "OVER" && at > now - OVER_S);
    setText(title, opened.length ? `${format.counted(opened.length, "incident")} open` : "Nothing is wrong");
    setText(sub, opened.length ? `${format.counted(touched, "metric")} of ${format.count(metrics)}` : `${format.counted(metrics, "metric")}, all as expected`);
    setText(budget, rules.map(ruleText).join(" · "));
    fill(open, ...opened.map((incident) => this.#card(incident, now)));
    overHead.hidden = !ended.length;
    fill(over, ...ended.map((incident) => this.#card(incident, now)));
    heat.hidden = !unusual.parts.length;
    fill(heat, h("h2", {}, "Unusual, by host"), h("p", { class: "muted small" }, `${format.time(unusual.from)} – ${format.time(unusual.until)}`), heatTable(unusual));
    this.#parts.metrics = metrics;
  }

  #card(incident, now) {
    const current = incident.id === (this.#id ?? this.#shown?.id);
    return h(
      "li",
      {},
      h(
        "a",
        { class: `card ${gravity(incident)}`, href: incidentLink(incident), "aria-current": current ? "true" : null },
        h("span", { class: "card-title" }, incident.title),
        h("span", { class: "muted small" }, sinceText(incident, now)),
        h("span", { class: "card-badges" }, stateBadge(incident), h("span", { class: "badge" }, format.counted(incident.members, "metric")), h("span", { class: "badge" }, seen(incident))),
      ),
    );
  }

  /** The incident of the address, or the first open one. */
  async #showOne(incidents) {
    const id = this.#id ?? gravestFirst(incidents)[0]?.id;
    if (!id) {
      this.#shown = null;
      fill(this.#parts.detail, nothing(this.#parts.metrics));
      return;
    }
    const incident = await get(`incidents/${encodeURIComponent(id)}`, {}, this.#given.signal).catch(gone);
    if (this.#shown && incident && fingerprint(incident) === fingerprint(this.#shown)) return; // the plots stay
    this.#loading.abort();
    this.#loading = new AbortController();
    if (!incident) {
      fill(this.#parts.detail, emptyBox("There is no such incident", "It may have been forgotten.", h("a", { href: "#/" }, "What matters now")));
      return;
    }
    if (this.#shown?.id !== incident.id) announce(`Incident: ${incident.title}`);
    this.#shown = incident;
    showIncident(this.#parts.detail, incident, { changed: () => this.load(), signal: this.#loading.signal });
  }
}

/** The open ones: those that paged before the others. */
const gravestFirst = (incidents) => incidents.filter(({ phase }) => phase === "OPEN").sort((one, other) => Number(other.paged) - Number(one.paged));

function gone(error) {
  if (error.status !== 404) throw error;
  return null;
}

/** Changes when something is to be drawn again. */
const fingerprint = ({ id, last_at: at, members, phase, acknowledged_at: acknowledged, events }) => [id, at, members, phase, acknowledged, events.length].join(" ");

const seen = (incident) => (incident.acknowledged_by ? `acknowledged by ${incident.acknowledged_by}` : pagedText(incident));

const ruleText = ({ rule, pages, held_back: held }) => `${rule}: ${format.counted(pages, "page")} this week${held ? `, ${format.count(held)} held back` : ""}`;

function nothing(metrics) {
  if (!metrics) return emptyBox("No metric yet", "Send samples, and each metric gets a model:", sendingCommand("web1.cpu.load"));
  return emptyBox("No incident is open", "Rules make incidents of what is unusual together.", h("a", { href: "#/metrics" }, "All metrics"), h("a", { href: "#/anomalies" }, "Anomalies"));
}

function layout() {
  const title = h("h1", {}, "Now");
  const sub = h("span", { class: "muted" });
  const budget = h("span", { class: "muted small" });
  const open = h("ul", { class: "cards", "aria-label": "Open incidents" });
  const over = h("ul", { class: "cards", "aria-label": "Incidents that are over" });
  const overHead = h("h2", { hidden: true }, "Over, last 24 hours");
  const heat = h("section", { class: "panel now-heat", "aria-label": "Unusual, by host", hidden: true });
  const detail = h("section", { class: "panel incident", "aria-label": "Incident" }, h("p", { class: "loading-line", role: "status" }, "Loading…"));
  const page = h(
    "div",
    { class: "page" },
    h("div", { class: "page-head" }, title, sub, h("span", { class: "spring" }), budget),
    h("div", { class: "now-grid" }, h("div", { class: "side now-list" }, open, overHead, over), detail, heat),
  );
  return { page, title, sub, budget, open, over, overHead, heat, detail, metrics: 0 };
}

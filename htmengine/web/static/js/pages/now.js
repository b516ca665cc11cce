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
import { gravity, pagedText, ruleText, sinceText, undeliveredText } from "../incident_words.js";
import { repeated } from "../tasks.js";
import { announce } from "../toasts.js";

const REFRESH_MS = 10000;
//: Incidents that are listed at first, and with each press of the button; the API gives no more than MOST at once.
const STEP = 100;
const MOST = 1000;
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
  #limit = STEP;
  #cards = new Map();
  #shown = null;
  #given = new AbortController();
  #loading = new AbortController();
  #ends;

  constructor(main, id) {
    this.#id = id ?? null;
    this.#parts.more.addEventListener("click", () => this.#showMore());
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
      await Promise.all([this.#loadIncidents(), this.#loadUnusual()]);
    } catch (error) {
      if (isAbort(error)) return;
      tolerate(error);
      if (!this.#shown) fill(this.#parts.detail, errorBox(error, () => this.load()));
    }
  }

  async #loadIncidents() {
    const found = await get("incidents", { limit: this.#limit }, this.#given.signal);
    this.#show(found);
    await this.#showOne(found.incidents);
  }

  async #loadUnusual() {
    const { heat } = this.#parts;
    const unusual = await get("unusual", {}, this.#given.signal);
    heat.hidden = !unusual.parts.length;
    fill(heat, h("h2", {}, "Unusual, by host"), h("p", { class: "muted small" }, `${format.time(unusual.from)} – ${format.time(unusual.until)}`), heatTable(unusual));
  }

  #show({ incidents, rules, metrics, open: count, touched, undelivered }) {
    const { title, sub, budget, unsent, open, more, over, overHead } = this.#parts;
    const now = Date.now() / 1000;
    const opened = gravestFirst(incidents);
    const before = this.#cards;
    this.#cards = new Map();
    const cards = (some) => some.map((incident) => this.#card(incident, now, before.get(incident.id)));
    const ended = incidents.filter(({ phase, over_at: at }) => phase === "OVER" && at > now - OVER_S);
    setText(title, count ? `${format.counted(count, "incident")} open` : "Nothing is wrong");
    setText(sub, count ? `${format.counted(touched, "metric")} of ${format.count(metrics)}` : `${format.counted(metrics, "metric")}, all as expected`);
    setText(budget, rules.map(ruleText).join(" · "));
    unsent.hidden = !undelivered.length;
    fill(unsent, ...undelivered.map((message) => h("li", {}, undeliveredText(message))));
    show(open, cards(opened));
    more.hidden = opened.length === count || this.#limit >= MOST;
    setText(more, `Show more of ${format.count(count)}`);
    overHead.hidden = !ended.length;
    show(over, cards(ended));
    this.#parts.metrics = metrics;
  }

  /** The card of an incident: the one that is there, unless something else is to be read on it. */
  #card(incident, now, known) {
    const current = incident.id === (this.#id ?? this.#shown?.id);
    const since = sinceText(incident, now);
    const key = [incident.title, incident.phase, since, incident.members, seen(incident), current].join("\n");
    const card = known?.key === key ? known : { key, element: this.#newCard(incident, since, current) };
    this.#cards.set(incident.id, card);
    return card.element;
  }

  #newCard(incident, since, current) {
    return h(
      "li",
      {},
      h(
        "a",
        { class: `card ${gravity(incident)}`, href: incidentLink(incident), "aria-current": current ? "true" : null },
        h("span", { class: "card-title" }, incident.title),
        h("span", { class: "muted small" }, since),
        h("span", { class: "card-badges" }, stateBadge(incident), h("span", { class: "badge" }, format.counted(incident.members, "metric")), h("span", { class: "badge" }, seen(incident))),
      ),
    );
  }

  #showMore() {
    this.#limit = Math.min(MOST, this.#limit + STEP);
    this.load();
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

/** Show elements in a list; those that are there stay where they are, as far as the order allows. */
function show(list, elements) {
  const wanted = new Set(elements);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let next = list.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else list.insertBefore(element, next);
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

function nothing(metrics) {
  if (!metrics) return emptyBox("No metric yet", "Send samples, and each metric gets a model:", sendingCommand("web1.cpu.load"));
  return emptyBox("No incident is open", "Rules make incidents of what is unusual together.", h("a", { href: "#/metrics" }, "All metrics"), h("a", { href: "#/anomalies" }, "Anomalies"));
}

function layout() {
  const title = h("h1", {}, "Now");
  const sub = h("span", { class: "muted" });
  const budget = h("span", { class: "muted small" });
  const unsent = h("ul", { class: "plain-list", "aria-label": "Messages that were not accepted", hidden: true });
  const more = h("button", { type: "button", hidden: true });
  const open = h("ul", { class: "cards", "aria-label": "Open incidents" });
  const over = h("ul", { class: "cards", "aria-label": "Incidents that are over" });
  const overHead = h("h2", { hidden: true }, "Over, last 24 hours");
  const heat = h("section", { class: "panel now-heat", "aria-label": "Unusual, by host", hidden: true });
  const detail = h("section", { class: "panel incident", "aria-label": "Incident" }, h("p", { class: "loading-line", role: "status" }, "Loading…"));
  const page = h(
    "div",
    { class: "page" },
    h("div", { class: "page-head" }, title, sub, h("span", { class: "spring" }), budget),
    unsent,
    h("div", { class: "now-grid" }, h("div", { class: "side now-list" }, open, more, overHead, over), detail, heat),
  );
  return { page, title, sub, budget, unsent, open, more, over, overHead, heat, detail, metrics: 0 };
}

// SPDX-License-Identifier: MIT
// Silences: metrics that page nobody for a time; those in force and those to come, with what ends one.

import { get, send } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { silence } from "./incident_actions.js";
import { listPanel } from "./list_panel.js";
import { toast } from "./toasts.js";

/** A panel that lists silences; `signal` ends its requests. */
export function silencesPanel(signal) {
  return listPanel({
    title: "Silences",
    none: "None is in force.",
    read: async () => (await get("silences", {}, signal)).silences,
    card,
    action: "New silence…",
    add: () => silence({ metrics: [] }),
  });
}

function card(one, changed) {
  const { id, metrics, from_at: from, until_at: until, who, why } = one;
  const open = from <= Date.now() / 1000;
  return h(
    "li",
    { class: open ? "card unusual" : "card" },
    h("span", { class: "mono small" }, metrics.join(", ")),
    h("span", { class: "small" }, open ? `until ${format.time(until)}` : `${format.time(from)} – ${format.time(until)}`),
    why ? h("span", { class: "muted small" }, why) : null,
    h("span", { class: "card-badges" }, ...[open ? "in force" : "to come", who].map((text) => h("span", { class: "badge" }, text))),
    h("span", { class: "actions" }, h("button", { type: "button", "aria-label": `End the silence of ${metrics.join(", ")}…`, onclick: () => end(id, metrics, changed) }, "End…")),
  );
}

function end(number, metrics, changed) {
  return ask({
    title: "End the silence",
    text: [metrics.join(", "), "Their incidents page again from now on."],
    action: "End",
    submit: async () => {
      await send("DELETE", `silences?number=${number}`);
      toast("The silence is over.");
      await changed();
    },
  });
}

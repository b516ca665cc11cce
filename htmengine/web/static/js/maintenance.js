// SPDX-License-Identifier: MIT
// Maintenance: windows of time in which some metrics page nobody, with what comes next, and the dialog that makes one.

import { get, send } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { listPanel } from "./list_panel.js";
import { separated } from "./rule_form.js";
import { toast } from "./toasts.js";

const HOUR_S = 3600;
const LEARNING = [["", "learn the rows of a window"], ["no", "do not learn them"]];

/** A panel that lists maintenance, with what changes it; `signal` ends its requests. */
export function maintenancePanel(signal) {
  return listPanel({
    title: "Maintenance",
    none: "There is none.",
    read: async () => (await get("maintenance", {}, signal)).maintenance,
    card,
    action: "New maintenance…",
    add: () => edit({ name: "", options: {} }),
  });
}

function card(one, changed) {
  const { name, source, options, next } = one;
  const now = Date.now() / 1000;
  const open = next.length > 0 && next[0].from <= now;
  const button = (text, action, kind = "") => h("button", { type: "button", class: kind, "aria-label": `${text} ${name}`, onclick: action }, text);
  return h(
    "li",
    { class: open ? "card unusual" : "card" },
    h("span", { class: "card-title" }, name),
    h("span", { class: "muted small mono" }, (options.metrics ?? ["*"]).join(", ")),
    ...next.slice(0, 3).map((window) => h("span", { class: "small" }, `${format.time(window.from)} – ${format.time(window.until)}`)),
    next.length ? null : h("span", { class: "small" }, "No window comes any more."),
    h("span", { class: "card-badges" }, ...badges(one, open).map((text) => h("span", { class: "badge" }, text))),
    source === "stored" ? h("span", { class: "actions" }, button("Remove…", () => remove(name, changed), "danger"), button("Change…", () => edit(one, changed))) : null,
  );
}

function badges({ source, options }, open) {
  const when = options.cron ? `${options.cron}, ${options.timezone ?? "UTC"}` : options.calendar;
  return [open ? "open now" : null, when, options.learning === false ? "not learnt" : null, source === "stored" ? "stored" : "in alerts.conf"].filter(Boolean);
}

function edit({ name, options }, changed = () => {}) {
  return ask({
    title: name ? `Change the maintenance ${name}` : "New maintenance",
    text: "In its windows nobody is paged because of these metrics; their incidents are still listed.",
    fields: [
      ...(name ? [] : [{ name: "name", label: "Name", help: "Letters, digits, - and _" }]),
      { name: "metrics", label: "Metrics", value: (options.metrics ?? []).join(", "), help: 'Globs and labels, with commas between them: db1.*, {host="db1"}. All if empty.' },
      { name: "at", label: "Begins at", value: options.at, help: "A single window: 2026-03-01 22:00" },
      { name: "cron", label: "Or begins again and again", value: options.cron, help: "Minute, hour, day of the month, month, day of the week: 30 2 * * sun" },
      { name: "for_s", label: "Hours", inputmode: "decimal", value: String((options.for_s ?? HOUR_S) / HOUR_S) },
      { name: "timezone", label: "Time zone", value: name ? options.timezone ?? "UTC" : format.timeZone, help: "Of both times, such as Europe/Berlin" },
      { name: "learning", label: "Models", choices: LEARNING, value: options.learning === false ? "no" : "" },
    ],
    action: "Save",
    submit: async ({ name: given, ...fields }) => {
      await send("PUT", `maintenance/${encodeURIComponent(name || given || " ")}`, optionsOf(fields));
      toast(`Maintenance ${name || given} counts from now on.`);
      await changed();
    },
  });
}

/** The API's options of the dialog's texts; an empty one is as by default. */
export function optionsOf({ metrics, for_s: hours, learning, ...texts }) {
  const given = Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ""));
  const seconds = hours === "" ? NaN : Number(hours) * HOUR_S;
  return {
    ...given,
    ...(metrics !== "" && { metrics: separated(metrics) }),
    ...(hours !== "" && { for_s: Number.isNaN(seconds) ? hours : Math.round(seconds) }),
    ...(learning === "no" && { learning: false }),
  };
}

function remove(name, changed) {
  return ask({
    title: `Remove the maintenance ${name}`,
    text: "A window that is open ends.",
    action: "Remove",
    danger: true,
    submit: async () => {
      await send("DELETE", `maintenance/${encodeURIComponent(name)}`);
      toast(`Maintenance ${name} is gone.`);
      await changed();
    },
  });
}

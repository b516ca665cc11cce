// SPDX-License-Identifier: MIT
// What users do about incidents: acknowledge, silence, say whether the page was right.  Each asks who does it.

import { send } from "./api.js";
import { ask } from "./dialogs.js";
import { separated } from "./rule_form.js";
import { toast } from "./toasts.js";

const WHO = "htmengine.who";
const HOUR_S = 3600;

const path = ({ id }, rest) => `incidents/${encodeURIComponent(id)}/${rest}`;

/** Say that somebody sees to it. */
export function acknowledge(incident) {
  return ask({
    title: "Acknowledge the incident",
    text: [incident.title, "Others see that you see to it."],
    fields: [who(), { name: "note", label: "Note (optional)" }],
    action: "Acknowledge",
    submit: async (given) => {
      await send("POST", path(incident, "acknowledge"), signed(given));
      toast("The incident is acknowledged.");
    },
  });
}

/** Say whether the page was right, or what happened was fine. */
export function mark(incident, what) {
  const texts = {
    right: ["The page was right", "It was good to be told of this."],
    fine: ["This was fine", "Nobody had to know. What is fine is not learnt as unusual, and its like pages nobody, from each metric's next row on. The rule's precision counts it."],
  };
  const [title, text] = texts[what];
  return ask({
    title,
    text: [incident.title, text],
    fields: [who(), { name: "note", label: "Note (optional)" }],
    action: title,
    submit: async (given) => {
      await send("POST", path(incident, "mark"), { what, ...signed(given) });
      toast("Noted.");
    },
  });
}

/** Let metrics page nobody for a time. */
export function silence(incident) {
  return ask({
    title: "Silence metrics",
    text: "Their incidents are still listed, but page nobody.",
    fields: [
      { name: "metrics", label: "Metrics", required: true, value: incident.metrics.map(({ metric }) => metric).join(", "), help: 'Names, globs or labels, with commas between them: db1.*, {host="db1"}.' },
      { name: "for_s", label: "Hours", required: true, inputmode: "decimal", value: "2" },
      { name: "why", label: "Why (optional)" },
      who(),
    ],
    action: "Silence",
    submit: async ({ metrics, for_s: hours, why, ...given }) => {
      const globs = separated(metrics);
      const seconds = Number(hours) * HOUR_S;
      await send("POST", "silences", { metrics: globs, for_s: Number.isNaN(seconds) ? hours : Math.round(seconds), why, ...signed(given) });
      toast(`Silent for ${hours} h.`);
    },
  });
}

function who() {
  return { name: "who", label: "Your name", value: remembered(), maxlength: 60, help: "It stands beside what you did." };
}

function signed({ who: name, note }) {
  try {
    localStorage.setItem(WHO, name);
  } catch {
    // storage may be forbidden: the name is asked for again
  }
  return { ...(name && { who: name }), ...(note && { note }) };
}

function remembered() {
  try {
    return localStorage.getItem(WHO) ?? "";
  } catch {
    return "";
  }
}

// SPDX-License-Identifier: MIT
// The form of a rule: all its options as fields, and what the API takes of them.

import { h } from "./dom.js";
import { complainEach, field } from "./fields.js";

const DIRECTIONS = [["", "up and down"], ["up", "up only"], ["down", "down only"]];

/** The options, those that few rules need in groups to be opened; an empty field leaves its option as by default. */
const GROUPS = [
  {
    fields: [
      { name: "metrics", kind: "list", label: "Metrics", help: 'Globs and labels, with commas between them: cpu.*{job="api"}, !*.test', wide: true },
      { name: "pages_per_week", kind: "number", label: "Pages a week", help: "For all its metrics together" },
      { name: "direction", kind: "text", label: "Direction", choices: DIRECTIONS },
      { name: "min_change", kind: "text", label: "Least change", help: "A number, or a share such as 10%" },
      { name: "valid_range", kind: "text", label: "Valid range", help: "LOW..HIGH; outside it a value always counts" },
      { name: "receivers", kind: "list", label: "Receivers", help: "alerts.conf has: $receivers. Without any, incidents are listed and page nobody.", wide: true },
    ],
  },
  {
    title: "When it fires",
    fields: [
      { name: "rows", kind: "number", label: "Rows", help: "This many have to count within the window; 1 if empty" },
      { name: "for_s", kind: "number", label: "For, in seconds", help: "Rows have to count for this long" },
      { name: "window_s", kind: "number", label: "Window, in seconds", help: "Rows farther apart do not count together; 3600 if empty" },
      { name: "silence", kind: "silence", label: "Silence", help: "A silent metric is an alarm: yes, no, or after this many seconds" },
      { name: "gaps", kind: "flag", label: "Gaps", choices: [["", "no alarm"], ["yes", "too few or late rows alarm"]] },
      { name: "max_age_s", kind: "number", label: "Greatest age, in seconds", help: "Rows that are older when scored do not count; 0: all do; 86400 if empty" },
    ],
  },
  {
    title: "What receivers are told",
    fields: [
      { name: "severity", kind: "heights", label: "Severity", help: "A name, or names by height: low=4, high=6" },
      { name: "labels", kind: "pairs", label: "Labels", help: "Go with every message: team=web, tier=1" },
      { name: "resolved", kind: "flag", label: "When it is over", choices: [["", "tell that, too"], ["no", "tell nothing"]] },
    ],
  },
  {
    title: "Another budget, or a threshold",
    fields: [
      { name: "pages_per_metric_week", kind: "number", label: "Pages a week for each metric", help: "Instead of pages a week" },
      { name: "threshold", kind: "number", label: "Threshold", help: "Without a budget: scores from this on count; 0.99999 if empty" },
      { name: "cooldown_s", kind: "number", label: "Cool-down, in seconds", help: "Without a budget: this long a metric fires once; 3600 if empty" },
    ],
  },
];

/** The fields of a rule's name and options; read() gives {name, options}, complain() shows what the API refuses. */
export function ruleForm(rule, receivers) {
  const known = receivers.length ? receivers.join(", ") : "none";
  /** @param {any} description */
  const made = ({ kind, help, ...each }) => ({
    kind,
    ...field({ ...each, help: help?.replace("$receivers", known), value: shown(kind, rule.options[each.name]) }, `rule-${each.name}`),
  });
  const name = { ...field({ name: "name", label: "Name", help: "Letters, digits, - and _", value: rule.name, wide: true }, "rule-name"), kind: "text" };
  const [first, ...others] = GROUPS.map(({ title, fields }) => ({ title, fields: fields.map(made) }));
  const fields = [first, ...others].flatMap((group) => group.fields);
  const failure = h("p", { class: "failure", role: "alert" });
  return {
    element: h("div", { class: "rule-form" }, grid([name, ...first.fields]), ...others.map((group) => details(group, rule.options)), failure),
    read: () => ({ name: name.control.value.trim(), options: { ...rule.options, ...given(fields, rule.options) } }),
    complain(error) {
      [name, ...fields].forEach((one) => one.complain(""));
      failure.textContent = error && !complainEach([name, ...fields], error) ? error.message : "";
    },
  };
}

const grid = (fields) => h("div", { class: "rule-fields" }, ...fields.map(({ element }) => element));

function details({ title, fields }, options) {
  return h("details", { open: fields.some(({ name }) => name in options) }, h("summary", {}, title), grid(fields));
}

/** Options of the fields; one that is empty is as by default. */
function given(fields, before) {
  const filled = fields.filter(({ name, control }) => control.value.trim() !== "" || name in before);
  return Object.fromEntries(filled.map(({ name, kind, control }) => [name, optionOf(kind, control.value.trim())]));
}

/** An option as its field has it. */
export function shown(kind, value) {
  if (value === undefined) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (kind === "list") return value.join(", ");
  if (kind === "pairs") return Object.entries(value).map(([name, text]) => `${name}=${text}`).join(", ");
  if (kind === "heights") return Object.entries(value).map(([name, height]) => (height ? `${name}=${height}` : name)).join(", ");
  return String(value);
}

/** A field's text as the API takes it; what it means nothing to goes there as it is, and is refused there. */
export function optionOf(kind, text) {
  if (text === "") return undefined;
  if (kind === "list") return separated(text);
  if (kind === "flag") return text === "yes";
  if (kind === "silence") return { yes: true, no: false }[text] ?? number(text);
  if (kind === "pairs") return pairs(text) ?? text;
  if (kind === "heights") return heights(text) ?? text;
  return kind === "number" ? number(text) : text;
}

const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

function pairs(text) {
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
  if (!parts.every((part) => part.includes("="))) return undefined;
  return Object.fromEntries(parts.map((part) => [part.slice(0, part.indexOf("=")).trim(), part.slice(part.indexOf("=") + 1).trim()]));
}

function heights(text) {
  const parts = pairs(text.split(",").map((part) => (part.includes("=") || !part.trim() ? part : `${part}=0`)).join(","));
  const found = Object.entries(parts ?? {}).map(([name, height]) => [name, Number(height)]);
  return found.every(([, height]) => Number.isFinite(height)) ? Object.fromEntries(found) : undefined;
}

/** The parts between commas, but those in braces: cpu{a="x,y"}, web.*. */
export function separated(text) {
  return (text.match(/(?:\{(?:"(?:[^"\\]|\\.)*"|[^"}])*\}|[^,{]|\{)+/g) ?? []).map((part) => part.trim()).filter(Boolean);
}

// SPDX-License-Identifier: MIT
// What users do with metrics: add, give a model, stop the model, delete.  Each asks first.

import { metricPath, send, tolerate } from "./api.js";
import { ask } from "./dialogs.js";
import { engineFacts } from "./engine.js";
import { toast } from "./toasts.js";

async function rangeFields(model) {
  const facts = await engineFacts().catch(tolerate);
  const help = `Leave both empty and the range is learnt from the first ${facts ? `${facts.pending_samples} ` : ""}samples.`;
  return [
    { name: "min", label: "Least value expected", inputmode: "decimal", value: model?.min ?? "", help },
    { name: "max", label: "Greatest value expected", inputmode: "decimal", value: model?.max ?? "" },
  ];
}

/** Add a metric with a model. */
export async function addMetric() {
  return ask({
    title: "Add a metric",
    text: "It gets its own model, which learns from new samples.",
    fields: [
      { name: "metric", label: "Name", required: true, placeholder: "web1.cpu.load", help: "The name that the senders of its samples use." },
      ...(await rangeFields()),
      { name: "unit", label: "Unit (optional)", placeholder: "ms" },
    ],
    action: "Add metric",
    submit: async ({ metric, min, max, unit }) => {
      const metricSpec = { metric, ...(unit && { unit }) };
      await send("POST", "metrics", { metricSpec, modelParams: range(min, max), monitor: true });
      toast(`${metric} was added.`);
    },
  });
}

/** Give a metric a model, a new one if it has one. */
export async function monitor({ uid, name, status, model }) {
  const again = status === "ACTIVE" || status === "CREATE_PENDING";
  return ask({
    title: again ? "Start a new model" : "Start a model",
    text: [name, again ? "The current model is deleted. " : "", "All stored samples are run through the new model."].filter(Boolean),
    fields: await rangeFields(model),
    action: again ? "Start a new model" : "Start model",
    submit: async ({ min, max }) => {
      await send("PUT", metricPath(uid, "/model"), { modelParams: range(min, max) });
      toast(`${name} gets a model.`);
    },
  });
}

/** Stop a metric's model. */
export function unmonitor({ uid, name }) {
  return ask({
    title: "Stop the model",
    text: [name, "The model is deleted with what it has learnt. Samples and scores stay, and new samples are stored without a score."],
    action: "Stop model",
    danger: true,
    submit: async () => {
      await send("DELETE", metricPath(uid, "/model"));
      toast(`The model of ${name} was stopped.`);
    },
  });
}

/** Remove a metric with all its rows. */
export function remove({ uid, name, rows }) {
  return ask({
    title: "Delete the metric",
    text: [name, `Its ${rows.toLocaleString("en")} stored samples, its scores and its model are removed. This cannot be undone.`],
    action: "Delete metric",
    danger: true,
    submit: async () => {
      await send("DELETE", metricPath(uid));
      toast(`${name} was deleted.`);
    },
  });
}

/** {min, max} of what was typed; what is no number goes to the engine as it is, which refuses it by name. */
function range(min, max) {
  const number = (text) => (text === "" || Number.isNaN(Number(text)) ? text : Number(text));
  return Object.fromEntries(Object.entries({ min: number(min), max: number(max) }).filter(([, given]) => given !== ""));
}

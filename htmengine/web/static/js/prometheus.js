// SPDX-License-Identifier: MIT
// The engine's own figures (docs/self-metrics.md), which come in Prometheus's text format.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** All samples of a page: [{name, labels: {queue: "samples"}, value}, ...]. */
export function parseFigures(text) {
  const lines = text.split("\n").map((line) => LINE.exec(line));
  return lines.filter(Boolean).map(([, name, labels, value]) => ({ name, labels: parseLabels(labels ?? ""), value: Number(value) }));
}

/** The values of some figures by one of their labels: new Map([["0", {models: 12, ...}], ...]) for {models: "htmengine_worker_models"}. */
export function byLabel(figures, label, names) {
  const found = new Map();
  for (const [key, name] of Object.entries(names)) {
    for (const { labels, value } of figures.filter((figure) => figure.name === name)) {
      found.set(labels[label], { ...found.get(labels[label]), [key]: value });
    }
  }
  return found;
}

function parseLabels(text) {
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, value.replace(/\\(.)/g, unescaped)]));
}

const unescaped = (_, sign) => (sign === "n" ? "\n" : sign);

// SPDX-License-Identifier: MIT
// What the engine sends of a series, as columns to draw: pure functions on {timestamp, min, max, last, anomaly_score,
// raw_anomaly_score, count, step, ...} (docs/http-api.md, /plot).

const COLUMNS = ["timestamp", "count", "min", "max", "last", "raw_anomaly_score", "anomaly_score"];

//: Longer than this many usual distances between samples is a gap: no line crosses it.
const GAP = 5;

export const EMPTY = { step: null, filled: [], ...Object.fromEntries(COLUMNS.map((name) => [name, []])) };

/**
 * [x, last, min, max, score, lower, upper] for uPlot; a place with nulls in each gap.  evidence: of the same buckets, as
 * /evidence answers, for the band of what was expected; null: nothing is known.
 */
export function drawn(plot, evidence = null) {
  const longest = GAP * usualDistance(plot);
  const columns = [[], [], [], [], [], [], []];
  const add = (...values) => values.forEach((value, column) => columns[column].push(value));
  const places = new Map(evidence?.timestamp.map((timestamp, index) => [timestamp, index]));
  plot.timestamp.forEach((timestamp, index) => {
    const before = plot.timestamp[index - 1];
    if (timestamp - before > longest) add((before + timestamp) / 2, null, null, null, null, null, null);
    const band = ["lower", "upper"].map((end) => evidence?.[end][places.get(timestamp)] ?? null);
    add(timestamp, plot.last[index], plot.min[index], plot.max[index], plot.anomaly_score[index], ...band);
  });
  return columns;
}

/** [from, until] of each gap in what `drawn` returned. */
export function gapsOf(columns) {
  const [xs, last] = columns;
  return xs.flatMap((x, index) => (last[index] === null && index > 0 ? [[xs[index - 1], xs[index + 1]]] : []));
}

/** With one more result: a row of its own, or part of the last bucket. */
export function appended(plot, { timestamp, value, anomaly_score: score, raw_anomaly_score: raw }) {
  const start = plot.step ? timestamp - (timestamp % plot.step) : timestamp;
  const end = plot.timestamp.length - 1;
  if (end >= 0 && start < plot.timestamp[end]) return plot;
  const same = end >= 0 && start === plot.timestamp[end];
  if (same && !plot.step) return replaced(plot, { last: value, min: value, max: value, anomaly_score: score, raw_anomaly_score: raw });
  if (same) {
    return replaced(plot, {
      count: plot.count[end] + 1,
      last: value,
      min: Math.min(plot.min[end], value),
      max: Math.max(plot.max[end], value),
      anomaly_score: greater(plot.anomaly_score[end], score),
      raw_anomaly_score: greater(plot.raw_anomaly_score[end], raw),
    });
  }
  const row = { timestamp: start, count: 1, last: value, min: value, max: value, anomaly_score: score, raw_anomaly_score: raw };
  return { ...plot, last_timestamp: timestamp, ...each(plot, (column, name) => [...column, row[name]]) };
}

/** Those rows of `plot` that are in view, as objects. */
export function rowsIn(plot, { from, until }) {
  return plot.timestamp
    .map((timestamp, index) => Object.fromEntries(COLUMNS.map((name) => [name, plot[name][index]])))
    .filter(({ timestamp }) => timestamp >= from - (plot.step ?? 0) && timestamp <= until);
}

/** Each lane's greatest decades in view, as text. */
export function spoken({ timestamp, lanes }, { from, until }) {
  const seen = timestamp.map((moment, index) => index).filter((index) => timestamp[index] >= from && timestamp[index] <= until);
  const greatest = Object.entries(lanes).map(([name, decades]) => `${name} ${Math.max(0, ...seen.map((index) => decades[index]))}`);
  return `Evidence in view, greatest decades of each kind: ${greatest.join(", ")}`;
}

function replaced(plot, row) {
  return { ...plot, ...each(plot, (column, name) => (name in row ? [...column.slice(0, -1), row[name]] : column)) };
}

const each = (plot, change) => Object.fromEntries(COLUMNS.map((name) => [name, change(plot[name], name)]));

const greater = (one, other) => (one === null ? other : Math.max(one, other ?? 0));

function usualDistance({ timestamp, step }) {
  if (step) return step;
  const distances = timestamp.slice(1).map((moment, index) => moment - timestamp[index]);
  return distances.sort((one, other) => one - other)[distances.length >> 1] ?? Infinity;
}

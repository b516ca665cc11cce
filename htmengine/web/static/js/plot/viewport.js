// SPDX-License-Identifier: MIT
// The part of a series that is seen: {from, until} in epoch seconds.  Pure: each function returns a new one.

const SHORTEST_S = 60;

export const span = ({ from, until }) => until - from;

/** Within the whole series, as long as before where that can be. */
export function within(view, whole) {
  const length = Math.min(Math.max(SHORTEST_S, span(view)), Math.max(SHORTEST_S, span(whole)));
  const from = Math.max(whole.from, Math.min(view.from, whole.until - length));
  return { from, until: from + length };
}

/** Closer by a factor below 1, further by one above; the moment `at` stays where it is. */
export function zoomed(view, factor, at = (view.from + view.until) / 2) {
  return { from: at - (at - view.from) * factor, until: at + (view.until - at) * factor };
}

/** Moved by a part of its length, later if positive. */
export function moved(view, part) {
  const by = span(view) * part;
  return { from: view.from + by, until: view.until + by };
}

/** The newest `length` seconds of the whole. */
export const newest = (whole, length) => ({ from: whole.until - length, until: whole.until });

/** Whether the newest sample is seen. */
export const atEnd = (view, whole) => view.until >= whole.until;

// SPDX-License-Identifier: MIT
// The query behind the #: what a page shows, so that a link shows the same.

/** Put the values into the address without a new entry in the history; those that are null or "" are left out. */
export function remember(values) {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const parameters = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === "") parameters.delete(name);
    else parameters.set(name, value);
  }
  history.replaceState(null, "", `#${path || "/"}${parameters.size ? `?${parameters}` : ""}`);
}

/**
 * The address of a metric's page, with a view if one is given.
 * @param {string} uid
 * @param {{from?: number, until?: number}} view
 */
export function metricLink(uid, { from, until } = {}) {
  const view = from === undefined ? "" : `?from=${Math.round(from)}&until=${Math.round(until)}`;
  return `#/metrics/${encodeURIComponent(uid)}${view}`;
}

// SPDX-License-Identifier: MIT
// Pages by the part of the address behind #: "#/metrics/UID?from=..." opens metric.js.

import { fill } from "./dom.js";
import { openAnomalies } from "./pages/anomalies.js";
import { openHealth } from "./pages/health.js";
import { openMetric } from "./pages/metric.js";
import { openMetrics } from "./pages/metrics.js";
import { openNow } from "./pages/now.js";
import { openRules } from "./pages/rules.js";

/**
 * A route has the name of its tab, and opens a page in an element: it returns what closes the page.
 * @type {{pattern: RegExp, tab: string, open: (main: HTMLElement, address: any) => () => void}[]}
 */
const ROUTES = [
  { pattern: /^\/?$/, tab: "now", open: openNow },
  { pattern: /^\/incidents\/([^/]+)$/, tab: "now", open: openNow },
  { pattern: /^\/metrics$/, tab: "metrics", open: openMetrics },
  { pattern: /^\/metrics\/([^/]+)$/, tab: "metrics", open: openMetric },
  { pattern: /^\/anomalies$/, tab: "anomalies", open: openAnomalies },
  { pattern: /^\/rules$/, tab: "rules", open: openRules },
  { pattern: /^\/rules\/([^/]+)$/, tab: "rules", open: openRules },
  { pattern: /^\/health$/, tab: "health", open: openHealth },
];

/** Show the page of the address in `main`, now and whenever the address changes. */
export function startRouter(main, tabs) {
  let close = () => {};

  function show(focus) {
    const { path, query } = current();
    const route = ROUTES.find(({ pattern }) => pattern.test(path));
    if (!route) {
      location.replace("#/");
      return;
    }
    close();
    fill(main);
    scrollTo(0, 0);
    for (const tab of tabs) {
      if (tab.dataset.page === route.tab) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    const [uid] = path.match(route.pattern).slice(1);
    close = route.open(main, { uid: uid && decodeURIComponent(uid), query });
    if (focus) main.focus({ preventScroll: true });
  }

  addEventListener("hashchange", () => show(true));
  show(false);
}

function current() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  return { path, query: new URLSearchParams(query) };
}

// SPDX-License-Identifier: MIT
// New results as they are scored, by server-sent events.  The browser reconnects by itself and says which result it
// saw last; when it gives up (the engine answered with an error), we open anew.

import { url } from "./api.js";

const RETRY_MS = 3000;

/**
 * Call `onResult` with each new result that passes the filter {metric, threshold}, and `onSkipped` when some were left
 * out.  Returns what ends that.
 */
export function subscribe(filter, onResult, onSkipped = () => {}) {
  let source = null;
  let retry = null;
  let last = null;

  function open() {
    source = new EventSource(url("events", { ...filter, last_event_id: last }));
    source.addEventListener("result", (event) => {
      last = event.lastEventId || last;
      onResult(JSON.parse(event.data));
    });
    source.addEventListener("skipped", onSkipped);
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    });
  }

  open();
  return () => {
    clearTimeout(retry);
    source.close();
  };
}

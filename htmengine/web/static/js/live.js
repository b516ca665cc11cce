// SPDX-License-Identifier: MIT
// New results as they are scored, by server-sent events.  The browser reconnects by itself and says which result it
// saw last; when it gives up (the engine answered with an error), we open a new one.  A page that is not seen holds no
// connection: a browser has six for one engine.

import { url } from "./api.js";
import { connection } from "./connection.js";

const RETRY_MS = 3000;

/**
 * Call `onResult` with each new result that passes the filter {metric, threshold}, and `onMissed` when some were left
 * out.  Returns what ends that.
 */
export function subscribe(filter, onResult, onMissed) {
  let source = null;
  let retry = null;
  let last = null;

  function open() {
    source = new EventSource(url("events", { ...filter, last_event_id: last }));
    source.addEventListener("result", (event) => {
      last = event.lastEventId || last;
      onResult(JSON.parse(event.data));
    });
    source.addEventListener("skipped", onMissed);
    source.addEventListener("error", () => {
      connection.check();
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    });
  }

  function close() {
    clearTimeout(retry);
    source?.close();
  }

  function seen() {
    close();
    if (document.hidden) return;
    last = null;
    open();
    onMissed();
  }

  if (!document.hidden) open();
  document.addEventListener("visibilitychange", seen);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    close();
  };
}

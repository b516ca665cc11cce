// SPDX-License-Identifier: MIT
// Zooming and panning a plot: wheel, shifted drag, fingers, keys.  (A plain drag of the mouse is uPlot's selection.)

import { moved, zoomed } from "./viewport.js";

const STEP = 0.25;
const CLOSER = 0.6;
const FURTHER = 1 / CLOSER;

/**
 * host: the element that takes the focus; area: where pointers act; timeAt(clientX): the moment there.
 * view(): what is seen; show(view): see something else; showAll(), showNewest(), stepCursor(by).
 * Returns what ends it.
 */
export function gestures(host, area, actions) {
  const ending = new AbortController();
  const listen = (element, type, listener, options = {}) =>
    element.addEventListener(type, listener, { signal: ending.signal, ...options });
  listen(host, "keydown", (event) => key(event, actions));
  listen(area, "wheel", (event) => wheel(event, host, area, actions), { passive: false });
  listen(area, "dblclick", () => actions.showAll());
  shiftedDrag(area, listen, actions);
  fingers(area, listen, actions);
  return () => ending.abort();
}

function key(event, { view, show, showAll, showNewest, stepCursor }) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    ArrowLeft: () => (event.shiftKey ? stepCursor(-1) : show(moved(view(), -STEP))),
    ArrowRight: () => (event.shiftKey ? stepCursor(1) : show(moved(view(), STEP))),
    "+": () => show(zoomed(view(), CLOSER)),
    "=": () => show(zoomed(view(), CLOSER)),
    "-": () => show(zoomed(view(), FURTHER)),
    0: showAll,
    Home: showAll,
    End: showNewest,
  };
  if (!(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}

/** Without the focus, the wheel scrolls the page as everywhere. */
function wheel(event, host, area, { view, show, timeAt }) {
  const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
  if (!sideways && !event.ctrlKey && !event.metaKey && !host.contains(document.activeElement)) return;
  event.preventDefault();
  if (sideways) show(moved(view(), event.deltaX / area.clientWidth));
  else show(zoomed(view(), Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 200), timeAt(event.clientX)));
}

function shiftedDrag(area, listen, { view, show }) {
  let start = null;
  listen(
    area,
    "mousedown",
    (event) => {
      if (!event.shiftKey || event.button !== 0) return;
      event.stopImmediatePropagation();
      start = { x: event.clientX, view: view() };
    },
    { capture: true },
  );
  listen(window, "mousemove", (event) => {
    if (start) show(moved(start.view, (start.x - event.clientX) / area.clientWidth));
  });
  listen(window, "mouseup", () => {
    start = null;
  });
}

/** One finger pans, two zoom. */
function fingers(area, listen, { view, show, timeAt }) {
  const down = new Map();
  const spread = () => {
    const [one, other] = [...down.values()];
    return other === undefined ? null : { distance: Math.max(20, Math.abs(one - other)), middle: (one + other) / 2 };
  };
  listen(area, "pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    down.set(event.pointerId, event.clientX);
  });
  listen(window, "pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    const before = spread();
    const x = down.get(event.pointerId);
    down.set(event.pointerId, event.clientX);
    const after = spread();
    if (after) show(zoomed(view(), before.distance / after.distance, timeAt(after.middle)));
    else show(moved(view(), (x - event.clientX) / area.clientWidth));
  });
  for (const type of ["pointerup", "pointercancel"]) listen(window, type, (event) => down.delete(event.pointerId));
}

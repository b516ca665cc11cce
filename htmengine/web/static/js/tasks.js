// SPDX-License-Identifier: MIT
// Things that happen later: waiting for calm, again and again, once a frame.

/** A function that runs `work` when it has not been called for a while; its `cancel` forgets the call that waits. */
export function debounced(work, pauseMs) {
  let timer = null;
  const call = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(work, pauseMs, ...values);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}

/** A function that runs `work` a while after the first of any number of calls; its `cancel` forgets them. */
export function spaced(work, pauseMs) {
  let timer = null;
  const call = () => {
    timer ??= setTimeout(() => {
      timer = null;
      work();
    }, pauseMs);
  };
  call.cancel = () => {
    clearTimeout(timer);
    timer = null;
  };
  return call;
}

/** Run async `work` again and again, a pause after each end, while the page is seen.  Returns what ends that. */
export function repeated(work, pauseMs) {
  let timer = null;
  let ended = false;
  const step = async () => {
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(step, pauseMs);
  };
  timer = setTimeout(step, pauseMs);
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** A function that runs `work` before the next paint, once however often it is called. */
export function onceAFrame(work) {
  let asked = 0;
  const call = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      work();
    });
  };
  call.cancel = () => {
    cancelAnimationFrame(asked);
    asked = 0;
  };
  return call;
}

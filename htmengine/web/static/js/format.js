// SPDX-License-Identifier: MIT
// Numbers and times as people read them.  Times are in the browser's zone.

const grouped = new Intl.NumberFormat("en");
const significant = new Intl.NumberFormat("en", { maximumSignificantDigits: 6, useGrouping: true });
const two = (number) => String(number).padStart(2, "0");

export const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** A count: 22,695. */
export const count = (number) => grouped.format(number);

/** A count of things: 1 metric, 2 metrics. */
export const counted = (number, thing) => `${count(number)} ${number === 1 ? thing : `${thing}s`}`;

/** A value with six significant digits; very great and small ones in powers of ten. */
export function value(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return number.toExponential(3);
  return significant.format(number);
}

/** An anomaly score, never rounded up: 0.99999 is printed for what is at least that. */
export function score(number) {
  if (number === null || number === undefined) return "–";
  const digits = number >= 0.99 ? 5 : 3;
  return (Math.floor(number * 10 ** digits + 1e-6) / 10 ** digits).toFixed(digits);
}

/** 2014-02-08 14:30, with seconds if there are some. */
export function time(epoch) {
  const date = new Date(epoch * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const seconds = date.getSeconds() ? `:${two(date.getSeconds())}` : "";
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}${seconds}`;
}

const BYTES = ["B", "kB", "MB", "GB", "TB"];
/** @type {[string, number][]} */
const UNITS = [["y", 31536000], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** A length of time in its two greatest units: 3 d 4 h. */
export function duration(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    const whole = Math.floor(rest / size);
    if (whole) parts.push(`${whole} ${unit}`);
    rest -= whole * size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

/** How long ago: "4 min ago". */
export function ago(epoch, now = Date.now() / 1000) {
  return now - epoch < 1 ? "now" : `${duration(now - epoch).split(" ").slice(0, 2).join(" ")} ago`;
}

/** Bytes with three digits: 12.3 MB. */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const unit = Math.min(BYTES.length - 1, Math.floor(Math.log10(Math.max(number, 1)) / 3));
  return `${Number((number / 1000 ** unit).toPrecision(3))} ${BYTES[unit]}`;
}

/** Per second, with few digits: 1,240/s. */
export function rate(perSecond) {
  if (perSecond === null) return "–";
  return `${perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1)}/s`;
}

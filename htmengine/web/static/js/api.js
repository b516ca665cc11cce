// SPDX-License-Identifier: MIT
// The HTTP API (docs/http-api.md).  Answers come back as objects; what goes wrong is a `Problem` or an `EngineAway`.

import { connection } from "./connection.js";
import { askForToken } from "./token.js";

const ROOT = "api/v1/";

/** The engine refused: an RFC 9457 problem document. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `HTTP status ${status}`);
    this.status = status;
    this.fields = document.errors ?? [];
  }
}

/** Nobody answers. */
export class EngineAway extends Error {}

/** Whether an error only says that the request was given up. */
export const isAbort = (error) => error.name === "AbortError";

/** For errors that a banner tells or the next try mends; anything else is a defect of the page and is raised. */
export function tolerate(error) {
  if (!(error instanceof Problem || error instanceof EngineAway || isAbort(error))) throw error;
}

/** The URL of a route; lists of values repeat their parameter, those that are null are left out. */
export function url(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, given] of Object.entries(parameters)) {
    for (const value of [given].flat()) if (value !== null && value !== undefined && value !== "") query.append(name, value);
  }
  return `${ROOT}${path}${query.size ? `?${query}` : ""}`;
}

/** GET. */
export const get = (path, parameters, signal) => request("GET", url(path, parameters), undefined, signal);

/** POST, PUT or DELETE with a JSON body. */
export const send = (method, path, body) => request(method, url(path), body);

/** What the engine tells outside the API, whatever the answer's status: "readyz" as an object, "metrics" as text. */
export async function getHealth(signal) {
  return content(await answer("GET", "readyz", undefined, signal), signal);
}

export async function getFigures(signal) {
  return (await answer("GET", "metrics", undefined, signal)).text();
}

/** The path of a metric: its uid, for names may hold what no path may. */
export const metricPath = (uid, rest = "") => `metrics/${encodeURIComponent(uid)}${rest}`;

async function request(method, address, body, signal) {
  const response = await answer(method, address, body, signal);
  if (response.status === 401 && (await askForToken(logIn, method !== "GET"))) return request(method, address, body, signal);
  const found = await content(response, signal);
  if (response.ok) return found;
  throw new Problem(response.status, found ?? {});
}

/** A wrong token raises a `Problem`; the right one is kept in a cookie that no script can read. */
async function logIn(token) {
  const response = await answer("POST", url("session"), { token });
  if (!response.ok) throw new Problem(response.status, await content(response));
}

async function answer(method, address, body, signal) {
  const options = { method, signal, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  try {
    const response = await fetch(address, options);
    connection.answered();
    return response;
  } catch (error) {
    if (isAbort(error)) throw error;
    connection.lost();
    throw new EngineAway("The engine does not answer.");
  }
}

async function content(response, signal) {
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    signal?.throwIfAborted();
    return { detail: `The answer is not JSON (HTTP status ${response.status}).` };
  }
}

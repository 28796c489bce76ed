// Requests to the server that sent this page; nothing else is ever asked.
const SLOW_MS = 1500; // after which the page says that it waits
const AGAIN_MS = 1000;
const PING_MS = 5000;
const NO_ANSWER = "No connection to tomopipe review. Retrying every second. If it was started again, open the link that it printed.";
export const NOT_YET = "tomopipe review has not answered yet.";

let csrf = "";
let fault = ""; // why nothing can be decided; empty while there is a connection
let onFault = () => {};
let timer = 0;
let pending = new AbortController(); // ends the requests under way
const slow = new Set(); // `isAwaited` of each request that has waited for SLOW_MS

export class NoConnection extends Error {}

export function setUp(onChange) {
  onFault = onChange;
  for (const event of ["offline", "online"]) addEventListener(event, ping);
}

export const isDown = () => fault !== "";

function setFault(text) {
  clearTimeout(timer);
  if (text && text !== NOT_YET) timer = setTimeout(ping, AGAIN_MS);
  if (text === fault) return;
  fault = text;
  onFault(text);
}

// The page waits as long as an answer is late that the user waits for. Only a ping ends another fault: what is answered
// may be a picture that the browser still has.
function tellSlow() {
  if (!fault || fault === NOT_YET) setFault([...slow].some((isAwaited) => isAwaited()) ? NOT_YET : "");
}

// Whether the server is there, by a file that needs no work.
async function ping() {
  const late = new AbortController();
  const ending = setTimeout(() => late.abort(), PING_MS);
  try {
    const response = await fetch("icon.svg", { cache: "no-store", signal: late.signal });
    setFault(response.ok ? "" : "tomopipe review was started again: open the link that it prints.");
    tellSlow();
  } catch {
    setFault(NO_ANSWER);
  } finally {
    clearTimeout(ending);
  }
}

// Give up what is under way, and ask again.
export function retry() {
  pending.abort();
  pending = new AbortController();
  ping();
}

export function setKey(key) {
  csrf = key;
}

const address = (path, query) => [`api/${path}`, new URLSearchParams(query).toString()].filter(Boolean).join("?");

async function refusal(response) {
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error || text;
  } catch {
    // plain text
  }
  return new Error(message.trim() || `error ${response.status}`);
}

// `isAwaited`: whether the user still waits for the answer; without it nobody does.
async function request(path, { query, options, read = (response) => response.json(), isAwaited = () => false }) {
  const late = setTimeout(() => (slow.add(isAwaited), tellSlow()), SLOW_MS);
  try {
    const response = await fetch(address(path, query), { ...options, signal: pending.signal });
    const result = await (response.ok ? read(response) : refusal(response));
    if (response.status === 403) { // a server that was started again does not know this page
      await ping();
      if (!isDown()) setFault(result.message); // its link was opened beside: what waits gets the new key
      throw new NoConnection(fault);
    }
    if (!response.ok) throw result;
    return result;
  } catch (error) {
    if (!(error instanceof TypeError) && error.name !== "AbortError") throw error;
    setFault(NO_ANSWER);
    throw new NoConnection(NO_ANSWER);
  } finally {
    clearTimeout(late);
    slow.delete(isAwaited);
    tellSlow();
  }
}

export const get = (path, query, isAwaited) => request(path, { query, isAwaited });

export function post(path, data) {
  const body = JSON.stringify(data);
  return request(path, {
    isAwaited: () => true,
    options: {
      method: "POST",
      headers: { "content-type": "application/json", "x-tomopipe-csrf": csrf },
      body,
      keepalive: body.length < 30000, // a page that is closed now still says what was decided; browsers take no more
    },
  });
}

export const read = (path, query, how) => request(path, { query, read: how });

// A picture in colours, decoded and ready to draw.
export const picture = async (path, query) => createImageBitmap(await read(path, query, (response) => response.blob()));

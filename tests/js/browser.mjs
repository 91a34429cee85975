// A page that runs one of our scripts, with Node's own fetch, Request, Headers and URL, and hand-written stand-ins for the
// parts of a browser that Node lacks.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import vm from "node:vm";

const STATIC = new URL("../../python/comfy_auth_rs/static/", import.meta.url);

export const KEY = "k".repeat(40);
export const OTHER_KEY = "o".repeat(40);
export const CHALLENGE = 'Bearer realm="ComfyUI"';
export const STORE = "comfyui_api_key";

export const asset = (name) => readFileSync(new URL(name, STATIC), "utf8");

/** Waits until `condition()` is true; a failing test shows what it waited for. */
export async function until(condition) {
  for (let tries = 0; tries < 200; tries++) {
    if (condition()) return;
    await new Promise((done) => setTimeout(done, 5));
  }
  throw new Error(`never came true: ${condition}`);
}

/** Waits until everything that is under way on this machine is done. */
export const settled = () => new Promise((done) => setTimeout(done, 80));

/** A real server on a free port. `answer(request)` gives {status, headers, body}, or null to hang up. */
export async function serve(answer = () => ({})) {
  const seen = [];
  const server = createServer(async (message, response) => {
    const chunks = [];
    for await (const chunk of message) chunks.push(chunk);
    const { method, url, headers } = message;
    const request = { method, url, headers, body: Buffer.concat(chunks).toString() };
    seen.push(request);
    const reply = answer(request);
    if (reply === null) return message.socket.destroy();
    const { status = 200, headers: sent = {}, body = "" } = reply;
    response.writeHead(status, sent).end(body);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, seen, close };
}

class Storage {
  #items = new Map();
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  setItem(name, value) {
    this.#items.set(name, String(value));
  }
  removeItem(name) {
    this.#items.delete(name);
  }
}

/** Listeners by event name; `emit` calls them. */
class Emitter {
  #listeners = new Map();
  addEventListener(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) ?? new Set()).add(listener));
  }
  emit(type, event = {}) {
    let stopped = false;
    const stopImmediatePropagation = () => (stopped = true);
    for (const listener of this.#listeners.get(type) ?? []) {
      if (!stopped) listener.call(this, { type, stopImmediatePropagation, preventDefault() {}, ...event });
    }
  }
}

/** Records the calls that a page makes on a request, in order. `answer` is the server's answer. */
export class XMLHttpRequest extends Emitter {
  calls = [];
  readyState = 0;
  status = 0;
  open(...args) {
    this.calls.push(["open", ...args]);
    Object.assign(this, { readyState: 1, status: 0 });
    this.emit("readystatechange");
  }
  setRequestHeader(...args) {
    this.calls.push(["setRequestHeader", ...args]);
  }
  send(...args) {
    this.calls.push(["send", ...args]);
    this.onSend?.();
  }
  getResponseHeader(name) {
    return name.toLowerCase() === "www-authenticate" ? this.challenge : null;
  }
  headers() {
    return this.calls.filter(([call]) => call === "setRequestHeader").map(([, ...header]) => header);
  }
  answer(status, challenge = null) {
    Object.assign(this, { readyState: 4, status, challenge });
    for (const type of ["readystatechange", "progress", "load", "loadend"]) this.emit(type);
  }
}

/** An element that keeps what is set on it. */
class Element extends Emitter {
  attributes = {};
  textContent = "";
  value = "";
  type = "password";
  disabled = false;
  checked = false;
  selectionStart = 0;
  selectionEnd = 0;
  calls = [];
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  getAttribute(name) {
    return this.attributes[name] ?? null;
  }
  focus() {
    this.calls.push("focus");
  }
  select() {
    this.calls.push("select");
  }
  remove() {
    this.calls.push("remove");
  }
  append(element) {
    this.calls.push(element);
  }
  setSelectionRange(start, end) {
    Object.assign(this, { selectionStart: start, selectionEnd: end });
  }
}

function fakeDocument({ href, script, base, referrer }) {
  const elements = new Map();
  const html = asset("auth_login.html");
  const byId = (id) => {
    if (!html.includes(`id="${id}"`)) return null;
    if (!elements.has(id)) elements.set(id, new Element());
    return elements.get(id);
  };
  const form = new Element();
  const submit = new Element();
  form.querySelector = () => submit;
  form.elements = { remember: new Element() };
  const events = new Emitter();
  return {
    addEventListener: events.addEventListener.bind(events),
    emit: events.emit.bind(events),
    prerendering: false,
    referrer,
    baseURI: base ?? href,
    currentScript: script ? { src: script } : null,
    documentElement: { style: {} },
    body: new Element(),
    getElementById: byId,
    createElement: () => new Element(),
    querySelector: (selector) => (selector === "form" ? form : null),
    querySelectorAll: () => [],
    form,
    submit,
  };
}

// What Safari 14 lacks, the oldest browser that the scripts support.
const NEWER = [
  "Object.hasOwn", "Object.groupBy", "Array.fromAsync", "Promise.withResolvers", "Promise.try", "structuredClone",
  ...["at", "findLast", "findLastIndex", "toReversed", "toSorted", "toSpliced", "with"].map((name) => `Array.prototype.${name}`),
  ...["at", "isWellFormed", "toWellFormed"].map((name) => `String.prototype.${name}`),
];
class OldSignal extends EventTarget {}

const channels = new Set();

/** Closes what the pages of a test left open. */
export function closePages() {
  for (const channel of channels) channel.close();
  channels.clear();
}

/**
 * A page at `href`. `stored` is {local, session}, `script` the address of auth_inject.js, `base` that of a
 * <base> element, `navigation` how the page was reached, `site` what the server says about where the visit came from.
 * `went` lists where the page was sent. `localStorage` may be another page's.
 */
export function openPage({
  href, script, base, stored = {}, navigation = "navigate", site, referrer = "", localStorage, globals = {},
}) {
  const url = new URL(href);
  const went = [];
  const cookies = new Map();
  const document = fakeDocument({ href, script, base, referrer });

  // Like a browser: addresses are relative to the document, and cookies are kept.
  async function browserFetch(input, init) {
    if (arguments.length === 0) throw new TypeError("1 argument required, but only 0 present.");
    const request = input instanceof Request ? input : new URL(`${input}`, document.baseURI).href;
    const jar = new Headers({ cookie: [...cookies].map((pair) => pair.join("=")).join("; ") });
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    if (jar.get("cookie")) headers.set("cookie", jar.get("cookie"));
    const get = (target, name) => (name === "headers" ? headers : Reflect.get(target, name));
    const response = await fetch(request, new Proxy(init ?? {}, { get }));
    for (const cookie of response.headers.getSetCookie()) {
      const [name, value] = cookie.split(";")[0].split("=");
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    return response;
  }
  Object.defineProperty(browserFetch, "name", { value: "fetch" });
  Object.defineProperty(browserFetch, "length", { value: 1 });

  class Channel extends BroadcastChannel {
    constructor(name) {
      super(name);
      channels.add(this);
      this.unref();
    }
  }

  const visit = { type: navigation, serverTiming: [{ name: "site", description: site ?? "" }] };
  const events = new Emitter();
  const window = {
    document,
    location: {
      href: url.href,
      origin: url.origin,
      pathname: url.pathname,
      search: url.search,
      hash: url.hash,
      replace: (to) => went.push(to),
      assign: (to) => went.push(to),
    },
    history: { replaceState: (_state, _title, to) => (window.address = to) },
    performance: { getEntriesByType: () => [visit] },
    localStorage: localStorage ?? new Storage(),
    sessionStorage: new Storage(),
    addEventListener: events.addEventListener.bind(events),
    emit: events.emit.bind(events),
    fetch: browserFetch,
    XMLHttpRequest: class extends XMLHttpRequest {},
    BroadcastChannel: Channel,
    setTimeout: (...args) => setTimeout(...args).unref(),
    AbortSignal: OldSignal,
    Headers,
    Request,
    Response,
    URL,
    URLSearchParams,
    console,
    ...globals,
  };
  for (const method of ["open", "setRequestHeader", "send"]) {
    window.XMLHttpRequest.prototype[method] = XMLHttpRequest.prototype[method];
  }
  window.window = window;
  if (stored.local) window.localStorage.setItem(STORE, stored.local);
  if (stored.session) window.sessionStorage.setItem(STORE, stored.session);
  vm.createContext(window);
  vm.runInContext(NEWER.map((name) => `delete ${name};`).join(""), window);
  const kept = () => ({ local: window.localStorage.getItem(STORE), session: window.sessionStorage.getItem(STORE) });
  const run = (name) => vm.runInContext(asset(name), window, { filename: name });
  return { window, document, went, cookies, kept, run };
}

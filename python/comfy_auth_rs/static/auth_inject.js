// Loaded first in the page: adds the stored key to the page's requests below this script's folder, and goes to the login
// page when the server no longer accepts the key.
(function () {
  "use strict";

  // See auth_login.js.
  const STORE = "comfyui_api_key";
  const LOGGED_OUT = "comfyui_logged_out";
  const BY_COOKIE = "comfyui_by_cookie";
  const LOADED = Symbol.for("comfy-auth-rs");
  const source = document.currentScript?.src;
  if (!source || window[LOADED]) return;
  Object.defineProperty(window, LOADED, { value: true });

  const { Request, Headers, URL } = window;
  const base = new URL(".", source);
  const requestUrl = Object.getOwnPropertyDescriptor(Request.prototype, "url").get;

  // A Proxy of the native function keeps its name, length, property flags, `this` checks and "[native code]" text.
  const wrap = (object, name, apply) => {
    object[name] = new Proxy(object[name], { apply });
  };

  // Storage throws if the browser blocks it: then the cookie is enough.
  function inStorage(area, method, ...args) {
    try {
      return window[area][method](...args);
    } catch {
      return null;
    }
  }
  const read = (area, name) => inStorage(area, "getItem", name);
  const logOut = () => read("localStorage", LOGGED_OUT);
  const relyOnCookie = () => inStorage("localStorage", "setItem", BY_COOKIE, "true");

  function keyToAdd() {
    if (read("sessionStorage", LOGGED_OUT) !== logOut()) inStorage("sessionStorage", "removeItem", STORE);
    if (read("localStorage", BY_COOKIE)) return null;
    const keys = [read("sessionStorage", STORE), read("localStorage", STORE)];
    return keys.find((key) => /^[\x21-\x7e]+$/.test(key ?? "")); // anything else would make every request throw
  }

  // Behind a proxy, other applications may be beside this script's folder. URLs with a user name have credentials of
  // their own and don't match. Browsers remove Authorization on redirects to another origin.
  const isOurs = (address) => new URL(address, document.baseURI).href.startsWith(base.href);

  function addKey(headers, key) {
    if (headers.has("Authorization") || headers.has("X-API-Key")) return false;
    headers.set("Authorization", `Bearer ${key}`);
    return true;
  }

  // A Request is never changed, only its copy, as in fetch itself. Options are read through a Proxy, so that getters,
  // inheritance and a Request in their place keep working. The second result is without the key, if it was added and
  // the body is no stream.
  function withKey(input, address, init, key) {
    if (input !== address) {
      const copy = new Request(input, init);
      const plain = copy.body ? null : [copy.clone()];
      return [[copy], addKey(copy.headers, key) && (() => plain)];
    }
    const options = (headers) => {
      const get = (target, name) => (name === "headers" ? headers : Reflect.get(target, name));
      return [address, new Proxy(init ?? {}, { get })];
    };
    const headers = new Headers(init?.headers);
    const plain = options(new Headers(headers));
    return [options(headers), addKey(headers, key) && (() => !init?.body?.getReader && plain)];
  }

  wrap(window, "fetch", (native, self, args) => {
    let sent = args;
    let again;
    let ours = false;
    try {
      if (args.length) {
        let [input, init] = args;
        let address;
        try {
          address = requestUrl.call(input);
        } catch {
          input = address = `${input}`;
        }
        ours = isOurs(address);
        const key = ours && keyToAdd();
        if (key) [sent, again] = withKey(input, address, init, key);
      }
    } catch {
      // A bad argument: let the native function throw.
    }
    const answer = Reflect.apply(native, self, sent);
    if (!ours) return answer;
    return answer.then(async (response) => {
      const plain = again && isOthers(response) && again();
      if (plain) {
        response.body?.cancel(); // or it stays open
        response = await Reflect.apply(native, self, plain);
        if (!isOthers(response)) relyOnCookie();
      }
      if (isRefusal(response)) verify();
      return response;
    });
  });

  const ourFetch = window.fetch;

  const xhr = window.XMLHttpRequest.prototype;
  const { open, setRequestHeader, send } = xhr;
  const opened = new WeakMap();

  wrap(xhr, "open", (native, self, args) => {
    if (args.length > 1) args[1] = `${args[1]}`;
    Reflect.apply(native, self, args);
    const [, address, asynchronous = true, user, password] = args;
    const ours = user == null && password == null && isOurs(address);
    opened.set(self, { args, asynchronous, ours, headers: [] });
    // Before the page's, which must not see the first answer to a repeated request.
    for (const type of ["readystatechange", "loadstart", "progress", "load", "loadend"]) {
      const handler = self[`on${type}`];
      self[`on${type}`] = null;
      self.addEventListener(type, onEvent);
      self[`on${type}`] = handler;
    }
  });

  wrap(xhr, "setRequestHeader", (native, self, args) => {
    Reflect.apply(native, self, args);
    opened.get(self)?.headers.push(args);
  });

  wrap(xhr, "send", (native, self, args) => {
    const state = opened.get(self);
    const hasKey = state?.headers.some(([name]) => /^(authorization|x-api-key)$/i.test(name));
    const key = state?.ours && !hasKey && keyToAdd();
    // Sent already? Let the native function throw.
    if (key && self.readyState === 1 && !state.body) {
      setRequestHeader.call(self, "Authorization", `Bearer ${key}`);
      state.body = args;
    }
    Reflect.apply(native, self, args);
    if (state?.refused) sendAgain(self, state); // synchronous
  });

  function onEvent(event) {
    const state = opened.get(this);
    if (!state?.ours) return;
    const response = { status: this.status, headers: { get: (name) => this.getResponseHeader(name) } };
    state.refused ||= Boolean(state.body) && isOthers(response);
    if (event.type === "loadend" && !this.status) state.refused = false; // aborted
    if (state.refused) {
      event.stopImmediatePropagation();
      if (event.type === "loadend" && state.asynchronous) sendAgain(this, state);
    } else if (event.type === "load") {
      if (state.again && !isOthers(response)) relyOnCookie();
      if (isRefusal(response)) verify();
    }
  }

  function sendAgain(request, state) {
    const { args, headers, body } = state;
    open.apply(request, args);
    for (const header of headers) setRequestHeader.apply(request, header);
    Object.assign(state, { body: null, refused: false, again: true });
    send.apply(request, body);
  }

  // Other 401s come from a proxy, or from a custom node's remote service.
  const isRefusal = ({ status, headers }) =>
    status === 401 && /(^|, )Bearer realm="ComfyUI"/.test(headers.get("WWW-Authenticate"));
  const isOthers = (response) => response.status === 401 && !isRefusal(response);

  // Leaves only if the server confirms that this browser is logged out: one refused request (credentials: "omit", a
  // wrong header) must not end the session.
  let asking = null;
  let leaving = false;
  const lastLogOut = logOut();
  function verify() {
    const key = keyToAdd();
    asking ??= ourFetch(new URL("auth_session", base), { cache: "no-store" })
      .then((answer) => {
        if (isRefusal(answer)) leave(logOut() !== lastLogOut ? "logout" : key ? "expired" : "ended");
        return answer.text();
      })
      .catch(() => {}) // a later request asks again
      .finally(() => {
        asking = null;
      });
    return asking;
  }

  const loginPage = (query) => new URL(`auth_login.html?${new URLSearchParams(query)}`, base).href;

  function leave(reason) {
    if (leaving) return;
    leaving = true;
    const page = new URL(location.href);
    for (const name of ["api_key", "token"]) {
      if (page.searchParams.has(name)) page.searchParams.delete(name);
    }
    const next = isOurs(page) ? page.href.slice(base.href.length - 1) : "/";
    location.replace(loginPage({ reason, next }));
  }

  // The login page tells other tabs about a log-out.
  if (window.BroadcastChannel) {
    new BroadcastChannel(STORE + base.pathname).onmessage = ({ data }) => data === "logout" && verify();
  }

  // The back button shows even `no-cache` pages from a cache: hide them until the server agrees.
  async function verifyUnseen() {
    const { style } = document.documentElement;
    style.visibility = "hidden";
    await verify();
    if (!leaving) style.visibility = "";
  }
  if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") verifyUnseen();
  window.addEventListener("pageshow", ({ persisted }) => persisted && verifyUnseen());

  // The key's label is shortened, on one line, and can't change the text direction. @ { | } break ComfyUI's menu, which
  // reads them as markup: use their full-width forms.
  async function logOutLabel() {
    try {
      const text = JSON.parse(await verify()).label
        .replace(/[\u2028-\u202e\u2066-\u2069]/g, "")
        .replace(/^(.{39}).{2,}/u, "$1…")
        .replace(/[@{|}]/g, (sign) => String.fromCharCode(sign.charCodeAt() + 0xfee0));
      return text && `Log out (\u2068${text}\u2069)`;
    } catch {
      return "";
    }
  }

  // "Log out" in ComfyUI's menu, once its frontend has started; given up after five minutes.
  async function addMenuEntry(tries) {
    const app = window.comfyAPI?.app?.app ?? window.app;
    if (!app?.vueAppReady) return tries && setTimeout(addMenuEntry, 500, tries - 1);
    const id = "comfy-auth-rs.logout";
    const label = (await logOutLabel()) || "Log out";
    app.registerExtension({
      name: "comfy-auth-rs",
      commands: [{ id, label, icon: "pi pi-sign-out", function: () => location.assign(loginPage({ logout: true })) }],
      menuCommands: [{ path: [], commands: [id] }],
    });
  }
  addMenuEntry(600);
})();

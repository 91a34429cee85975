// Loaded first in the page: adds the stored key to the page's own requests below the folder that
// this script came from, and leads to the login page once the server no longer accepts it.
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

  const base = new URL(".", source);
  const { Request, Headers, URL: NativeURL } = window;
  const requestUrl = Object.getOwnPropertyDescriptor(Request.prototype, "url").get;

  // A Proxy of the native function keeps its name, length, property flags, `this` checks and
  // "[native code]" text, for scripts that look at them.
  const wrap = (object, name, apply) => {
    object[name] = new Proxy(object[name], { apply });
  };

  // Storage throws where the browser blocks it: the cookie does the work.
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
    // Anything else would make every request throw.
    const isValue = (key) => key && /^[\x21-\x7e]+$/.test(key);
    return [read("sessionStorage", STORE), read("localStorage", STORE)].find(isValue);
  }

  // Ours is what lies in this script's folder: behind a proxy other applications live beside it.
  // A URL with a user name carries its own credential.
  // Browsers take Authorization off a request that is redirected to another origin
  // (https://fetch.spec.whatwg.org/#http-redirect-fetch).
  function isOurs(address) {
    const url = new NativeURL(address, document.baseURI);
    return url.origin === base.origin && url.pathname.startsWith(base.pathname) &&
      !url.username && !url.password;
  }

  function addKey(headers, key) {
    if (headers.has("Authorization") || headers.has("X-API-Key")) return false;
    headers.set("Authorization", `Bearer ${key}`);
    return true;
  }

  // fetch: a Request is never changed, its copy is, as fetch itself would make one. Options are
  // read through a Proxy, so that getters, inheritance and a Request in their place keep working.
  // The second is without the key, where it was added and the body is no stream.
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
      // A bad argument: the native function says so in its own words.
    }
    const answer = Reflect.apply(native, self, sent);
    if (!ours) return answer;
    return answer.then(async (first) => {
      let response = first;
      const plain = again && isOthers(response) && again();
      if (plain) {
        first.body?.cancel(); // else it stays open
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
  const EVENTS = ["readystatechange", "loadstart", "progress", "load", "loadend"];

  wrap(xhr, "open", (native, self, args) => {
    if (args.length > 1) args[1] = `${args[1]}`;
    Reflect.apply(native, self, args);
    const [, address, asynchronous = true, user, password] = args;
    const ours = user == null && password == null && isOurs(address);
    opened.set(self, { args, asynchronous, ours, headers: [] });
    // Before the page's, which must not see the answer to what is sent again.
    for (const type of EVENTS) {
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
    // Sent already? The native function says so in its own words.
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

  // Other 401s are of something in front of the server, or of a custom node's remote service.
  const isRefusal = ({ status, headers }) =>
    status === 401 && /(^|, )Bearer realm="ComfyUI"/.test(headers.get("WWW-Authenticate"));
  const isOthers = (response) => response.status === 401 && !isRefusal(response);

  // Leaves only when the server confirms that nothing admits this browser any more: one refused
  // request (credentials: "omit", a wrong header of the page's own) can't end the session.
  let asking = null;
  let leaving = false;
  const lastLogOut = logOut();
  function verify() {
    const key = keyToAdd();
    asking ??= ourFetch(new NativeURL("auth_session", base), { cache: "no-store" })
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

  function loginPage(query) {
    const url = new NativeURL("auth_login.html", base);
    url.search = new URLSearchParams(query);
    return url.href;
  }

  function leave(reason) {
    if (leaving) return;
    leaving = true;
    const page = new NativeURL(location.href);
    for (const name of ["api_key", "token"]) {
      if (page.searchParams.has(name)) page.searchParams.delete(name);
    }
    const inside = page.pathname.startsWith(base.pathname);
    const next = inside ? `/${page.pathname.slice(base.pathname.length)}${page.search}${page.hash}` : "/";
    location.replace(loginPage({ reason, next }));
  }

  // The login page tells the other tabs that somebody logged out.
  if (window.BroadcastChannel) {
    new BroadcastChannel(STORE + base.pathname).onmessage = ({ data }) => {
      if (data === "logout") verify();
    };
  }

  // The back button brings even `no-cache` pages from a cache: nothing is shown until the server
  // agrees.
  async function verifyUnseen() {
    const { style } = document.documentElement;
    style.visibility = "hidden";
    await verify();
    if (!leaving) style.visibility = "";
  }
  if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") verifyUnseen();
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) verifyUnseen();
  });

  // "Log out" in ComfyUI's menu, once its frontend has started; given up after five minutes.
  function addMenuEntry(tries) {
    const app = window.comfyAPI?.app?.app ?? window.app;
    if (app?.vueAppReady) {
      const id = "comfy-auth-rs.logout";
      app.registerExtension({
        name: "comfy-auth-rs",
        commands: [{
          id,
          label: "Log out",
          icon: "pi pi-sign-out",
          function: () => location.assign(loginPage({ logout: true })),
        }],
        menuCommands: [{ path: [], commands: [id] }],
      });
    } else if (tries) {
      setTimeout(addMenuEntry, 500, tries - 1);
    }
  }
  addMenuEntry(600);
})();

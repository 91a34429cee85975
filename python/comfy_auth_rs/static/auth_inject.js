// Loaded first in the page: adds the stored key to the page's own requests below the folder that
// this script came from, and leads to the login page once the server no longer accepts it.
(function () {
  "use strict";

  const STORE = "comfyui_api_key";
  const LOADED = Symbol.for("comfy-auth-rs");
  const source = document.currentScript?.src;
  if (!source || window[LOADED]) return;
  Object.defineProperty(window, LOADED, { value: true });

  const base = new URL(".", source);
  const nativeFetch = window.fetch;
  const { Request, Headers, URL: NativeURL } = window;
  const requestUrl = Object.getOwnPropertyDescriptor(Request.prototype, "url").get;

  // A Proxy of the native function keeps its name, length, property flags, `this` checks and
  // "[native code]" text, for scripts that look at them.
  const wrap = (object, name, apply) => {
    object[name] = new Proxy(object[name], { apply });
  };

  function storedKey() {
    for (const area of ["sessionStorage", "localStorage"]) {
      try {
        const key = window[area].getItem(STORE);
        // Anything else can't be a header's value, and would make every request throw.
        if (key && /^[\x21-\x7e]+$/.test(key)) return key;
      } catch {
        // The browser blocks storage: the cookie does the work.
      }
    }
    return null;
  }

  // Ours is what lies in this script's folder, not all of the origin: behind a proxy other
  // applications live there too. A URL that bears a user name carries its own credential.
  // The header can't leave the origin by a redirect either: browsers take Authorization off a
  // request that is redirected to another origin (https://fetch.spec.whatwg.org/#http-redirect-fetch).
  function isOurs(address) {
    const url = new NativeURL(address, document.baseURI);
    return url.origin === base.origin && url.pathname.startsWith(base.pathname) &&
      !url.username && !url.password;
  }

  function addKey(headers, key) {
    if (!headers.has("Authorization") && !headers.has("X-API-Key")) {
      headers.set("Authorization", `Bearer ${key}`);
    }
    return headers;
  }

  // fetch: a Request is never changed, its copy is, as fetch itself would make one. Options are
  // read through a Proxy, so that getters, inheritance and a Request in their place keep working.
  function withKey(input, address, init, key) {
    if (input !== address) {
      const copy = new Request(input, init);
      addKey(copy.headers, key);
      return [copy];
    }
    const headers = addKey(new Headers(init?.headers), key);
    const get = (target, name) => (name === "headers" ? headers : Reflect.get(target, name));
    return [address, new Proxy(init ?? {}, { get })];
  }

  wrap(window, "fetch", (native, self, args) => {
    let sent = args;
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
        const key = ours && storedKey();
        if (key) sent = withKey(input, address, init, key);
      }
    } catch {
      // A bad argument: the native function says so in its own words.
    }
    const answer = Reflect.apply(native, self, sent);
    if (!ours) return answer;
    return answer.then((response) => {
      if (isRefusal(response.status, response.headers.get("WWW-Authenticate"))) verify();
      return response;
    });
  });

  // XMLHttpRequest
  const xhr = window.XMLHttpRequest.prototype;
  const setHeader = xhr.setRequestHeader;
  const opened = new WeakMap();

  wrap(xhr, "open", (native, self, args) => {
    if (args.length > 1) args[1] = `${args[1]}`;
    Reflect.apply(native, self, args);
    const [, address, , user, password] = args;
    opened.set(self, { ours: user == null && password == null && isOurs(address), hasKey: false });
  });

  wrap(xhr, "setRequestHeader", (native, self, args) => {
    Reflect.apply(native, self, args);
    const state = opened.get(self);
    if (state && /^(authorization|x-api-key)$/i.test(args[0])) state.hasKey = true;
  });

  wrap(xhr, "send", (native, self, args) => {
    const state = opened.get(self);
    if (state?.ours) {
      const key = storedKey();
      try {
        if (key && !state.hasKey) setHeader.call(self, "Authorization", `Bearer ${key}`);
        self.addEventListener("load", onLoad, { once: true });
      } catch {
        // Sent already: the native function says so in its own words.
      }
    }
    return Reflect.apply(native, self, args);
  });

  function onLoad() {
    if (this.status === 401 && isRefusal(401, this.getResponseHeader("WWW-Authenticate"))) verify();
  }

  // Only our own challenge counts: other 401s (a custom node's remote service) are the page's.
  const isRefusal = (status, challenge) =>
    status === 401 && Boolean(challenge?.startsWith('Bearer realm="ComfyUI"'));

  // Leaves only when the server confirms that nothing admits this browser any more, so that one
  // refused request (credentials: "omit", a wrong header of the page's own) can't end the session.
  let asking = null;
  let leaving = false;
  function verify(reason) {
    const key = storedKey();
    asking ??= nativeFetch(new NativeURL("auth_session", base), {
      cache: "no-store",
      headers: key ? { Authorization: `Bearer ${key}` } : {},
    })
      .then((answer) => {
        if (answer.status === 401) leave(reason ?? (key ? "expired" : "ended"));
      })
      .catch(() => {}) // no network: a later request asks again
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
      if (data !== "logout") return;
      try {
        sessionStorage.removeItem(STORE);
      } catch {
        // The browser blocks storage: nothing is kept there.
      }
      verify("logout");
    };
  }

  // The back button brings pages from caches that the server isn't asked about (of `no-cache` pages
  // too): nothing is shown until it agrees.
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

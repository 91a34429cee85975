// The login page; a plain form without this script. URLs are relative: a proxy may serve it in any folder.
(function () {
  "use strict";

  const STORE = "comfyui_api_key";
  // Changes with each log-out. A tab's key is valid while its copy is the same.
  const LOGGED_OUT = "comfyui_logged_out";
  // A proxy uses Authorization itself.
  const BY_COOKIE = "comfyui_by_cookie";
  const WRONG = "Wrong key. Check it and try again.";
  const LOCKED = "Too many wrong keys from this address. Wait a few minutes, then try again.";
  const LED = "Another site may have sent you here. Continue only if you want to.";
  const UNREACHABLE = "The server can't be reached. Check that it is running, then try again.";
  const UNSTORED = "You are logged out here, but this could not be stored. Log out again later.";
  const REASONS = {
    __proto__: null,
    ended: "Your session has ended. Enter a valid key to continue.",
    expired: "Your key is no longer accepted. Enter a valid key to continue.",
    logout: "You are logged out.",
  };
  const ERRORS = { __proto__: null, invalid: WRONG, locked: LOCKED };

  const byId = (id) => document.getElementById(id);
  const form = document.querySelector("form");
  const field = byId("api_key");
  const reveal = byId("reveal");
  const submit = form.querySelector(".submit");
  const leaving = byId("logout") ?? document.createElement("button");
  const onward = document.createElement("a");

  const folder = new URL(".", location.href);
  const query = new URLSearchParams(location.search);
  const next = query.get("next") ?? "";
  const hash = /^#(invalid|locked|ended)$/.test(location.hash) ? "" : location.hash;
  const target = destination();

  // `next` is a server path, taken relative to this folder. Anything else becomes the start page.
  function destination() {
    if (!next.startsWith("/") || next.length > 4096) return folder.href;
    const url = new URL(`.${next}`, location.href);
    if (!url.href.startsWith(folder.href) || url.pathname.endsWith("/auth_login.html")) return folder.href;
    for (const name of ["api_key", "token"]) {
      if (url.searchParams.has(name)) url.searchParams.delete(name);
    }
    if (!url.hash) url.hash = hash; // kept by the redirect to this page
    return url.href;
  }

  // Storage throws if the browser blocks it.
  const areas = ["sessionStorage", "localStorage"];
  function inStorage(area, method, ...args) {
    try {
      return window[area][method](...args);
    } catch {
      return null;
    }
  }
  const read = (area, name) => inStorage(area, "getItem", name);
  const write = (area, name, value) => inStorage(area, value === null ? "removeItem" : "setItem", name, value);
  const forget = (area) => write(area, STORE, null);
  function hearOfLogOut() {
    const last = read("localStorage", LOGGED_OUT);
    if (read("sessionStorage", LOGGED_OUT) === last) return;
    forget("sessionStorage");
    write("sessionStorage", LOGGED_OUT, last);
  }

  async function call(method, path, headers, body) {
    const answer = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      body: body && JSON.stringify(body),
      cache: "no-store",
      keepalive: method === "DELETE",
      signal: AbortSignal.timeout?.(20_000),
    });
    await answer.text();
    return answer;
  }

  const isRefusal = ({ status, headers }) =>
    status === 401 && /(^|, )Bearer realm="ComfyUI"/.test(headers.get("WWW-Authenticate"));

  function explain(answer) {
    if (isRefusal(answer)) return WRONG;
    if (answer.status === 403) return "The server refuses this key from here. Check its log.";
    if (answer.status !== 429) {
      return `The server answered with an error (${answer.status}). Try again, or check its log.`;
    }
    const seconds = Number(answer.headers.get("Retry-After")) || 60;
    const wait = seconds < 90 ? `${seconds} second${seconds === 1 ? "" : "s"}` : `${Math.ceil(seconds / 60)} minutes`;
    return `Too many wrong keys from this address. Try again in ${wait}.`;
  }

  // The stored key alone is enough.
  const hasNoSessions = ({ status }) => [404, 405].includes(status);

  // Returns what went wrong, or "".
  async function logIn(key, remember) {
    if (!/^[\x21-\x7e]{1,1024}$/.test(key)) return WRONG;
    try {
      // A proxy may use this header, too: go on.
      const health = await call("GET", "health", { "X-API-Key": key });
      if (!health.ok && !isRefusal(health)) return explain(health);
      const session = await call("POST", "auth_session", {}, { api_key: key, remember });
      if (hasNoSessions(session)) {
        if (!health.ok) return explain(health);
      } else {
        if (!session.ok) return explain(session);
        // Without the cookie, the start page leads back here.
        if (!(await call("GET", "auth_session")).ok) {
          return "Your browser did not keep the session cookie. Allow cookies for this site, then try again.";
        }
      }
      write("localStorage", BY_COOKIE, session.headers.get("X-Auth-Authorization-Seen"));
      hearOfLogOut();
      areas.forEach(forget);
      write(remember ? "localStorage" : "sessionStorage", STORE, key);
      channel?.postMessage("login");
      return "";
    } catch {
      return UNREACHABLE;
    }
  }

  function say(id, text) {
    byId(id).textContent = text;
    if (id === "error") field.setAttribute("aria-invalid", String(text !== ""));
  }

  function setBusy(busy) {
    document.body.setAttribute("aria-busy", String(busy));
    submit.disabled = busy;
    submit.textContent = busy ? "Checking…" : "Login";
  }

  const channel = window.BroadcastChannel && new BroadcastChannel(STORE + folder.pathname);

  // A link on another site only leads to the start page by itself.
  function leave(typed) {
    if (typed || !isLedHere() || new URL(target).pathname === folder.pathname) return location.replace(target);
    setBusy(false);
    say("notice", LED);
    onward.href = target;
    onward.textContent = `Continue to ${target.slice(location.origin.length)}`;
    form.append(onward);
  }

  async function onSubmit(event) {
    event.preventDefault();
    if (submit.disabled) return;
    const key = field.value.trim();
    show(false); // for password managers
    say("error", "");
    say("notice", "");
    setBusy(true);
    const fault = key ? await logIn(key, form.elements.remember.checked) : "Enter your API key.";
    if (!fault) return leave(true);
    setBusy(false);
    say("error", fault);
    field.focus();
    field.select();
  }

  function show(visible) {
    const { selectionStart, selectionEnd } = field;
    field.type = visible ? "text" : "password";
    field.setSelectionRange(selectionStart, selectionEnd);
    reveal.setAttribute("aria-pressed", String(visible));
  }

  function onKey(event) {
    // Autofill's events have no modifiers.
    if (event.getModifierState) say("caps", event.getModifierState("CapsLock") ? "Caps Lock is on." : "");
  }

  async function logOut() {
    leaving.hidden = true;
    areas.forEach(forget);
    write("localStorage", LOGGED_OUT, `${Date.now()}`);
    hearOfLogOut();
    try {
      const answer = await call("DELETE", "auth_session");
      if (answer.ok || hasNoSessions(answer)) say("notice", REASONS.logout);
      else say("error", answer.status === 503 ? UNSTORED : explain(answer));
    } catch {
      say("error", UNREACHABLE);
    }
    channel?.postMessage("logout");
  }

  // The server passes on Sec-Fetch-Site. Browsers don't send it over plain HTTP: then the referrer shows our pages.
  // It doesn't apply to a reload or the back button.
  function isLedHere(...ours) {
    const [visit] = performance.getEntriesByType("navigation");
    const site = visit?.serverTiming?.find(({ name }) => name === "site")?.description;
    if (site && visit.type === "navigate") return !["same-origin", "none", ...ours].includes(site);
    return !document.referrer.startsWith(`${location.origin}/`);
  }

  function onLogOutLink() {
    if (document.prerendering) {
      document.addEventListener("prerenderingchange", onLogOutLink, { once: true });
    } else if (isLedHere("session")) {
      leaving.hidden = false;
      say("notice", LED);
    } else {
      logOut();
    }
  }

  // A link on another site leads here without the cookie, and a stored key outlives its session.
  async function resume() {
    if (submit.disabled) return;
    try {
      if ((await call("GET", "auth_session")).ok) return leave();
    } catch {
      return;
    }
    hearOfLogOut();
    for (const area of areas) {
      const key = read(area, STORE);
      if (!key) continue;
      setBusy(true);
      const fault = await logIn(key, area === "localStorage");
      if (!fault) return leave();
      setBusy(false);
      if (fault === WRONG) {
        forget(area);
        say("notice", "");
      }
      say("error", fault === WRONG ? REASONS.expired : fault);
    }
  }

  form.addEventListener("submit", onSubmit);
  leaving.hidden = true;
  leaving.type = "button"; // no longer a part of the form
  leaving.addEventListener("click", logOut);
  reveal.hidden = false;
  reveal.addEventListener("mousedown", (event) => event.preventDefault()); // the caret stays in the field
  reveal.addEventListener("click", () => show(field.type === "password"));
  field.addEventListener("keydown", onKey);
  field.addEventListener("keyup", onKey);
  field.addEventListener("blur", () => say("caps", ""));
  document.querySelectorAll(".plain").forEach((note) => note.remove());

  // Show each message only once.
  history.replaceState(null, "", location.pathname + (next ? `?${new URLSearchParams({ next })}` : "") + hash);

  if (query.get("logout") === "true") {
    onLogOutLink();
  } else {
    say("error", ERRORS[query.get("error")] ?? "");
    say("notice", REASONS[query.get("reason")] ?? "");
    resume();
    if (channel) channel.onmessage = ({ data }) => data === "login" && resume();
  }
})();

// The login page's behaviour. The page is a plain form first: without this script the server
// handles its POST. All addresses are relative, so that a proxy may serve it below any folder.
(function () {
  "use strict";

  const STORE = "comfyui_api_key";
  const WRONG = "Wrong key. Check it and try again.";
  const EXPIRED = "Your key is no longer accepted. Enter a valid key to continue.";
  const REASONS = {
    ended: "Your session has ended. Enter a valid key to continue.",
    expired: EXPIRED,
    logout: "You are logged out.",
  };

  const byId = (id) => document.getElementById(id);
  const form = document.querySelector("form");
  const field = byId("api_key");
  const reveal = byId("reveal");
  const submit = form.querySelector(".submit");

  const folder = new URL(".", location.href);
  const query = new URLSearchParams(location.search);
  const target = destination();

  // `next` is a path as the server sees it; behind a proxy's folder it continues there. Whatever
  // leads elsewhere, or back to this page, becomes the start page.
  function destination() {
    const next = query.get("next") ?? "";
    if (!next.startsWith("/") || next.length > 4096) return folder.href;
    let url;
    try {
      url = new URL(`.${next}`, location.href);
    } catch {
      return folder.href;
    }
    const inside = url.origin === location.origin && url.pathname.startsWith(folder.pathname);
    if (!inside || url.pathname === location.pathname) return folder.href;
    for (const name of ["api_key", "token"]) {
      if (url.searchParams.has(name)) url.searchParams.delete(name);
    }
    // A browser carries the fragment of the first address along the redirect to this page.
    const own = ["", "#invalid", "#locked"].includes(location.hash);
    if (!url.hash && !own) url.hash = location.hash;
    return url.href;
  }

  // Storage throws where the browser blocks it; the cookie works without it.
  const areas = ["sessionStorage", "localStorage"];
  function inStorage(area, action) {
    try {
      return action(window[area]);
    } catch {
      return null;
    }
  }
  const forget = (area) => inStorage(area, (storage) => storage.removeItem(STORE));
  function keep(key, remember) {
    areas.forEach(forget);
    inStorage(remember ? "localStorage" : "sessionStorage", (storage) => storage.setItem(STORE, key));
  }

  function call(method, path, key, body) {
    const headers = {};
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body) headers["Content-Type"] = "application/json";
    return fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      keepalive: method === "DELETE",
      signal: AbortSignal.timeout(20_000),
    });
  }

  function explain(answer) {
    if (answer.status === 401) return WRONG;
    if (answer.status !== 429) {
      return `The server answered with an error (${answer.status}). Try again, or look into its log.`;
    }
    const seconds = Number(answer.headers.get("Retry-After")) || 60;
    const minutes = Math.ceil(seconds / 60);
    const wait = seconds < 90 ? `${seconds} second${seconds === 1 ? "" : "s"}` : `${minutes} minutes`;
    return `Too many wrong keys from this address. Try again in ${wait}.`;
  }

  // Validates the key, opens a session and stores the key. Returns what went wrong, or "".
  async function logIn(key, remember) {
    if (!/^[\x21-\x7e]{1,1024}$/.test(key)) return WRONG;
    try {
      const health = await call("GET", "health", key);
      if (!health.ok) return explain(health);
      const session = await call("POST", "auth_session", key, { remember });
      // A server without sessions (404, 405) works with the stored key alone.
      if (session.status !== 404 && session.status !== 405) {
        if (!session.ok) return explain(session);
        // Without the cookie the start page would lead back here, again and again.
        if (!(await call("GET", "auth_session")).ok) {
          return "Your browser did not keep the session cookie. Allow cookies for this site, then try again.";
        }
      }
    } catch {
      return "The server can't be reached. Check that it is running, then try again.";
    }
    keep(key, remember);
    return "";
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

  const channel = "BroadcastChannel" in window ? new BroadcastChannel(STORE + folder.pathname) : null;

  function leave() {
    channel?.postMessage("login");
    location.replace(target);
  }

  async function onSubmit(event) {
    event.preventDefault();
    if (submit.disabled) return;
    const key = field.value.trim();
    conceal();
    say("error", "");
    say("notice", "");
    setBusy(true);
    const fault = key ? await logIn(key, form.elements.remember.checked) : "Enter your API key.";
    if (!fault) return leave();
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
  // A password manager offers to save what is a password field when the form is sent.
  const conceal = () => show(false);

  function onKey(event) {
    // Autofill sends key events that have no modifiers.
    if (event.getModifierState) say("caps", event.getModifierState("CapsLock") ? "Caps Lock is on." : "");
  }

  async function logOut() {
    areas.forEach(forget);
    say("notice", REASONS.logout);
    try {
      await call("DELETE", "auth_session");
    } catch {
      // The server forgets the session when it expires.
    }
    channel?.postMessage("logout");
  }

  // Goes on where the browser is logged in already: the page can be reached without the cookie by
  // a link on another site, or with a key in storage whose session has ended.
  async function resume() {
    if (submit.disabled) return undefined;
    try {
      if ((await call("GET", "auth_session")).ok) return leave();
    } catch {
      return undefined;
    }
    for (const area of areas) {
      const key = inStorage(area, (storage) => storage.getItem(STORE));
      if (!key) continue;
      setBusy(true);
      const fault = await logIn(key, area === "localStorage");
      if (!fault) return leave();
      setBusy(false);
      if (fault === WRONG) {
        forget(area);
        say("notice", "");
      }
      say("error", fault === WRONG ? EXPIRED : fault);
    }
    return undefined;
  }

  form.addEventListener("submit", onSubmit);
  reveal.hidden = false;
  reveal.addEventListener("mousedown", (event) => event.preventDefault()); // the caret stays in the field
  reveal.addEventListener("click", () => show(field.type === "password"));
  field.addEventListener("keydown", onKey);
  field.addEventListener("keyup", onKey);
  field.addEventListener("blur", () => say("caps", ""));
  document.querySelectorAll(".plain").forEach((note) => note.remove());

  // What the address says is said once: a reload starts afresh.
  const next = query.get("next");
  const hash = ["#invalid", "#locked"].includes(location.hash) ? "" : location.hash;
  history.replaceState(null, "", location.pathname + (next ? `?${new URLSearchParams({ next })}` : "") + hash);

  if (query.get("logout") === "true") {
    logOut();
  } else {
    if (query.get("error") === "invalid") say("error", WRONG);
    if (query.get("error") === "locked") say("error", "Too many wrong keys from this address. Wait a few minutes, then try again.");
    if (Object.hasOwn(REASONS, query.get("reason"))) say("notice", REASONS[query.get("reason")]);
    resume();
    if (channel) {
      channel.onmessage = ({ data }) => {
        if (data === "login") resume();
      };
    }
  }
})();

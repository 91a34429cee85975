// The login page's behaviour. The page is a form first: without this script the server handles its
// POST. All addresses are relative, so that a proxy may serve it below any folder.
(function () {
  "use strict";

  const STORE = "comfyui_api_key";
  // Changes with each log-out. A tab's key counts while that tab has the same word.
  const LOGGED_OUT = "comfyui_logged_out";
  // Something in front of the server uses Authorization for itself.
  const BY_COOKIE = "comfyui_by_cookie";
  const NOTES = ["#invalid", "#locked", "#ended"];
  const WRONG = "Wrong key. Check it and try again.";
  const UNREACHABLE = "The server can't be reached. Check that it is running, then try again.";
  const REASONS = {
    ended: "Your session has ended. Enter a valid key to continue.",
    expired: "Your key is no longer accepted. Enter a valid key to continue.",
    logout: "You are logged out.",
  };

  const byId = (id) => document.getElementById(id);
  const form = document.querySelector("form");
  const field = byId("api_key");
  const reveal = byId("reveal");
  const submit = form.querySelector(".submit");
  const leaving = byId("logout") ?? document.createElement("button");

  const folder = new URL(".", location.href);
  const query = new URLSearchParams(location.search);
  const target = destination();

  // `next` is a path as the server sees it; behind a proxy's folder it continues there. What leads
  // elsewhere, or back here, becomes the start page.
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
    if (!url.hash && !NOTES.includes(location.hash)) url.hash = location.hash;
    return url.href;
  }

  // Storage throws where the browser blocks it; the cookie works without it.
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

  function call(method, path, headers, body) {
    return fetch(path, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      body: body && JSON.stringify(body),
      cache: "no-store",
      keepalive: method === "DELETE",
      signal: AbortSignal.timeout(20_000),
    });
  }

  const isRefusal = ({ status, headers }) =>
    status === 401 && /(^|, )Bearer realm="ComfyUI"/.test(headers.get("WWW-Authenticate"));

  function explain(answer) {
    if (isRefusal(answer)) return WRONG;
    if (answer.status !== 429) {
      return `The server answered with an error (${answer.status}). Try again, or look into its log.`;
    }
    const seconds = Number(answer.headers.get("Retry-After")) || 60;
    const wait = seconds < 90 ? `${seconds} second${seconds === 1 ? "" : "s"}` : `${Math.ceil(seconds / 60)} minutes`;
    return `Too many wrong keys from this address. Try again in ${wait}.`;
  }

  // Such a server works with the stored key alone.
  const hasNoSessions = ({ status }) => status === 404 || status === 405;

  // Validates the key, opens a session, stores the key. Returns what went wrong, or "". Leaves
  // Authorization to what is in front.
  async function logIn(key, remember) {
    if (!/^[\x21-\x7e]{1,1024}$/.test(key)) return WRONG;
    try {
      const health = await call("GET", "health", { "X-API-Key": key });
      // Something in front may use that field, too: the log-in knows better.
      if (!health.ok && !isRefusal(health)) return explain(health);
      const session = await call("POST", "auth_session", {}, { api_key: key, remember });
      if (hasNoSessions(session)) {
        if (!health.ok) return explain(health);
      } else {
        if (!session.ok) return explain(session);
        // Without the cookie the start page would lead back here.
        if (!(await call("GET", "auth_session")).ok) {
          return "Your browser did not keep the session cookie. Allow cookies for this site, then try again.";
        }
      }
      write("localStorage", BY_COOKIE, session.headers.get("X-Auth-Authorization-Seen"));
      hearOfLogOut();
      areas.forEach(forget);
      write(remember ? "localStorage" : "sessionStorage", STORE, key);
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

  function leave() {
    channel?.postMessage("login");
    location.replace(target);
  }

  async function onSubmit(event) {
    event.preventDefault();
    if (submit.disabled) return;
    const key = field.value.trim();
    show(false); // a password manager offers to save what is a password field now
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

  function onKey(event) {
    // Autofill sends key events that have no modifiers.
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
      else say("error", explain(answer));
    } catch {
      say("error", UNREACHABLE);
    }
    channel?.postMessage("logout");
  }

  // The server tells what Sec-Fetch-Site said; over plain HTTP browsers send none.
  function isLedHere() {
    const [visit] = performance.getEntriesByType("navigation");
    const site = visit?.serverTiming?.find(({ name }) => name === "site")?.description;
    if (site) return !["same-origin", "none"].includes(site);
    return !`${document.referrer}/`.startsWith(`${location.origin}/`) && document.referrer !== "";
  }

  function onLogOutLink() {
    if (document.prerendering) {
      document.addEventListener("prerenderingchange", onLogOutLink, { once: true });
    } else if (isLedHere()) {
      leaving.hidden = false;
      say("notice", "Another site led you here. Log out only if you want to.");
    } else {
      logOut();
    }
  }

  // Goes on where the browser is logged in already: a link on another site leads here without the
  // cookie, and a stored key outlives its session.
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

  // What the address says is said once.
  const next = query.get("next");
  const hash = NOTES.includes(location.hash) ? "" : location.hash;
  history.replaceState(null, "", location.pathname + (next ? `?${new URLSearchParams({ next })}` : "") + hash);

  if (query.get("logout") === "true") {
    onLogOutLink();
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

// The page that asks whether to log in with the key in a link. Without this script it is a plain form. The script removes
// the key from the address bar, and logs in by itself if no other site led here and no other key is in use.
(function () {
  "use strict";

  // See auth_login.js.
  const STORE = "comfyui_api_key";
  const form = document.querySelector("form");
  const key = form.elements.api_key.value;

  // Resolve relative URLs before the page's own URL changes.
  form.action = new URL(form.getAttribute("action"), location.href).href;
  for (const link of document.querySelectorAll("a")) link.href = new URL(link.getAttribute("href"), location.href).href;
  history.replaceState(null, "", form.dataset.target);

  function inStorage(area, method) {
    try {
      return window[area][method](STORE);
    } catch {
      return null; // the browser blocks it
    }
  }
  const areas = ["sessionStorage", "localStorage"];
  const isOthers = (area) => ![null, key].includes(inStorage(area, "getItem"));

  // Otherwise scripts would go on using another key.
  function forgetOthers() {
    for (const area of areas) if (isOthers(area)) inStorage(area, "removeItem");
  }

  // Over plain HTTP, browsers don't tell the server that another site led here, but most tell this page.
  const isLedHere = () => document.referrer !== "" && !document.referrer.startsWith(`${location.origin}/`);

  async function logIn() {
    if (isLedHere() || areas.some(isOthers)) return;
    const answer = await fetch(form.action, { cache: "no-store" });
    await answer.text();
    if (answer.status === 401) form.submit();
  }

  form.addEventListener("submit", forgetOthers);
  if (form.dataset.byItself === undefined) return;
  const tryToLogIn = () => logIn().catch(() => {}); // the button is there
  if (document.prerendering) document.addEventListener("prerenderingchange", tryToLogIn, { once: true });
  else tryToLogIn();
})();

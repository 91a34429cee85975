// The login page against a real HTTP server that answers like ours.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { CHALLENGE, KEY, OTHER_KEY, closePages, openPage, serve, settled, until } from "./browser.mjs";

const UNREACHABLE = /^The server can't be reached\./;

// How a page is reached when another site may have led there.
const LED = [
  { site: "cross-site" },
  { site: "same-site" },
  { site: "", referrer: "http://other.example/" },
  { site: "", referrer: "http://127.0.0.1:1/" },
  { site: "", referrer: "" },
  { site: "same-origin", navigation: "back_forward" },
  { site: "none", navigation: "reload" },
  { globals: { performance: { getEntriesByType: () => [] } } },
];

const EXPIRED = "Your key is no longer accepted. Enter a valid key to continue.";

describe("auth_login.js", () => {
  let server;
  let valid;
  let overrides;

  beforeEach(async () => {
    valid = new Set([KEY]);
    overrides = {};
    server = await serve(({ method, url, headers, body }) => {
      const path = url.slice(url.lastIndexOf("/"));
      const override = overrides[`${method} ${path}`];
      if (override !== undefined) return override;
      const key = path === "/health" ? headers["x-api-key"] : body && JSON.parse(body).api_key;
      const refused = { status: 401, headers: { "WWW-Authenticate": CHALLENGE } };
      if (path === "/health") return !key || valid.has(key) ? {} : refused;
      if (method === "POST") {
        const seen = headers.authorization && { "X-Auth-Authorization-Seen": "true" };
        return valid.has(key) ? { status: 204, headers: { "Set-Cookie": "s=1; Path=/", ...seen } } : refused;
      }
      if (method === "DELETE") return { status: 204, headers: { "Set-Cookie": "s=; Max-Age=0" } };
      return headers.cookie ? { status: 204 } : refused;
    });
  });

  afterEach(() => {
    closePages();
    server.close();
  });

  function open(query = "", options = {}, folder = "/") {
    const page = openPage({ href: `${server.origin}${folder}auth_login.html${query}`, site: "none", ...options });
    page.offered = () => page.document.form.calls.map(({ href, textContent }) => [href, textContent]);
    const element = (id) => page.document.getElementById(id);
    page.field = element("api_key");
    page.error = () => element("error").textContent;
    page.notice = () => element("notice").textContent;
    page.submit = (key, remember = false) => {
      page.field.value = key;
      page.document.form.elements.remember.checked = remember;
      page.document.form.emit("submit");
    };
    if (options.cookie) page.cookies.set("s", "1");
    page.run("auth_login.js");
    return page;
  }

  const calls = () => server.seen.map(({ method, url }) => `${method} ${url}`);

  describe("logging in", () => {
    test("validates the key at health, opens a session, then stores the key", async () => {
      const page = open();
      await settled();
      server.seen.length = 0;
      page.submit(KEY);
      await until(() => page.went.length);
      assert.deepEqual(calls(), ["GET /health", "POST /auth_session", "GET /auth_session"]);
      assert.equal(server.seen[0].headers["x-api-key"], KEY);
      assert.equal(server.seen[1].headers["content-type"], "application/json");
      assert.deepEqual(JSON.parse(server.seen[1].body), { api_key: KEY, remember: false });
      assert.ok(server.seen.every(({ headers }) => !headers.authorization), "somebody in front may use it");
      assert.deepEqual(page.kept(), { local: null, session: KEY });
      assert.deepEqual(page.went, [`${server.origin}/`]);
    });

    test("remembers in localStorage, and nowhere else", async () => {
      const page = open("", { stored: { session: OTHER_KEY } });
      await until(() => page.error() === EXPIRED);
      page.window.sessionStorage.setItem("comfyui_api_key", OTHER_KEY);
      page.submit(KEY, true);
      await until(() => page.went.length);
      const { body } = server.seen.findLast(({ method }) => method === "POST");
      assert.deepEqual(JSON.parse(body), { api_key: KEY, remember: true });
      assert.deepEqual(page.kept(), { local: KEY, session: null });
    });

    test("takes the white space off a pasted key", async () => {
      const page = open();
      page.submit(` \t${KEY}\n`);
      await until(() => page.went.length);
      assert.equal(page.kept().session, KEY);
    });

    test("reads every answer, and waits for none longer than 20 s where the browser can", async () => {
      const page = openPage({ href: `${server.origin}/auth_login.html`, site: "none", globals: { AbortSignal } });
      const answers = [];
      page.window.fetch = ((native) => async (path, init) => {
        assert.ok(init.signal instanceof AbortSignal);
        answers.push(await native(path, init));
        return answers.at(-1);
      })(page.window.fetch);
      page.run("auth_login.js");
      await until(() => answers.length);
      page.document.getElementById("api_key").value = KEY;
      page.document.form.emit("submit");
      await until(() => page.went.length);
      assert.equal(answers.length, 4);
      assert.ok(answers.every(({ body, bodyUsed }) => !body || bodyUsed));
    });

    test("a wrong key: says so, selects the field's text, stores nothing", async () => {
      const page = open();
      page.submit("wrong");
      await until(() => page.error());
      assert.match(page.error(), /^Wrong key\./);
      assert.deepEqual(page.field.calls, ["focus", "select"]);
      assert.equal(page.field.attributes["aria-invalid"], "true");
      assert.equal(page.document.submit.disabled, false);
      assert.deepEqual(page.kept(), { local: null, session: null });
      assert.deepEqual(page.went, []);
    });

    for (const key of ["schlüssel", "two words", "ключ", "x".repeat(1025)]) {
      test(`what can't be a key is not sent: ${key.slice(0, 10)}`, async () => {
        const page = open();
        page.submit(key);
        await until(() => page.error());
        assert.match(page.error(), /^Wrong key\./);
        assert.ok(!calls().includes("GET /health"));
      });
    }

    test("an empty field is named", async () => {
      const page = open();
      page.submit("  ");
      await until(() => page.error() === "Enter your API key.");
    });

    for (const [seconds, words] of [["1", "1 second."], ["45", "45 seconds."], ["900", "15 minutes."]]) {
      test(`a locked address: try again in ${words}`, async () => {
        overrides["GET /health"] = { status: 429, headers: { "Retry-After": seconds } };
        const page = open();
        page.submit(KEY);
        await until(() => page.error().endsWith(`Try again in ${words}`));
      });
    }

    test("a key that is removed between the two steps is wrong, and not stored", async () => {
      overrides["POST /auth_session"] = { status: 401, headers: { "WWW-Authenticate": CHALLENGE } };
      const page = open();
      page.submit(KEY);
      await until(() => page.error().startsWith("Wrong key."));
      assert.deepEqual(page.kept(), { local: null, session: null });
    });

    test("a server error and a server that is gone are told apart", async () => {
      overrides["GET /health"] = { status: 500 };
      const page = open();
      page.submit(KEY);
      await until(() => page.error().includes("(500)"));
      server.close();
      page.submit(KEY);
      await until(() => UNREACHABLE.test(page.error()));
      assert.deepEqual(page.kept(), { local: null, session: null });
    });

    for (const status of [404, 405]) {
      test(`a server without sessions (${status}) works with the stored key alone`, async () => {
        overrides["POST /auth_session"] = { status };
        const page = open();
        page.submit(KEY);
        await until(() => page.went.length);
        assert.equal(page.kept().session, KEY);
      });
    }

    test("a 401 of something in front is not called a wrong key", async () => {
      for (const call of ["POST /auth_session", "GET /health"]) {
        overrides[call] = { status: 401, headers: { "WWW-Authenticate": 'Basic realm="nginx"' } };
        const page = open();
        page.submit(KEY);
        await until(() => page.error().includes("(401)"));
        assert.deepEqual(page.kept(), { local: null, session: null });
      }
    });

    test("something in front that uses X-API-Key, too, does not stop the log-in", async () => {
      overrides["GET /health"] = { status: 401, headers: { "WWW-Authenticate": `${CHALLENGE}, error="invalid_token"` } };
      const page = open();
      page.submit(KEY);
      await until(() => page.went.length);
    });

    test("notes whether something in front uses Authorization", async () => {
      const page = open();
      page.window.fetch = ((native) => (input, init) =>
        native(input, { ...init, headers: { ...init.headers, Authorization: "Bearer a.b.c" } }))(page.window.fetch);
      page.submit(KEY);
      await until(() => page.went.length);
      assert.equal(page.window.localStorage.getItem("comfyui_by_cookie"), "true");
      assert.equal(page.kept().session, KEY);
      const without = open("", { localStorage: page.window.localStorage });
      without.submit(KEY);
      await until(() => without.went.length);
      assert.equal(page.window.localStorage.getItem("comfyui_by_cookie"), null);
    });

    test("a browser that refuses the cookie is told so, instead of being led in a circle", async () => {
      overrides["POST /auth_session"] = { status: 204 };
      const page = open();
      page.submit(KEY);
      await until(() => page.error().includes("did not keep the session cookie"));
      assert.deepEqual(page.went, []);
      assert.deepEqual(page.kept(), { local: null, session: null });
    });

    test("a browser that blocks storage still logs in", async () => {
      const page = openPage({ href: `${server.origin}/auth_login.html` });
      for (const area of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(page.window, area, {
          get() {
            throw new Error("SecurityError");
          },
        });
      }
      page.run("auth_login.js");
      page.document.getElementById("api_key").value = KEY;
      page.document.form.emit("submit");
      await until(() => page.went.length);
    });
  });

  describe("on load", () => {
    test("goes on where the session's cookie is there", async () => {
      const page = open("?next=%2Fview", { cookie: true });
      await until(() => page.went.length);
      assert.deepEqual(page.went, [`${server.origin}/view`]);
    });

    for (const [area, remember] of [["local", true], ["session", false]]) {
      test(`tries a key in ${area}Storage once, without asking, and keeps it there`, async () => {
        const page = open("", { stored: { [area]: KEY } });
        await until(() => page.went.length);
        assert.deepEqual(page.kept(), { local: null, session: null, [area]: KEY });
        const post = server.seen.find(({ method }) => method === "POST");
        assert.deepEqual(JSON.parse(post.body), { api_key: KEY, remember });
      });
    }

    test("removes a stored key that is refused, and says why", async () => {
      const page = open("?reason=expired", { stored: { local: OTHER_KEY, session: OTHER_KEY } });
      await until(() => page.error() === EXPIRED && page.kept().local === null);
      assert.deepEqual(page.kept(), { local: null, session: null });
      assert.equal(page.notice(), "");
      assert.deepEqual(page.went, []);
    });

    test("keeps a stored key where the server can't tell", async () => {
      overrides["GET /health"] = { status: 429, headers: { "Retry-After": "30" } };
      const page = open("", { stored: { local: KEY } });
      await until(() => page.error().includes("30 seconds"));
      assert.equal(page.kept().local, KEY);
    });

    for (const [query, id, text] of [
      ["?error=invalid", "error", /^Wrong key\./],
      ["?error=locked", "error", /^Too many wrong keys/],
      ["?reason=expired", "notice", /^Your key is no longer accepted/],
      ["?reason=ended", "notice", /^Your session has ended/],
      ["?reason=toString", "notice", /^$/],
      ["?error=%3Cimg%3E", "error", /^$/],
    ]) {
      test(`${query} is explained, and taken out of the address`, async () => {
        const page = open(`${query}&next=%2Fa%3Fb`);
        await settled();
        assert.match(page.document.getElementById(id).textContent, text);
        assert.equal(page.window.address, "/auth_login.html?next=%2Fa%3Fb");
      });
    }
  });

  describe("logging out", () => {
    test("forgets the key and the session, says so, and does not log in again", async () => {
      const page = open("?logout=true&next=%2Fa", { cookie: true, stored: { local: KEY, session: KEY } });
      await settled();
      assert.deepEqual(page.kept(), { local: null, session: null });
      assert.deepEqual(calls(), ["DELETE /auth_session"]);
      assert.equal(page.cookies.size, 0);
      assert.equal(page.notice(), "You are logged out.");
      assert.equal(page.window.address, "/auth_login.html?next=%2Fa");
      assert.deepEqual(page.went, []);
    });

    for (const options of [
      { site: "none" },
      { site: "same-origin", referrer: "http://other.example/" },
      { site: "", referrer: "OURS" },
      { site: "session" },
    ]) {
      test(`at once where nobody else led there: ${JSON.stringify(options)}`, async () => {
        const referrer = options.referrer?.replace("OURS", `${server.origin}/a?b`);
        const page = open("?logout=true", { cookie: true, ...options, referrer });
        await until(() => page.notice() === "You are logged out.");
        assert.equal(page.document.getElementById("logout").hidden, true);
      });
    }

    for (const options of [
      { site: "cross-site" },
      { site: "same-site" },
      ...LED.slice(2),
    ]) {
      test(`by a click where another site led there: ${JSON.stringify(options)}`, async () => {
        const page = open("?logout=true", { cookie: true, stored: { session: KEY }, ...options });
        const button = page.document.getElementById("logout");
        await settled();
        assert.deepEqual([calls(), page.cookies.size, page.kept().session, page.went], [[], 1, KEY, []]);
        assert.equal(button.hidden, false);
        assert.match(page.notice(), /^Another site may have sent you here\./);
        button.emit("click");
        await until(() => page.notice() === "You are logged out.");
        assert.deepEqual([calls(), page.cookies.size, page.kept().session], [["DELETE /auth_session"], 0, null]);
      });
    }

    test("not before a page that was loaded in advance is shown", async () => {
      const page = openPage({ href: `${server.origin}/auth_login.html?logout=true`, site: "none" });
      page.document.prerendering = true;
      page.run("auth_login.js");
      await settled();
      assert.deepEqual(calls(), []);
      page.document.prerendering = false;
      page.document.emit("prerenderingchange");
      await until(() => page.document.getElementById("notice").textContent === "You are logged out.");
    });

    for (const [name, answer, text] of [
      ["refuses", { status: 403 }, /from here\. Check its log/],
      ["cannot store it", { status: 503 }, /^You are logged out here, but this could not be stored\./],
      ["is gone", null, UNREACHABLE],
    ]) {
      test(`says so where the server ${name}`, async () => {
        overrides["DELETE /auth_session"] = answer;
        const page = open("?logout=true", { cookie: true });
        await until(() => text.test(page.error()));
        assert.equal(page.notice(), "");
      });
    }

    test("ends what a tab keeps that slept", async () => {
      const sleeper = open("", { stored: {} });
      sleeper.submit(KEY);
      await until(() => sleeper.went.length);
      const { localStorage, sessionStorage } = sleeper.window;
      closePages();
      open("?logout=true", { localStorage });
      await until(() => calls().includes("DELETE /auth_session"));
      server.seen.length = 0;
      const page = openPage({ href: `${server.origin}/auth_login.html`, localStorage, globals: { sessionStorage } });
      page.run("auth_login.js");
      await settled();
      assert.deepEqual([calls(), page.kept(), page.went], [["GET /auth_session"], { local: null, session: null }, []]);
      page.document.getElementById("api_key").value = KEY;
      page.document.form.emit("submit");
      await until(() => page.went.length);
      assert.equal(page.kept().session, KEY, "a new log-in counts");
    });

    test("tells the other tabs once the session is gone", async () => {
      const heard = [];
      const other = openPage({ href: server.origin });
      const channel = new other.window.BroadcastChannel("comfyui_api_key/");
      channel.onmessage = ({ data }) => heard.push([data, ...calls()]);
      open("?logout=true");
      await until(() => heard.length);
      assert.deepEqual(heard, [["logout", "DELETE /auth_session"]]);
    });
  });

  describe("next", () => {
    const goal = async (next, folder = "/", hash = "") => {
      const query = next === null ? "" : `?next=${encodeURIComponent(next)}`;
      const page = open(query + hash, { cookie: true }, folder);
      await until(() => page.went.length);
      return page.went[0];
    };

    for (const [next, path] of [
      ["/", "/"],
      ["/view?filename=a%20b.png&type=output", "/view?filename=a%20b.png&type=output"],
      ["/?workflow=x#node-1", "/?workflow=x#node-1"],
      ["/?api_key=SECRET&a=1&token=SECRET", "/?a=1"],
    ]) {
      test(`follows ${next}`, async () => assert.equal(await goal(next), server.origin + path));
    }

    test("continues below a proxy's folder", async () => {
      assert.equal(await goal("/view?x=1", "/comfy/"), `${server.origin}/comfy/view?x=1`);
    });

    test("keeps the fragment that the browser carried along", async () => {
      assert.equal(await goal("/", "/", "#workflow"), `${server.origin}/#workflow`);
      assert.equal(await goal("/", "/", "#invalid"), `${server.origin}/`);
    });

    for (const options of [...LED, { site: "session" }]) {
      test(`is offered where another site may have led there: ${JSON.stringify(options)}`, async () => {
        for (const stored of [{}, { local: KEY }]) {
          const page = open("?next=%2Fvictim%2Fboom", { cookie: !stored.local, stored, ...options });
          await until(() => page.offered().length);
          assert.deepEqual(page.went, []);
          assert.deepEqual(page.offered(), [[`${server.origin}/victim/boom`, "Continue to /victim/boom"]]);
          assert.equal(page.document.submit.disabled, false);
        }
        const page = open("?next=%2F%3Fa", { cookie: true, ...options });
        await until(() => page.went.length);
        assert.deepEqual(page.went, [`${server.origin}/?a`], "the start page");
      });

      test(`is followed once a key is typed: ${JSON.stringify(options)}`, async () => {
        const page = open("?next=%2Fa", options);
        await settled();
        page.submit(KEY);
        await until(() => page.went.length);
        assert.deepEqual(page.went, [`${server.origin}/a`]);
      });
    }

    test("is not followed when somebody logs in in another tab", async () => {
      const page = open("?next=%2Fvictim", { site: "cross-site" });
      await settled();
      page.cookies.set("s", "1");
      const other = openPage({ href: server.origin });
      new other.window.BroadcastChannel("comfyui_api_key/").postMessage("login");
      await until(() => page.offered().length);
      assert.deepEqual(page.went, []);
    });

    for (const next of [
      null,
      "",
      "//evil.example",
      "///evil.example",
      "/\\evil.example",
      "\\\\evil.example",
      "/\t/evil.example",
      "/\n/evil.example",
      "\t//evil.example",
      " //evil.example",
      "/..//evil.example",
      "/../other/",
      "/%2e%2e/other/",
      "/./..//evil.example",
      "//user:pass@evil.example",
      "//evil.example:80\\@x",
      "@evil.example",
      ".evil.example",
      ":80@evil.example",
      "javascript:alert(1)",
      "JaVaScRiPt:alert(1)",
      "/javascript:alert(1)",
      "data:text/html,x",
      "blob:x",
      "https:evil.example",
      "https://evil.example/",
      "http:evil.example",
      "/auth_login.html",
      "/auth_login.html?logout=true",
      "/api/auth_login.html?next=/victim",
      "//auth_login.html?logout=true",
      "/api/../x",
      "%2Fvictim",
      "%252Fvictim",
      `/${"a".repeat(10_000)}`,
      "/\u0000",
      "/\u2028//evil.example",
      "/@evil.example",
      "/?next=//evil.example",
      "null",
    ]) {
      test(`stays below the folder with ${JSON.stringify(next)?.slice(0, 40)}`, async () => {
        const url = new URL(await goal(next, "/comfy/"));
        assert.equal(url.origin, server.origin);
        assert.ok(url.pathname.startsWith("/comfy/"), url.pathname);
        assert.doesNotMatch(url.pathname, /auth_login/);
        if (!next?.startsWith("/") || next.length > 4096) assert.equal(url.pathname, "/comfy/");
      });
    }
  });

  describe("the field", () => {
    test("shows the key without moving the caret, and hides it before it is sent", async () => {
      const page = open();
      const reveal = page.document.getElementById("reveal");
      assert.equal(reveal.hidden, false);
      Object.assign(page.field, { value: KEY, selectionStart: 3, selectionEnd: 5 });
      reveal.emit("click");
      assert.equal(page.field.type, "text");
      assert.equal(reveal.attributes["aria-pressed"], "true");
      assert.deepEqual([page.field.selectionStart, page.field.selectionEnd], [3, 5]);
      page.submit(KEY);
      assert.equal(page.field.type, "password");
      await until(() => page.went.length);
    });

    test("tells that Caps Lock is on, and survives autofill's bare key events", () => {
      const page = open();
      const caps = page.document.getElementById("caps");
      page.field.emit("keydown", { getModifierState: (name) => name === "CapsLock" });
      assert.equal(caps.textContent, "Caps Lock is on.");
      page.field.emit("keyup");
      page.field.emit("keyup", { getModifierState: () => false });
      assert.equal(caps.textContent, "");
    });

    test("a second submit while the first is under way does nothing", async () => {
      const page = open();
      page.submit(KEY);
      page.submit(KEY);
      await until(() => page.went.length);
      assert.equal(calls().filter((call) => call === "POST /auth_session").length, 1);
    });
  });
});

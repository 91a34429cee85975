// The script that ComfyUI's page loads first, against real servers.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { CHALLENGE, KEY, OTHER_KEY, closePages, openPage, serve, settled, until } from "./browser.mjs";

const BASIC = 'Basic realm="in front"';

describe("auth_inject.js", () => {
  let server;
  let foreign;
  let sessionStatus;
  let session; // what the server says about it
  let gate; // the only Authorization that the login in front lets through

  beforeEach(async () => {
    sessionStatus = 200;
    session = JSON.stringify({ label: null });
    gate = null;
    const answer = ({ url, headers }) => {
      const { pathname, searchParams } = new URL(url, "http://server");
      if (gate && headers.authorization !== gate) return { status: 401, headers: { "WWW-Authenticate": BASIC } };
      if (pathname.endsWith("/auth_session")) {
        const challenge = sessionStatus === 401 ? { "WWW-Authenticate": CHALLENGE } : {};
        return sessionStatus && { status: sessionStatus, headers: challenge, body: session };
      }
      if (pathname.endsWith("/redirect")) return { status: 307, headers: { Location: searchParams.get("to") } };
      if (searchParams.has("challenge")) {
        const status = Number(searchParams.get("status") ?? 401);
        return { status, headers: { "WWW-Authenticate": searchParams.get("challenge") }, body: "no" };
      }
      return {};
    };
    server = await serve(answer);
    foreign = await serve(answer);
  });

  afterEach(() => {
    closePages();
    server.close();
    foreign.close();
  });

  function open({ path = "/", folder = "/", ...options } = {}) {
    const href = server.origin + path;
    const page = openPage({ href, script: `${server.origin}${folder}auth_inject.js`, ...options });
    page.native = page.window.fetch;
    page.run("auth_inject.js");
    page.fetch = page.window.fetch;
    page.xhr = (...args) => {
      const request = new page.window.XMLHttpRequest();
      request.open(...args);
      return request;
    };
    return page;
  }

  const stored = { local: KEY };
  const sent = (recorder = server) => recorder.seen.at(-1).headers;
  const bearer = `Bearer ${KEY}`;
  const refused = `/queue?challenge=${encodeURIComponent(`${CHALLENGE}, error="invalid_token"`)}`;

  describe("adds the key", () => {
    for (const [name, area] of [["localStorage", "local"], ["sessionStorage", "session"]]) {
      test(`that ${name} holds`, async () => {
        await open({ stored: { [area]: KEY } }).fetch("/prompt");
        assert.equal(sent().authorization, bearer);
      });
    }

    test("of this tab first", async () => {
      await open({ stored: { session: KEY, local: OTHER_KEY } }).fetch("/prompt");
      assert.equal(sent().authorization, bearer);
    });

    test("as it is at the time of the request", async () => {
      const page = open();
      await page.fetch("/prompt");
      assert.equal(sent().authorization, undefined);
      page.window.localStorage.setItem("comfyui_api_key", KEY);
      await page.fetch("/prompt");
      assert.equal(sent().authorization, bearer);
    });

    for (const [name, input] of [
      ["a path", () => "/queue"],
      ["a relative address", () => "queue"],
      ["a URL object", () => new URL(`${server.origin}/queue`)],
      ["an object with toString", () => ({ toString: () => "/queue" })],
      ["a Request", () => new Request(`${server.origin}/queue`)],
    ]) {
      test(`to ${name}`, async () => {
        await open({ stored }).fetch(input());
        assert.equal(sent().authorization, bearer);
      });
    }

    for (const [name, init] of [
      ["a record", { headers: { "X-Own": "1" } }],
      ["pairs", { headers: [["X-Own", "1"]] }],
      ["Headers", { headers: new Headers({ "X-Own": "1" }) }],
      ["an iterator that can be read once", { headers: new Map([["X-Own", "1"]]).entries() }],
      ["an inherited option", Object.create({ headers: { "X-Own": "1" } })],
    ]) {
      test(`beside the caller's headers as ${name}`, async () => {
        await open({ stored }).fetch("/queue", init);
        assert.deepEqual([sent()["x-own"], sent().authorization], ["1", bearer]);
      });
    }

    test("to a relative address as <base> resolves it", async () => {
      const page = open({ stored, base: `${foreign.origin}/` });
      await page.fetch("queue");
      assert.equal(sent(foreign).authorization, undefined);
      await page.fetch(`${server.origin}/queue`);
      assert.equal(sent().authorization, bearer);
    });
  });

  describe("never adds it", () => {
    for (const key of ["line\nbreak", "ключ", "two words"]) {
      test(`where it can't be a header's value: ${JSON.stringify(key)}`, async () => {
        const response = await open({ stored: { local: key } }).fetch("/prompt");
        assert.equal(response.status, 200);
        assert.equal(sent().authorization, undefined);
      });
    }

    for (const name of ["Authorization", "authorization", "X-API-Key", "x-api-key"]) {
      test(`over the caller's ${name}`, async () => {
        const page = open({ stored });
        const expected = { [name.toLowerCase()]: "mine" };
        for (const go of [
          () => page.fetch("/a", { headers: { [name]: "mine" } }),
          () => page.fetch(new Request(`${server.origin}/a`, { headers: { [name]: "mine" } })),
          () => page.fetch(new Request(`${server.origin}/a`), { headers: [[name, "mine"]] }),
        ]) {
          await go();
          const { authorization, "x-api-key": header } = sent();
          assert.deepEqual({ authorization, "x-api-key": header }, { authorization: undefined, "x-api-key": undefined, ...expected });
        }
      });
    }

    test("to another origin", async () => {
      const page = open({ stored });
      const host = foreign.origin.replace("http:", "");
      for (const input of [
        `${foreign.origin}/a`,
        `${host}/a`,
        `\\\\${host.slice(2)}/a`,
        ` \t${foreign.origin}/a`,
        new URL(`${foreign.origin}/a`),
        new Request(`${foreign.origin}/a`),
      ]) {
        foreign.seen.length = 0;
        await page.fetch(input);
        assert.equal(sent(foreign).authorization, undefined);
      }
    });

    test("to another origin that a Request or an address pretends not to be", async () => {
      const page = open({ stored });
      class Disguised extends Request {
        get url() {
          return `${server.origin}/a`;
        }
      }
      await page.fetch(new Disguised(`${foreign.origin}/a`));
      let reads = 0;
      await page.fetch({ toString: () => (reads++ ? `${foreign.origin}/a` : `${server.origin}/a`) });
      assert.ok(foreign.seen.length === 1 && server.seen.length === 1);
      assert.equal(sent(foreign).authorization, undefined);
    });

    test("along a redirect to another origin", async () => {
      const to = encodeURIComponent(`${foreign.origin}/a`);
      await open({ stored }).fetch(`/redirect?to=${to}`);
      assert.equal(sent().authorization, bearer);
      assert.equal(sent(foreign).authorization, undefined);
    });

    test("to a neighbour outside the script's folder", async () => {
      const page = open({ stored, path: "/comfy/", folder: "/comfy/" });
      for (const [path, expected] of [
        ["/comfy/queue", bearer],
        ["queue", bearer],
        ["/comfy/a/../queue", bearer],
        ["/other/queue", undefined],
        ["/comfyish/queue", undefined],
        ["../other", undefined],
        ["/comfy/../other", undefined],
        ["/comfy/%2e%2e/other", undefined],
        ["/comfy\\..\\other", undefined],
      ]) {
        await page.fetch(path);
        assert.equal(sent().authorization, expected, path);
      }
    });

    test("to data: and blob: addresses", async () => {
      const page = open({ stored });
      const blob = `blob:${server.origin}/${crypto.randomUUID()}`;
      assert.equal(await (await page.fetch("data:,text")).text(), "text");
      await assert.rejects(page.fetch(blob));
      assert.equal(server.seen.length, 0);
    });
  });

  describe("behind something that uses Authorization for itself", () => {
    // Like a browser that was asked for a password: it adds its own header where the page sets none.
    function behind(options = {}) {
      gate = "Basic b3duOnB3";
      const page = openPage({ href: `${server.origin}/`, script: `${server.origin}/auth_inject.js`, stored, ...options });
      const native = page.window.fetch;
      page.window.fetch = (input, init) => {
        const request = new Request(input instanceof Request ? input : new URL(input, server.origin), init);
        if (!request.headers.has("Authorization")) request.headers.set("Authorization", gate);
        return native(request);
      };
      page.run("auth_inject.js");
      return page;
    }
    const authorizations = () => server.seen.map(({ headers }) => headers.authorization);

    for (const [name, go] of [
      ["GET", (page) => page.window.fetch("/queue")],
      ["a Request", (page) => page.window.fetch(new Request(`${server.origin}/queue`))],
      ["headers that can be read once", (page) =>
        page.window.fetch("/queue", { headers: new Map([["X-Own", "1"]]).entries() })],
      ["a text", (page) => page.window.fetch("/prompt", { method: "POST", body: "text" })],
      ["a form", (page) => page.window.fetch("/prompt", { method: "POST", body: new URLSearchParams("a=b") })],
    ]) {
      test(`sends ${name} again without the key, and relies on the cookie from then on`, async () => {
        const page = behind();
        assert.equal((await go(page)).status, 200);
        assert.deepEqual(authorizations(), [bearer, gate]);
        assert.equal(server.seen[0].body, server.seen[1].body);
        assert.equal(server.seen[0].headers["x-own"], server.seen[1].headers["x-own"]);
        await page.window.fetch("/queue");
        const other = behind({ localStorage: page.window.localStorage });
        await other.window.fetch("/queue");
        assert.deepEqual(authorizations(), [bearer, gate, gate, gate]);
      });
    }

    test("leaves no answer unread that nobody else reads", async () => {
      gate = "Bearer a.b.c";
      const answers = [];
      const fetch = async (...args) => {
        answers.push(await globalThis.fetch(...args));
        return answers.at(-1);
      };
      const page = open({ stored, globals: { fetch } });
      await page.fetch(`${server.origin}/queue`);
      assert.deepEqual(answers.map(({ bodyUsed }) => bodyUsed), [true, false]);
      gate = null;
      sessionStatus = 401;
      await page.fetch(`${server.origin}/a?challenge=${encodeURIComponent(CHALLENGE)}`);
      await until(() => page.went.length && answers.at(-1).bodyUsed);
      assert.match(answers.at(-1).url, /auth_session$/);
    });

    test("can't send a stream again, but the next request", async () => {
      const page = behind();
      const body = new Blob(["streamed"]).stream();
      assert.equal((await page.window.fetch("/prompt", { method: "POST", body, duplex: "half" })).status, 401);
      assert.equal((await page.window.fetch("/queue")).status, 200);
    });

    test("leads to the login page where the session has ended", async () => {
      sessionStatus = 401;
      const page = behind();
      await page.window.fetch(`/queue?challenge=${encodeURIComponent(CHALLENGE)}`);
      await until(() => page.went.length);
      assert.deepEqual(authorizations(), [bearer, gate, gate]);
    });

    test("keeps the key where the answer is no other without it: it is the page's own", async () => {
      const page = open({ stored });
      for (const number of [1, 2]) {
        const response = await page.fetch("/queue?challenge=Basic");
        assert.deepEqual([response.status, await response.text()], [401, "no"]);
        assert.equal(server.seen.length, 2 * number);
        assert.equal(server.seen.at(-2).headers.authorization, bearer);
      }
      assert.deepEqual(page.went, []);
    });

    test("never sends again what the caller gave its own credential", async () => {
      const page = open({ stored });
      await page.fetch("/queue?challenge=Basic", { headers: { "X-API-Key": "mine" } });
      assert.equal(server.seen.length, 1);
    });

    for (const asynchronous of [true, false]) {
      test(`an XMLHttpRequest, ${asynchronous ? "as most are" : "synchronous"}`, () => {
        const page = open({ stored });
        const request = new page.window.XMLHttpRequest();
        const seen = [];
        request.open("POST", "/queue", asynchronous);
        for (const type of ["readystatechange", "load", "loadend"]) {
          request.addEventListener(type, () => seen.push([type, request.readyState, request.status]));
        }
        request.setRequestHeader("X-Own", "1");
        if (!asynchronous) request.onSend = () => request.answer(request.headers().length === 2 ? 401 : 200, BASIC);
        request.send("body");
        if (asynchronous) {
          request.answer(401, BASIC);
          request.answer(200);
        }
        assert.deepEqual(request.calls, [
          ["open", "POST", "/queue", asynchronous],
          ["setRequestHeader", "X-Own", "1"],
          ["setRequestHeader", "Authorization", bearer],
          ["send", "body"],
          ["open", "POST", "/queue", asynchronous],
          ["setRequestHeader", "X-Own", "1"],
          ["send", "body"],
        ]);
        assert.deepEqual(seen, [["readystatechange", 4, 200], ["load", 4, 200], ["loadend", 4, 200]]);
        const next = page.xhr("GET", "/queue");
        next.send();
        assert.deepEqual(next.headers(), []);
      });
    }
  });

  describe("leaves fetch as it was", () => {
    test("to those who look at it", () => {
      const { window, native } = open({ stored });
      assert.notEqual(window.fetch, native);
      assert.equal(window.fetch.name, "fetch");
      assert.equal(window.fetch.length, 1);
      assert.match(Function.prototype.toString.call(window.fetch), /\{ \[native code\] \}$/);
      assert.match(`${window.XMLHttpRequest.prototype.open}`, /\[native code\]/);
    });

    test("a Request's body, signal and headers", async () => {
      const page = open({ stored });
      const request = new Request(`${server.origin}/a`, { method: "POST", body: "text", headers: { "X-Own": "1" } });
      await page.fetch(request);
      assert.equal(server.seen.at(-1).body, "text");
      assert.equal(sent()["x-own"], "1");
      assert.equal(request.bodyUsed, true);
      assert.equal(request.headers.has("Authorization"), false);
      await assert.rejects(page.fetch(request), TypeError);
    });

    test("a Request in the place of the options", async () => {
      const page = open({ stored });
      const options = new Request(`${foreign.origin}/b`, { method: "DELETE", headers: { "X-Own": "1" } });
      await page.fetch("/a", options);
      const { method, url } = server.seen.at(-1);
      assert.deepEqual([method, url, sent()["x-own"], sent().authorization], ["DELETE", "/a", "1", bearer]);
    });

    test("options beside a Request", async () => {
      const page = open({ stored });
      await page.fetch(new Request(`${server.origin}/a`), { method: "PUT", body: "text" });
      assert.deepEqual([server.seen.at(-1).method, server.seen.at(-1).body], ["PUT", "text"]);
    });

    test("streams and forms", async () => {
      const page = open({ stored });
      await page.fetch("/a", { method: "POST", body: new Blob(["streamed"]).stream(), duplex: "half" });
      assert.equal(server.seen.at(-1).body, "streamed");
      const form = new FormData();
      form.append("image", new Blob(["bytes"]), "a.png");
      await page.fetch("/upload/image", { method: "POST", body: form });
      assert.match(sent()["content-type"], /^multipart\/form-data; boundary=/);
      assert.match(server.seen.at(-1).body, /filename="a.png"[^]*bytes/);
    });

    test("an abort, with its reason", async () => {
      const page = open({ stored });
      const reason = new Error("enough");
      for (const input of ["/a", new Request(`${server.origin}/a`)]) {
        await assert.rejects(page.fetch(input, { signal: AbortSignal.abort(reason) }), reason);
      }
    });

    for (const [name, args] of [
      ["no argument", []],
      ["a bad address", ["http://["]],
      ["a bad header", ["/a", { headers: { "a b": "1" } }]],
      ["bad options", ["/a", 3]],
      ["a body with GET", ["/a", { body: "x" }]],
      ["a symbol", [Symbol("a")]],
      ["a server that isn't there", ["http://127.0.0.1:1/"]],
    ]) {
      test(`the error of ${name}`, async () => {
        const page = open({ stored });
        const fault = async (call) => call(...args).then(() => null, ({ name, message }) => ({ name, message }));
        const expected = await fault(page.native);
        assert.ok(expected);
        assert.deepEqual(await fault(page.fetch), expected);
      });
    }
  });

  describe("XMLHttpRequest", () => {
    test("gets the key when it is sent", () => {
      const request = open({ stored }).xhr("GET", "/queue");
      assert.deepEqual(request.headers(), []);
      request.send("body");
      assert.deepEqual(request.calls, [
        ["open", "GET", "/queue"],
        ["setRequestHeader", "Authorization", bearer],
        ["send", "body"],
      ]);
    });

    for (const name of ["Authorization", "AUTHORIZATION", "x-api-key"]) {
      test(`keeps the caller's ${name}, until it is opened again`, () => {
        const request = open({ stored }).xhr("GET", "/queue");
        request.setRequestHeader(name, "mine");
        request.send();
        assert.deepEqual(request.headers(), [[name, "mine"]]);
        request.open("GET", "/queue");
        request.send();
        assert.deepEqual(request.headers().at(-1), ["Authorization", bearer]);
      });
    }

    for (const [name, args] of [
      ["another origin", () => [foreign.origin]],
      ["a user and a password", () => ["/queue", true, "user", "pass"]],
      ["a user", () => ["/queue", true, "user"]],
      ["a user in the address", () => [server.origin.replace("//", "//user:pass@")]],
      ["a data: address", () => ["data:,text"]],
    ]) {
      test(`opened with ${name} is left alone`, () => {
        const request = open({ stored }).xhr("GET", ...args());
        request.send();
        assert.deepEqual(request.headers(), []);
      });
    }

    test("is left alone where no key is stored", () => {
      const request = open().xhr("GET", "/queue");
      request.send();
      assert.deepEqual(request.headers(), []);
    });

    test("leads to the login page by the server's own challenge alone", async () => {
      sessionStatus = 401;
      const page = open();
      for (const [status, challenge] of [[200, CHALLENGE], [401, null], [401, "Basic"]]) {
        const request = page.xhr("GET", "/queue");
        request.send();
        request.answer(status, challenge);
      }
      await settled();
      assert.deepEqual(page.went, []);
      const request = page.xhr("GET", "/queue", false);
      request.send();
      request.answer(401, CHALLENGE);
      await until(() => page.went.length);
    });
  });

  describe("a refused request", () => {
    const login = (query, folder = "/") => `${server.origin}${folder}auth_login.html?${new URLSearchParams(query)}`;

    test("leads to the login page once, and still reaches the caller", async () => {
      sessionStatus = 401;
      const page = open({ stored, path: "/?workflow=1#node" });
      const responses = await Promise.all([page.fetch(refused), page.fetch(refused), page.fetch(refused)]);
      for (const response of responses) assert.deepEqual([response.status, await response.text()], [401, "no"]);
      await until(() => page.went.length);
      assert.equal(server.seen.filter(({ url }) => url === "/auth_session").length, 1);
      await page.fetch(refused);
      await settled();
      assert.deepEqual(page.went, [login({ reason: "expired", next: "/?workflow=1#node" })]);
    });

    test("without a stored key means that the session has ended", async () => {
      sessionStatus = 401;
      const page = open();
      await page.fetch(refused);
      await until(() => page.went.length);
      assert.deepEqual(page.went, [login({ reason: "ended", next: "/" })]);
    });

    test("below a proxy's folder names the path as the server sees it, without credentials", async () => {
      sessionStatus = 401;
      const page = open({ path: "/comfy/view?a=1&api_key=SECRET&token=SECRET", folder: "/comfy/" });
      await page.fetch(`/comfy${refused}`);
      await until(() => page.went.length);
      assert.deepEqual(page.went, [login({ reason: "ended", next: "/view?a=1" }, "/comfy/")]);
    });

    test("does nothing while the server still admits this browser", async () => {
      const page = open({ stored });
      await page.fetch(refused);
      await settled();
      assert.deepEqual(page.went, []);
    });

    test("does nothing with another challenge, status or origin", async () => {
      sessionStatus = 401;
      const page = open({ stored });
      const challenge = encodeURIComponent(CHALLENGE);
      await page.fetch("/queue?challenge=Basic");
      await page.fetch(`/queue?challenge=${encodeURIComponent('Bearer realm="other"')}`);
      await page.fetch(`/queue?status=403&challenge=${challenge}`);
      await page.fetch("/queue");
      await page.fetch(`${foreign.origin}/?challenge=${challenge}`);
      await settled();
      assert.deepEqual(page.went, []);
    });

    test("does nothing while the server can't be asked, and asks again at the next one", async () => {
      sessionStatus = null;
      const page = open({ stored });
      assert.equal((await page.fetch(refused)).status, 401);
      await settled();
      assert.deepEqual(page.went, []);
      sessionStatus = 401;
      await page.fetch(refused);
      await until(() => page.went.length);
    });
  });

  describe("a logged-out browser", () => {
    test("adds no key that a sleeping tab has kept", async () => {
      const page = open({ stored: { session: KEY } });
      await page.fetch("/queue");
      assert.equal(sent().authorization, bearer);
      page.window.localStorage.setItem("comfyui_logged_out", "1");
      await page.fetch("/queue");
      assert.equal(sent().authorization, undefined);
      assert.equal(page.kept().session, null);
    });

    for (const [name, hear] of [
      ["is told", (page) => new page.window.BroadcastChannel("comfyui_api_key/").postMessage("logout")],
      ["finds out by a request that is refused before it is told", (page) => page.fetch(refused)],
    ]) {
      test(`in another tab drops this tab's key, which ${name}, and leads to the login page`, async () => {
        sessionStatus = 401;
        const page = open({ stored: { session: KEY } });
        page.window.localStorage.setItem("comfyui_logged_out", "1");
        hear(page);
        await until(() => page.went.length);
        assert.match(page.went[0], /auth_login\.html\?reason=logout&/);
        assert.deepEqual(page.kept(), { local: null, session: null });
        assert.equal(server.seen.at(-1).headers.authorization, undefined);
      });
    }

    test("of a neighbour's folder leaves this one alone", async () => {
      sessionStatus = 401;
      const page = open({ stored: { session: KEY }, path: "/comfy/", folder: "/comfy/" });
      new page.window.BroadcastChannel("comfyui_api_key/other/").postMessage("logout");
      await settled();
      assert.deepEqual(page.went, []);
    });

    for (const [name, navigation, persisted] of [
      ["the back/forward cache", "navigate", true],
      ["the disk, by the back button", "back_forward", false],
    ]) {
      test(`shows nothing of a page from ${name}`, async () => {
        sessionStatus = 401;
        const page = open({ navigation });
        page.window.emit("pageshow", { persisted });
        assert.equal(page.document.documentElement.style.visibility, "hidden");
        await until(() => page.went.length);
        await settled();
        assert.equal(page.document.documentElement.style.visibility, "hidden");
      });
    }

    test("a page from the cache is shown again where the session lives", async () => {
      const page = open({ navigation: "back_forward" });
      await until(() => page.document.documentElement.style.visibility === "");
      assert.deepEqual(page.went, []);
    });
  });

  describe("in ComfyUI", () => {
    /** The extension that the script registers with the frontend. */
    async function registered(page) {
      const extensions = [];
      const app = { registerExtension: (extension) => extensions.push(extension), vueAppReady: true };
      page.window.comfyAPI = { app: { app } };
      await until(() => extensions.length);
      return extensions[0];
    }

    test("registers a Log out entry once the frontend has started", async () => {
      const extensions = [];
      const app = { registerExtension: (extension) => extensions.push(extension) };
      const page = open();
      page.window.comfyAPI = { app: { app } };
      await new Promise((done) => setTimeout(done, 600));
      assert.equal(extensions.length, 0);
      app.vueAppReady = true;
      await until(() => extensions.length);
      await new Promise((done) => setTimeout(done, 600));
      assert.equal(extensions.length, 1);
      const [{ name, commands, menuCommands }] = extensions;
      assert.equal(name, "comfy-auth-rs");
      assert.deepEqual([...menuCommands[0].commands], [commands[0].id]);
      assert.equal(commands[0].label, "Log out");
      commands[0].function();
      assert.deepEqual(page.went, [`${server.origin}/auth_login.html?logout=true`]);
    });

    const only = (text) => `Log out (\u2068${text}\u2069)`;
    for (const [what, label, entry] of [
      ["a name", "Ann", only("Ann")],
      ["markup", "<b>Ann</b> &amp; \"Bob\"", only("<b>Ann</b> &amp; \"Bob\"")],
      ["what the menu takes for placeholders", "ann@example.com {x} a|b", only("ann＠example.com ｛x｝ a｜b")],
      ["right-to-left letters", "אן", only("אן")],
      ["what turns or ends a direction, or a line", "a\u202eb\u2069c\u2066d\u2028e", only("abcde")],
      ["40 characters", "😀".repeat(40), only("😀".repeat(40))],
      ["41 characters", "😀".repeat(41), only(`${"😀".repeat(39)}…`)],
      ["256 characters", "W".repeat(256), only(`${"W".repeat(39)}…`)],
      ["nothing", null, "Log out"],
      ["nothing but a direction", "\u202e", "Log out"],
      ["something else", { length: 3 }, "Log out"],
    ]) {
      test(`the entry names the key by its label: ${what}`, async () => {
        session = JSON.stringify({ label });
        const { commands } = await registered(open({ stored }));
        assert.equal(commands[0].label, entry);
        const asked = server.seen.filter(({ url }) => url === "/auth_session");
        assert.deepEqual(asked.map(({ method, headers }) => [method, headers.authorization]), [["GET", bearer]]);
      });
    }

    for (const [what, status, body] of [
      ["hangs up", null, ""],
      ["answers with an error", 500, "error"],
      ["answers with a page", 200, "<html>"],
      ["knows no sessions", 404, "404: Not Found"],
      ["answers with nothing", 204, ""],
    ]) {
      test(`the entry is there where the server ${what}`, async () => {
        [sessionStatus, session] = [status, body];
        const page = open();
        const { commands } = await registered(page);
        assert.equal(commands[0].label, "Log out");
        assert.deepEqual(page.went, []);
      });
    }
  });

  describe("what a key may not do", () => {
    const denied = `/free?status=403&challenge=${encodeURIComponent(`${CHALLENGE}, error="insufficient_scope", scope="all"`)}`;

    for (const where of ["local", "session"]) {
      test(`leads nowhere and forgets no key in ${where}Storage`, async () => {
        const page = open({ stored: { [where]: KEY } });
        const answer = await page.fetch(denied);
        assert.equal(answer.status, 403);
        assert.equal(await answer.text(), "no");
        const request = page.xhr("POST", denied);
        request.send();
        request.answer(403, `${CHALLENGE}, error="insufficient_scope", scope="all"`);
        await settled();
        assert.equal(request.calls.filter(([call]) => call === "send").length, 1);
        assert.deepEqual(page.went, []);
        assert.equal(page.kept()[where], KEY);
        assert.equal(server.seen.length, 1, "it asked the server again");
      });
    }
  });

  test("a second inclusion changes nothing", async () => {
    const page = open({ stored });
    const { fetch } = page.window;
    page.run("auth_inject.js");
    assert.equal(page.window.fetch, fetch);
  });

  test("without a script address (a bundler, a module) it keeps away", () => {
    const page = openPage({ href: server.origin });
    const { fetch } = page.window;
    page.run("auth_inject.js");
    assert.equal(page.window.fetch, fetch);
  });
});

// The page that asks whether the key in a link may log in.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { KEY, OTHER_KEY, openPage, serve, settled, until } from "./browser.mjs";

describe("auth_link.js", () => {
  let server;
  let status;

  beforeEach(async () => {
    status = 401;
    server = await serve(() => (status ? { status } : null));
  });

  afterEach(() => server.close());

  function open({ byItself = true, prerendering = false, folder = "/", ...options } = {}) {
    const page = openPage({ href: `${server.origin}${folder}?api_key=${KEY}&a=1`, ...options });
    const { form } = page.document;
    page.document.prerendering = prerendering;
    form.elements = { api_key: { value: KEY } };
    form.attributes = { action: "auth_session" };
    form.dataset = { target: "./?a=1", ...(byItself && { byItself: "" }) };
    page.sent = 0;
    form.submit = () => page.sent++;
    page.run("auth_link.js");
    return page;
  }

  test("takes the key out of the address, and still knows where to send the form", async () => {
    const page = open({ folder: "/comfy/" });
    assert.equal(page.window.address, "./?a=1");
    assert.equal(page.document.form.action, `${server.origin}/comfy/auth_session`);
  });

  for (const [name, options] of [
    ["opened", {}],
    ["on a page of ours", { referrer: "OURS" }],
    ["where the key is kept already", { stored: { local: KEY } }],
  ]) {
    test(`logs in by itself: ${name}`, async () => {
      const page = open({ ...options, referrer: options.referrer?.replace("OURS", `${server.origin}/`) });
      await until(() => page.sent);
      assert.deepEqual(server.seen.map(({ method, url }) => `${method} ${url}`), ["GET /auth_session"]);
    });
  }

  for (const [name, options, answer = 401] of [
    ["the server says so", { byItself: false }],
    ["another site led there", { referrer: "http://other.example/" }],
    ["another port led there", { referrer: "http://127.0.0.1:1/" }],
    ["another key is kept for this tab", { stored: { session: OTHER_KEY } }],
    ["another key is kept", { stored: { local: OTHER_KEY } }],
    ["there is a session", {}, 200],
    ["the address is locked", {}, 429],
    ["the server is gone", {}, 0],
  ]) {
    test(`leaves it to the person: ${name}`, async () => {
      status = answer;
      const page = open(options);
      await settled();
      assert.equal(page.sent, 0);
      page.document.form.emit("submit");
      assert.deepEqual(page.kept(), { local: null, session: null }, "scripts would use another key");
    });
  }

  test("not before a page that was loaded in advance is shown", async () => {
    const page = open({ prerendering: true });
    await settled();
    assert.deepEqual([server.seen, page.sent], [[], 0]);
    page.document.emit("prerenderingchange");
    await until(() => page.sent);
  });
});

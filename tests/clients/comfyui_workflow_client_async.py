"""comfyui-workflow-client's asynchronous half, which follows the WebSocket: `… HOST KEY GRAPH OUT`, the key in HOST."""

import asyncio
import sys

from comfyuiclient import ComfyUIClientAsync


async def main(host: str, graph: str, out: str) -> None:
    client = ComfyUIClientAsync(host, graph, debug=True)
    await client.connect()
    try:
        images = await client.generate(["Save Image"])
        images["Save Image"].save(out, "PNG")
    finally:
        await client.close()


asyncio.run(main(sys.argv[1], sys.argv[3], sys.argv[4]))

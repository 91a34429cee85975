"""comfyui-workflow-client, which takes a host and nothing else: `… HOST KEY GRAPH OUT`, the key in HOST already."""

import sys

from comfyuiclient import ComfyUIClient

host, _, graph, out = sys.argv[1:]
client = ComfyUIClient(host, graph, debug=True)
client.connect()
client.generate(["Save Image"])["Save Image"].save(out, "PNG")
client.close()

"""comfy-script with a session factory: `python3 comfy_script_factory.py HOST KEY GRAPH OUT`, GRAPH for the inputs."""

import json
import sys
from pathlib import Path

import aiohttp
from comfy_script.runtime import Client, Workflow, load

host, key, graph, out = sys.argv[1:]
headers = {"Authorization": f"Bearer {key}"} if key else {}
load(Client(f"http://{host}/", session_factory=lambda: aiohttp.ClientSession(headers=headers)))

from comfy_script.runtime.nodes import EmptyImage, Pause, SaveImage  # noqa: E402 - they exist once the nodes were asked for

nodes = json.loads(Path(graph).read_text())
with Workflow(wait=True):
    saved = SaveImage(Pause(EmptyImage(**nodes["1"]["inputs"]), nodes["3"]["inputs"]["seconds"]), "client")
saved.wait()[0].save(out, "PNG")

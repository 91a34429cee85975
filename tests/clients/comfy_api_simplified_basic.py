"""comfy-api-simplified with the key as password: `python3 comfy_api_simplified_basic.py HOST KEY GRAPH OUT`."""

import json
import sys
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

host, key, graph, out = sys.argv[1:]
api = ComfyApiWrapper(f"http://{host}", "any", key)
images = api.queue_and_wait_images(ComfyWorkflowWrapper(graph), "Save Image")
(picture,) = images.values()
Path(out).write_bytes(picture)
print(json.dumps(sorted(images)))

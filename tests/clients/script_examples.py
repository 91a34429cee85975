"""What ComfyUI's script_examples do, with websocket-client and urllib: `python3 script_examples.py HOST KEY GRAPH OUT`.

They are given a host and nothing else, so the key is part of HOST.
"""

import json
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import websocket

host, _, graph, out = sys.argv[1:]
me = str(uuid.uuid4())


def ask(path: str, body: Any = None) -> bytes:
    # As the examples do: urllib says that this is a form.
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"http://{host}{path}", data=data)) as response:
        answer: bytes = response.read()
        return answer


socket = websocket.WebSocket()
socket.connect(f"ws://{host}/ws?clientId={me}")
prompt = {"prompt": json.loads(Path(graph).read_text()), "client_id": me}
prompt_id = json.loads(ask("/prompt", prompt))["prompt_id"]
done = {"node": None, "prompt_id": prompt_id}
while True:
    message = socket.recv()
    if isinstance(message, str):
        message = json.loads(message)
        if message["type"] == "executing" and message["data"].items() >= done.items():
            break
socket.close()
history = json.loads(ask(f"/history/{prompt_id}"))[prompt_id]
((picture,),) = [output["images"] for output in history["outputs"].values()]
Path(out).write_bytes(ask(f"/view?{urlencode(picture)}"))

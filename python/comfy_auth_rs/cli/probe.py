"""Show the GPUs and their memory, without loading torch."""

import argparse
import json

from comfy_auth_rs import probe_devices

EXAMPLES = ("", "--json")

_GIB = 1024**3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: sizes in bytes")


def execute(options: argparse.Namespace) -> int:
    devices = probe_devices()
    if options.json:
        print(json.dumps(devices, indent=2))
        return 0
    for device in devices:
        kind = device["type"] if device["index"] is None else f"{device['type']}:{device['index']}"
        free, total = device["free"] / _GIB, device["total"] / _GIB
        print(f"{kind:8}  {free:7.1f} of {total:7.1f} GiB free  {device['name']}")
    return 0

"""Checks requirements before the rest of the package is imported: one clear line instead of a traceback."""

import sys

import aiohttp

_LEAST = (3, 9)

if tuple(map(int, aiohttp.__version__.split(".")[:2])) < _LEAST:
    raise ImportError(
        f"comfy_auth_rs needs aiohttp {'.'.join(map(str, _LEAST))} or later, and this is {aiohttp.__version__}; "
        f"run `{sys.executable} -m pip install --upgrade aiohttp`"
    )

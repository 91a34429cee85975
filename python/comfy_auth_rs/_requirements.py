"""What must be there before anything else of this package is imported: one line rather than a traceback from within."""

import sys

import aiohttp

_LEAST = (3, 9)

if tuple(map(int, aiohttp.__version__.split(".")[:2])) < _LEAST:
    raise ImportError(
        f"comfy_auth_rs needs aiohttp {'.'.join(map(str, _LEAST))} or later, and this is {aiohttp.__version__}; "
        f"run `{sys.executable} -m pip install --upgrade aiohttp`"
    )

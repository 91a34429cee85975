"""`python serve_once.py COMMAND…` starts the server `python COMMAND…`, sees that it asks for the key, and ends it.

Tests start the servers in documents this way, under their everyday names.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from support.client import ask
from support.servers import start_server


def main() -> int:
    with start_server(Path.cwd(), command=sys.argv[1:]) as server:
        status = ask(server, "/queue").status
        print(server.output, file=sys.stderr)
    return 0 if status == 401 else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m comfy_auth_rs`: import nothing from the current folder, which may belong to anyone."""

import sys

#: Whether Python put no folder first.
SAFE = getattr(sys.flags, "safe_path", sys.flags.isolated)

if sys.argv[:1] == ["-m"] and "comfy_auth_rs" in sys.orig_argv and not SAFE:
    del sys.path[0]

"""`python -m comfy_auth_rs`: the same as the command `comfy-auth-rs`."""

import sys

from comfy_auth_rs.cli import main

sys.exit(main())

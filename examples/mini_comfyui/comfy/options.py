"""Whether importing comfy.cli_args may read sys.argv: when main.py runs, not when a tool imports it."""

args_parsing = False


def enable_args_parsing(enable: bool = True) -> None:
    """Must be called before comfy.cli_args is first imported."""
    global args_parsing
    args_parsing = enable

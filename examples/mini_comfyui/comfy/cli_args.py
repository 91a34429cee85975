"""The command line: the flags of ComfyUI's that mean something without a model."""

import argparse
from pathlib import Path

import comfy.options


def existing_directory(path: str) -> str:
    """An argparse type: refuses what is not a folder."""
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"'{path}' is not a directory.")
    return path


parser = argparse.ArgumentParser()

parser.add_argument(
    "--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::",
    help="Addresses to listen on, separated by commas; without a value: all of them.",
)  # fmt: skip
parser.add_argument("--port", type=int, default=8188, help="The port to listen on.")
parser.add_argument("--tls-keyfile", help="TLS key; with --tls-certfile the server speaks https.")
parser.add_argument("--tls-certfile", help="TLS certificate; needs --tls-keyfile.")
parser.add_argument(
    "--enable-cors-header", default=None, metavar="ORIGIN", nargs="?", const="*",
    help="Allow requests from ORIGIN, or from anywhere when none is named.",
)  # fmt: skip
parser.add_argument("--max-upload-size", type=float, default=100, help="Largest request body, in MB.")

parser.add_argument("--base-directory", help="Where models, custom_nodes, input, output, temp and user lie.")
parser.add_argument("--output-directory", help="Overrides --base-directory.")
parser.add_argument("--temp-directory", help="A folder named temp is made in here. Overrides --base-directory.")
parser.add_argument("--input-directory", help="Overrides --base-directory.")
parser.add_argument("--user-directory", type=existing_directory, help="Overrides --base-directory.")
parser.add_argument("--database-url", help="Accepted and ignored: there is no database here.")
parser.add_argument("--front-end-root", type=existing_directory, help="Serve this folder as the frontend.")

parser.add_argument("--cpu", action="store_true", help="Accepted and ignored: there is nothing else here.")
parser.add_argument("--enable-compress-response-body", action="store_true", help="Compress JSON and text.")
parser.add_argument("--disable-metadata", action="store_true", help="Do not save the prompt in images.")
parser.add_argument("--disable-all-custom-nodes", action="store_true", help="Load nothing from custom_nodes.")
parser.add_argument(
    "--whitelist-custom-nodes", nargs="+", default=[], help="Load these from custom_nodes all the same."
)
parser.add_argument("--disable-api-nodes", action="store_true", help="Keep the frontend to this server (CSP).")
parser.add_argument("--enable-assets", action="store_true", help="Files by id, with tags: /api/assets.")
parser.add_argument("--enable-manager", action="store_true", help="Add the comfyui-manager package.")
parser.add_argument("--enable-manager-legacy-ui", action="store_true", help="Show that package's old dialogs.")
parser.add_argument("--windows-standalone-build", action="store_true", help="Accepted and ignored, as --cpu.")
parser.add_argument("--dont-print-server", action="store_true", help="Do not print the address at start.")
parser.add_argument("--quick-test-for-ci", action="store_true", help="Set everything up, then exit.")
parser.add_argument(
    "--verbose", default="INFO", const="DEBUG", nargs="?",
    choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], help="How much to log.",
)  # fmt: skip

if comfy.options.args_parsing:
    args = parser.parse_args()
else:
    args = parser.parse_args([])

"""Where the frontend, its templates and its help pages are: in PyPI packages, which are found but not imported."""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent


def init_frontend(root: str | None) -> Path:
    """The folder with index.html. If there is none, ends the program and says what to do."""
    folder = Path(root) if root else package_folder("comfyui_frontend_package", "static")
    if folder is None or not (folder / "index.html").is_file():
        what = f"{folder} holds no index.html." if folder else "The frontend is not installed."
        sys.exit(
            f"{what} Install it with: {sys.executable} -m pip install comfyui-frontend-package"
            " (or name a folder: --front-end-root DIR)"
        )
    return folder.resolve()


def templates_path() -> Path:
    """Workflow templates: those of comfyui-workflow-templates if it is installed, otherwise our own."""
    return package_folder("comfyui_workflow_templates", "templates") or HERE / "templates"


def embedded_docs_path() -> Path:
    """Help pages of nodes: those of comfyui-embedded-docs if it is installed, otherwise our own."""
    return package_folder("comfyui_embedded_docs", "docs") or HERE / "docs"


def installed_version(package: str) -> str | None:
    """The version of a PyPI package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def package_folder(package: str, folder: str) -> Path | None:
    """A folder inside an installed package, or None."""
    spec = importlib.util.find_spec(package)
    places = (Path(place) / folder for place in (spec and spec.submodule_search_locations) or ())
    return next((place for place in places if place.is_dir()), None)

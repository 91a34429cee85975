"""Which folder holds what, and how to name a file inside one without leaving it."""

import os
from pathlib import Path

from comfy.cli_args import args

MODEL_SUFFIXES = frozenset({".ckpt", ".pt", ".bin", ".pth", ".safetensors", ".sft"})
MODEL_KINDS = (
    "checkpoints", "loras", "vae", "text_encoders", "diffusion_models",
    "clip_vision", "embeddings", "controlnet", "upscale_models",
)  # fmt: skip

base_path = Path(args.base_directory or Path(__file__).parent).resolve()
models_dir = base_path / "models"

# kind: (folders, suffixes; an empty set means any)
folder_names_and_paths: dict[str, tuple[list[Path], frozenset[str]]] = {
    **{kind: ([models_dir / kind], MODEL_SUFFIXES) for kind in MODEL_KINDS},
    "custom_nodes": ([base_path / "custom_nodes"], frozenset()),
}

output_directory = base_path / "output"
input_directory = base_path / "input"
temp_directory = base_path / "temp"
user_directory = base_path / "user"


def set_directory(name: str, path: str | Path) -> None:
    """`name` is output, input, temp or user."""
    globals()[f"{name}_directory"] = Path(path).resolve()


def get_output_directory() -> Path:
    """Where SaveImage writes."""
    return output_directory


def get_input_directory() -> Path:
    """Where uploads go and LoadImage looks."""
    return input_directory


def get_temp_directory() -> Path:
    """Where previews go; emptied at start and at the end."""
    return temp_directory


def get_user_directory() -> Path:
    """Settings and workflows; never served by /view."""
    return user_directory


def get_system_user_directory(name: str = "system") -> Path:
    """What the server keeps for itself, where no client can reach it."""
    return user_directory / f"__{name}"


def get_directory_by_type(type_name: str) -> Path | None:
    """The folder that a client may read under this name, or None."""
    served = {"output": output_directory, "input": input_directory, "temp": temp_directory}
    return served.get(type_name)


def inside(root: Path, *names: str) -> Path | None:
    """`root/names…`, or None if that would be outside `root` or cannot be a file's name."""
    try:
        path = Path(os.path.normpath(root.joinpath(*names)))
    except ValueError:
        return None
    return path if path.is_relative_to(root) and "\0" not in str(path) else None


def annotated_filepath(name: str) -> tuple[str, Path | None]:
    """Split "cat.png [output]" into the name and the folder; None if no folder is named."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name.removesuffix(f"[{kind}]").rstrip(), get_directory_by_type(kind)
    return name, None


def get_annotated_filepath(name: str) -> Path:
    """The file that a LoadImage widget names. Raises ValueError for one outside its folder."""
    bare, folder = annotated_filepath(name)
    path = inside(folder or get_input_directory(), bare)
    if path is None:
        raise ValueError(f"'{name}' is outside its folder")
    return path


def get_folder_paths(kind: str) -> list[Path]:
    """The folders searched for this kind of model. Raises KeyError for an unknown kind."""
    return list(folder_names_and_paths[kind][0])


def is_enabled(custom_node: Path) -> bool:
    """Whether the command line lets this file or folder of custom_nodes run."""
    return not args.disable_all_custom_nodes or custom_node.name in args.whitelist_custom_nodes


def get_filename_list(kind: str) -> list[str]:
    """Relative names of the model files of this kind, sorted. Raises KeyError for an unknown kind."""
    folders, suffixes = folder_names_and_paths[kind]
    return sorted(
        {
            file.relative_to(folder).as_posix()
            for folder in folders
            for file in folder.rglob("*")
            if file.is_file() and (not suffixes or file.suffix.lower() in suffixes)
        }
    )


def get_full_path(kind: str, name: str) -> Path | None:
    """The model file of this kind and name, or None."""
    folders = folder_names_and_paths[kind][0] if kind in folder_names_and_paths else []
    paths = (inside(folder, name) for folder in folders)
    return next((path for path in paths if path is not None and path.is_file()), None)


def get_save_image_path(prefix: str, root: Path) -> tuple[Path, str, int, str]:
    """Where PREFIX_00001_.png goes: (folder, file prefix, next free number, subfolder).

    Raises ValueError when the prefix would lead out of `root`.
    """
    target = inside(root, prefix)
    if target is None or target == root:
        raise ValueError("Saving an image outside the output folder is not allowed.")
    folder, name = target.parent, target.name
    folder.mkdir(parents=True, exist_ok=True)
    taken = (
        file.name[len(name) + 1 :].partition("_")[0] for file in folder.iterdir() if file.name.startswith(f"{name}_")
    )
    number = max((int(digits) for digits in taken if digits.isdecimal()), default=0) + 1
    return folder, name, number, "" if folder == root else folder.relative_to(root).as_posix()

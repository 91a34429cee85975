"""The nodes. An IMAGE is a list of Pillow pictures (a batch), a MASK a list of 8-bit grey ones."""

import hashlib
import importlib.util
import json
import logging
import mimetypes
import secrets
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

import comfy.model_management
import comfy.utils
import folder_paths
from comfy.cli_args import args

Images = list[Image.Image]
Inputs = dict[str, dict[str, Any]]
SIDE = {"default": 512, "min": 1, "max": 4096, "step": 1}


def interrupt_processing(value: bool = True) -> None:
    """Stop the running prompt at its next step."""
    comfy.model_management.interrupt_current_processing(value)


class EmptyImage:
    """Pictures of one colour."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "width": ("INT", SIDE),
                "height": ("INT", SIDE),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 64}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "image"

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[Images]:
        rgb = (color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF)
        return ([Image.new("RGB", (width, height), rgb) for _ in range(batch_size)],)


class LoadImage:
    """A picture from the input folder, and its transparency as a mask."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        names = (file.name for file in folder_paths.get_input_directory().iterdir() if file.is_file())
        pictures = sorted(name for name in names if (mimetypes.guess_type(name)[0] or "").startswith("image/"))
        return {"required": {"image": (pictures, {"image_upload": True})}}

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    def load_image(self, image: str) -> tuple[Images, Images]:
        with Image.open(folder_paths.get_annotated_filepath(image)) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
        return [picture.convert("RGB")], [ImageOps.invert(picture.getchannel("A"))]

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return hashlib.sha256(folder_paths.get_annotated_filepath(image).read_bytes()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        try:
            return folder_paths.get_annotated_filepath(image).is_file() or f"Invalid image file: {image}"
        except ValueError as error:
            return str(error)


class SaveImage:
    """Writes PREFIX_00001_.png, with the prompt and the workflow inside it."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": ("STRING", {"default": "ComfyUI"}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    DESCRIPTION = "Saves the input images to your output directory."

    type = "output"
    prefix = "ComfyUI"

    def save_images(
        self,
        images: Images,
        filename_prefix: str | None = None,
        prompt: dict[str, Any] | None = None,
        extra_pnginfo: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        root = folder_paths.get_directory_by_type(self.type)
        assert root is not None
        folder, name, number, subfolder = folder_paths.get_save_image_path(filename_prefix or self.prefix, root)
        metadata = PngInfo()
        if not args.disable_metadata:
            for key, value in {"prompt": prompt, **(extra_pnginfo or {})}.items():
                metadata.add_text(key, json.dumps(value))
        saved = []
        for offset, image in enumerate(images):
            file = f"{name}_{number + offset:05}_.png"
            image.save(folder / file, pnginfo=metadata, compress_level=4)
            saved.append({"filename": file, "subfolder": subfolder, "type": self.type})
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    """Like SaveImage, into the temp folder."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    DESCRIPTION = "Shows the input images without keeping them."

    type = "temp"
    prefix = f"ComfyUI_temp_{secrets.token_hex(3)}"


class ImageInvert:
    """The negative."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"
    CATEGORY = "image"

    def invert(self, image: Images) -> tuple[Images]:
        return ([ImageOps.invert(picture) for picture in image],)


class ProgressDemo:
    """Takes its time, like a sampler: a progress bar, a preview at each step, and it can be stopped."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 10, "min": 1, "max": 1000}),
                "seconds": ("FLOAT", {"default": 2.0, "min": 0.0, "max": 600.0, "step": 0.1}),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "utils"
    DESCRIPTION = "Passes the image on after so many steps in so many seconds."

    def run(self, image: Images, steps: int, seconds: float) -> tuple[Images]:
        bar = comfy.utils.ProgressBar(steps)
        gray = ImageOps.grayscale(image[0]).convert("RGB")
        for step in range(1, steps + 1):
            time.sleep(seconds / steps)
            bar.update_absolute(step, steps, ("JPEG", Image.blend(gray, image[0], step / steps), 512))
        return (image,)


NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "EmptyImage": EmptyImage,
    "LoadImage": LoadImage,
    "SaveImage": SaveImage,
    "PreviewImage": PreviewImage,
    "ImageInvert": ImageInvert,
    "ProgressDemo": ProgressDemo,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "EmptyImage": "Empty Image",
    "LoadImage": "Load Image",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "ImageInvert": "Invert Image",
    "ProgressDemo": "Progress Demo",
}

# The web folders of the packages in custom_nodes, by name.
EXTENSION_WEB_DIRS: dict[str, Path] = {}
LOADED_MODULE_DIRS: dict[str, Path] = {}


async def init_extra_nodes() -> None:
    """Import everything in custom_nodes. What fails is logged and left out."""
    for folder in folder_paths.get_folder_paths("custom_nodes"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_package = path.is_dir() and path.name != "__pycache__" and path.suffix != ".disabled"
            if not is_package and path.suffix != ".py":
                continue
            if folder_paths.is_enabled(path):
                load_custom_node(path)
            else:
                logging.info("Skipping %s due to disable_all_custom_nodes", path.name)


def load_custom_node(path: Path) -> bool:
    """Import one file or package and take its nodes and its web folder. False if it fails."""
    name = path.name if path.is_dir() else path.stem
    started = time.perf_counter()
    try:
        module = _import(name, path)
    except Exception as error:
        logging.warning(traceback.format_exc())
        logging.warning("Cannot import %s module for custom nodes: %s", path, error)
        return False
    for node_name, node in getattr(module, "NODE_CLASS_MAPPINGS", {}).items():
        node.RELATIVE_PYTHON_MODULE = f"custom_nodes.{name}"
        NODE_CLASS_MAPPINGS[node_name] = node
    NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", {}))
    web = getattr(module, "WEB_DIRECTORY", None)
    if web is not None and (path / web).is_dir():
        EXTENSION_WEB_DIRS[name] = (path / web).resolve()
    LOADED_MODULE_DIRS[name] = path if path.is_dir() else path.parent
    logging.info("%6.1f seconds: %s", time.perf_counter() - started, path)
    return True


def _import(name: str, path: Path) -> ModuleType:
    name = f"custom_nodes.{name}"
    source, places = (path / "__init__.py", [str(path)]) if path.is_dir() else (path, None)
    spec = importlib.util.spec_from_file_location(name, source, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

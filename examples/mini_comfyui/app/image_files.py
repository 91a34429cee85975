"""Pictures that come in by /upload and go out by /view."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

import folder_paths
from comfy.utils import Preview

Save = Callable[[bytes, Path], object]


def file_to_view(name: str, kind: str | None, subfolder: str) -> Path:
    """The file that a client names. Answers 400 or 403 if it may not be seen, 404 if it is missing."""
    name, folder = folder_paths.annotated_filepath(name)
    folder = folder or folder_paths.get_directory_by_type(kind or "output")
    if not name or name.startswith("/") or ".." in name or folder is None:
        raise web.HTTPBadRequest
    place = folder_paths.inside(folder, subfolder)
    if place is None:
        raise web.HTTPForbidden
    file = folder_paths.inside(place, Path(name).name)
    if file is None or not file.is_file():
        raise web.HTTPNotFound
    return file


def preview(file: Path, wish: str, channel: str) -> tuple[bytes, str]:
    """A lighter copy and its content type; `wish` is FORMAT;QUALITY, such as webp;90."""
    kind, _, quality = wish.partition(";")
    if kind not in ("webp", "jpeg") or "a" in channel:
        kind = "webp"
    buffer = BytesIO()
    with Image.open(file) as picture:
        copy = picture.convert("RGB") if kind == "jpeg" or channel == "rgb" else picture
        copy.save(buffer, format=kind, quality=int(quality) if quality.isdecimal() else 90)
    return buffer.getvalue(), f"image/{kind}"


def one_channel(file: Path, channel: str) -> bytes:
    """A PNG with only the colours ("rgb") or only the transparency ("a")."""
    with Image.open(file) as picture:
        rgba = picture.convert("RGBA")
    result = rgba.convert("RGB")
    if channel == "a":
        result = Image.new("RGBA", rgba.size)
        result.putalpha(rgba.getchannel("A"))
    buffer = BytesIO()
    result.save(buffer, format="PNG")
    return buffer.getvalue()


def store_upload(form: Any, save: Save = lambda data, target: target.write_bytes(data)) -> web.Response:
    """Write an uploaded file. The same bytes are kept only once; other bytes under the same name get "name (1)"."""
    image = form.get("image")
    kind, subfolder = form.get("type") or "input", form.get("subfolder", "")
    root = folder_paths.get_directory_by_type(kind)
    folder = folder_paths.inside(root, subfolder) if root else None
    if not isinstance(image, web.FileField) or not image.filename or folder is None:
        return web.Response(status=400)
    target = folder_paths.inside(folder, image.filename)
    if target is None or target == folder:
        return web.Response(status=400)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = image.file.read()
    if form.get("overwrite") not in ("true", "1"):
        wanted, number = target, 1
        while target.exists() and target.read_bytes() != data:
            target = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
            number += 1
    save(data, target)
    name = target.relative_to(folder).as_posix()
    return web.json_response({"name": name, "subfolder": subfolder, "type": kind})


def save_masked(original: Path) -> Save:
    """A way to save an uploaded mask: `original` with its metadata, and the mask as its transparency."""

    def save(data: bytes, target: Path) -> None:
        with Image.open(original) as picture, Image.open(BytesIO(data)) as mask:
            metadata = PngInfo()
            for key, value in getattr(picture, "text", {}).items():
                metadata.add_text(key, value)
            result = picture.convert("RGBA")
            result.putalpha(mask.convert("RGBA").getchannel("A"))
        result.save(target, compress_level=4, pnginfo=metadata)

    return save


def encode(image: Preview) -> tuple[str, bytes]:
    """(format, bytes) of a preview, no larger than requested."""
    kind, picture, longest = image
    if longest is not None:
        picture = ImageOps.contain(picture, (longest, longest), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    picture.save(buffer, format=kind, quality=95)
    return kind, buffer.getvalue()

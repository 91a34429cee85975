"""The model browser's view of the models folder."""

from io import BytesIO

from aiohttp import web
from PIL import Image

import folder_paths


class ModelFileManager:
    """Lists model files with their sizes in bytes and dates in seconds since 1970."""

    def add_routes(self, routes: web.RouteTableDef) -> None:
        @routes.get("/experiment/models")
        async def get_model_folders(request: web.Request) -> web.Response:
            kinds = (kind for kind in folder_paths.folder_names_and_paths if kind != "custom_nodes")
            found = {kind: folder_paths.get_folder_paths(kind) for kind in kinds}
            return web.json_response(
                [{"name": kind, "folders": [str(path) for path in paths]} for kind, paths in found.items()]
            )

        @routes.get("/experiment/models/{folder}")
        async def get_all_models(request: web.Request) -> web.Response:
            kind = request.match_info["folder"]
            if kind not in folder_paths.folder_names_and_paths:
                raise web.HTTPNotFound
            folders = folder_paths.get_folder_paths(kind)
            found = []
            for name in folder_paths.get_filename_list(kind):
                index = next(index for index, folder in enumerate(folders) if (folder / name).is_file())
                stat = (folders[index] / name).stat()
                times = {"modified": stat.st_mtime, "created": stat.st_ctime}
                found.append({"name": name, "pathIndex": index, "size": stat.st_size, **times})
            return web.json_response(found)

        @routes.get("/experiment/models/preview/{folder}/{path_index}/{filename:.*}")
        async def get_model_preview(request: web.Request) -> web.Response:
            """The picture beside a model: NAME.png or NAME.preview.png."""
            named = request.match_info
            folders = dict(enumerate(folder_paths.folder_names_and_paths.get(named["folder"], ([], ()))[0]))
            folder = folders.get(int(named["path_index"])) if named["path_index"].isdecimal() else None
            file = folder and folder_paths.inside(folder, named["filename"])
            beside = [file.with_suffix(suffix) for suffix in (".png", ".preview.png")] if file else []
            picture = next((path for path in beside if path.is_file()), None)
            if picture is None:
                raise web.HTTPNotFound
            buffer = BytesIO()
            with Image.open(picture) as opened:
                opened.save(buffer, format="WEBP")
            return web.Response(body=buffer.getvalue(), content_type="image/webp")

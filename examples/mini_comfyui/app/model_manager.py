"""The model browser's view of the models folder."""

from aiohttp import web

import folder_paths


class ModelFileManager:
    """Lists model files with their sizes and dates."""

    def add_routes(self, routes: web.RouteTableDef) -> None:
        @routes.get("/experiment/models")
        async def get_model_folders(request: web.Request) -> web.Response:
            kinds = (kind for kind in folder_paths.folder_names_and_paths if kind != "custom_nodes")
            return web.json_response(
                [
                    {"name": kind, "folders": [str(p) for p in folder_paths.get_folder_paths(kind)]}
                    for kind in kinds
                ]
            )

        @routes.get("/experiment/models/{folder}")
        async def get_all_models(request: web.Request) -> web.Response:
            kind = request.match_info["folder"]
            if kind not in folder_paths.folder_names_and_paths:
                raise web.HTTPNotFound
            found = []
            for name in folder_paths.get_filename_list(kind):
                path = folder_paths.get_full_path(kind, name)
                if path is not None:
                    stat = path.stat()
                    about = {"size": stat.st_size, "modified": stat.st_mtime, "created": stat.st_ctime}
                    index = next(
                        i
                        for i, root in enumerate(folder_paths.get_folder_paths(kind))
                        if root in path.parents
                    )
                    found.append({"name": name, "pathIndex": index, **about})
            return web.json_response(found)

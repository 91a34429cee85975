"""The queue and the history as one list of jobs: what the newer frontends read instead of both."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

import nodes

if TYPE_CHECKING:
    from execution import QueueItem
    from server import PromptServer

Json = dict[str, Any]
ENDINGS = {
    "execution_success": "completed",
    "execution_error": "failed",
    "execution_interrupted": "cancelled",
}


class JobManager:
    """Lists, shows and cancels jobs. Times are milliseconds since 1970."""

    def __init__(self, prompt_server: "PromptServer") -> None:
        self.queue = prompt_server.prompt_queue

    def all(self) -> Iterator[Json]:
        """Every job, without its outputs."""
        running, waiting = self.queue.get_current_queue_volatile()
        yield from (job(item, "in_progress") for item in running)
        yield from (job(item, "pending") for item in waiting)
        yield from (finished_job(entry) for entry in self.queue.get_history().values())

    def find(self, job_id: str) -> Json | None:
        """One job, with outputs and workflow once it is done."""
        for entry in self.queue.get_history(prompt_id=job_id).values():
            _, _, prompt, extra_data, _ = entry["prompt"]
            workflow = {"prompt": prompt, "extra_data": extra_data}
            details = {"outputs": entry["outputs"], "execution_status": entry["status"], "workflow": workflow}
            return {**finished_job(entry), **details}
        return next((found for found in self.all() if found["id"] == job_id), None)

    def cancel(self, job_id: str) -> None:
        """Stop a job, or take it out of the queue. A finished job stays as it is."""
        running, _ = self.queue.get_current_queue_volatile()
        if any(item[1] == job_id for item in running):
            nodes.interrupt_processing()
        else:
            self.queue.delete_prompt(job_id)

    def add_routes(self, routes: web.RouteTableDef) -> None:
        @routes.get("/api/jobs")
        async def get_jobs(request: web.Request) -> web.Response:
            query = request.query
            statuses = [status for status in query.get("status", "").split(",") if status]
            found = [job for job in self.all() if not statuses or job["status"] in statuses]
            if "workflow_id" in query:
                found = [job for job in found if job.get("workflow_id") == query["workflow_id"]]
            found.sort(key=lambda job: job["create_time"], reverse=query.get("sort_order") != "asc")
            try:
                offset = int(query.get("offset", 0))
                limit = int(query["limit"]) if "limit" in query else len(found)
            except ValueError:
                return web.json_response({"error": "limit and offset must be integers"}, status=400)
            page = found[offset : offset + limit]
            more = offset + len(page) < len(found)
            pagination = {"offset": offset, "limit": limit, "total": len(found), "has_more": more}
            return web.json_response({"jobs": page, "pagination": pagination})

        @routes.get("/api/jobs/{job_id}")
        async def get_job(request: web.Request) -> web.Response:
            found = self.find(request.match_info["job_id"])
            if found is None:
                return web.json_response({"error": "Job not found"}, status=404)
            return web.json_response(found)

        @routes.post("/api/jobs/cancel")
        async def cancel_jobs(request: web.Request) -> web.Response:
            for job_id in (await request.json())["job_ids"]:
                self.cancel(job_id)
            return web.json_response({"cancelled": True})

        @routes.post("/api/jobs/{job_id}/cancel")
        async def cancel_job(request: web.Request) -> web.Response:
            self.cancel(request.match_info["job_id"])
            return web.json_response({"cancelled": True})


def job(item: "QueueItem", status: str) -> Json:
    """A prompt as a job."""
    priority, prompt_id, _, extra_data, _ = item
    about = {"id": prompt_id, "status": status, "priority": priority, "outputs_count": 0}
    workflow_id = ((extra_data.get("extra_pnginfo") or {}).get("workflow") or {}).get("id")
    if workflow_id is not None:
        about["workflow_id"] = workflow_id
    return {**about, "create_time": extra_data.get("create_time", 0)}


def finished_job(entry: Json) -> Json:
    """An entry of the history as a job."""
    messages = dict(entry["status"]["messages"])
    ending = next((event for event in ENDINGS if event in messages), "execution_error")
    found = job(entry["prompt"], ENDINGS[ending])
    if ending in messages:
        found["execution_start_time"] = messages["execution_start"]["timestamp"]
        found["execution_end_time"] = messages[ending]["timestamp"]
    if ending == "execution_error":
        found["execution_error"] = messages.get(ending)
    pictures = [
        {**picture, "nodeId": node_id, "mediaType": "images"}
        for node_id, output in entry["outputs"].items()
        for picture in output.get("images", ())
    ]
    if pictures:
        found["preview_output"] = next((p for p in pictures if p["type"] == "output"), pictures[0])
    return {**found, "outputs_count": len(pictures)}

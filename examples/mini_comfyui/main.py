"""Starts the miniature: python3 main.py [--help]."""

import comfy.options

comfy.options.enable_args_parsing()

import asyncio
import importlib.util
import logging
import runpy
import shutil
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import folder_paths
from app.logger import setup_logger
from comfy.cli_args import args

setup_logger(args.verbose)

for name in ("output", "input", "user"):
    if directory := getattr(args, f"{name}_directory"):
        folder_paths.set_directory(name, directory)


def execute_prestartup_script() -> None:
    """Run what custom nodes want to run before anything else is imported; one that fails is logged."""
    for folder in folder_paths.get_folder_paths("custom_nodes"):
        for script in sorted(folder.glob("*/prestartup_script.py")):
            if script.parent.suffix == ".disabled" or not folder_paths.is_enabled(script.parent):
                continue
            try:
                runpy.run_path(str(script))
            except Exception as error:
                logging.error("Failed to execute startup-script: %s / %s", script, error)


if args.enable_manager:
    if importlib.util.find_spec("comfyui_manager") is None:
        sys.exit(f"--enable-manager needs: {sys.executable} -m pip install comfyui-manager")
    import comfyui_manager

    comfyui_manager.prestartup()

execute_prestartup_script()

import comfy.utils
import comfyui_version
import execution
import nodes
import server


def prompt_worker(queue: execution.PromptQueue, prompt_server: server.PromptServer) -> None:
    """Run prompts one after the other, forever."""
    executor = execution.PromptExecutor(prompt_server)
    comfy.utils.set_progress_bar_global_hook(executor.report_progress)
    while True:
        waiting = queue.get(timeout=1000)
        if waiting is not None:
            (_, prompt_id, prompt, extra_data, outputs), item_id = waiting
            started = time.perf_counter()
            executor.execute(prompt, prompt_id, extra_data, outputs)
            status = execution.PromptQueue.ExecutionStatus(
                "success" if executor.success else "error", executor.success, executor.status_messages
            )
            queue.task_done(item_id, executor.history_result, status)
            if prompt_server.client_id is not None:
                end = {"node": None, "prompt_id": prompt_id}
                prompt_server.send_sync("executing", end, prompt_server.client_id)
            logging.info("Prompt executed in %.2f seconds", time.perf_counter() - started)
        if queue.get_flags().get("free_memory"):
            executor.reset()


def cleanup_temp() -> None:
    """Delete the previews, which must not outlive the server."""
    shutil.rmtree(folder_paths.get_temp_directory(), ignore_errors=True)


def start_comfyui(
    asyncio_loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[asyncio.AbstractEventLoop, server.PromptServer, Callable[[], Awaitable[None]]]:
    """Set everything up. Await the last of the three results in the first one."""
    if args.temp_directory:
        folder_paths.set_directory("temp", Path(args.temp_directory) / "temp")
    cleanup_temp()
    data = folder_paths.get_output_directory(), folder_paths.get_input_directory(), folder_paths.get_temp_directory()
    for directory in (*data, *folder_paths.get_folder_paths("custom_nodes")):
        directory.mkdir(parents=True, exist_ok=True)

    if asyncio_loop is None:
        asyncio_loop = asyncio.new_event_loop()
        asyncio.set_event_loop(asyncio_loop)
    prompt_server = server.PromptServer(asyncio_loop)
    if args.enable_manager:
        comfyui_manager.start()
    asyncio_loop.run_until_complete(nodes.init_extra_nodes())
    prompt_server.add_routes()
    threading.Thread(target=prompt_worker, daemon=True, args=(prompt_server.prompt_queue, prompt_server)).start()

    if args.quick_test_for_ci:
        sys.exit(0)

    async def start_all() -> None:
        addresses = [(address, args.port) for address in args.listen.split(",")]
        await asyncio.gather(
            prompt_server.start_multi_address(addresses, verbose=not args.dont_print_server),
            prompt_server.publish_loop(),
        )

    return asyncio_loop, prompt_server, start_all


if __name__ == "__main__":
    logging.info("ComfyUI version: %s", comfyui_version.__version__)
    event_loop, _, start_all_func = start_comfyui()
    try:
        event_loop.run_until_complete(start_all_func())
    except KeyboardInterrupt:
        logging.info("\nStopped server")
    cleanup_temp()

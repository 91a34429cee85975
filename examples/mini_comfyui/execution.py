"""From a prompt to pictures: check the graph, queue it, run it."""

import copy
import heapq
import inspect
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.model_management
import nodes
from comfy.model_management import InterruptProcessingException
from protocol import BinaryEventTypes

if TYPE_CHECKING:
    from comfy.utils import Preview
    from server import PromptServer

Json = dict[str, Any]
# (number: lower runs first, prompt id, prompt, extra data, output nodes to run)
QueueItem = tuple[float, str, Json, Json, list[str]]

MAXIMUM_HISTORY_SIZE = 10_000


class PromptQueue:
    """Prompts that wait, that run and that ran; for any thread."""

    def __init__(self, server: "PromptServer") -> None:
        self.server = server
        self.mutex = threading.RLock()
        self.not_empty = threading.Condition(self.mutex)
        self.task_counter = 0
        self.queue: list[QueueItem] = []
        self.currently_running: dict[int, QueueItem] = {}
        self.history: dict[str, Json] = {}
        self.flags: Json = {}

    class ExecutionStatus(NamedTuple):
        """How a prompt ended, and the messages that told the client so."""

        status_str: str
        completed: bool
        messages: list[tuple[str, Json]]

    def put(self, item: QueueItem) -> None:
        """Add a prompt and wake the worker."""
        with self.mutex:
            heapq.heappush(self.queue, item)
            self.server.queue_updated()
            self.not_empty.notify()

    def get(self, timeout: float | None = None) -> tuple[QueueItem, int] | None:
        """Wait up to `timeout` seconds for the next prompt, which runs from then on."""
        with self.not_empty:
            while not self.queue:
                self.not_empty.wait(timeout)
                if timeout is not None and not self.queue:
                    return None
            item, number = heapq.heappop(self.queue), self.task_counter
            self.currently_running[number] = copy.deepcopy(item)
            self.task_counter += 1
            self.server.queue_updated()
            return item, number

    def task_done(self, item_id: int, history_result: Json, status: ExecutionStatus | None) -> None:
        """Move a running prompt to the history."""
        with self.mutex:
            prompt = self.currently_running.pop(item_id)
            if len(self.history) > MAXIMUM_HISTORY_SIZE:
                self.history.pop(next(iter(self.history)))
            self.history[prompt[1]] = {
                "prompt": prompt,
                "outputs": {},
                "status": copy.deepcopy(status._asdict()) if status else None,
                **history_result,
            }
            self.server.queue_updated()

    def get_current_queue(self) -> tuple[list[QueueItem], list[QueueItem]]:
        """(running, waiting), copied all the way down."""
        with self.mutex:
            return list(self.currently_running.values()), copy.deepcopy(self.queue)

    def get_current_queue_volatile(self) -> tuple[list[QueueItem], list[QueueItem]]:
        """(running, waiting), to be read at once and not changed."""
        with self.mutex:
            return list(self.currently_running.values()), list(self.queue)

    def get_tasks_remaining(self) -> int:
        """How many prompts wait or run."""
        with self.mutex:
            return len(self.queue) + len(self.currently_running)

    def wipe_queue(self) -> None:
        """Forget every prompt that waits."""
        with self.mutex:
            self.queue = []
            self.server.queue_updated()

    def delete_queue_item(self, function: Callable[[QueueItem], bool]) -> bool:
        """Forget the first waiting prompt of which `function` is true; False when there is none."""
        with self.mutex:
            found = next((item for item in self.queue if function(item)), None)
            if found is None:
                return False
            self.queue.remove(found)
            heapq.heapify(self.queue)
            self.server.queue_updated()
            return True

    def get_history(
        self, prompt_id: str | None = None, max_items: int | None = None, offset: int = -1
    ) -> dict[str, Json]:
        """One entry, or `max_items` from `offset` on; without an offset the latest ones."""
        with self.mutex:
            if prompt_id is not None:
                return (
                    {prompt_id: copy.deepcopy(self.history[prompt_id])} if prompt_id in self.history else {}
                )
            if offset < 0:
                offset = max(0, len(self.history) - max_items) if max_items is not None else 0
            end = None if max_items is None else offset + max_items
            return dict(list(self.history.items())[offset:end])

    def wipe_history(self) -> None:
        """Forget every prompt that ran."""
        with self.mutex:
            self.history = {}

    def delete_history_item(self, id_to_delete: str) -> None:
        """Forget one prompt that ran."""
        with self.mutex:
            self.history.pop(id_to_delete, None)

    def set_flag(self, name: str, data: Any) -> None:
        """Tell the worker something, such as free_memory."""
        with self.mutex:
            self.flags[name] = data
            self.not_empty.notify()

    def get_flags(self, reset: bool = True) -> Json:
        """What set_flag left since the last call."""
        with self.mutex:
            flags = self.flags
            if reset:
                self.flags = {}
            return flags if reset else flags.copy()


class Verdict(NamedTuple):
    """What validate_prompt found; `outputs` are the output nodes that can run."""

    valid: bool
    error: Json | None
    outputs: list[str]
    node_errors: Json


def fault(kind: str, message: str, details: str = "", **extra: Any) -> Json:
    """An error in the shape that the frontend shows."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


async def validate_prompt(
    prompt_id: str, prompt: Json, partial_execution_list: list[str] | None = None
) -> Verdict:
    """Check a whole graph. Outputs with a fault above them are left out; the rest may still run."""
    outputs = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(False, fault("invalid_prompt", message, f"Node ID '#{node_id}'"), [], {})
        node_class = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
        if node_class is None:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return Verdict(False, fault("invalid_prompt", message, f"Node ID '#{node_id}'"), [], {})
        wanted = partial_execution_list is None or node_id in partial_execution_list
        if getattr(node_class, "OUTPUT_NODE", False) and wanted:
            outputs.append(node_id)
    if not outputs:
        return Verdict(False, fault("prompt_no_outputs", "Prompt has no outputs"), [], {})

    node_errors: Json = {}
    good = []
    for output in outputs:
        faulty = {
            node_id: faults
            for node_id in _upstream(prompt, output)
            if (faults := node_faults(prompt, node_id))
        }
        for node_id, faults in faulty.items():
            entry = {"errors": faults, "dependent_outputs": [], "class_type": prompt[node_id]["class_type"]}
            node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
        if not faulty:
            good.append(output)
    if good:
        return Verdict(True, None, good, node_errors)
    details = "\n".join(f"{e['message']}: {e['details']}" for n in node_errors.values() for e in n["errors"])
    return Verdict(
        False,
        fault("prompt_outputs_failed_validation", "Prompt outputs failed validation", details),
        [],
        node_errors,
    )


def node_faults(prompt: Json, node_id: str) -> list[Json]:
    """Everything wrong with the inputs of one node; numbers that came as text are converted on the way."""
    node_class = nodes.NODE_CLASS_MAPPINGS[prompt[node_id]["class_type"]]
    types = node_class.INPUT_TYPES()
    inputs = prompt[node_id].setdefault("inputs", {})
    faults: list[Json] = []
    for name, spec in {**types.get("optional", {}), **types.get("required", {})}.items():
        if name in inputs:
            faults += _input_faults(prompt, inputs, name, spec)
        elif name in types.get("required", {}):
            faults.append(fault("required_input_missing", "Required input is missing", name, input_name=name))
    check = getattr(node_class, "VALIDATE_INPUTS", None)
    if check is not None and not faults:
        known = {name: inputs[name] for name in inspect.signature(check).parameters if name in inputs}
        answer = True if any(is_link(value) for value in known.values()) else check(**known)
        if answer is not True:
            message = "Custom validation failed for node"
            faults.append(fault("custom_validation_failed", message, f"{', '.join(known)} - {answer}"))
    return faults


def _input_faults(prompt: Json, inputs: Json, name: str, spec: tuple[Any, ...]) -> list[Json]:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    value = inputs[name]
    extra = {"input_name": name, "input_config": spec, "received_value": value}
    if isinstance(value, list):
        if not is_link(value) or value[0] not in prompt:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [fault("bad_linked_input", message, name, **extra)]
        source = nodes.NODE_CLASS_MAPPINGS[prompt[value[0]]["class_type"]].RETURN_TYPES
        received = source[value[1]] if 0 <= value[1] < len(source) else None
        if received != kind and "*" not in (received, kind):
            details = f"{name}, received_type({received}) mismatch input_type({kind})"
            return [
                fault("return_type_mismatch", "Return type mismatch between linked nodes", details, **extra)
            ]
        return []
    convert = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}.get(
        kind if isinstance(kind, str) else ""
    )
    try:
        inputs[name] = value = convert(value) if convert else value
    except (TypeError, ValueError) as error:
        message = f"Failed to convert an input value to a {kind} value"
        return [fault("invalid_input_type", message, f"{name}, {value}, {error}", **extra)]
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return [fault("value_smaller_than_min", message, name, **extra)]
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return [fault("value_bigger_than_max", message, name, **extra)]
    # Uploads add files after the list was made; VALIDATE_INPUTS looks at the disk.
    if isinstance(kind, list) and value not in kind and not options.get("image_upload"):
        return [fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {kind}", **extra)]
    return []


def is_link(value: Any) -> bool:
    """Whether an input comes from another node: [node id, number of its output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def _sources(prompt: Json, node_id: str) -> list[str]:
    return [value[0] for value in prompt[node_id].get("inputs", {}).values() if is_link(value)]


def _upstream(prompt: Json, node_id: str) -> list[str]:
    """The node and all that it needs, those first. Raises ValueError when the graph has a cycle."""
    order: dict[str, None] = {}
    path: set[str] = set()

    def visit(current: str) -> None:
        if current in path:
            raise ValueError(f"the graph has a cycle at node {current}")
        if current in order or current not in prompt:
            return
        path.add(current)
        for source in _sources(prompt, current):
            visit(source)
        path.remove(current)
        order[current] = None

    visit(node_id)
    return list(order)


class Cached(NamedTuple):
    """What a node gave for inputs with this signature."""

    signature: str
    outputs: tuple[Any, ...]
    ui: Json | None


class PromptExecutor:
    """Runs one prompt at a time and keeps results, so that unchanged nodes need not run again."""

    def __init__(self, server: "PromptServer") -> None:
        self.server = server
        self.reset()

    def reset(self) -> None:
        """Forget every result."""
        self.cache: dict[str, Cached] = {}
        self.status_messages: list[tuple[str, Json]] = []
        self.history_result: Json = {}
        self.success = True

    def execute(self, prompt: Json, prompt_id: str, extra_data: Json, execute_outputs: list[str]) -> None:
        """Run the graph; how it went is in `success`, `status_messages` and `history_result`."""
        nodes.interrupt_processing(False)
        self.server.client_id = extra_data.get("client_id")
        self.status_messages, self.success = [], True
        self._progress: dict[str, Json] = {}
        self._prompt_id = prompt_id
        executed: list[str] = []
        node_id = ""
        self.add_message("execution_start", {"prompt_id": prompt_id})
        try:
            order = list(
                dict.fromkeys(node for output in execute_outputs for node in _upstream(prompt, output))
            )
            signatures: dict[str, str] = {}
            for node_id in order:
                signatures[node_id] = self._signature(prompt, node_id, signatures)
            hits = [n for n in order if n in self.cache and self.cache[n].signature == signatures[n]]
            self.cache = {n: self.cache[n] for n in hits}
            self.add_message("execution_cached", {"nodes": hits, "prompt_id": prompt_id})
            for node_id in order:
                if node_id not in hits:
                    self._run(prompt, node_id, extra_data, signatures[node_id])
                    executed.append(node_id)
                self._tell_ui(node_id)
            self.add_message("execution_success", {"prompt_id": prompt_id})
        except Exception as error:
            self.success = False
            self._tell_failure(error, prompt, node_id, executed)
        finally:
            self.server.last_node_id = None
        done = {n: c.ui for n, c in self.cache.items() if c.ui is not None}
        self.history_result = {
            "outputs": done,
            "meta": {
                n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in done
            },
        }

    def add_message(self, event: str, data: Json, broadcast: bool = False) -> None:
        """Send to the client whose prompt runs, or to everyone, and keep for the history."""
        data = {**data, "timestamp": int(time.time() * 1000)}
        self.status_messages.append((event, data))
        if self.server.client_id is not None or broadcast:
            self.server.send_sync(event, data, None if broadcast else self.server.client_id)

    def report_progress(self, value: int, total: int, preview: "Preview | None" = None) -> None:
        """The hook behind comfy.utils.ProgressBar. Raises InterruptProcessingException to stop the node."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        node_id, client = self.server.last_node_id, self.server.client_id
        if node_id is None:
            return
        where = {"prompt_id": self._prompt_id, "node": node_id}
        self.server.send_sync("progress", {"value": value, "max": total, **where}, client)
        self._tell_progress(node_id, "running", value, total)
        if preview is not None and client is not None:
            if self.server.client_supports(client, "supports_preview_metadata"):
                metadata = {"prompt_id": self._prompt_id, **_node_names(node_id)}
                self.server.send_sync(
                    BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (preview, metadata), client
                )
            else:
                self.server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview, client)

    def _signature(self, prompt: Json, node_id: str, signatures: Mapping[str, str]) -> str:
        inputs = prompt[node_id]["inputs"]
        node_class = nodes.NODE_CLASS_MAPPINGS[prompt[node_id]["class_type"]]
        is_changed = getattr(node_class, "IS_CHANGED", None)
        plain = {name: value for name, value in inputs.items() if not is_link(value)}
        sources = {name: [signatures[value[0]], value[1]] for name, value in inputs.items() if is_link(value)}
        # nan is what ComfyUI's nodes return to run every time: here it is given a text that never comes again.
        changed = is_changed(**plain) if is_changed else None
        changed = time.monotonic_ns() if changed != changed else changed
        return json.dumps(
            [prompt[node_id]["class_type"], plain, sources, changed], sort_keys=True, default=str
        )

    def _run(self, prompt: Json, node_id: str, extra_data: Json, signature: str) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        node_class = nodes.NODE_CLASS_MAPPINGS[prompt[node_id]["class_type"]]
        self.server.last_node_id = node_id
        if self.server.client_id is not None:
            where = {"node": node_id, "display_node": node_id, "prompt_id": self._prompt_id}
            self.server.send_sync("executing", where, self.server.client_id)
        self._tell_progress(node_id, "running", 0, 1)
        types = node_class.INPUT_TYPES()
        known = {**types.get("optional", {}), **types.get("required", {})}
        inputs = {
            name: self.cache[value[0]].outputs[value[1]] if is_link(value) else value
            for name, value in prompt[node_id]["inputs"].items()
            if name in known
        }
        hidden = {
            "PROMPT": prompt,
            "EXTRA_PNGINFO": extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
        }
        inputs |= {name: hidden.get(kind) for name, kind in types.get("hidden", {}).items()}
        answer = getattr(node_class(), node_class.FUNCTION)(**inputs)
        outputs, ui = (
            (answer.get("result", ()), answer.get("ui")) if isinstance(answer, dict) else (answer, None)
        )
        self.cache[node_id] = Cached(signature, tuple(outputs), ui)
        self._tell_progress(node_id, "finished", 1, 1)

    def _tell_progress(self, node_id: str, state: str, value: int, total: int) -> None:
        about = {"value": value, "max": total, "state": state, "prompt_id": self._prompt_id}
        self._progress[node_id] = {**about, **_node_names(node_id)}
        if self.server.client_id is not None:
            data = {"prompt_id": self._prompt_id, "nodes": dict(self._progress)}
            self.server.send_sync("progress_state", data, self.server.client_id)

    def _tell_ui(self, node_id: str) -> None:
        ui = self.cache[node_id].ui
        if ui is not None and self.server.client_id is not None:
            data = {"node": node_id, "display_node": node_id, "output": ui, "prompt_id": self._prompt_id}
            self.server.send_sync("executed", data, self.server.client_id)

    def _tell_failure(self, error: Exception, prompt: Json, node_id: str, executed: list[str]) -> None:
        kind = prompt.get(node_id, {}).get("class_type")
        about = {"prompt_id": self._prompt_id, "node_id": node_id, "node_type": kind, "executed": executed}
        if isinstance(error, InterruptProcessingException):
            logging.info("Processing interrupted")
            self.add_message("execution_interrupted", about, broadcast=True)
            return
        logging.error("!!! Exception during processing !!! %s", error, exc_info=error)
        details = {
            "exception_message": str(error),
            "exception_type": type(error).__qualname__,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {
                name: [str(v)] for name, v in prompt.get(node_id, {}).get("inputs", {}).items()
            },
            "current_outputs": list(self.cache),
        }
        self.add_message("execution_error", {**about, **details})


def _node_names(node_id: str) -> Json:
    """The four names a node has in ComfyUI, where one node may expand into many; here they are one."""
    return {"node_id": node_id, "display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}

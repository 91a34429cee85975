"""From a prompt to pictures: check the graph, queue it, run it."""

import copy
import hashlib
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
CONVERSIONS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class PromptQueue:
    """Prompts that are waiting, running or finished; any thread may use it."""

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
        """How a prompt ended, and the messages that told the client about it."""

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
        """Wait up to `timeout` seconds for the next prompt, which then counts as running."""
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
        """(running, waiting), the waiting ones as deep copies."""
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
        """Forget all waiting prompts."""
        with self.mutex:
            self.queue = []
            self.server.queue_updated()

    def delete_queue_item(self, function: Callable[[QueueItem], bool]) -> bool:
        """Forget the first waiting prompt for which `function` is true. False if there is none."""
        with self.mutex:
            found = next((item for item in self.queue if function(item)), None)
            if found is None:
                return False
            self.queue.remove(found)
            heapq.heapify(self.queue)
            self.server.queue_updated()
            return True

    def delete_prompt(self, prompt_id: str) -> bool:
        """Forget the waiting prompt with this id. False if there is none."""
        return self.delete_queue_item(lambda item: item[1] == prompt_id)

    def get_history(
        self, prompt_id: str | None = None, max_items: int | None = None, offset: int = -1
    ) -> dict[str, Json]:
        """One entry, or `max_items` entries from `offset`; without an offset, the latest ones."""
        with self.mutex:
            if prompt_id is not None:
                found = {prompt_id: self.history[prompt_id]} if prompt_id in self.history else {}
                return copy.deepcopy(found)
            if offset < 0:
                offset = max(0, len(self.history) - max_items) if max_items is not None else 0
            end = None if max_items is None else offset + max_items
            return dict(list(self.history.items())[offset:end])

    def wipe_history(self) -> None:
        """Forget all finished prompts."""
        with self.mutex:
            self.history = {}

    def delete_history_item(self, id_to_delete: str) -> None:
        """Forget one finished prompt."""
        with self.mutex:
            self.history.pop(id_to_delete, None)

    def set_flag(self, name: str, data: Any) -> None:
        """Tell the worker something, such as free_memory."""
        with self.mutex:
            self.flags[name] = data
            self.not_empty.notify()

    def get_flags(self, reset: bool = True) -> Json:
        """The flags set since the last call."""
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


async def validate_prompt(prompt_id: str, prompt: Json, only: list[str] | None = None) -> Verdict:
    """Check a whole graph, or what its output nodes `only` need.

    An output with a fault above it is left out; the others may still run.
    """
    for node_id, node in prompt.items():
        if "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(False, fault("invalid_prompt", message, f"Node ID '#{node_id}'"), [], {})
        if node["class_type"] not in nodes.NODE_CLASS_MAPPINGS:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return Verdict(False, fault("invalid_prompt", message, f"Node ID '#{node_id}'"), [], {})
    outputs = [
        node_id
        for node_id in prompt
        if getattr(_class_of(prompt, node_id), "OUTPUT_NODE", False) and (only is None or node_id in only)
    ]
    if not outputs:
        return Verdict(False, fault("prompt_no_outputs", "Prompt has no outputs"), [], {})

    node_errors: Json = {}
    good = []
    for output in outputs:
        faulty = _faults_above(prompt, output)
        for node_id, faults in faulty.items():
            about = {"errors": faults, "dependent_outputs": [], "class_type": prompt[node_id]["class_type"]}
            node_errors.setdefault(node_id, about)["dependent_outputs"].append(output)
        if not faulty:
            good.append(output)
    if good:
        return Verdict(True, None, good, node_errors)
    details = "\n".join(f"{e['message']}: {e['details']}" for n in node_errors.values() for e in n["errors"])
    error = fault("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
    return Verdict(False, error, [], node_errors)


def _faults_above(prompt: Json, output: str) -> dict[str, list[Json]]:
    try:
        needed = upstream(prompt, output)
    except ValueError as error:
        return {output: [fault("dependency_cycle", "Dependency cycle detected", str(error))]}
    found = {node_id: node_faults(prompt, node_id) for node_id in needed}
    return {node_id: faults for node_id, faults in found.items() if faults}


def node_faults(prompt: Json, node_id: str) -> list[Json]:
    """Everything that is wrong with a node's inputs. On the way, "12" for an INT becomes 12."""
    node_class = _class_of(prompt, node_id)
    required = node_class.INPUT_TYPES().get("required", {})
    inputs = prompt[node_id].setdefault("inputs", {})
    check = getattr(node_class, "VALIDATE_INPUTS", None)
    checked = inspect.signature(check).parameters if check is not None else ()
    faults: list[Json] = []
    for name, (kind, *rest) in _input_types(node_class).items():
        options = rest[0] if rest else {}
        if name not in inputs:
            if name in required:
                faults.append(fault("required_input_missing", "Required input is missing", name, input_name=name))
        elif isinstance(inputs[name], list):
            faults += _link_faults(prompt, inputs[name], name, kind)
        else:
            # A node's own check replaces ours: LoadImage looks at the disk, where new uploads are.
            faults += _value_faults(inputs, name, kind, {} if name in checked else options, name in checked)
    plain = {name: inputs[name] for name in checked if name in inputs and not is_link(inputs[name])}
    if check is not None and not faults and len(plain) == len(checked):
        answer = check(**plain)
        if answer is not True:
            message = "Custom validation failed for node"
            faults.append(fault("custom_validation_failed", message, f"{', '.join(plain)} - {answer}"))
    return faults


def _link_faults(prompt: Json, value: list[Any], name: str, kind: Any) -> list[Json]:
    if not is_link(value) or value[0] not in prompt:
        message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
        return [fault("bad_linked_input", message, name, input_name=name, received_value=value)]
    given = _class_of(prompt, value[0]).RETURN_TYPES
    received = given[value[1]] if 0 <= value[1] < len(given) else None
    if received == kind or "*" in (received, kind):
        return []
    message = "Return type mismatch between linked nodes"
    details = f"{name}, received_type({received}) mismatch input_type({kind})"
    return [fault("return_type_mismatch", message, details, input_name=name, linked_node=value)]


def _value_faults(inputs: Json, name: str, kind: Any, options: Json, any_choice: bool) -> list[Json]:
    value = inputs[name]
    extra = {"input_name": name, "input_config": [kind, options], "received_value": value}
    if isinstance(kind, list):
        if any_choice or value in kind:
            return []
        return [fault("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {kind}", **extra)]
    try:
        if kind in CONVERSIONS:
            inputs[name] = value = CONVERSIONS[kind](value)
    except (TypeError, ValueError) as error:
        message = f"Failed to convert an input value to a {kind} value"
        return [fault("invalid_input_type", message, f"{name}, {value}, {error}", **extra)]
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return [fault("value_smaller_than_min", message, name, **extra)]
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return [fault("value_bigger_than_max", message, name, **extra)]
    return []


def is_link(value: Any) -> bool:
    """Whether an input comes from another node: [node id, number of its output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def upstream(prompt: Json, node_id: str) -> list[str]:
    """The node after all the nodes that it needs. Raises ValueError if it needs itself."""
    order: list[str] = []
    open_nodes: list[str] = []

    def visit(current: str) -> None:
        if current in open_nodes:
            raise ValueError(" -> ".join([*open_nodes, current]))
        if current in order or current not in prompt:
            return
        open_nodes.append(current)
        for value in prompt[current].get("inputs", {}).values():
            if is_link(value):
                visit(value[0])
        order.append(open_nodes.pop())

    visit(node_id)
    return order


def _class_of(prompt: Json, node_id: str) -> Any:
    return nodes.NODE_CLASS_MAPPINGS[prompt[node_id]["class_type"]]


class Cached(NamedTuple):
    """What a node returned for inputs with this signature."""

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
        """Run the graph. The outcome is in `success`, `status_messages` and `history_result`."""
        nodes.interrupt_processing(False)
        self.server.client_id = extra_data.get("client_id")
        self.status_messages, self.success = [], True
        self._progress: dict[str, Json] = {}
        self._prompt_id = prompt_id
        executed: list[str] = []
        node_id = ""
        self.add_message("execution_start", {"prompt_id": prompt_id})
        try:
            above = (node for output in execute_outputs for node in upstream(prompt, output))
            order = list(dict.fromkeys(above))
            signatures: dict[str, str] = {}
            for node_id in order:
                signatures[node_id] = _signature(prompt, node_id, signatures)
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
        shown = {n: cached.ui for n, cached in self.cache.items() if cached.ui is not None}
        meta = {n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in shown}
        self.history_result = {"outputs": shown, "meta": meta}

    def add_message(self, event: str, data: Json, broadcast: bool = False) -> None:
        """Send to the client whose prompt is running, or to everyone, and keep it for the history."""
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
        if preview is None or client is None:
            return
        if self.server.client_supports(client, "supports_preview_metadata"):
            about = {"prompt_id": self._prompt_id, **_node_names(node_id)}
            event, data = BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (preview, about)
            self.server.send_sync(event, data, client)
        else:
            self.server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview, client)

    def _run(self, prompt: Json, node_id: str, extra_data: Json, signature: str) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        node_class = _class_of(prompt, node_id)
        self.server.last_node_id = node_id
        if self.server.client_id is not None:
            where = {"node": node_id, "display_node": node_id, "prompt_id": self._prompt_id}
            self.server.send_sync("executing", where, self.server.client_id)
        self._tell_progress(node_id, "running", 0, 1)
        inputs = {
            name: self.cache[value[0]].outputs[value[1]] if is_link(value) else value
            for name, value in _inputs(prompt, node_id).items()
        }
        hidden = {
            "PROMPT": prompt,
            "EXTRA_PNGINFO": extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
        }
        inputs |= {name: hidden.get(kind) for name, kind in node_class.INPUT_TYPES().get("hidden", {}).items()}
        answer = getattr(node_class(), node_class.FUNCTION)(**inputs)
        if not isinstance(answer, dict):
            answer = {"result": answer}
        self.cache[node_id] = Cached(signature, tuple(answer.get("result", ())), answer.get("ui"))
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
        inputs = prompt.get(node_id, {}).get("inputs", {})
        details = {
            "exception_message": str(error),
            "exception_type": type(error).__qualname__,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [str(value)] for name, value in inputs.items()},
            "current_outputs": list(self.cache),
        }
        self.add_message("execution_error", {**about, **details})


def _node_names(node_id: str) -> Json:
    """The four names of a node in ComfyUI, where one node may expand into many. Here they are all the same."""
    return {"node_id": node_id, "display_node_id": node_id, "parent_node_id": None, "real_node_id": node_id}


def _input_types(node_class: Any) -> Json:
    types = node_class.INPUT_TYPES()
    return {**types.get("optional", {}), **types.get("required", {})}


def _inputs(prompt: Json, node_id: str) -> Json:
    """The inputs that the node knows. A prompt may have more, left by other versions of the frontend."""
    known = _input_types(_class_of(prompt, node_id))
    return {name: value for name, value in prompt[node_id]["inputs"].items() if name in known}


def _signature(prompt: Json, node_id: str, above: Mapping[str, str]) -> str:
    """Equal for nodes that must give equal outputs; `above` are the signatures of the nodes that it needs."""
    inputs = _inputs(prompt, node_id)
    plain = {name: value for name, value in inputs.items() if not is_link(value)}
    links = {name: [above[value[0]], value[1]] for name, value in inputs.items() if is_link(value)}
    is_changed = getattr(_class_of(prompt, node_id), "IS_CHANGED", None)
    changed = is_changed(**plain) if is_changed else None
    if changed != changed:  # not a number: how ComfyUI's nodes say "always run"
        changed = time.monotonic_ns()
    facts = json.dumps([prompt[node_id]["class_type"], plain, links, changed], sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()

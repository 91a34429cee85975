"""The last log lines, for the frontend's console panel."""

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime

Entry = dict[str, str]  # {"t": local time, "m": message with its line end}


class RecentLogs(logging.Handler):
    """Keeps what was logged and tells listeners about each new entry."""

    def __init__(self, capacity: int = 300) -> None:
        super().__init__()
        self.entries: deque[Entry] = deque(maxlen=capacity)
        self.listeners: list[Callable[[Entry], None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"t": datetime.now().isoformat(), "m": self.format(record) + "\n"}
        self.entries.append(entry)
        for listener in self.listeners:
            listener(entry)


recent = RecentLogs()


def setup_logger(log_level: str) -> None:
    """Log to stderr, messages only, and to `recent`."""
    logging.basicConfig(format="%(message)s", level=log_level, handlers=[logging.StreamHandler(), recent])

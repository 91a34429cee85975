"""Keeping credentials out of aiohttp's log lines."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import access_logger, server_logger
from aiohttp.web import RequestPayloadError

from comfy_auth_rs._core import REDACTED

_NAMES = ("api_key", "token")

#: A pair of a query string, up to the next pair or to the end of the address, which may stand in quotation marks.
_PAIR = re.compile(r'([?&])([^=&?\s]+)=([^&\s]*?)(?="?(?:[&\s]|$))')


def install_filters() -> None:
    """Has aiohttp log no credentials, in this process; calling it again changes nothing.

    The access log shows each address with its query, and each `Referer`. The server's log quotes the line of a
    malformed request that it stumbled over, which may be its `Authorization`. An application that gives aiohttp loggers
    of its own adds `without_credentials` to them: `logger.addFilter(without_credentials)`.
    """
    access_logger.addFilter(without_credentials)
    server_logger.addFilter(_without_malformed_lines)


def without_credentials(record: logging.LogRecord) -> bool:
    """A filter for access logs: puts `[redacted]` in place of each `api_key` and `token` of a query. Drops nothing."""
    record.msg, record.args = _redact(record.getMessage()), ()
    for name in ("first_request_line", "request_header"):  # for formatters that don't use the message
        field = getattr(record, name, None)
        if isinstance(field, str):
            setattr(record, name, _redact(field))
        elif isinstance(field, dict):
            setattr(record, name, {key: _redact(value) for key, value in field.items()})
    return True


def _without_malformed_lines(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    if kind is not None and issubclass(kind, (HttpProcessingError, RequestPayloadError)):
        record.msg, record.args = f"{record.getMessage()}: {kind.__name__}", ()
        record.exc_info = record.exc_text = None
    return True


def _redact(text: str) -> str:
    return _PAIR.sub(_redact_pair, text)


def _redact_pair(pair: re.Match[str]) -> str:
    mark, name, _ = pair.groups()
    return f"{mark}{name}={REDACTED}" if unquote_plus(name) in _NAMES else pair[0]

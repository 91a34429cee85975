"""Keeps credentials and injected line breaks out of aiohttp's log lines."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import access_logger, server_logger
from aiohttp.web import RequestPayloadError

from comfy_auth_rs._core import REDACTED

_NAMES = ("api_key", "token")

#: A pair of a query string, up to the next pair or the end of the URL, which may be in quotation marks.
_PAIR = re.compile(r'([?&])([^=&?\s]+)=([^&\s]*?)(?="?(?:[&\s]|$))')

#: What comes before a key in a path, in any spelling, and the rest of the path: in a malformed one, the key may be
#: anywhere.
_URL_KEY = re.compile(
    r'((?:[/\\]|%2f|%5c)(?:k|%[46]b)(?:e|%[46]5)(?:y|%[57]9)(?:[/\\]|%2f|%5c))[^?#\s"]+', re.IGNORECASE
)


def install_filters() -> None:
    """Keeps credentials out of aiohttp's logs in this process. Calling it again changes nothing.

    The access log shows each URL with its query, and each `Referer`. The server log quotes the bad line of a malformed
    request, which may be its `Authorization`. If your application gives aiohttp other loggers, add the filter to them:
    `logger.addFilter(without_credentials)`.
    """
    access_logger.addFilter(without_credentials)
    server_logger.addFilter(_without_malformed_lines)


def without_credentials(record: logging.LogRecord) -> bool:
    """A filter for access logs: replaces each `api_key` and `token` of a query with `[redacted]`. Drops no records.

    It also replaces what follows `/key/` in a path, even without `url_key`, because clients may send a key there
    anyway. It escapes characters that would start a new line or move the cursor: clients may send them in `User-Agent`.
    """
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


def without_url_keys(text: str) -> str:
    """A path, or a line that contains paths, with `[redacted]` in place of what follows `/key/`."""
    return _URL_KEY.sub(rf"\1{REDACTED}", text)


def _redact(text: str) -> str:
    return _on_one_line(_PAIR.sub(_redact_pair, without_url_keys(text)))


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _redact_pair(pair: re.Match[str]) -> str:
    mark, name, _ = pair.groups()
    return f"{mark}{name}={REDACTED}" if unquote_plus(name) in _NAMES else pair[0]

"""Log lines: one event a line, for people or as JSON. No bodies, no prompts, no queries, no secrets."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

_ENCODER = msgspec.json.Encoder()


class _Line(Struct, frozen=True, omit_defaults=True):
    time: str
    level: str
    logger: str
    message: str = ""
    trace: str = ""
    request: Struct | None = None


class JsonFormatter(logging.Formatter):
    """JSON escapes every line break, so that nothing sent to us can forge a second line (threat V-33)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told = record.args[0] if isinstance(record.args, tuple) and len(record.args) == 1 else None
        request = told if isinstance(told, Struct) else None  # fields of its own, where a line is about a request
        return _ENCODER.encode(
            _Line(
                time=datetime.fromtimestamp(record.created, UTC).isoformat(),
                level=record.levelname.lower(),
                logger=record.name,
                message="" if request else record.getMessage(),
                request=request,
                trace=self.formatException(record.exc_info) if record.exc_info else "",
            )
        ).decode()


class TextFormatter(logging.Formatter):
    """For people; control characters are shown, not sent to their terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the trace where there is one."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message = "".join(char if char.isprintable() else repr(char)[1:-1] for char in record.getMessage())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{moment} {record.levelname.lower():<7} {message}{trace}"


def set_up_logging(level: str, form: str) -> None:
    """Sends everything of this level or above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for talker in ("asyncio", "aiohttp", "httpx2", "httpcore2"):
        logging.getLogger(talker).setLevel(logging.WARNING)

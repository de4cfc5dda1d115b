"""The server's log: a JSON object a line, about requests and versions, never with what a request holds."""

import json
import logging
import time
from typing import TextIO

from export.serving.serving_error import clipped

LONGEST_TEXT = 200
STANDARD_FIELDS = set(vars(logging.makeLogRecord({})))


def write_log(stream: TextIO, with_requests: bool) -> None:
    """Lets `export.serve` log to a stream, single requests only where asked."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    if not with_requests:
        handler.addFilter(lambda record: record.getMessage() != "request")
    logger = logging.getLogger("export.serve")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and what the event is about."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {
            key: clipped(value, LONGEST_TEXT) if isinstance(value, str) else value  # names that a request made up
            for key, value in vars(record).items()
            if key not in STANDARD_FIELDS
        }
        line = {"time": round(time.time(), 3), "level": record.levelname, "event": record.getMessage()} | extra
        if record.exc_info:
            line["error"] = clipped(repr(record.exc_info[1]), LONGEST_TEXT)
        return json.dumps(line)

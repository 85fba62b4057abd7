"""The format of a log: one printable line for each record."""

from __future__ import annotations

import logging
import textwrap

from argus_core.text import one_line, printable

__all__ = ["LineFormatter"]


class LineFormatter(logging.Formatter):
    """Formats a record as one printable line, and a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        # Another handler's formatter may have left the text of the traceback in the record.
        trace = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        below = [textwrap.indent(printable(text), "    ") for text in (trace, record.stack_info) if text]
        return "\n".join([one_line(self.formatMessage(record)), *below])

"""Structured logs: one JSON object per line, formatted and written by a thread, never by who logs.

A call on the event loop only stamps the record and puts it into a bounded queue. When the queue is full the
record is counted and dropped, and the count is logged as soon as there is room: a slow disk cannot stall
trading, and the gap is visible. A line that is repeated without end is counted instead of written: whoever can reach
a port must not be able to fill the disk.
"""

import json
import logging
import queue
import threading
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

import structlog

from emp.core.clock import Clock

CAPACITY = 10_000

PER_MINUTE = 300
"""Lines of one event in a minute; more are counted, and their number is logged."""

_MINUTE_NS = 60_000_000_000

_END = None


class Lines(Protocol):
    """What lines are written to: a text file."""

    def write(self, text: str, /) -> int:
        """Append text."""

    def flush(self) -> None:
        """Hand what is buffered to the system."""


class LogThread:
    """Writes queued records to a stream as JSON lines. `close` writes what is left."""

    def __init__(self, stream: Lines, clock: Clock, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self._stream = stream
        self._clock = clock
        self._minute = clock.monotonic_ns()
        self._lines: Counter[str] = Counter()  # of this minute, by event
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any]) -> None:
        """Queue a record, or count it where the queue is full."""
        try:
            self._queue.put_nowait({"ts": self._clock.now_ns(), **record})
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        told = 0
        while (record := self._queue.get()) is not _END:
            self._record(record)
            missing = self.dropped - told
            if missing:
                told += missing
                self._line(
                    {"ts": self._clock.now_ns(), "level": "warning", "event": "logs dropped", "n": missing}
                )
            if self._queue.empty():
                self._stream.flush()
        self._turn_minute(over=True)
        self._stream.flush()

    def _record(self, record: dict[str, Any]) -> None:
        """Write a record, unless its event has filled the minute already."""
        self._turn_minute()
        event = str(record.get("event", ""))
        self._lines[event] += 1
        if self._lines[event] <= PER_MINUTE:
            self._line(record)

    def _turn_minute(self, *, over: bool = False) -> None:
        """Say what was left out, where a minute is over."""
        now = self._clock.monotonic_ns()
        if not over and now - self._minute < _MINUTE_NS:
            return
        for event, n in self._lines.items():
            if n > PER_MINUTE:
                told = {"level": "warning", "event": "repeated", "what": event, "n": n - PER_MINUTE}
                self._line({"ts": self._clock.now_ns(), **told})
        self._minute = now
        self._lines.clear()

    def _line(self, record: dict[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(record, default=repr, ensure_ascii=False) + "\n")
        except OSError:  # a full disk: trading goes on or halts by the ledger's word, not by the log's
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(_END)
        self._thread.join()


class _Handler(logging.Handler):
    """Takes what libraries log through the standard library."""

    def __init__(self, thread: LogThread) -> None:
        super().__init__(logging.WARNING)
        self._thread = thread
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record of the standard library's logging."""
        self._thread.put(
            {"level": record.levelname.lower(), "event": self.format(record), "logger": record.name}
        )


def configure(stream: Lines, clock: Clock) -> LogThread:
    """Send all logs of this process to `stream`; return the thread that writes, to be closed at the end."""
    thread = LogThread(stream, clock)

    def enqueue(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        thread.put({"level": level, **event})
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, enqueue],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler(thread))
    return thread


@contextmanager
def configured(stream: Lines, clock: Clock) -> Iterator[LogThread]:
    """Send all logs of this process to `stream` until the block ends, and then to where they went before."""
    before = structlog.get_config() if structlog.is_configured() else None
    root = logging.getLogger()
    handlers = list(root.handlers)
    thread = configure(stream, clock)
    try:
        yield thread
    finally:
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)
        root.handlers[:] = handlers
        thread.close()

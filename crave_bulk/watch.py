"""The watch over a call: it may run out of time, or be cancelled from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Self

import adbc_driver_manager

from crave_bulk.errors import BulkError, TimedOut

_AGAIN = 0.05  # seconds until a statement that has not stopped is told once more


class Statement:
    """A driver's statement that can be stopped, and that remembers Ctrl-C.

    While a statement runs in the main thread, the driver manager catches SIGINT itself and calls ``cancel``.
    It then raises whatever comes of that (the database's own words, or that the driver cannot cancel), or
    nothing where the statement was through, but no ``KeyboardInterrupt`` (adbc-driver-manager 1.13).
    """

    def __init__(self, statement: Any, *, stoppable: bool) -> None:
        self.thread = threading.get_ident()
        self._statement = statement
        self._stoppable = stoppable
        self.interrupted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statement, name)

    def cancel(self) -> None:
        """Remember Ctrl-C, and stop."""
        self.interrupted = True
        self.stop()

    def stop(self) -> None:
        """Ask the database to stop; where it cannot, the statement runs to its end."""
        if self._stoppable:
            with suppress(adbc_driver_manager.Error):
                self._statement.cancel()


class Watch:
    """Whether a call may go on, and the statement that it runs just now.

    Args:
        timeout: seconds that the call may take, None for as long as it needs.
        within: the watch over a block that the call is part of.
    """

    def __init__(self, timeout: float | None = None, within: Watch | None = None) -> None:
        self.error: BulkError | None = None
        self._within = within
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._change = threading.Condition()
        self._statement: Statement | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if self._timeout is not None:
            self._timer = threading.Timer(self._timeout, self._time_is_up)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def left(self) -> float | None:
        """Seconds until the time is up, None where there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def reason(self) -> BulkError | None:
        """Why the call is stopped, or the block that it is part of."""
        return self.error or (self._within.reason if self._within is not None else None)

    def check(self) -> None:
        """Stop the call here, where it is to stop.

        Raises:
            Cancelled: somebody has cancelled it.
            TimedOut: its time is up.
        """
        if self.error is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.error = self._late()  # the timer's thread may not have had its turn yet
        if self.error is not None:
            raise self.error
        if self._within is not None:
            self._within.check()

    @contextmanager
    def running(self, statement: Statement) -> Iterator[None]:
        """Run a statement that can be stopped.

        Args:
            statement: the driver's statement.

        Yields:
            Nothing.
        """
        with self._change:
            self.check()
            self._statement = statement
        try:
            with self._within.running(statement) if self._within is not None else nullcontext():
                yield
        finally:
            with self._change:
                self._statement = None
                self._change.notify_all()

    def pause(self, seconds: float) -> None:
        """Sleep, but no longer than the call may take.

        Args:
            seconds: how long.

        Raises:
            Cancelled: somebody has cancelled it.
            TimedOut: its time is up.
        """
        with self._change:
            left = self.left
            self._change.wait_for(
                lambda: self.error is not None, seconds if left is None else min(seconds, left)
            )
        self.check()

    def stop(self, error: BulkError) -> None:
        """Stop the call, from another thread, and wait until its statement has ended.

        Args:
            error: what the call shall raise.
        """
        with self._change:
            self.error = self.error or error
            self._change.notify_all()
            while self._statement is not None:
                # Again and again: a statement that is about to be sent is not there to be stopped yet. SQLite's
                # driver cannot stop one at all (adbc-driver-sqlite 1.13), so its statements are kept short.
                self._statement.stop()
                if self._statement.thread == threading.get_ident():
                    return  # a signal handler, without which the statement cannot go on to its end
                self._change.wait(_AGAIN)

    def _time_is_up(self) -> None:
        self.stop(self._late())

    def _late(self) -> TimedOut:
        return TimedOut(
            f"the call was stopped after {self._timeout:g} s, its timeout; nothing was written: allow it more time, or "
            "write fewer rows at once"
        )

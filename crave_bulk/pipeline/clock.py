"""The clock of a batch: seconds and rows by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from crave_bulk.report import PHASES, TIMINGS


class Clock:
    """Seconds and rows by phase; a phase within a phase counts for itself alone."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._rows: dict[str, int] = {}
        self._inner = [0.0]

    @contextmanager
    def phase(self, name: str, rows: int) -> Iterator[None]:
        """Count the time of a block for a phase.

        Args:
            name: one of `crave_bulk.report.PHASES`.
            rows: how many rows it is about.

        Yields:
            Nothing.
        """
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + spent - self._inner.pop()
            self._rows[name] = rows
            self._inner[-1] += spent

    def frame(self) -> pl.DataFrame:
        """Give what was counted so far.

        Returns:
            batch, phase, seconds, rows, in the order of the phases.

        Example:
            >>> clock = Clock()
            >>> with clock.phase("merge", 3), clock.phase("stage", 2):
            ...     pass
            >>> clock.frame()["phase", "rows"].rows()
            [('stage', 2), ('merge', 3)]
        """
        names = [name for name in PHASES if name in self._seconds]
        return pl.DataFrame(
            {
                "batch": [1] * len(names),
                "phase": names,
                "seconds": [self._seconds[name] for name in names],
                "rows": [self._rows[name] for name in names],
            },
            schema=TIMINGS,
        )

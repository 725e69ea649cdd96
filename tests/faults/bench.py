"""What the faults that come at random moments share: each makes some, and counts what came of them.

The tests make a few; ``python tests/faults --help`` makes as many as it is told to.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import crave_bulk as cb
from faults.counts import Counts, Written, ones


@dataclass
class Figures:
    """What came of the faults of one kind.

    Attributes:
        scenario: the kind.
        faults: how many there were.
        wrong: what `agree` and the scenario have found, by its first word.
        errors: what reached the caller, by class.
        retries: of all calls that succeeded.
        notes: what else was counted.
        complaints: all that was wrong, in full.
        seconds: how long it took.
    """

    scenario: str
    faults: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def check(self, found: Sequence[str]) -> None:
        """Count what is wrong."""
        self.complaints += found
        self.wrong.update(text.partition(":")[0] for text in found)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Count what should not be so."""
        if not holds:
            self.check([f"unexpected: {otherwise}"])

    def __str__(self) -> str:
        def told(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"

        agrees = "==" if not self.wrong["ledger"] and not self.wrong["report"] else "!="
        others = {
            k: n for k, n in self.wrong.items() if k not in ("half", "doubled", "lost", "ledger", "report")
        }
        return (
            f"{self.scenario:<28} faults {self.faults:>4}  half {self.wrong['half']}  doubled {self.wrong['doubled']}  "
            f"lost {self.wrong['lost']}  ledger {agrees} data  other wrongs: {told(Counter(others))}  "
            f"errors to the caller: {told(self.errors)}  retries {self.retries}  {self.seconds:.1f} s"
            f"  ({told(self.notes)})"
        )


@contextmanager
def measured(scenario: str) -> Iterator[Figures]:
    """Count, and take the time."""
    figures, start = Figures(scenario), time.perf_counter()
    yield figures
    figures.seconds = time.perf_counter() - start


@contextmanager
def begun(url: str) -> Iterator[tuple[cb.Database, Written]]:
    """Connect, and write a first batch, which creates what there is to create."""
    with cb.connect(url) as db:
        db.create(Counts)
        written, first = Written(), ones(0)
        db.upsert(Counts, first, once=False)
        written.add(first)
        yield db, written


def look_at_the_ledger(db: cb.Database, written: Written) -> None:
    """Write a batch, as the first one on a connection has to see whether the ledger is as it should be."""
    db.upsert(Counts, ones(0), once=False)
    written.add(ones(0))

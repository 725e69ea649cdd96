"""Work: what one call is to write, whatever its verb, and how the caller wants it written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import polars as pl

from crave_bulk import failures
from crave_bulk.errors import ContractError, shown
from crave_bulk.journal import Change, steps
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.images import Images
from crave_bulk.pipeline.reasons import checkable
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.report import Report
from crave_bulk.scalar import is_utf8
from crave_bulk.session import Session
from crave_bulk.table import Contract

OnReject = Literal["raise", "keep"]
Once = bool | str | None
_LONGEST = 1_000_000_000  # seconds; more than the clocks of some systems can count


@dataclass(frozen=True, slots=True)
class Options:
    """What every verb that writes can be told.

    Attributes:
        on_reject: whether a refused row refuses the batch.
        plan: run the batch, tell what it would change, and roll it back.
        once: a name, or True for the content: a batch that was written already is not written again.
        undo: keep the rows that are changed as they were.
        timeout: seconds.
    """

    on_reject: OnReject = "raise"
    plan: bool = False
    once: Once = None
    undo: bool = True
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.on_reject not in ("raise", "keep"):
            raise ContractError(f"on_reject={self.on_reject!r} is not known: use 'raise' or 'keep'")
        if (
            self.once is not None
            and not isinstance(self.once, bool)
            and not (isinstance(self.once, str) and self.once.strip() and is_utf8(self.once))
        ):
            raise ContractError(
                f"once={shown(self.once)} is no name: use a text that is not empty, True for the content, or False"
            )
        if self.timeout is not None and not (
            isinstance(self.timeout, int | float)
            and not isinstance(self.timeout, bool)
            and 0 < self.timeout <= _LONGEST
        ):
            raise ContractError(
                f"timeout={shown(self.timeout)} is no time: use seconds above 0 and up to {_LONGEST:,}, or None"
            )


@dataclass(frozen=True, slots=True)
class Turn:
    """One attempt at the work.

    Attributes:
        session: the connection, in a transaction.
        joined: an outer transaction goes on afterwards.
        last: what fails now is put down to the rows rather than to other writers.
        batch_id: the batch.
        keeps: the rows that are changed are to be kept, as they were and as they are then.
        must: it is no use without them, as they are all that is wanted.
        undo: it is to be possible to take the batch back.
    """

    session: Session
    joined: bool
    last: bool
    batch_id: str
    keeps: bool
    must: bool
    undo: bool

    def images(self, wire: Wire) -> Images | None:
        """Prepare to keep the rows of a table, where somebody wants them.

        Args:
            wire: the table on its database.

        Returns:
            What reads them, or None.
        """
        return Images(self.session, wire) if self.keeps else None


class Work(ABC):
    """One batch.

    Attributes:
        verb: what it is called in the report.
        wire: the table on its database.
        source: the rows that were passed; none where the call finds them by itself.
        clock: seconds by phase.
        repeats: writing it once more changes the table once more, as merge rules add or append.
    """

    verb: str
    wire: Wire
    source: pl.DataFrame
    clock: Clock
    repeats: bool = False

    @property
    def contract(self) -> Contract:
        """The table."""
        return self.wire.contract

    @property
    def table(self) -> str:
        """The table's name."""
        return str(self.contract.name)

    @abstractmethod
    def write(self, turn: Turn) -> Verdict:
        """Write, in the transaction that is open.

        Args:
            turn: the attempt.

        Returns:
            What becomes of each row.

        Raises:
            Raced: another writer came in between.
            BulkError: the database refused.
        """

    @abstractmethod
    def accounts(self, verdict: Verdict) -> tuple[pl.DataFrame, pl.Series]:
        """Give the key and the outcome of every row that the batch was about.

        Args:
            verdict: what became of the rows.

        Returns:
            The keys, and as many outcomes.
        """

    @abstractmethod
    def about(self) -> str:
        """Say all that makes the work one of a kind, besides its source."""

    def passed(self) -> pl.DataFrame:
        """Give the rows that the caller has passed.

        Returns:
            The source, unless the call has found it by itself.
        """
        return self.source

    def shared(self, session: Session, constraint: str) -> bool:
        """Tell whether another writer can have caused that a constraint is broken.

        Args:
            session: a connection.
            constraint: its name.

        Returns:
            False where it is about single rows.
        """
        return checkable(session, self.wire, constraint)

    def fixed(self, verdict: Verdict) -> None:  # noqa: B027 - most works have nothing to keep
        """Keep the keys that the database has made, so that the work can be written again just so.

        Args:
            verdict: what became of the rows.
        """

    def steps(self, session: Session, verdict: Verdict) -> list[Change]:
        """Put together what is to be taken back together.

        Args:
            session: the connection, in a transaction.
            verdict: what became of the rows, and what was changed.

        Returns:
            The steps, in their order.
        """
        return steps(session, verdict.changes)

    def report(self, verdict: Verdict, batch_id: str, *, written: bool) -> Report:
        """Sum up.

        Args:
            verdict: what became of the rows.
            batch_id: the batch.
            written: whether it is.

        Returns:
            The report, without its time.
        """
        with self.clock.phase("report", self.source.height):
            found = failures.gather(verdict.failures)
            keys, outcomes = self.accounts(verdict)
        return Report(
            verb=self.verb,
            table=self.table,
            batch_id=batch_id,
            written=written,
            source=self.source,
            keys_by_row=keys,
            outcomes_by_row=outcomes,
            failures=found,
            timings=self.clock.frame(),
            seconds=0.0,
        )

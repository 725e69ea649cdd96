"""The plan: a batch that was run, counted, compared and rolled back, and can be applied just so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from crave_bulk import card
from crave_bulk.errors import (
    ContractError,
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    PermissionRefused,
    PlanStale,
    ReadOnlyDatabase,
    RejectedRows,
)
from crave_bulk.report import Counts, Report

if TYPE_CHECKING:
    from crave_bulk.journal import Change

_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What a batch would do: it was run in a transaction that was rolled back.

    Attributes:
        report: what would become of each row.
        moves: the rows that would change, by table.
    """

    report: Report
    moves: Sequence[Change] = field(repr=False)
    _apply: Callable[[Callable[[Plan], None]], Report] | None = field(repr=False)

    @property
    def counts(self) -> Counts:
        """Outcome → rows, and ``input``, as in `Report.counts`."""
        return self.report.counts

    @property
    def rejected(self) -> pl.DataFrame:
        """The input rows that would be refused, as in `Report.rejected`."""
        return self.report.rejected

    @property
    def failures(self) -> pl.DataFrame:
        """One line per broken rule, as in `Report.failures`."""
        return self.report.failures

    @property
    def outcomes(self) -> pl.DataFrame:
        """What would become of each row, as in `Report.outcomes`."""
        return self.report.outcomes

    @cached_property
    def changes(self) -> pl.DataFrame:
        """Every value that would change: row, key, column, old, new; as text.

        A row that is new or gone has a line for its key and one for each value that is not null. ``row`` is
        the number of the input row, null where the call finds the row by itself.
        """
        from crave_bulk.journal import CHANGES

        cells = [change.cells() for change in self.moves]
        return pl.concat(cells) if cells else pl.DataFrame(schema=CHANGES)

    def apply(self) -> Report:
        """Write what was planned.

        The batch is run again in a transaction, with the same values for what is made on the way (keys,
        ``"now"``); it is committed only if it meets the same rows and comes to the same outcomes.

        Returns:
            What became of each row.

        Raises:
            PlanStale: the target has changed since, or the plan was applied already; nothing was written.
            RejectedRows: rows are refused, as planned, and ``on_reject="raise"``; nothing was written.
            BulkError: the database refused; nothing was written.

        Example:
            >>> import polars as pl
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     plan = db.upsert(Foods, pl.DataFrame({"food_id": [1], "name": ["soup"]}), plan=True)
            ...     before = db.read(Foods).height
            ...     plan.changes.rows(), before, plan.apply().counts
            ([(0, '1', 'food_id', None, '1'), (0, '1', 'name', None, 'soup')], 0, {'input': 1, 'inserted': 1})
        """
        if self._apply is None:
            return self.report  # it was written before, once
        try:
            return self._apply(self._agree)
        except RejectedRows as error:
            if error.report.failures.equals(self.report.failures):
                raise
            raise _stale("rows are refused now that were not") from error
        except (ContractError, DatabaseError) as error:
            if isinstance(error, DatabaseBusy | DatabaseFull | PermissionRefused | ReadOnlyDatabase):
                raise
            raise _stale(f"the table cannot be written any more as it was ({error})") from error

    def _agree(self, now: Plan) -> None:
        """Compare with what was done just now, before it is committed."""
        if len(self.moves) != len(now.moves) or any(
            a.wire.contract.column_names != b.wire.contract.column_names
            for a, b in zip(self.moves, now.moves, strict=True)
        ):
            raise _stale("other tables or columns would be written now")
        for planned, found in zip(self.moves, now.moves, strict=True):
            if reason := _moved(planned, found):
                raise _stale(f"in table {planned.wire.contract.name}, {reason}")
        if not self.report.outcomes_by_row.equals(now.report.outcomes_by_row):
            raise _stale(f"planned: {card.sentence(self.counts)}; now: {card.sentence(now.counts)}")
        if not self.report.failures.equals(now.report.failures):
            raise _stale("other rows are refused now")

    def __repr__(self) -> str:
        lines = str(self.report).splitlines()
        lines[0] = f"plan: {lines[0].partition('  NOTHING')[0]}"
        shown = [
            f"  {key}: {column}: {_shown(old)} -> {_shown(new)}"
            for _, key, column, old, new in self.changes.head(_SHOWN).iter_rows()
        ]
        more = self.changes.height - len(shown)
        return "\n".join(
            [*lines[:-1], *shown, *([f"  ... and {more:,} more changes, see .changes"] if more else [])]
        )

    def _repr_html_(self) -> str:
        return card.plan_html(self)


def _shown(value: Any) -> str:
    return "nothing" if value is None else card.shorten(repr(value))


def _moved(planned: Change, found: Change) -> str:
    """Say how the rows that were there differ from those that are there now, if they do."""
    # What a new row holds besides its key may be filled in by the database, which has a clock of its own.
    old = (planned.before.drop("_row"), found.before.drop("_row"))
    new = (planned.new.select(planned.key), found.new.select(found.key))
    for was, now in (old, new):
        if was.schema != now.schema:
            return "columns have other types now"
        was, now = was.sort(planned.key), now.sort(planned.key)
        if not was.equals(now):
            gone = was.join(now, on=was.columns, how="anti", nulls_equal=True)
            more = now.join(was, on=was.columns, how="anti", nulls_equal=True)
            first = (gone if gone.height else more).select(planned.key).row(0)
            return (
                f"rows that it changes are not as they were: {max(gone.height, more.height):,}, the first with the key "
                f"{', '.join(map(str, first))}"
            )
    return ""


def _stale(why: str) -> PlanStale:
    return PlanStale(
        f"the target has changed since the plan was made: {why}; nothing was written: plan again, look, and apply"
    )

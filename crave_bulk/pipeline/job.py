"""The job: what one batch is to do, and all that is known of it before the transaction begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from crave_bulk.pipeline.merge import Columns, Kind
from crave_bulk.pipeline.stage import Wire
from crave_bulk.table import Merge
from crave_bulk.where import Where


@dataclass(frozen=True, slots=True)
class Others:
    """Which rows a sync deletes: those within a condition whose keys are not in the frame."""

    within: Where
    hard: bool


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, and all that is known of it before the transaction begins.

    Attributes:
        wire: the table on its database.
        kind: how rows are applied.
        columns: which columns are written.
        rules: column → merge rule, of the columns that are not simply replaced.
        frame: all columns of the contract, validated.
        on: the unique key that rows are matched by, where it is not the key.
        newer: the column that must not be older than what is there.
        ignores: an insert leaves rows alone whose key exists.
        distinct: rows of the same key are refused rather than combined.
        changed: the outcome of a row that exists and was written.
        alone: a deletion takes nothing along and changes nothing else: such a row is refused.
        spares: a deletion touches no other row of its own table: such a row is refused.
        renamed: ``_row`` and the short columns of the keys that a trigger is known to give to rows.
        revives: an update is of rows that are marked as deleted, and takes the mark away.
        restores: rows are put back as they were, also the values that the database always makes itself.
        others: what becomes of the rows of the table that are not in the frame, if anything does.
        defaulted: column → which rows of the frame had a null that its default has filled, as if they were new.
    """

    wire: Wire
    kind: Kind
    columns: Columns
    rules: dict[str, Merge]
    frame: pl.DataFrame
    on: tuple[str, ...] | None = None
    newer: str | None = None
    ignores: bool = False
    distinct: bool = False
    changed: str = "updated"
    alone: bool = False
    spares: bool = False
    revives: bool = False
    restores: bool = False
    others: Others | None = None
    renamed: pl.DataFrame | None = None
    defaulted: Mapping[str, pl.Series] = field(default_factory=dict)

    @property
    def looks_back(self) -> bool:
        """Whether what stands in the table takes part in what a row comes to."""
        rules = any(rule not in ("replace", "keep") for rule in self.rules.values())
        return self.newer is not None or rules or bool(self.defaulted)

    @property
    def combines(self) -> bool:
        """Whether what a row comes to depends on the rows of its key before it."""
        return bool(self.rules or self.newer or self.defaulted)

    @property
    def combined(self) -> set[str]:
        """The columns of which that is true."""
        return {*self.rules, *self.defaulted}

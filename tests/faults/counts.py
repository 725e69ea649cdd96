"""A table of counters that shows whether a batch was written once, in half, twice or not at all."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

import crave_bulk as cb
from faults.writers import file_of, left_in_server, staging_left, wait_until

JOURNAL = "crave_bulk_batches_journal"
ITEMS = 1_000
PATIENCE = 5.0  # seconds, in which a server notices that a client is gone, and a call comes to its end
PROBE = -1  # the number of a batch that only shows that the next call works


class Counts(cb.Table):
    """What the batches have added up to."""

    item: int = cb.field(key=True)
    total: int = cb.field(merge="add")
    last: int

    class Config:
        name = "counts"


def ones(number: int, items: int = ITEMS) -> pl.DataFrame:
    """Make the frame of a batch that adds one to every item, so that half of it would show."""
    return pl.DataFrame({"item": range(items), "total": [1] * items, "last": [number] * items})


@dataclass
class Written:
    """What should be in the database by now, whoever wrote it.

    Attributes:
        sums: the total of each item.
        batches: how many there were.
    """

    sums: Counter[int] = field(default_factory=Counter)
    batches: int = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Note a batch."""
        self.batches += 1
        for item, total in frame.select("item", "total").iter_rows():
            self.sums[item] += total


def agree(db: cb.Database, url: str, written: Written, report: cb.Report | None = None) -> list[str]:
    """Look whether the data, the ledger and the report agree, whether anything is left, and write once more.

    Args:
        db: the database, which has to be usable.
        url: its URL, past any proxy.
        written: what should be in it; afterwards, what is, with one batch more.
        report: of the last batch.

    Returns:
        What is wrong, each beginning with ``half``, ``doubled``, ``lost``, ``ledger``, ``report``, ``left`` or
        ``next``.
    """
    wrong = [*_compare(db, written, report), *left(url)]
    probe = ones(PROBE)
    try:
        report = db.upsert(Counts, probe, once=False, timeout=PATIENCE)
    except cb.BulkError as error:
        return [*wrong, f"next call: {error!r}"]
    written.add(probe)
    if url.startswith("sqlite") and Path(f"{file_of(url)}-journal").exists():
        wrong.append("left: a journal, which the next writer should have cleared away")
    return [*wrong, *_compare(db, written, report)]


def _compare(db: cb.Database, written: Written, report: cb.Report | None) -> Iterator[str]:
    found = Counter(dict(db.read(Counts, columns=["item", "total"]).iter_rows()))
    more = {found[item] - written.sums[item] for item in found.keys() | written.sums.keys()}
    if more - {0}:
        kind = "half" if len(more) > 1 else "doubled" if max(more) > 0 else "lost"
        yield f"{kind}: the totals are {sorted(more)} off"
        written.sums = found
    batches = db.batches()
    own = batches.filter(pl.col("table") == "counts")
    if own.height != written.batches:
        yield f"ledger: {own.height} batches where {written.batches} were written"
        written.batches = own.height
    if own["batch_id"].n_unique() < own.height or own["name"].drop_nulls().is_duplicated().any():
        yield "ledger: a batch is there twice"
    if own["inserted"].sum() != len(found):
        yield f"ledger: {own['inserted'].sum()} rows inserted where there are {len(found)}"
    try:
        kept = set(db.read(JOURNAL, columns=["batch_id"])["batch_id"])
    except cb.TableNotFound:  # the first batch was not written
        kept = set()
    if kept - set(batches["batch_id"]) or len(kept) < min(20, own.height):
        yield f"ledger: the journal has {len(kept)} batches, or others than the ledger"
    if report is not None:
        lines = own.filter(pl.col("batch_id") == report.batch_id)
        told = [{**report.counts, "retries": report.retries}]
        if lines.select(told[0].keys()).to_dicts() != told:
            yield f"report: {told} where the ledger has {lines.select(told[0].keys()).to_dicts()}"


def left(url: str) -> list[str]:
    """List what calls have left behind; a server is given the time to notice that a client is gone."""
    if url.startswith("postgresql"):
        try:
            wait_until(lambda: left_in_server(url) == (0, 0, []), PATIENCE)
        except AssertionError:
            return ["left: {} transactions, {} locks, {}".format(*left_in_server(url))]
        return []
    found = [f"left: {tables}"] if (tables := staging_left(url)) else []
    try:
        with closing(sqlite3.connect(file_of(url), timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        return [*found, f"left: a lock: {error}"]
    return found

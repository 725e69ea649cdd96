"""SQLite files that may not grow, or hold garbage."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import crave_bulk as cb
from crave_bulk.backends import sqlite
from faults.bench import Figures, begun, measured
from faults.counts import Counts, agree, ones
from faults.writers import file_of


@contextmanager
def pages_at_most(pages: int) -> Iterator[None]:
    """Let no SQLite file grow beyond a size: to SQLite, the disk is full."""
    usual = sqlite._ON_CONNECT_FILE
    sqlite._ON_CONNECT_FILE = (*usual, f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        sqlite._ON_CONNECT_FILE = usual


def full(url: str, seed: int, count: int) -> Figures:
    """Let the disk be full at some moment of a batch, and then have room again."""
    rng = random.Random(seed)
    with measured("disk full") as figures, begun(url) as (db, written):
        for number in range(1, count + 1):
            frame = ones(number, 20_000 * number)  # a part of it is new
            report = None
            with pages_at_most(int(_ask(url, "PRAGMA page_count")) + rng.randrange(25)):
                try:
                    report = db.upsert(Counts, frame, once=f"b{number}")
                except cb.BulkError as error:
                    figures.errors[type(error).__name__] += 1
                    figures.expect(isinstance(error, cb.DatabaseFull), f"a full disk became {error!r}")
            figures.faults += report is None
            figures.expect(_ask(url, "PRAGMA integrity_check") == "ok", "the file is damaged")
            if report is None:
                figures.check(agree(db, url, written))
                report = db.upsert(Counts, frame, once=f"b{number}")
                figures.expect(not report.replayed, "it was written although the disk was full")
            written.add(frame)
            figures.check(agree(db, url, written, report))
    return figures


def _ask(url: str, question: str) -> Any:
    with closing(sqlite3.connect(file_of(url))) as connection:
        return connection.execute(question).fetchone()[0]


def garbage(url: str, seed: int, count: int) -> Figures:
    """Overwrite a part of a file, and see whether everything that is said of it is an error of crave_bulk."""
    rng = random.Random(seed)
    with measured("garbage in the file") as figures:
        with begun(url) as (db, _):
            db.upsert(Counts, ones(1), once="b1")
        file = file_of(url)
        whole = file.read_bytes()
        for number in range(count):
            start, length = rng.randrange(len(whole)), rng.choice([1, 16, 500, 16_384])
            start = rng.choice([start, start - start % 16_384, rng.randrange(100)])
            file.write_bytes(whole[:start] + rng.randbytes(length) + whole[start + length :])
            figures.faults += 1
            for call in _calls(number):
                try:
                    with cb.connect(url) as db:
                        call(db)
                except cb.BulkError as error:
                    figures.errors[type(error).__name__] += 1
                except Exception as error:
                    figures.errors[type(error).__name__] += 1
                    figures.expect(False, f"at {start}, {length} bytes: {error!r}")
    return figures


def _calls(number: int) -> list[Callable[[cb.Database], Any]]:
    return [
        lambda db: db.read(Counts),
        lambda db: db.read("counts"),
        lambda db: db.batches(),
        lambda db: db.upsert(Counts, ones(1), once="b1"),
        lambda db: db.upsert("counts", ones(number + 2), once=False),
        lambda db: db.undo(db.batches()["batch_id"][0]),
    ]

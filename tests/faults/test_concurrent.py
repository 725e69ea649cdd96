"""Several writers at once: every batch counts, and the same batch counts once."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

import crave_bulk as cb
from faults import sharing
from faults.counts import Counts, Written, agree

BOTH = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


@pytest.mark.thorough
def test_threads_that_add_to_the_same_rows(url: str) -> None:
    figures = sharing.writers(url, seed=8, writers=8, batches=4, processes=False)
    assert figures.complaints == [], figures
    assert figures.faults == 32


@BOTH
@pytest.mark.thorough
def test_processes_that_add_to_the_same_rows(url: str) -> None:
    figures = sharing.writers(url, seed=8, writers=3, batches=6, processes=True)
    assert figures.complaints == [], figures
    assert figures.faults == 18


@BOTH
def test_two_processes_that_run_the_same_batch(url: str) -> None:
    figures = sharing.same_batch(url, count=6)
    assert figures.complaints == [], figures
    assert figures.faults == 6


def few(*items: int) -> pl.DataFrame:
    return pl.DataFrame({"item": items, "total": [2] * len(items), "last": [0] * len(items)})


def before(db: cb.Database, beginning: str, do: Callable[[int], None], times: int) -> list[int]:
    """Do something before each of the next statements that begin so, and count."""
    done: list[int] = []

    def listen(statement: str) -> None:
        if statement.startswith(beginning) and len(done) < times:
            done.append(len(done) + 1)
            do(done[-1])

    db.trace(listen)
    return done


@pytest.mark.parametrize("beginning", ["SELECT * FROM (SELECT s._row", "INSERT INTO"])
def test_a_row_that_comes_in_between_is_added_to(
    server_db: cb.Database, server_url: str, beginning: str
) -> None:
    written = Written()
    with cb.connect(server_url) as other:
        server_db.create(Counts)

        def write(db: cb.Database, frame: pl.DataFrame) -> cb.Report:
            written.add(frame)
            return db.upsert(Counts, frame, once=False)

        write(other, few(9))  # else there is nothing to compare with
        done = before(server_db, beginning, lambda _: write(other, few(1)) and None, 1)
        report = write(server_db, few(1))
        assert done == [1]
        assert (report.counts, report.retries) == ({"input": 1, "updated": 1}, 1)
        assert agree(server_db, server_url, written, report) == []


def test_rows_that_keep_coming_are_never_the_fault_of_the_batch(
    server_db: cb.Database, server_url: str
) -> None:
    written = Written()
    with cb.connect(server_url) as other:
        server_db.create(Counts)

        def write(db: cb.Database, frame: pl.DataFrame) -> cb.Report:
            written.add(frame)
            return db.upsert(Counts, frame, once=False)

        write(other, few(99))
        done = before(server_db, "INSERT INTO", lambda number: write(other, few(number)) and None, 5)
        report = write(server_db, few(*range(20)))
        assert len(done) == report.retries == 5
        assert agree(server_db, server_url, written, report) == []

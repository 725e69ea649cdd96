"""Running it again is safe: the same cell twice, on several threads at once, or after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

import crave_bulk as cb
from crave_bulk.examples import Foods


def foods(rows: int, name: str) -> pl.DataFrame:
    return pl.DataFrame({"food_id": range(rows), "name": [f"{name} {n}" for n in range(rows)]})


def test_a_cell_run_twice_changes_nothing(db: cb.Database) -> None:
    for _ in range(2):
        db.create(Foods)
        report = db.upsert(Foods, foods(50, "a"))
    assert report.counts == {"input": 50, "unchanged": 50}


def test_threads_that_share_a_database_and_its_keys(db: cb.Database) -> None:
    db.create(Foods)
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda i: db.upsert(Foods, foods(40, f"t{i % 3}")), range(24)))
    assert sum(report.counts.get("inserted", 0) for report in reports) == 40
    assert all(sum(v for k, v in report.counts.items() if k != "input") == 40 for report in reports)
    names = {name.split()[0] for name in db.read(Foods)["name"]}
    assert len(names) == 1  # every batch is whole: no mixture of two


def test_threads_share_a_database_in_memory() -> None:
    with cb.connect() as db:
        db.create(Foods)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: db.upsert(Foods, foods(10, f"t{i}")), range(16)))
        assert db.read(Foods).height == 10


def test_a_connection_that_is_given_back_when_the_wait_ends_is_had_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with cb.connect() as db:
        db.create(Foods)
        connect, late = db._pool.connect, [PoolTimeout()]

        def just_too_late() -> object:
            if late:
                raise late.pop()
            return connect()

        monkeypatch.setattr(db._pool, "connect", just_too_late)
        assert db.upsert(Foods, foods(10, "a")).committed
        assert not late


def test_a_key_taken_between_check_and_merge_is_settled_by_the_second_attempt(server_db: cb.Database) -> None:
    db = server_db
    db.create(Foods)
    db.insert(Foods, pl.DataFrame({"food_id": [100], "name": ["x"]}))
    once = [True]

    def intrude(statement: str) -> None:
        if once[0] and statement.startswith("INSERT INTO"):
            once[0] = False
            with ThreadPoolExecutor(1) as other:
                other.submit(db.insert, Foods, pl.DataFrame({"food_id": [7], "name": ["first"]})).result()

    db.trace(intrude)
    report = db.insert(Foods, pl.DataFrame({"food_id": [7, 8], "name": ["second", "y"]}), on_reject="keep")
    assert report.counts == {"input": 2, "inserted": 1, "rejected": 1}
    assert db.read(Foods, order_by="food_id").rows() == [(7, "first"), (8, "y"), (100, "x")]


def test_a_constraint_that_no_race_can_break_is_not_tried_again(server_db: cb.Database) -> None:
    server_db.create(Foods)
    with server_db.session() as session:
        session.execute("ALTER TABLE foods ADD CHECK (food_id < 100)")
    server_db.upsert(Foods, foods(0, "creates the ledger"))
    seen: list[str] = []
    server_db.trace(seen.append)
    with pytest.raises(cb.RejectedRows, match="check constraint"):
        server_db.upsert(Foods, pl.DataFrame({"food_id": [100], "name": ["x"]}))
    assert seen.count("BEGIN") == 1
    assert server_db.read(Foods).is_empty()


KILLED = """
import sys, polars as pl, crave_bulk as cb
from crave_bulk.examples import Foods
with cb.connect(sys.argv[1]) as db:
    frame = pl.DataFrame({"food_id": range(20_000), "name": ["b"] * 20_000})
    print("go", flush=True)
    while True:
        db.upsert(Foods, frame)
        db.upsert(Foods, frame.with_columns(name=pl.lit("c")))
"""


@pytest.mark.thorough
def test_a_killed_writer_leaves_whole_batches(db: cb.Database, url: str) -> None:
    db.create(Foods)
    db.upsert(Foods, pl.DataFrame({"food_id": range(20_000), "name": ["a"] * 20_000}))
    for pause in (0.05, 0.21, 0.37):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"go\n"
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert db.read(Foods)["name"].n_unique() == 1
    report = db.upsert(Foods, pl.DataFrame({"food_id": range(20_000), "name": ["d"] * 20_000}))
    assert report.counts == {"input": 20_000, "updated": 20_000}

"""The ledger: one row a batch, in the batch's own transaction."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods
from crave_bulk.ledger import Batches, Ledger
from crave_bulk.report import OUTCOMES


def foods(*ids: int, name: str = "soup") -> pl.DataFrame:
    return pl.DataFrame(
        {"food_id": ids, "name": [name] * len(ids)}, schema={"food_id": pl.Int64, "name": pl.String}
    )


@pytest.fixture
def kitchen(db: cb.Database) -> cb.Database:
    db.create(Foods)
    return db


def test_a_batch_has_a_row(kitchen: cb.Database) -> None:
    before = dt.datetime.now(dt.UTC)
    frame = foods(1, 2, 2)
    report = kitchen.upsert(Foods, frame)
    row = kitchen.batches().row(0, named=True)
    assert row["batch_id"] == row["transaction_id"] == report.batch_id
    assert (row["verb"], row["table"], row["name"]) == ("upsert", "foods", None)
    assert {name: row[name] for name in ("input", *OUTCOMES)} == {
        name: report.counts[name] for name in ("input", *OUTCOMES)
    }
    assert before <= row["started_at"] <= row["finished_at"] <= dt.datetime.now(dt.UTC)
    assert 0 < row["seconds"] <= report.seconds
    assert {"validate", "merge"} <= set(json.loads(row["timings"]))
    assert row["bytes"] == frame.estimated_size()
    assert row["peak_memory"] > 10_000_000
    assert row["process"] == os.getpid()
    assert "@" in row["who"]
    assert json.loads(row["versions"])["polars"] == pl.__version__
    assert (row["undoable"], row["undone_by"], row["retries"]) == (True, None, 0)


def test_a_batch_that_is_refused_has_none(kitchen: cb.Database) -> None:
    with pytest.raises(cb.RejectedRows):
        kitchen.insert(Foods, foods(1, 1))
    assert kitchen.batches().is_empty()


def test_a_ledger_that_nobody_wrote_to_is_empty(kitchen: cb.Database) -> None:
    assert kitchen.batches().is_empty()
    assert "batch_id" in kitchen.batches().columns


def test_the_row_goes_with_the_transaction(kitchen: cb.Database) -> None:
    with kitchen.transaction():
        first = kitchen.insert(Foods, foods(1))
        with pytest.raises(ZeroDivisionError), kitchen.transaction():
            kitchen.insert(Foods, foods(2))
            raise ZeroDivisionError
        kitchen.delete(Foods, [1])
    found = kitchen.batches()
    assert found["verb"].to_list() == ["delete", "insert"]
    assert set(found["transaction_id"]) == {first.batch_id}
    with pytest.raises(ZeroDivisionError), kitchen.transaction():
        kitchen.insert(Foods, foods(3))
        raise ZeroDivisionError
    assert kitchen.batches().height == 2
    assert kitchen.insert(Foods, foods(4)).batch_id == kitchen.batches()["transaction_id"][0]


def test_a_transaction_of_the_first_batch_that_is_rolled_back_takes_the_ledger_with_it(
    kitchen: cb.Database,
) -> None:
    with pytest.raises(ZeroDivisionError), kitchen.transaction():
        kitchen.insert(Foods, foods(1))
        raise ZeroDivisionError
    kitchen.insert(Foods, foods(2))
    assert kitchen.batches()["verb"].to_list() == ["insert"]


def test_it_is_read_by_a_condition_newest_first(kitchen: cb.Database) -> None:
    for number in range(3):
        kitchen.insert(Foods, foods(number))
    kitchen.delete(Foods, [1])
    assert kitchen.batches(limit=2)["verb"].to_list() == ["delete", "insert"]
    assert kitchen.batches(where={"verb": "insert"}).height == 3


@pytest.mark.parametrize("name", ["notes", "ops.batches"])
def test_its_name_can_be_chosen(url: str, name: str) -> None:
    with cb.connect(url, ledger=name) as db:
        db.create(Foods)
        db.insert(Foods, foods(1))
        assert db.batches().height == 1
        assert db.read(name).height == 1
        db.undo(db.batches()["batch_id"][0])
        assert db.read(Foods).is_empty()


def test_without_a_ledger(url: str) -> None:
    with cb.connect(url, ledger=False) as db:
        db.create(Foods)
        report = db.insert(Foods, foods(1))
        for call in (lambda: db.batches(), report.undo, lambda: db.insert(Foods, foods(2), once="x")):
            with pytest.raises(cb.ContractError, match="ledger=False"):
                call()
        assert db.upsert(Foods, foods(1, name="x"), plan=True).counts["updated"] == 1
        with pytest.raises(cb.TableNotFound):
            db.read("crave_bulk_batches")


def test_an_older_ledger_gets_the_columns_that_came_since(kitchen: cb.Database) -> None:
    kitchen.insert(Foods, foods(1))
    with kitchen.session() as session:
        for column in ("peak_memory", "undone_by"):
            session.execute(f"ALTER TABLE crave_bulk_batches DROP COLUMN {column}")
    kitchen.ledger.forget()  # as in another process
    old = kitchen.batches()
    assert old.columns == [n for n in Batches.to_schema().columns if n not in ("once", "content", "report")]
    assert old["peak_memory"].to_list() == [None]
    kitchen.insert(Foods, foods(2))
    assert [memory is None for memory in kitchen.batches()["peak_memory"]] == [False, True]


def test_a_newer_ledger_is_written_to_by_an_older_version(kitchen: cb.Database) -> None:
    kitchen.insert(Foods, foods(1))
    with kitchen.session() as session:
        session.execute("ALTER TABLE crave_bulk_batches ADD COLUMN mood text")
    kitchen.insert(Foods, foods(2))
    assert kitchen.batches().height == 2


def test_a_ledger_that_somebody_drops_is_made_anew(kitchen: cb.Database) -> None:
    kitchen.insert(Foods, foods(1))
    with kitchen.session() as session:
        session.execute("DROP TABLE crave_bulk_batches")
        session.execute("DROP TABLE crave_bulk_batches_journal")
    report = kitchen.insert(Foods, foods(2))
    assert kitchen.batches()["batch_id"].to_list() == [report.batch_id]
    assert kitchen.read(Foods).height == 2


def test_a_ledger_that_somebody_drops_is_made_anew_whatever_is_asked_of_it_first(
    kitchen: cb.Database,
) -> None:
    def drop() -> None:
        with kitchen.session() as session:
            session.execute("DROP TABLE crave_bulk_batches")
            session.execute("DROP TABLE crave_bulk_batches_journal")

    kitchen.insert(Foods, foods(1))
    drop()
    assert kitchen.batches().is_empty()
    kitchen.insert(Foods, foods(2))
    drop()
    assert not kitchen.insert(Foods, foods(3), once="x").replayed
    drop()
    with pytest.raises(cb.UndoRefused, match="there is no batch"):
        kitchen.undo("01a20dcb-2ed3-719c-9641-41a135bda23d")
    assert kitchen.read(Foods).height == 3


def test_it_may_be_made_in_a_schema_by_who_may_not_create_schemas(
    server_db: cb.Database, databases: dict[str, str]
) -> None:
    server_db.create(Foods)
    with server_db.session() as session:
        for statement in (
            "DROP ROLE IF EXISTS crave_bulk_dan",
            "CREATE ROLE crave_bulk_dan",
            "GRANT ALL ON foods TO crave_bulk_dan",
            "CREATE SCHEMA audit",
            "GRANT ALL ON SCHEMA audit, public TO crave_bulk_dan",
            "SET ROLE crave_bulk_dan",
        ):
            session.execute(statement)
    server_db.ledger = Ledger(server_db.backend, "audit.batches", 20)
    try:
        server_db.insert(Foods, foods(1)).undo()
        assert server_db.read("audit.batches").height == 2
    finally:
        with server_db.session() as session:
            session.execute("RESET ROLE")
            session.execute("DROP OWNED BY crave_bulk_dan")
            session.execute("DROP ROLE crave_bulk_dan")


def test_a_block_that_is_the_first_to_write_holds_nobody_up(
    server_db: cb.Database, databases: dict[str, str]
) -> None:
    server_db.create(Foods)
    url = server_db.backend.label

    def write() -> None:
        with cb.connect(url) as other:
            other.insert(Foods, foods(2), timeout=10)

    with server_db.transaction():
        server_db.insert(Foods, foods(1))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write).result()
    assert server_db.batches().height == 2


FIRST = """
import sys, polars as pl, crave_bulk as cb
from crave_bulk.examples import Foods
with cb.connect(sys.argv[1]) as db:
    print("ready", flush=True)
    sys.stdin.readline()
    print(db.insert(Foods, pl.DataFrame({"food_id": [int(sys.argv[2])], "name": ["x"]})).batch_id)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("processes", [2, pytest.param(6, marks=pytest.mark.thorough)])
def test_several_processes_may_be_the_first(kitchen: cb.Database, url: str, processes: int) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for number in range(processes)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    written = {writer.communicate()[0].strip() for writer in writers}
    assert written == set(kitchen.batches()["batch_id"])
    assert kitchen.read(Foods).height == len(written) == processes


def test_a_login_that_may_not_create_it_is_told_what_to_do(
    server_db: cb.Database, databases: dict[str, str], request: pytest.FixtureRequest
) -> None:
    server_db.create(Foods)
    with server_db.session() as session:
        session.execute("DROP ROLE IF EXISTS crave_bulk_bob")
        session.execute("CREATE ROLE crave_bulk_bob")
        session.execute("GRANT ALL ON foods TO crave_bulk_bob")
        session.execute("GRANT USAGE ON SCHEMA public TO crave_bulk_bob")
        session.execute("SET ROLE crave_bulk_bob")
    try:
        with pytest.raises(cb.PermissionRefused, match="ledger=False") as refused:
            server_db.insert(Foods, foods(1))
        assert "permission denied for schema public" in str(refused.value)
        assert server_db.read(Foods).is_empty()
    finally:
        with server_db.session() as session:
            session.execute("RESET ROLE")
            session.execute("DROP OWNED BY crave_bulk_bob")
            session.execute("DROP ROLE crave_bulk_bob")


@pytest.mark.parametrize(
    "options", [{"ledger": 3}, {"keep_undo": 0}, {"keep_undo": True}, {"ledger": "a.b.c"}]
)
def test_options_that_are_not_understood(options: dict[str, object]) -> None:
    with pytest.raises(cb.ContractError):
        cb.connect("sqlite://", **options)  # type: ignore[arg-type]

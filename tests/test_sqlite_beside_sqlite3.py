"""A notebook that uses the standard library's sqlite3 on the same file loses nothing."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods


def test_writes_by_both_in_turn_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "both.db"

    def by_hand(statement: str) -> list[tuple[int, str]]:
        connection = sqlite3.connect(path)
        rows = connection.execute(statement).fetchall()
        connection.commit()
        connection.close()
        return rows

    with cb.connect(f"sqlite:///{path}") as db:
        db.create(Foods)
        for number in (1, 3, 5):
            db.upsert(Foods, pl.DataFrame({"food_id": [number], "name": ["ours"]}))
            by_hand(f"INSERT INTO foods VALUES ({number + 1}, 'theirs')")
            assert len(by_hand("SELECT * FROM foods")) == number + 1
            assert db.read(Foods).height == number + 1
    assert len(by_hand("SELECT * FROM foods")) == 6


def test_a_file_is_not_kept_open_between_calls(tmp_path: Path) -> None:
    path = tmp_path / "closed.db"
    with cb.connect(f"sqlite:///{path}") as db:
        db.create(Foods)
        assert [file.name for file in tmp_path.iterdir()] == ["closed.db"]  # the log is folded in


def test_a_connection_that_stays_open_sees_and_writes_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    connection.commit()
    with cb.connect(f"sqlite:///{path}") as db:
        for number in (1, 3, 5):
            db.insert("foods", pl.DataFrame({"food_id": [number], "name": ["ours"]}))
            connection.execute("INSERT INTO foods VALUES (?, 'theirs')", [number + 1])
            connection.commit()
            assert len(connection.execute("SELECT * FROM foods").fetchall()) == number + 1
            assert db.read("foods").height == number + 1
        connection.close()
        assert db.read("foods").height == 6
    assert not list(tmp_path.glob("open.db-*"))


def test_the_journal_mode_of_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "wal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    connection.close()
    with cb.connect(f"sqlite:///{path}") as db:
        db.insert("foods", pl.DataFrame({"name": ["a"]}))
    for name, mode in (("wal.db", "wal"), ("new.db", "delete")):
        with cb.connect(f"sqlite:///{tmp_path / name}") as db, db.session() as session:
            assert session.fetch("PRAGMA journal_mode").item() == mode


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_an_open_transaction_of_sqlite3_is_not_trampled_on(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "busy.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    connection.commit()
    frame = pl.DataFrame({"food_id": [2], "name": ["ours"]})
    db = cb.connect(f"sqlite:///{path}") if mode == "DELETE" else None
    connection.execute("INSERT INTO foods VALUES (1, 'theirs')")
    with pytest.raises(cb.DatabaseBusy, match="commit and close it"):
        (db or cb.connect(f"sqlite:///{path}")).insert("foods", frame)
    connection.commit()
    connection.close()
    with db or cb.connect(f"sqlite:///{path}") as free:
        free.insert("foods", frame)
        assert sorted(free.read("foods")["food_id"]) == [1, 2]


def test_threads_of_our_own_are_not_in_each_others_way(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/threads.db") as db, ThreadPoolExecutor(8) as pool:
        db.create(Foods)
        frames = [pl.DataFrame({"food_id": [n], "name": ["x"]}) for n in range(80)]
        list(pool.map(lambda frame: db.insert(Foods, frame), frames))
        assert db.read(Foods).height == 80


def test_a_text_after_many_nulls_is_read(tmp_path: Path) -> None:
    class Sparse(cb.Table):
        id: int = cb.field(key=True)
        text: str = cb.field(nullable=True)
        blob: pl.Binary = cb.field(nullable=True)

    rows = 70_000
    frame = pl.DataFrame(
        {"id": range(rows), "text": [None] * (rows - 1) + ["x"], "blob": [None] * (rows - 1) + [b"y"]},
        schema_overrides={"text": pl.String, "blob": pl.Binary},
    )
    with cb.connect(f"sqlite:///{tmp_path}/sparse.db") as db:
        db.create(Sparse)
        db.insert(Sparse, frame)
        assert db.read(Sparse, order_by="id").equals(frame)
        assert db.read(Sparse, order_by="-id", limit=2)["text"].to_list() == ["x", None]

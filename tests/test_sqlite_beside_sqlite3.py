"""A notebook that uses the standard library's sqlite3 on the same file loses nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import polars as pl

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

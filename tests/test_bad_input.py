"""Bad input gets one clear error that says what to do, and nothing is written."""

from __future__ import annotations

import os
import stat
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import crave_bulk as cb
from crave_bulk import retry
from crave_bulk.backends.sqlite import SQLite
from crave_bulk.examples import Foods

GOOD = pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]})

FRAMES: list[tuple[str, Any, str]] = [
    ("missing", GOOD.drop("name"), r"column 'name' \(String\) is missing: add it"),
    ("extra", GOOD.with_columns(colour=pl.lit("red")), r"column 'colour' is not in the table: drop it"),
    ("misspelt", GOOD.rename({"name": "nmae"}), r"column 'nmae' is not in the table: did you mean 'name'\?"),
    (
        "wrong type",
        GOOD.with_columns(pl.col("food_id").cast(pl.String)),
        r"column 'food_id' is String, the table has Int64: declare coerce=True, which .* or use pl.col\('food_id'\).cast\(pl.Int64\)",
    ),
    ("narrow type", GOOD.with_columns(pl.col("food_id").cast(pl.Int32)), r"is Int32, the table has Int64"),
    ("no columns", pl.DataFrame(), r"the frame has no columns"),
    ("a list", [{"food_id": 1}], r"type list is not a frame: pass a Polars DataFrame"),
    ("a text", "foods.csv", r"type str is not a frame"),
    ("None", None, r"type NoneType is not a frame"),
]


@pytest.mark.parametrize(("frame", "says"), [f[1:] for f in FRAMES], ids=[f[0] for f in FRAMES])
@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_frames_that_do_not_fit(db: cb.Database, verb: str, frame: Any, says: str) -> None:
    db.create(Foods)
    with pytest.raises(cb.ContractError, match=says):
        getattr(db, verb)(Foods, frame)
    assert db.read(Foods).is_empty()


def test_all_problems_of_a_frame_are_named_at_once(db: cb.Database) -> None:
    db.create(Foods)
    with pytest.raises(cb.ContractError) as error:
        db.insert(Foods, pl.DataFrame({"food_id": ["1"], "nam": ["x"]}))
    assert str(error.value).count("\n  - ") == 3


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        GOOD.lazy(),
        GOOD.to_arrow(),
        pd.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]}),
        pa.RecordBatchReader.from_batches(GOOD.to_arrow().schema, GOOD.to_arrow().to_batches()),
    ],
    ids=["polars", "lazy", "pyarrow", "pandas", "reader"],
)
def test_frames_of_every_kind(tmp_path: Path, source: Any) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/kinds.db") as db:
        db.create(Foods)
        assert db.insert(Foods, source).counts == {"input": 2, "inserted": 2}
        assert db.read(Foods, order_by="food_id").equals(GOOD)


def test_a_column_of_nulls_needs_no_type(db: cb.Database) -> None:
    class Notes(cb.Table):
        id: int = cb.field(key=True)
        note: str = cb.field(nullable=True)

    db.create(Notes)
    assert db.insert(Notes, pl.DataFrame({"id": [1], "note": [None]})).counts["inserted"] == 1


def test_a_table_that_does_not_exist(db: cb.Database) -> None:
    for work in (
        lambda: db.insert(Foods, GOOD),
        lambda: db.upsert(Foods, GOOD.head(0)),
        lambda: db.read(Foods),
    ):
        with pytest.raises(cb.TableNotFound, match=r"foods.*create it with db.create"):
            work()


def test_a_table_that_lacks_a_column(db: cb.Database) -> None:
    db.create(Foods)

    class More(Foods):
        """The same table with one column more."""

        colour: str = cb.field(nullable=True)

        class Config:
            name = "foods"

    with pytest.raises(cb.ContractError, match=r"table foods exists but has no column 'colour'"):
        db.create(More)


def test_options_that_are_not_known(db: cb.Database) -> None:
    db.create(Foods)
    with pytest.raises(cb.ContractError, match="on_reject='kep' is not known: use 'raise' or 'keep'"):
        db.insert(Foods, GOOD, on_reject="kep")  # type: ignore[arg-type]
    with pytest.raises(cb.ContractError, match="on_conflict='x' is not known"):
        db.insert(Foods, GOOD, on_conflict="x")  # type: ignore[arg-type]
    with pytest.raises(cb.ContractError, match="has no column 'colour': it has"):
        db.read(Foods, columns=["colour"])
    with pytest.raises(
        cb.ContractError, match="is not a table: the first argument is a subclass of cb.Table"
    ):
        db.insert(dict, GOOD)  # type: ignore[type-var,arg-type]


def test_a_url_that_is_not_understood() -> None:
    for url in ("mysql://me:secret@host/db", "crave.db", ""):
        with pytest.raises(cb.ContractError, match="URL is not understood") as error:
            cb.connect(url)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere/at/all.db", "the folder /nowhere/at does not exist"),
        ("sqlite:////tmp", "it is a folder"),
        ("sqlite:////tmp/no-such-file-here.db?mode=ro", "does not exist"),
        ("postgresql://me:s3cr%40t@127.0.0.1:1/crave", "Connection refused"),
        ("postgresql:///crave?host=127.0.0.1&port=1&user=me&password=s3cr%40t", "Connection refused"),
    ],
)
def test_a_database_that_is_not_there(url: str, says: str) -> None:
    with pytest.raises(cb.ConnectionFailed, match=says) as error:
        cb.connect(url)
    shown = "".join(traceback.format_exception(error.value))
    assert "s3cr" not in str(error.value)
    assert "s3cr%40t@" not in shown.replace(f'("{url}"', "").replace(url, "")


def test_a_login_that_is_refused(servers: dict[str, str]) -> None:
    server = servers["postgres"]
    wrong = server.replace("postgres:@", "nobody:hunter2@").replace("postgres@", "nobody:hunter2@")
    with pytest.raises(cb.ConnectionFailed) as error:
        cb.connect(wrong)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_password_does_not_show(databases: dict[str, str]) -> None:
    url = databases["postgres"]
    with cb.connect(
        url.replace("postgres:@", "postgres:hunter2@").replace("postgres@", "postgres:hunter2@")
    ) as db:
        assert "hunter2" not in repr(db)
        with pytest.raises(cb.BulkError) as error:
            db.read(Foods)
        assert "hunter2" not in str(error.value)


def test_a_file_that_may_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    with cb.connect(f"sqlite:///{path}") as db:
        db.create(Foods)
        db.insert(Foods, GOOD)
    with cb.connect(f"sqlite:///{path}?mode=ro") as db:
        assert db.read(Foods, order_by="food_id").equals(GOOD)
        with pytest.raises(cb.ReadOnlyDatabase, match="may be written"):
            db.insert(Foods, pl.DataFrame({"food_id": [9], "name": ["x"]}))
    if os.geteuid():
        path.chmod(stat.S_IRUSR)
        with cb.connect(f"sqlite:///{path}") as db, pytest.raises(cb.BulkError):
            db.insert(Foods, pl.DataFrame({"food_id": [9], "name": ["x"]}))


def test_a_login_that_may_only_read(databases: dict[str, str]) -> None:
    url = databases["postgres"]
    with cb.connect(url) as db:
        db.create(Foods)
        with db.session() as session:
            session.execute("DROP ROLE IF EXISTS crave_reader")
            session.execute("CREATE ROLE crave_reader LOGIN PASSWORD 'pw'")
            session.execute("GRANT USAGE ON SCHEMA public TO crave_reader")
            session.execute("GRANT SELECT ON foods TO crave_reader")
        with cb.connect(
            url.replace("postgres:@", "crave_reader:pw@").replace("postgres@", "crave_reader:pw@")
        ) as reader:
            assert reader.read(Foods).is_empty()
            with pytest.raises(cb.PermissionRefused, match="grant the login"):
                reader.insert(Foods, GOOD)
        with db.session() as session:
            session.execute("DROP OWNED BY crave_reader")
            session.execute("DROP ROLE crave_reader")
            session.execute("DROP TABLE foods")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear reader, " * 200)
    with pytest.raises(cb.BulkError, match="letter.db is not a SQLite database: check the path"):
        cb.connect(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear reader")


def test_a_full_database_says_so(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/full.db") as db:
        db.create(Foods)
        with db.session() as session:
            session.fetch("PRAGMA max_page_count = 8")
            many = pl.DataFrame({"food_id": range(100_000), "name": ["x" * 40] * 100_000})
            with pytest.raises(cb.DatabaseFull, match="make room"):
                db.insert(Foods, many)
        assert db.read(Foods).is_empty()


def test_a_locked_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_ENOUGH", 0.5)  # rather than half a minute
    monkeypatch.setattr(SQLite, "patience", replace(SQLite.patience, seconds=0.2))
    with (
        cb.connect(f"sqlite:///{tmp_path}/locked.db") as db,
        cb.connect(f"sqlite:///{tmp_path}/locked.db") as other,
    ):
        db.create(Foods)
        with db.session() as session, session.atomic():
            session.execute("INSERT INTO foods VALUES (1, 'held')")
            with pytest.raises(cb.DatabaseBusy, match="run the call again"):
                other.insert(Foods, GOOD)
        assert other.upsert(Foods, GOOD).counts == {"input": 2, "inserted": 1, "updated": 1}


def test_a_broken_constraint_that_the_contract_does_not_know(db: cb.Database) -> None:
    db.create(Foods)
    with db.session() as session:
        session.execute("CREATE UNIQUE INDEX one_name ON foods (lower(name))")
    frame = pl.DataFrame({"food_id": [1, 2], "name": ["Soup", "soup"]})
    with pytest.raises(cb.RejectedRows, match="1 of 2 rows") as error:
        db.insert(Foods, frame)
    assert error.value.report.failures["stage"].to_list() == ["unique"]
    assert "one_name" in error.value.report.failures["message"][0]
    assert db.read(Foods).is_empty()

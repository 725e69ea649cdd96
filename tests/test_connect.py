"""Connecting: URLs, passwords, lost connections, threads, and the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.backends.postgres_url import without_password
from crave_bulk.examples import Foods

PASSWORDS = ["plain", "s3%40cret", "a:b", "p+q"]
RISKY = ["s3#cret", "s3?cret", "s3/cret", "p@cret", "s3[cret", "x@y@z"]


@pytest.mark.parametrize("password", [*PASSWORDS, *RISKY])
def test_a_password_never_shows(password: str) -> None:
    url = f"postgresql://me:{password}@127.0.0.1:1/crave?sslmode=disable"
    assert without_password(url) == "postgresql://me:***@127.0.0.1:1/crave?sslmode=disable"
    with pytest.raises(cb.ConnectionFailed) as error:
        cb.connect(url)
    assert "cret" not in str(error.value).replace("crave", "")
    assert password not in str(error.value)
    if password in RISKY:
        assert "percent-encoded" in str(error.value)


@pytest.mark.parametrize(
    "option", ["password=s3cret", "passwd=s3cret", "sslpassword=s3cret", "passfile=s3cret"]
)
def test_an_option_that_may_be_a_secret_does_not_show(option: str) -> None:
    assert "s3cret" not in without_password(f"postgresql:///crave?host=h&{option}&port=1")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://crave.db", "two slashes: write sqlite:///crave.db"),
        ("sqlite:///crave.db?mode=memory", r"option 'mode=memory' .* is not known"),
        ("sqlite:///crave.db?cache=shared", "is not known"),
    ],
)
def test_sqlite_urls_that_would_lose_data(url: str, says: str) -> None:
    with pytest.raises(cb.ContractError, match=says):
        cb.connect(url)


@pytest.mark.parametrize("name", ["a#b.db", "two words.db", "50%25.db", "Grüße.db", "a&b=c.db"])
def test_sqlite_files_of_any_name(tmp_path: Path, name: str) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/{name}") as db:
        db.create(Foods)
    assert [file.name for file in tmp_path.iterdir()] == [name.replace("%25", "%")]


def test_a_url_may_be_in_capitals() -> None:
    with cb.connect("SQLITE://") as db:
        assert repr(db) == "<Database sqlite://>"


def test_two_databases_in_memory_are_two() -> None:
    with cb.connect() as one, cb.connect("sqlite:///:memory:") as two:
        one.create(Foods)
        with pytest.raises(cb.TableNotFound):
            two.read(Foods)


def in_a_transaction(db: cb.Database) -> None:
    with db.transaction(turn="one"):
        assert db.read(Foods).is_empty()


CALLS: list[Callable[[cb.Database], Any]] = [
    lambda db: db.read(Foods),
    lambda db: db.read("foods"),
    lambda db: db.batches(),
    lambda db: db.create(Foods),
    lambda db: db.evolve(Foods),
    lambda db: db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["x"]})),
    lambda db: db.delete_where("foods", {"food_id": 1}),
    in_a_transaction,
]


@pytest.mark.parametrize("call", CALLS)
def test_idle_connections_that_were_lost_are_replaced(
    server_db: cb.Database, call: Callable[[cb.Database], Any]
) -> None:
    """As when a server was started anew, or a firewall has dropped what nobody used for a while."""
    server_db.create(Foods)
    lose_connections(server_db)
    call(server_db)
    assert server_db.read(Foods).height <= 1


def test_a_connection_that_is_lost_within_a_transaction_ends_it(server_db: cb.Database) -> None:
    server_db.create(Foods)
    with pytest.raises(cb.BulkError), server_db.transaction():
        server_db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["x"]}))
        with ThreadPoolExecutor(1) as other:
            other.submit(lose_connections, server_db).result()
        server_db.read(Foods)
    assert server_db.read(Foods).is_empty()


def lose_connections(db: cb.Database) -> None:
    """End all connections, by one of which the pool does not know."""
    other = db.backend.connect()
    with other.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        cursor.fetchall()
    other.close()


@pytest.mark.thorough
def test_a_server_that_stops_and_starts(tmp_path: Path) -> None:
    folder = tmp_path / "pg"
    with cb.embedded_postgres(folder) as url:
        db = cb.connect(url)
        db.create(Foods)
    with pytest.raises(cb.ConnectionFailed):
        db.read(Foods)
    with cb.embedded_postgres(folder) as url, cb.connect(url) as again:
        assert again.read(Foods).is_empty()
    db.close()


def test_a_database_that_was_closed(db: cb.Database) -> None:
    db.create(Foods)
    db.close()
    db.close()
    with pytest.raises(cb.ConnectionFailed, match="was closed: connect again"):
        db.read(Foods)


def test_many_create_the_same_table_at_once(db: cb.Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: db.create(Foods), range(12)))
    assert db.read(Foods).is_empty()


def test_loads_that_meet_in_opposite_order(server_db: cb.Database) -> None:
    server_db.create(Foods)
    frame = pl.DataFrame({"food_id": range(5_000), "name": ["start"] * 5_000})
    server_db.insert(Foods, frame)

    def load(number: int) -> dict[str, int]:
        mine = frame.with_columns(name=pl.lit(f"n{number}"))
        return server_db.upsert(Foods, mine if number % 2 else mine.reverse()).counts

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(load, range(8)))
    assert all(sum(v for k, v in c.items() if k != "input") == 5_000 for c in counts)
    assert server_db.read(Foods)["name"].n_unique() == 1


def test_a_statement_can_be_watched(db: cb.Database) -> None:
    seen: list[str] = []
    db.trace(seen.append)
    db.create(Foods)
    assert any(statement.startswith("CREATE TABLE") for statement in seen)


EXACT: list[tuple[Any, list[Any], int]] = [
    (pl.Int64, [1.0, 1.5], 1),
    (pl.Float64, [1, 2**53 + 1], 1),
    (pl.Int8, [1, 300], 1),
    (pl.Float32, [0.5, 1e300], 1),
    (pl.Boolean, [1, 7], 1),
    (pl.Int64, ["1", "x"], 1),
    (pl.Decimal(8, 2), ["1.25", "1.255"], 1),
    (pl.Float64, ["1.5", "1e400"], 1),
]


@pytest.mark.parametrize(("dtype", "values", "bad"), EXACT)
def test_coercion_never_changes_a_number(dtype: Any, values: list[Any], bad: int) -> None:
    namespace = {
        "__annotations__": {"id": int, "v": dtype},
        "id": cb.field(key=True),
        "v": cb.field(coerce=True),
        "Config": type("Config", (), {"name": "t"}),
    }
    table = type("T", (cb.Table,), namespace)
    with cb.connect() as db:
        db.create(table)
        report = db.insert(table, pl.DataFrame({"id": [0, 1], "v": values}), on_reject="keep")
        assert report.rejected["_row"].to_list() == [bad]
        assert report.failures["rule"].to_list() == ["coerce"]


@pytest.mark.parametrize("text", ["NaN", "[1,]", "[Infinity]", '{"a":1,}', "-Infinity", "{'a': 1}", ""])
def test_json_is_strict(db: cb.Database, text: str) -> None:
    class Notes(cb.Table):
        id: int = cb.field(key=True)
        note: str = cb.field(json=True, nullable=True)

    db.create(Notes)
    frame = pl.DataFrame({"id": [1, 2, 3], "note": ['{"NaN": ",]"}', text, None]})
    report = db.insert(Notes, frame, on_reject="keep")
    assert report.rejected["_row"].to_list() == [1]


@pytest.mark.parametrize(
    ("annotation", "options", "says"),
    [
        (int, {"default": "5"}, "default='5' of column 'v' is no Int64"),
        (pl.Int8, {"default": 300}, "default=300"),
        (pl.Enum(["a"]), {"default": "b"}, "default='b'"),
        (dict, {}, "is not a Pandera model"),
        (str, {"alias": "*"}, "takes it for a pattern"),
        (str, {"alias": "^x$"}, "takes it for a pattern"),
        (str, {"alias": "_Row"}, "cannot be called '_Row'"),
    ],
)
def test_fields_that_cannot_be(annotation: Any, options: dict[str, Any], says: str) -> None:
    namespace = {
        "__annotations__": {"id": int, "v": annotation},
        "id": cb.field(key=True),
        "v": cb.field(**options),
        "Config": type("Config", (), {"name": "t"}),
    }
    with cb.connect() as db, pytest.raises(cb.ContractError, match=says):
        db.create(type("T", (cb.Table,), namespace))


def test_arguments_in_the_wrong_order() -> None:
    with cb.connect() as db:
        with pytest.raises(cb.ContractError, match="type DataFrame is not a table"):
            db.upsert(pl.DataFrame(), Foods)  # type: ignore[arg-type]
        with pytest.raises(cb.ContractError, match="type list is not a table"):
            db.create([Foods])  # type: ignore[arg-type]
        with pytest.raises(cb.ContractError, match=r"cb\.field: "):
            cb.field(bogus=1)
        db.create(Foods)
        for bad in ({"columns": []}, {"columns": ["name", "name"]}, {"limit": -1}, {"limit": "x"}):
            with pytest.raises(cb.ContractError, match="name each column once"):
                db.read(Foods, **bad)  # type: ignore[arg-type]

"""Tables that other programs made: read from the catalog, by name."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from reflecting import (
    MOMENT,
    contract,
    dtypes,
    filled_in,
    longest,
    made_by,
    required,
    run,
    unchanged,
    write,
)

import crave_bulk as cb
from crave_bulk.table import TableName

# -- as Prisma, Django and SQLAlchemy make them --------------------------------------------------------


def test_tables_of_prisma(db: cb.Database) -> None:
    made_by(db, "prisma")
    user, post = contract(db, "User"), contract(db, "Post")
    assert (user.key, user.unique, user.references) == (("id",), (("email",),), ())
    assert filled_in(user) == ["id", "createdAt", "role", "admin", "balance"]
    assert required(user) == ["email"]
    expected: dict[str, Any] = {
        "id": pl.Int64(),
        "createdAt": pl.Datetime("us"),
        "email": pl.String(),
        "name": pl.String(),
        "role": pl.String(),
        "admin": pl.Boolean(),
        "balance": pl.Decimal(38, 18),
        "settings": pl.String(),
    }
    if db.backend.name == "postgresql":
        expected |= {"id": pl.Int32(), "role": pl.Enum(["USER", "ADMIN"]), "tags": pl.List(pl.String)}
    assert dtypes(user) == expected
    assert user.column("settings").options.json
    assert post.key == ("id",)
    assert list(map(str, post.references)) == ["authorId -> User.id"]
    assert required(post) == ["id", "title", "authorId"]
    if db.backend.name == "postgresql":
        assert longest(post, "title") == ["at most 255 characters"]


def test_tables_of_django(db: cb.Database) -> None:
    made_by(db, "django")
    customer, order = contract(db, "shop_customer"), contract(db, "shop_order")
    assert (customer.key, set(customer.unique)) == (("id",), {("email",), ("uid",)})
    assert (order.key, order.unique) == (("id",), (("customer_id", "placed_on"),))
    assert [(str(r), r.deferred) for r in order.references] == [("customer_id -> shop_customer.id", True)]
    assert filled_in(customer) == filled_in(order) == ["id"]
    assert not order.column("id").identity_always
    assert longest(customer, "name") == ["at most 100 characters"]
    here, there = (
        (pl.Datetime("us", "UTC"), pl.Decimal(10, 2))
        if db.backend.name == "postgresql"
        else (pl.Datetime("us"), pl.Decimal(38, 18))
    )
    assert dtypes(customer)["joined"] == here
    assert dtypes(order)["total"] == there
    assert dtypes(order)["placed_on"] == pl.Date
    assert order.column("meta").options.json == (db.backend.name == "postgresql")


def test_tables_of_sqlalchemy(db: cb.Database) -> None:
    made_by(db, "sqlalchemy")
    found = contract(db, "employees")
    whole = pl.Int32() if db.backend.name == "postgresql" else pl.Int64()
    assert dtypes(found) == {
        "id": whole,
        "name": pl.String(),
        "salary": pl.Decimal(10, 2),
        "hired": pl.Datetime("us"),
        "born": pl.Date(),
        "active": pl.Boolean(),
        "rating": pl.Float64(),
        "photo": pl.Binary(),
        "settings": pl.String(),
        "dept_id": whole,
    }
    assert (found.key, filled_in(found), required(found)) == (("id",), ["id"], ["name"])
    assert contract(db, "departments").unique == (("name",),)
    assert list(map(str, found.references)) == ["dept_id -> departments.id"]
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "name": ["ann", "bob"],
            "salary": ["10.50", None],
            "hired": [MOMENT, None],
            "born": [dt.date(2000, 1, 31), None],
            "active": [True, None],
            "rating": [0.1, None],
            "photo": [b"\x00\xff", None],
            "settings": ['{"a": 1}', None],
            "dept_id": [None, None],
        }
    )
    assert write(db, "employees", frame).is_empty()
    read = db.read("employees", order_by="id")
    assert read.schema == dtypes(found)
    assert read.drop("salary").rows() == frame.drop("salary").rows()
    assert read["salary"].to_list() == [Decimal("10.50"), None]
    assert unchanged(db, "employees", read, "id")


def test_what_other_programs_wrote_in_sqlite_is_read(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/test.db") as db:
        made_by(db, "prisma")
        texts = [
            "'2024-05-01 12:30:15.123000'",
            "'2024-05-01 12:30:15.123'",
            "'2024-05-01T12:30:15.123Z'",
            "'2024-05-01T14:30:15.123+02:00'",
            "1714566615123",
        ]
        rows = ", ".join(f"({i}, {text}, 'e{i}', '0.30', 1)" for i, text in enumerate(texts))
        run(db, f'INSERT INTO "User" ("id", "createdAt", "email", "balance", "admin") VALUES {rows}')
        read = db.read("User", order_by="id")
        assert read["createdAt"].unique().to_list() == [MOMENT]
        assert read["balance"].unique().to_list() == [Decimal("0.3")]
        assert read["admin"].to_list() == [True] * 5
        assert unchanged(db, "User", read, "id")
        assert write(db, "User", read.with_columns(id=pl.col("id") + 10, email=pl.lit("new"))[:1]).is_empty()
        run(
            db,
            """INSERT INTO "User" ("id", "email", "createdAt") VALUES (50, 'x', 253402300800), (51, 'y', '2024-05-01')""",
        )
        read = db.read("User", columns=["createdAt"], order_by="-id", limit=2)
        assert read["createdAt"].to_list() == [
            dt.datetime(2024, 5, 1),
            dt.datetime(1978, 1, 11, 21, 31, 40, 800000),
        ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("'soon'", "soon"),
        ("1.5", "no moment: 1.5"),
        ("'2024-05-01 12:00:00.1234567'", "finer than a microsecond"),
    ],
)
def test_what_is_no_moment_is_an_error(tmp_path: Path, value: str, why: str) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/test.db") as db:
        run(
            db, "CREATE TABLE t (id INTEGER PRIMARY KEY, at datetime)", f"INSERT INTO t (at) VALUES ({value})"
        )
        with pytest.raises(cb.ContractError, match=f"table t holds a value that .*{why}"):
            db.read("t")


def test_numbers_in_sqlite_are_exact_or_refused(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/test.db") as db:
        run(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC(20, 4), w DECIMAL(20), s STRING, j JSON)")
        values = ["1234567.8901", "-0.0001", "0.1000", "99999999999.9999", "3", "1e3"]
        frame = pl.DataFrame({"id": range(6), "n": [Decimal(v) for v in values[:5]] + [Decimal(1000)]})
        assert write(db, "t", frame).is_empty()
        read = db.read("t", order_by="id")
        assert read["n"].to_list() == frame["n"].to_list()
        assert unchanged(db, "t", read, "id")
        refused = write(db, "t", pl.DataFrame({"id": [9], "n": [Decimal("1234567890123.4567")]}))
        assert refused["message"].to_list() == [
            "n has more than 15 digits, which NUMERIC does not keep in SQLite"
        ]
        assert write(db, "t", pl.DataFrame({"id": [10], "w": [10**17 + 1]})).is_empty()
        assert db.read("t", columns=["w"], order_by="-id", limit=1).item() == 10**17 + 1
        for column in ("s", "j"):
            assert write(db, "t", pl.DataFrame({"id": [11], column: ["1.50"]}))["column"].to_list() == [
                column
            ]
        run(db, "UPDATE t SET n = 0.00001")
        with pytest.raises(cb.ContractError, match="has more than 4 decimals"):
            db.read("t")


# -- keys, references, defaults ------------------------------------------------------------------------


def test_keys_and_references_of_several_columns(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE rooms (house int, number int, PRIMARY KEY (house, number))",
        "CREATE TABLE beds (id int PRIMARY KEY, house int, number int, beside int REFERENCES beds, "
        "FOREIGN KEY (house, number) REFERENCES rooms DEFERRABLE INITIALLY DEFERRED, UNIQUE (number, house))",
    )
    assert contract(db, "rooms").key == ("house", "number")
    assert required(contract(db, "rooms")) == ["house", "number"]
    beds = contract(db, "beds")
    assert beds.unique == (("number", "house"),)
    assert {(str(r), r.deferred) for r in beds.references} == {
        ("beside -> beds.id", False),
        ("house, number -> rooms.house, number", True),
    }
    assert [r.table for r in beds.references if r.columns == ("beside",)] == [beds.name]


def test_only_plain_unique_keys_count(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text)",
        "CREATE UNIQUE INDEX plain ON t (a, b)",
        "CREATE UNIQUE INDEX partial ON t (b) WHERE c IS NOT NULL",
        "CREATE UNIQUE INDEX folded ON t (lower(c))",
        "CREATE INDEX many ON t (c)",
    )
    if db.backend.name == "postgresql":
        run(
            db,
            "CREATE UNIQUE INDEX nulls ON t (c) NULLS NOT DISTINCT",
            "ALTER TABLE t ADD CONSTRAINT later UNIQUE (b) DEFERRABLE",
            "CREATE UNIQUE INDEX other_class ON t (c text_pattern_ops)",
        )
        with db.session() as session:
            icu = session.fetch(
                "SELECT 1 AS n FROM pg_collation WHERE collname = 'und-x-icu' AND collencoding IN (-1, 6)"
            ).height
        if icu:  # not in every build
            run(
                db,
                "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
                "CREATE UNIQUE INDEX insensitive ON t (c COLLATE nocase)",
            )
    else:
        run(db, "CREATE UNIQUE INDEX insensitive ON t (c COLLATE NOCASE)")
    assert contract(db, "t").unique == (("a", "b"),)


def test_a_unique_key_that_is_never_null_will_do(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int NOT NULL, d int UNIQUE, UNIQUE (a, b), UNIQUE (c))",
    )
    found = contract(db, "t")
    assert (found.key, found.read_only) == (("c",), None)
    assert set(found.unique) == {("a", "b"), ("d",)}
    assert [column.options.key for column in found.columns] == [False, False, True, False]


def test_tables_that_cannot_be_written_say_why(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE books (id int PRIMARY KEY, title varchar(20))",
        "CREATE VIEW books_view AS SELECT id, title FROM books",
        "CREATE TABLE heap (a int)",
        "INSERT INTO books VALUES (1, 'Emma')",
    )
    assert db.read("books_view").rows() == [(1, "Emma")]
    with pytest.raises(cb.ContractError, match="books_view is a view: write to the tables behind it"):
        db._contract("books_view", write=True)
    assert db.read("heap").height == 0
    with pytest.raises(cb.ContractError, match="heap has no primary key, and no unique key .*: add one"):
        db._contract("heap", write=True)
    assert db._contract("books", write=True).key == ("id",)


def test_a_table_that_is_not_there(db: cb.Database) -> None:
    with pytest.raises(
        cb.errors.TableNotFound, match="no table issues in the database: the database has no tables"
    ):
        db.read("issues")
    run(db, 'CREATE TABLE "Issues" (id int PRIMARY KEY)', "CREATE TABLE users (id int PRIMARY KEY)")
    with pytest.raises(
        cb.errors.TableNotFound, match="no table isues in the database: did you mean 'Issues'?"
    ):
        db.read("isues")
    with pytest.raises(
        cb.errors.TableNotFound,
        match="no table qqq in the database: create it with .*, or check its name and schema",
    ):
        db.read("qqq")
    with pytest.raises(cb.ContractError, match="is not a table name"):
        db.read("a.b.c")
    with pytest.raises(cb.ContractError, match="an object of type int is not a table"):
        db.read(5)  # type: ignore[arg-type]


def test_a_table_in_a_schema(db: cb.Database) -> None:
    if db.backend.name == "postgresql":
        run(db, "CREATE SCHEMA sales")
        table = "sales.orders"
    else:
        table = '"sales.orders"'
    run(db, f"CREATE TABLE {table} (id int PRIMARY KEY, next int REFERENCES {table})")
    found = contract(db, "sales.orders")
    assert found.name == TableName("orders", "sales")
    assert [r.table for r in found.references] == [found.name]
    assert db.read("sales.orders").schema.names() == ["id", "next"]


def test_columns_that_the_database_fills(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL DEFAULT 7, b text DEFAULT 'it''s', c int DEFAULT NULL, "
        "d int GENERATED ALWAYS AS (a + 1) STORED, e date NOT NULL DEFAULT CURRENT_DATE)",
        "INSERT INTO t (id) VALUES (1)",
    )
    found = contract(db, "t")
    assert filled_in(found) == ["a", "b", "e"]
    assert [column.name for column in found.columns if column.generated] == ["d"]
    assert required(found) == ["id"]
    with db.session() as session:
        made = session.fetch(
            "SELECT " + ", ".join(f"{c.default_sql} AS {c.name}" for c in found.columns[1:3])
        )
    assert made.row(0) == (7, "it's")
    assert db.read("t", columns=["d"]).item() == 8


def test_row_numbers_of_sqlite(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/test.db") as db:
        run(
            db,
            "CREATE TABLE a (id INTEGER PRIMARY KEY, v)",
            "CREATE TABLE b (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
            "CREATE TABLE c (id INTEGER PRIMARY KEY /* AUTOINCREMENT */, v DEFAULT 'AUTOINCREMENT')",
            "CREATE TABLE d (id INTEGER PRIMARY KEY DESC, v)",
            "CREATE TABLE e (id INTEGER PRIMARY KEY, v) WITHOUT ROWID",
            *(f"INSERT INTO {t} VALUES (41, 'x'), (40, 'x')" for t in "abcde"),
            *(f"DELETE FROM {t} WHERE id = 41" for t in "abcde"),
        )
        made: dict[str, int | None] = {}
        for table in "abcde":
            default = contract(db, table).column("id").default_sql
            with db.session() as session:
                made[table] = default and session.fetch(f"SELECT {default} AS v FROM (SELECT 2 AS i)").item()
        assert made == {"a": 42, "b": 43, "c": 42, "d": None, "e": None}
        assert db.read("a", columns=["v"]).item() == "x"


def test_a_table_of_our_own_comes_back(db: cb.Database) -> None:
    class Own(cb.Table):
        id: str = cb.field(key=True, uuid=True)
        n: int
        flag: bool
        at: pl.Datetime("us", "Europe/Berlin")
        local: pl.Datetime("us")
        day: pl.Date
        time: pl.Time
        took: pl.Duration("us")
        price: pl.Decimal(8, 2)
        data: str = cb.field(json=True)
        raw: bytes
        ratio: float

    db.create(Own)
    frame = pl.DataFrame(
        {
            "id": ["00000000-0000-7000-8000-000000000000"],
            "n": [5],
            "flag": [True],
            "at": pl.Series([MOMENT]).dt.replace_time_zone("Europe/Berlin"),
            "local": [MOMENT],
            "day": [MOMENT.date()],
            "time": [MOMENT.time()],
            "took": [dt.timedelta(days=-1, microseconds=1)],
            "price": pl.Series(["-1.10"]).cast(pl.Decimal(8, 2)),
            "data": ['{"a":  1}'],
            "raw": [b"\x00"],
            "ratio": [0.1],
        }
    )
    db.insert(Own, frame)
    found = contract(db, "Own")
    declared = cb.table.contract_of(Own)
    assert [c.options.uuid or c.options.json for c in found.columns] == [
        c.name in ("id", "data") for c in found.columns
    ]
    read = db.read("Own")
    assert read.equals(db.read(Own).with_columns(pl.col("at").dt.convert_time_zone("UTC")))
    assert unchanged(db, "Own", read, "id")
    for column in found.columns:
        ours, theirs = db.backend.codec(declared.column(column.name)), db.backend.codec(column)
        assert (ours.wire, ours.stage) == (theirs.wire, theirs.stage.replace("numeric", "numeric(8, 2)"))


def test_names_that_reports_use_are_refused(db: cb.Database) -> None:
    run(db, "CREATE TABLE t (_row int PRIMARY KEY)")
    with pytest.raises(cb.ContractError, match="a column cannot be called '_row'"):
        db.read("t")


def test_a_table_with_rules_says_why_it_cannot_be_written(server_db: cb.Database) -> None:
    run(
        server_db,
        "CREATE TABLE t (id bigint PRIMARY KEY)",
        "CREATE RULE also AS ON INSERT TO t DO ALSO SELECT 1",
    )
    assert server_db.read("t").is_empty()
    with pytest.raises(cb.ContractError, match="t has rules, which .* write them as triggers"):
        server_db.insert("t", pl.DataFrame({"id": [1]}))

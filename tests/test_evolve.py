"""Declarations that grew: what is missing is added, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

UUIDV7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def table(name: str, /, *bases: type[cb.Table], unique: Sequence[Any] = (), **columns: Any) -> type[cb.Table]:
    """Declare a table; a column is a dtype, or a dtype and its field."""
    namespace: dict[str, Any] = {
        "__annotations__": {},
        "Config": type("Config", (), {"name": name, "unique": list(unique)}),
    }
    for column, kind in columns.items():
        namespace["__annotations__"][column] = kind[0] if isinstance(kind, tuple) else kind
        namespace[column] = kind[1] if isinstance(kind, tuple) else cb.field()
    return type(name.title(), bases or (cb.Table,), namespace)


Foods = table("foods", food_id=(int, cb.field(key=True)), name=str)
ROWS = pl.DataFrame({"food_id": [1, 2], "name": ["soup", "bread"]})


def run(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def count(db: cb.Database, name: str) -> int:
    with db.session() as session:
        return int(session.fetch(f'SELECT count(*) AS n FROM "{name}"').item())


@pytest.fixture
def foods(db: cb.Database) -> cb.Database:
    db.create(Foods)
    db.insert(Foods, ROWS)
    return db


def grows_to(db: cb.Database, *tables: type[cb.Table]) -> list[str]:
    """Check the plan, run it, and check that nothing is missing then."""
    plan = db.evolve(*tables, plan=True)
    assert plan
    assert db.evolve(*tables) == plan
    assert db.evolve(*tables) == db.evolve(*tables, plan=True) == []
    return plan


# -- one addition at a time ----------------------------------------------------------------------------


def test_nothing_is_missing(foods: cb.Database) -> None:
    assert foods.evolve(Foods) == []


def test_whole_tables_in_dependency_order(foods: cb.Database) -> None:
    aliases = table(
        "aliases", alias=(str, cb.field(key=True)), food=(int, cb.field(references="foods.food_id"))
    )
    ratings = table("ratings", alias=(str, cb.field(key=True, references="aliases.alias")))
    plan = grows_to(foods, ratings, Foods, aliases)
    made = [line.split('"')[1] for line in plan if line.startswith("CREATE TABLE")]
    assert made == ["aliases", "ratings"]
    foods.insert(aliases, pl.DataFrame({"alias": ["broth"], "food": [1]}))


def test_a_column_that_may_be_null(foods: cb.Database) -> None:
    more = table("foods", Foods, note=(str, cb.field(nullable=True)))
    assert len(grows_to(foods, more)) == 1
    assert foods.read(more)["note"].to_list() == [None, None]


@pytest.mark.thorough_on_postgres
@pytest.mark.parametrize(
    ("dtype", "default"),
    [
        (int, 3),
        (bool, True),
        (float, -0.5),
        (str, 'it\'s {} \\ "é"'),
        (bytes, b"\x00'"),
        (pl.Date, dt.date(2024, 2, 29)),
        (pl.Time, dt.time(1, 2, 3, 4)),
        (pl.Datetime("us"), dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
        (pl.Datetime("us", "Asia/Tokyo"), dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
        (pl.Duration("us"), dt.timedelta(days=-1, microseconds=7)),
        (pl.Decimal(8, 2), 1),
        (pl.Enum(["low", "high"]), "high"),
        (pl.List(pl.String), ["it's", None]),
        (pl.List(pl.Int64), []),
        (pl.List(pl.Decimal(8, 2)), []),
        (pl.Struct({"x": pl.Int64}), {"x": 1}),
    ],
)
def test_existing_rows_get_the_default(foods: cb.Database, dtype: Any, default: Any) -> None:
    more = table("foods", Foods, extra=(dtype, cb.field(default=default)))
    assert len(grows_to(foods, more)) == 1
    extra = foods.read(more)["extra"]
    expected = pl.Series("extra", [default] * 2, dtype=cb.table.contract_of(more).column("extra").dtype)
    assert extra.equals(expected, null_equal=True, check_dtypes=True)
    new = pl.DataFrame({"food_id": [2, 3], "name": ["rye", "cake"]})
    assert foods.upsert(more, new).counts == {"input": 2, "inserted": 1, "updated": 1}
    assert foods.upsert(more, foods.read(more)).counts == {"input": 3, "unchanged": 3}


@pytest.mark.parametrize("nullable", [False, True])
def test_each_existing_row_gets_a_uuid_of_its_own(foods: cb.Database, nullable: bool) -> None:
    more = table(
        "foods",
        Foods,
        unique=[["uid"]],
        uid=(str, cb.field(uuid=True, default="uuid", nullable=nullable)),
        text=(str, cb.field(default="uuid", nullable=nullable)),
    )
    grows_to(foods, more)
    made = foods.read(more, columns=["uid", "text"])
    version = 18 if foods.backend.name == "sqlite" else foods.backend.version  # type: ignore[attr-defined]
    for values in made:
        assert values.n_unique() == 2
        assert all(re.fullmatch(UUIDV7 if version >= 18 else r"[0-9a-f-]{36}", value) for value in values)


@pytest.mark.parametrize("nullable", [False, True])
def test_existing_rows_get_the_time(foods: cb.Database, nullable: bool) -> None:
    more = table(
        "foods",
        Foods,
        at=(pl.Datetime("us", "Europe/Berlin"), cb.field(default="now", nullable=nullable)),
        local=(pl.Datetime("us"), cb.field(on_update="now", nullable=nullable)),
        day=(pl.Date, cb.field(default="now", nullable=nullable)),
    )
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    grows_to(foods, more)
    read = foods.read(more)
    assert all(before <= at <= dt.datetime.now(dt.UTC) for at in read["at"])
    assert all(before <= at.replace(tzinfo=dt.UTC) <= dt.datetime.now(dt.UTC) for at in read["local"])
    assert set(read["day"]) <= {before.date(), dt.datetime.now(dt.UTC).date()}
    assert foods.upsert(more, read).counts == {"input": 2, "unchanged": 2}


def test_a_column_that_must_be_filled(foods: cb.Database) -> None:
    more = table("foods", Foods, origin=str)
    with pytest.raises(
        cb.ContractError, match="foods has rows, and its new column 'origin' may not be null: give"
    ):
        foods.evolve(more)
    run(foods, "DELETE FROM foods")
    grows_to(foods, more)
    with pytest.raises(cb.ContractError, match="column 'origin' .* is missing"):
        foods.insert(more, ROWS)


def test_a_unique_key(foods: cb.Database) -> None:
    more = table("foods", Foods, unique=[["name"]], code=(int, cb.field(nullable=True, unique=True)))
    assert len(grows_to(foods, more)) == 3
    twice = pl.DataFrame({"food_id": [3], "name": ["soup"], "code": [1]})
    assert foods.insert(more, twice, on_reject="keep").counts == {"input": 1, "rejected": 1}


def test_rows_that_break_a_new_unique_key(foods: cb.Database) -> None:
    foods.insert(Foods, pl.DataFrame({"food_id": [3], "name": ["soup"]}))
    more = table("foods", Foods, unique=[["name"]], note=(str, cb.field(nullable=True)))
    with pytest.raises(
        cb.errors.ConstraintViolated, match="table foods was not changed, nor any other: .*name"
    ):
        foods.evolve(more)
    assert foods.read("foods").columns == ["food_id", "name"]


def test_a_reference_of_a_new_column(foods: cb.Database) -> None:
    more = table("foods", Foods, kind=(int, cb.field(nullable=True, references="kinds.id")))
    kinds = table("kinds", id=(int, cb.field(key=True)))
    plan = grows_to(foods, more, kinds)
    assert not any("DROP" in line for line in plan)
    orphan = pl.DataFrame({"food_id": [3], "name": ["x"], "kind": [9]})
    assert foods.insert(more, orphan, on_reject="keep").failures["stage"].to_list() == ["reference"]
    with pytest.raises(cb.errors.ConstraintViolated):
        run(foods, "UPDATE foods SET kind = 9")


def test_a_reference_of_an_existing_column(foods: cb.Database) -> None:
    lines = table("lines", id=(int, cb.field(key=True)), food=int, note=(str, cb.field(nullable=True)))
    foods.create(lines)
    foods.insert(lines, pl.DataFrame({"id": [1], "food": [1], "note": ["a"]}))
    more = table("lines", lines, food=(int, cb.field(references="foods.food_id")))
    grows_to(foods, more)
    assert foods.read(more).rows() == [(1, 1, "a")]
    with pytest.raises(cb.errors.ConstraintViolated):
        run(foods, "INSERT INTO lines (id, food) VALUES (2, 9)")


def test_rows_that_break_a_new_reference(foods: cb.Database) -> None:
    lines = table("lines", id=(int, cb.field(key=True)), food=int)
    foods.create(lines)
    foods.insert(lines, pl.DataFrame({"id": [1, 2], "food": [1, 9]}))
    more = table("lines", lines, food=(int, cb.field(references="foods.food_id")))
    with pytest.raises(
        cb.errors.ConstraintViolated, match="table lines was not changed, nor any other: .*food"
    ):
        foods.evolve(more)
    assert foods.read("lines").height == 2
    run(foods, "INSERT INTO lines (id, food) VALUES (3, 9)")
    assert foods.evolve(lines) == []


def test_a_reference_to_its_own_table(foods: cb.Database) -> None:
    more = table("foods", Foods, parent=(int, cb.field(default=1, references="foods.food_id")))
    grows_to(foods, more)
    assert foods.read(more)["parent"].to_list() == [1, 1]
    with pytest.raises(cb.errors.ConstraintViolated):
        run(foods, "UPDATE foods SET parent = 9")


def test_a_reference_to_what_is_not_unique(foods: cb.Database) -> None:
    lines = table("lines", id=(int, cb.field(key=True)), food=(str, cb.field(references="foods.name")))
    with pytest.raises(cb.BulkError, match="foods.name"):
        foods.evolve(lines)
    with pytest.raises(cb.errors.TableNotFound):
        foods.read("lines")
    with pytest.raises(cb.ContractError, match="not unique"):
        foods.evolve(lines, Foods)


def test_a_key_for_a_table_without_one(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE foods (food_id bigint NOT NULL, name text NOT NULL)",
        "INSERT INTO foods VALUES (1, 'soup')",
    )
    assert len(grows_to(db, Foods)) == 1
    assert db.upsert(Foods, ROWS).counts == {"input": 2, "inserted": 1, "unchanged": 1}


# -- several at once -----------------------------------------------------------------------------------


def test_a_plan_changes_nothing(foods: cb.Database) -> None:
    more = table("foods", Foods, unique=[["name"]], kind=(int, cb.field(default=1, references="kinds.id")))
    kinds = table("kinds", id=(int, cb.field(key=True)))
    assert len(foods.evolve(more, kinds, plan=True)) >= 3
    assert foods.read("foods").columns == ["food_id", "name"]
    with pytest.raises(cb.errors.TableNotFound):
        foods.read("kinds")


def test_all_or_nothing_when_the_last_one_fails(foods: cb.Database) -> None:
    lines = table("lines", id=(int, cb.field(key=True)), food=int)
    foods.create(lines)
    foods.insert(lines, pl.DataFrame({"id": [1, 2], "food": [1, 9]}))
    more = table("foods", Foods, unique=[["name"]], origin=(str, cb.field(default="uuid")))
    last = table("lines", lines, food=(int, cb.field(references="foods.food_id")))
    new = table("aliases", alias=(str, cb.field(key=True)))
    with pytest.raises(cb.errors.ConstraintViolated):
        foods.evolve(new, more, last)
    assert foods.read("foods").columns == ["food_id", "name"]
    with pytest.raises(cb.errors.TableNotFound):
        foods.read("aliases")
    run(foods, "UPDATE lines SET food = 2")
    grows_to(foods, new, more, last)


def test_tables_in_a_circle(foods: cb.Database) -> None:
    a = table("a", id=(int, cb.field(key=True)), b=(int, cb.field(references="b.id")))
    b = table("b", id=(int, cb.field(key=True)), a=(int, cb.field(references="a.id")))
    with pytest.raises(cb.ContractError, match="reference each other in a circle"):
        foods.evolve(a, b)


def test_nothing_is_dropped_or_narrowed(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE foods (food_id bigint PRIMARY KEY, name varchar(200), extra text, size bigint NOT NULL DEFAULT 0)",
        "CREATE UNIQUE INDEX more ON foods (extra)",
    )
    small = table("foods", Foods, size=(pl.Int16, cb.field(nullable=True)))
    assert db.evolve(small) == []
    assert db.read("foods").columns == ["food_id", "name", "extra", "size"]


@pytest.mark.parametrize(
    ("there", "dtype"),
    [
        ("text", int),
        ("integer", str),
        ("boolean", pl.Datetime("us")),
        ("varchar(10)", pl.Decimal(8, 2)),
        ("numeric(6, 2)", pl.Decimal(8, 2)),
        ("text", pl.List(pl.Int64)),
    ],
)
def test_a_column_of_another_type(db: cb.Database, there: str, dtype: Any) -> None:
    run(db, f"CREATE TABLE t (id bigint PRIMARY KEY, v {there} NOT NULL)")
    declared = table("t", id=(int, cb.field(key=True)), v=dtype)
    if db.backend.name == "sqlite" and dtype == pl.List(pl.Int64):
        return  # JSON is text there
    for verb in (db.create, db.evolve):
        with pytest.raises(
            cb.ContractError, match="its column 'v' is .* there, where the declaration needs .*: declare"
        ):
            verb(declared)


def test_the_narrower_integer_and_moment_of_postgresql(server_db: cb.Database) -> None:
    run(server_db, "CREATE TABLE t (id int PRIMARY KEY, at timestamp(3), tags varchar(5)[])")
    for columns in (
        {"id": (int, cb.field(key=True))},
        {"id": (pl.Int32, cb.field(key=True)), "at": (pl.Datetime("us"), cb.field(nullable=True))},
        {"id": (pl.Int32, cb.field(key=True)), "tags": (pl.List(pl.String), cb.field(nullable=True))},
    ):
        with pytest.raises(cb.ContractError, match="where the declaration needs"):
            server_db.evolve(table("t", **columns))
    assert server_db.evolve(table("t", id=(pl.Int32, cb.field(key=True)))) == []


def test_a_table_in_a_schema(db: cb.Database) -> None:
    orders = table("sales.orders", id=(int, cb.field(key=True)))
    lines = table("sales.lines", id=(int, cb.field(key=True)), order=int)
    db.create(orders)
    grows_to(db, orders, lines)
    more = table("sales.lines", lines, order=(int, cb.field(references="sales.orders.id")))
    assert len(grows_to(db, more, orders)) >= 1


def test_odd_names(db: cb.Database) -> None:
    odd = table('it\'s "odd" {} -- (', **{'ke"y, (': (int, cb.field(key=True)), "-- /*": str})
    db.create(odd)
    db.insert(odd, pl.DataFrame({'ke"y, (': [1], "-- /*": ["x"]}))
    more = table(
        'it\'s "odd" {} -- (',
        odd,
        unique=[["-- /*"]],
        **{
            "'; DROP": (str, cb.field(default="uuid")),
            "a)": (int, cb.field(default=1, references='"it\'s ""odd"" {} -- (".ke"y, (')),
        },
    )
    grows_to(db, more)
    assert db.read(more).rows()[0][:2] == (1, "x")


def test_two_at_once(server_db: cb.Database) -> None:
    server_db.create(Foods)
    more = table("foods", Foods, unique=[["name"]], rank=(int, cb.field(default=1)))
    found: list[Any] = []

    def evolve() -> None:
        try:
            found.append(server_db.evolve(more))
        except cb.BulkError as error:
            found.append(error)

    threads = [threading.Thread(target=evolve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, found)) == [0, 0, 0, 2]


# -- rebuilding, which only SQLite needs ---------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Any) -> Any:
    with cb.connect(f"sqlite:///{tmp_path}/test.db") as database:
        yield database


def old_tables(db: cb.Database) -> None:
    run(
        db,
        """CREATE TABLE "foods" ( -- what (people) eat, "mostly"
  food_id INTEGER PRIMARY KEY AUTOINCREMENT, /* , FOREIGN KEY ( */
  name TEXT NOT NULL DEFAULT ('a,b)'), price TEXT CHECK (price <> '(,'), kind INT,
  shout TEXT GENERATED ALWAYS AS (upper(name)) STORED,
  CONSTRAINT "unique, name" UNIQUE (name) -- the (end
)""",
        "CREATE TABLE kinds (id INTEGER PRIMARY KEY)",
        "CREATE TABLE lines (id INTEGER PRIMARY KEY, food INT NOT NULL REFERENCES foods ON DELETE CASCADE)",
        "CREATE TABLE log (what TEXT)",
        "CREATE INDEX by_price ON foods (price) WHERE price IS NOT NULL",
        "CREATE TRIGGER logs AFTER INSERT ON foods BEGIN INSERT INTO log VALUES (new.name); END",
        "CREATE VIEW names AS SELECT name, shout FROM foods",
        "CREATE TRIGGER through INSTEAD OF INSERT ON names BEGIN INSERT INTO foods (name) VALUES (new.name); END",
        "INSERT INTO kinds VALUES (1)",
        "INSERT INTO foods (food_id, name, price, kind) VALUES (1, 'soup', '1', 1), (7, 'bread', NULL, NULL), (9, 'x', NULL, 1)",
        "INSERT INTO lines VALUES (1, 1), (2, 7)",
        "DELETE FROM foods WHERE food_id = 9",
    )


Rebuilt = table(
    "foods",
    food_id=(int, cb.field(key=True)),
    name=str,
    kind=(int, cb.field(nullable=True, references="kinds.id")),
    code=(str, cb.field(uuid=True, default="uuid")),
)


def test_a_rebuilt_table_is_as_it_was(file: cb.Database) -> None:
    old_tables(file)
    plan = grows_to(file, Rebuilt)
    assert (plan[0], plan[-1]) == ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON")
    assert file.read(
        "foods", columns=["food_id", "name", "price", "kind", "shout"], order_by="food_id"
    ).rows() == [
        (1, "soup", "1", 1, "SOUP"),
        (7, "bread", None, None, "BREAD"),
    ]
    assert [count(file, name) for name in ("lines", "log", "kinds")] == [2, 3, 1]
    with file.session() as session:
        kept = session.fetch("SELECT name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")[
            "name"
        ].to_list()
        text = session.fetch("SELECT sql FROM sqlite_master WHERE name = 'foods'").item()
    assert kept == [
        "by_price",
        "foods",
        "foods_kind_72d3ff9e_idx",
        "kinds",
        "lines",
        "log",
        "logs",
        "names",
        "sqlite_sequence",
        "through",
    ]
    for part in (
        '-- what (people) eat, "mostly"',
        "/* , FOREIGN KEY ( */",
        "-- the (end",
        '"unique, name" UNIQUE (name)',
    ):
        assert part in text
    run(file, "INSERT INTO foods (name, code) VALUES ('new', 'c')", "DELETE FROM foods WHERE food_id = 1")
    assert file.read("foods", columns=["food_id"], order_by="-food_id").rows() == [(10,), (7,)]
    assert [count(file, name) for name in ("lines", "log")] == [1, 4]
    assert file.read("names").height == 2
    for broken in (
        "UPDATE foods SET price = '(,'",
        "UPDATE foods SET kind = 5",
        "UPDATE foods SET code = NULL",
    ):
        with pytest.raises(cb.errors.ConstraintViolated):
            run(file, broken)


@pytest.mark.parametrize(
    ("columns", "rest", "number"),
    [
        ("code TEXT PRIMARY KEY, note TEXT", "", "rowid"),
        ("code TEXT PRIMARY KEY, rowid TEXT", "", "_rowid_"),
        ("code TEXT PRIMARY KEY, rowid TEXT, _ROWID_ TEXT", "", "oid"),
        ("code TEXT PRIMARY KEY, note TEXT", " WITHOUT ROWID", "code"),
        ("code INTEGER PRIMARY KEY, note TEXT", "", "rowid"),
    ],
)
def test_a_rebuilt_table_keeps_the_numbers_of_its_rows(
    file: cb.Database, columns: str, rest: str, number: str
) -> None:
    """Others may know rows by them, such as a full-text index."""

    class Codes(cb.Table):
        code: str = cb.field(key=True)
        added: str = cb.field(default="uuid", uuid=True)

        class Config:
            name = "codes"

    class Numbers(Codes):
        code: int = cb.field(key=True)

        class Config:
            name = "codes"

    codes = ["7", "3", "9", "5"]
    with file.session() as session:
        session.execute(f"CREATE TABLE codes ({columns}){rest}")
        session.execute(f"INSERT INTO codes (code) VALUES {', '.join(f'({code})' for code in codes)}")
        session.execute("DELETE FROM codes WHERE code = 3 OR code = '3'")
        before = session.fetch(f"SELECT {number} AS number, code FROM codes ORDER BY code").rows()
    file.evolve(Numbers if "INTEGER" in columns else Codes)
    with file.session() as session:
        assert session.fetch(f"SELECT {number} AS number, code FROM codes ORDER BY code").rows() == before
    assert file.read("codes")["added"].null_count() == 0


def test_a_full_text_index_finds_the_same_rows_after_a_rebuild(file: cb.Database) -> None:
    class Texts(cb.Table):
        code: str = cb.field(key=True)
        note: str | None
        added: str = cb.field(default="uuid", uuid=True)

        class Config:
            name = "texts"

    with file.session() as session:
        session.execute("CREATE TABLE texts (code TEXT PRIMARY KEY, note TEXT)")
        session.execute("INSERT INTO texts VALUES ('z', 'soup'), ('a', 'bread'), ('m', 'salt')")
        session.execute("DELETE FROM texts WHERE code = 'z'")
        session.execute("CREATE VIRTUAL TABLE words USING fts5(note, content='texts')")
        session.execute("INSERT INTO words (words) VALUES ('rebuild')")
    file.evolve(Texts)
    with file.session() as session:
        found = "SELECT t.code FROM words JOIN texts AS t ON t.rowid = words.rowid WHERE words MATCH 'salt'"
        assert session.fetch(found).rows() == [("m",)]


def test_a_rebuild_that_fails_leaves_everything(file: cb.Database) -> None:
    old_tables(file)
    run(file, "UPDATE foods SET kind = 5 WHERE food_id = 7")
    before = file.read("foods", order_by="food_id")
    with pytest.raises(cb.errors.ConstraintViolated, match="1 rows point at no row of kinds"):
        file.evolve(Rebuilt)
    assert file.read("foods", order_by="food_id").equals(before)
    with file.session() as session:
        assert session.fetch("SELECT foreign_keys AS f FROM pragma_foreign_keys").item() == 1
        assert session.fetch("SELECT count(*) AS n FROM sqlite_master WHERE name LIKE 'crave%'").item() == 0
    assert count(file, "lines") == 2


def test_no_rebuild_within_a_transaction(file: cb.Database) -> None:
    old_tables(file)
    with pytest.raises(cb.ContractError, match="call db.evolve outside of it"), file.transaction():
        file.evolve(Rebuilt)
    with file.transaction():
        file.evolve(table("kinds", id=(int, cb.field(key=True)), name=(str, cb.field(default=""))))
    grows_to(file, Rebuilt)


def test_a_rebuild_in_memory() -> None:
    with cb.connect() as db:
        old_tables(db)
        grows_to(db, Rebuilt)
        with db.session() as session:
            assert session.fetch("SELECT foreign_keys AS f FROM pragma_foreign_keys").item() == 1


def test_the_name_of_an_index_that_is_taken(file: cb.Database) -> None:
    file.create(Foods)
    run(file, "CREATE TABLE other (a)", "CREATE INDEX foods_name_key ON other (a)")
    assert '"foods_name_key2"' in grows_to(file, table("foods", Foods, unique=[["name"]]))[0]


def test_a_view_cannot_grow(db: cb.Database) -> None:
    run(db, "CREATE TABLE t (food_id bigint PRIMARY KEY)", "CREATE VIEW foods AS SELECT food_id FROM t")
    with pytest.raises(cb.BulkError, match="view"):
        db.evolve(table("foods", food_id=(int, cb.field(key=True)), name=(str, cb.field(nullable=True))))

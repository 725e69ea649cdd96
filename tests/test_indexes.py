"""Indexes: of the columns that point at other rows, and those that a table lists; without them a deletion reads whole tables."""

from __future__ import annotations

import time
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.backends.base import LONGEST_NAME
from crave_bulk.schema import index_name
from crave_bulk.table import TableName, contract_of


class Customers(cb.Table):
    customer_id: int = cb.field(key=True)
    name: str

    class Config:
        name = "customers"


class Orders(cb.Table):
    order_id: int = cb.field(key=True)
    customer_id: int | None = cb.field(references="customers.customer_id")

    class Config:
        name = "orders"


def orders(name: str = "orders", /, *, indexes: Any = (), unique: Any = (), **columns: Any) -> type[cb.Table]:
    """Declare a table that points at customers, with more columns or with other fields."""
    columns = {"order_id": cb.field(key=True), "customer_id": cb.field(), "city": cb.field(), **columns}
    config = {"name": name, "unique": list(unique), **({"indexes": indexes} if indexes != () else {})}
    namespace = {"__annotations__": dict.fromkeys(columns, int), "Config": type("Config", (), config)}
    return type("Orders", (cb.Table,), namespace | columns)


def indexes(db: cb.Database, name: str = "orders") -> list[tuple[str, ...]]:
    with db.session() as session:
        return sorted(db.backend.reflect(session, TableName.parse(name)).indexes)


def run(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


# -- what is made --------------------------------------------------------------------------------------


def test_a_reference_has_an_index(db: cb.Database) -> None:
    db.create(Customers, Orders)
    assert indexes(db) == [("customer_id",), ("order_id",)]
    db.create(Customers, Orders)  # once more
    assert indexes(db) == [("customer_id",), ("order_id",)]
    assert db.evolve(Customers, Orders) == []


def test_a_reference_without_an_index(db: cb.Database) -> None:
    table = orders(customer_id=cb.field(references="customers.customer_id", index=False))
    db.create(Customers, table)
    assert indexes(db) == [("order_id",)]
    assert db.evolve(table) == []


@pytest.mark.parametrize(
    "options",
    [
        {"customer_id": cb.field(references="customers.customer_id", unique=True)},
        {"unique": [["customer_id", "city"]]},
        {"indexes": [["customer_id", "city"]]},
        {"indexes": ["customer_id"]},
    ],
)
def test_no_second_index_begins_with_the_same_columns(db: cb.Database, options: dict[str, Any]) -> None:
    table = orders(**{"customer_id": cb.field(references="customers.customer_id"), **options})
    db.create(Customers, table)
    assert len(indexes(db)) == 2
    assert db.evolve(table) == []


def test_a_key_that_begins_with_the_reference_needs_no_index(db: cb.Database) -> None:
    table = orders(customer_id=cb.field(references="customers.customer_id", key=True), order_id=cb.field())
    db.create(Customers, table)
    assert indexes(db) == [("customer_id",)]


def test_a_key_that_only_ends_with_the_reference_does(db: cb.Database) -> None:
    table = orders(customer_id=cb.field(references="customers.customer_id", key=True))
    db.create(Customers, table)
    assert indexes(db) == [("customer_id",), ("order_id", "customer_id")]


def test_listed_indexes(db: cb.Database) -> None:
    db.create(orders(indexes=[["city", "customer_id"], "customer_id"]))
    assert indexes(db) == [("city", "customer_id"), ("customer_id",), ("order_id",)]


def test_a_reference_with_a_condition_has_an_index(db: cb.Database) -> None:
    points = cb.field(references="customers.customer_id", references_where={"name": "ann"})
    db.create(Customers, orders(customer_id=points))
    assert ("customer_id",) in indexes(db)


def test_indexes_are_inherited(db: cb.Database) -> None:
    class More(orders(indexes=["city"])):  # type: ignore[misc]
        note: str

        class Config:
            name = "more"

    db.create(More)
    assert indexes(db, "more") == [("city",), ("order_id",)]


# -- what is added -------------------------------------------------------------------------------------


def test_evolve_adds_indexes_and_drops_none(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id bigint NOT NULL, city bigint NOT NULL)",
        "CREATE INDEX theirs ON orders (city, order_id)",
    )
    db.create(Customers)
    table = orders(
        customer_id=cb.field(references="customers.customer_id"), indexes=[["city", "customer_id"], "city"]
    )
    plan = db.evolve(table, plan=True)
    assert sum("_idx" in line for line in plan) == 2
    assert indexes(db) == [("city", "order_id"), ("order_id",)]
    assert db.evolve(table) == plan
    assert db.evolve(table) == []
    assert indexes(db) == [("city", "customer_id"), ("city", "order_id"), ("customer_id",), ("order_id",)]
    assert db.evolve(orders()) == []
    assert ("city", "order_id") in indexes(db)


def test_evolve_adds_the_index_of_a_new_column(db: cb.Database) -> None:
    db.create(Customers, orders())
    table = orders(added=cb.field(references="customers.customer_id", nullable=True), indexes=["city"])
    statements = db.evolve(table)
    assert [line.split("(")[-1] for line in statements if line.startswith("CREATE INDEX")] == [
        '"city")',
        '"added")',
    ]
    assert db.evolve(table) == []


@pytest.mark.parametrize("index", ["(customer_id) WHERE customer_id > 5", "(abs(customer_id), customer_id)"])
def test_an_index_of_some_rows_or_of_an_expression_is_another(db: cb.Database, index: str) -> None:
    db.create(Customers, orders())
    run(db, f"CREATE INDEX theirs ON orders {index}")
    assert len(db.evolve(orders(indexes=["customer_id"]))) == 1


def test_a_table_that_exists_is_left_as_it_is(db: cb.Database) -> None:
    db.create(orders())
    db.create(orders(indexes=["city"]))
    assert indexes(db) == [("order_id",)]


# -- names ---------------------------------------------------------------------------------------------


def test_names_differ_where_words_run_together() -> None:
    assert index_name(TableName("a_b"), ["c"]) != index_name(TableName("a"), ["b_c"])


def test_names_are_short_and_the_same_every_time(db: cb.Database) -> None:
    name, long = TableName("ü" * 31), ["é" * 30, "y" * 30]
    assert index_name(name, long) == index_name(name, list(long))
    assert len(index_name(name, long).encode()) <= LONGEST_NAME
    table = orders(str(name), indexes=["city", "customer_id"])
    db.create(table)
    assert indexes(db, str(name)) == [("city",), ("customer_id",), ("order_id",)]


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        [["city", "nowhere"]],
        ["nowhere"],
        ["city", "city"],
        ["city", ["city"]],
        [["city", "city"]],
        [[]],
        [""],
        [5],
        [[5]],
        [None],
        "city",
        5,
        {"city": 1},
    ],
)
def test_indexes_that_cannot_be_made(wrong: Any) -> None:
    with pytest.raises(cb.ContractError, match=r"Config\.indexes"):
        contract_of(orders(indexes=wrong))


@pytest.mark.parametrize("options", [{"index": True}, {"index": False}, {"references": "a.b", "index": 5}])
def test_an_index_that_is_about_no_reference(options: dict[str, Any]) -> None:
    with pytest.raises(cb.ContractError, match=r"index="):
        cb.field(**options)


def test_an_index_over_json(server_db: cb.Database) -> None:
    class Places(cb.Table):
        place_id: int = cb.field(key=True)
        about: str = cb.field(json=True)

        class Config:
            indexes = ["about"]

    with pytest.raises(cb.ContractError, match="cannot index"):
        server_db.create(Places)


# -- what a deletion says, and costs -------------------------------------------------------------------

THEIRS = "CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id bigint REFERENCES customers (customer_id) {})"


def fill(db: cb.Database) -> None:
    db.insert(Customers, pl.DataFrame({"customer_id": range(9), "name": ["ann"] * 9}))
    db.insert("orders", pl.DataFrame({"order_id": [1], "customer_id": [1]}))


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE", "ON DELETE SET NULL"])
@pytest.mark.parametrize("undo", [True, False])
def test_a_deletion_says_which_index_is_lacking(db: cb.Database, action: str, undo: bool) -> None:
    db.create(Customers)
    run(db, THEIRS.format(action))
    fill(db)
    reports = [
        db.delete(Customers, [2], undo=undo),
        # Without undo it is one statement, and nothing else is asked.
        *([db.delete_where(Customers, {"customer_id": 3})] if undo else []),
        db.sync(Customers, pl.DataFrame({"customer_id": [1], "name": ["ann"]}), undo=undo),
    ]
    for report in reports:
        assert len(report.notes) == 1
        assert "orders (customer_id)" in report.notes[0]
        assert "db.evolve" in report.notes[0]
    statement = reports[0].notes[0].partition("run ")[2].partition(";")[0]
    run(db, statement)
    assert db.delete(Customers, [1] if action else [99], undo=undo).notes == ()
    assert db.evolve(Orders) == []


def test_no_note_where_nothing_is_deleted_or_an_index_is_there(db: cb.Database) -> None:
    db.create(Customers, Orders)
    fill(db)
    assert db.delete(Customers, [2]).notes == ()
    assert db.delete_where(Customers, {"customer_id": 3}).notes == ()
    assert db.sync(Customers, db.read(Customers).filter(pl.col("customer_id") < 6)).notes == ()


def test_an_index_of_the_rows_that_point_at_all_will_do(server_db: cb.Database) -> None:
    server_db.create(Customers)
    run(server_db, THEIRS.format(""), "CREATE INDEX ON orders (customer_id) WHERE customer_id IS NOT NULL")
    fill(server_db)
    assert server_db.delete(Customers, [2]).notes == ()


def test_rows_that_point_within_the_table(db: cb.Database) -> None:
    run(db, "CREATE TABLE parts (id bigint PRIMARY KEY, above bigint REFERENCES parts (id))")
    db.insert("parts", pl.DataFrame({"id": [1, 2], "above": [None, 1]}))
    assert "parts (above)" in db.delete("parts", [2]).notes[0]


def test_a_key_that_points_is_an_index(db: cb.Database) -> None:
    db.create(Customers)
    run(db, "CREATE TABLE vip (id INTEGER PRIMARY KEY REFERENCES customers (customer_id))")
    db.insert(Customers, pl.DataFrame({"customer_id": [1], "name": ["ann"]}))
    assert db.delete(Customers, [1]).notes == ()


def test_a_reference_of_two_columns(db: cb.Database) -> None:
    run(
        db,
        "CREATE TABLE a (x bigint, y bigint, PRIMARY KEY (x, y))",
        "CREATE TABLE b (id bigint PRIMARY KEY, x bigint, y bigint, FOREIGN KEY (x, y) REFERENCES a (x, y))",
        "CREATE INDEX half ON b (x)",
    )
    db.insert("a", pl.DataFrame({"x": [1, 2], "y": [1, 2]}))
    assert "b (x, y)" in db.delete("a", [(1, 1)]).notes[0]
    run(db, "CREATE INDEX whole ON b (y, x, id)")
    assert db.delete("a", [(2, 2)]).notes == ()


def test_the_cost_of_a_deletion_does_not_grow_with_the_table_that_points(db: cb.Database) -> None:
    db.create(Customers, Orders)
    db.insert(Customers, pl.DataFrame({"customer_id": range(3_000), "name": ["ann"] * 3_000}), undo=False)
    seconds = []
    for size, start in ((2_000, 0), (100_000, 2_000)):
        numbers = pl.int_range(start, start + size, eager=True)
        rows = pl.DataFrame({"order_id": numbers, "customer_id": numbers % 1_000})
        db.insert(Orders, rows, undo=False)
        took = []
        for part in range(3):
            first = 1_000 + 300 * part + (1_000 if start else 0)
            begin = time.perf_counter()
            db.delete(Customers, list(range(first, first + 300)))
            took.append(time.perf_counter() - begin)
        seconds.append(min(took))
    assert seconds[1] < 12 * seconds[0]  # without an index fifty times as much

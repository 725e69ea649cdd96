"""Names of tables and columns may hold anything, on both databases, and injection is impossible."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

ODD = [
    "order",
    "SELECT",
    "Grüße an alle",
    "two words",
    'with "quotes"',
    "it's",
    "semi; DROP TABLE victims; --",
    "{} {0} %s %(x)s",
    "back`tick[1]",
    "dot.ted",
    "日本語",
    "a",
    "A1",
    "comment -- /* */",
    "$1 ?1 :x @y",
    "back\\slash",
    "new\nline",
]


def table_named(name: str, columns: list[str], **config: Any) -> type[cb.Table]:
    namespace: dict[str, Any] = {
        "__annotations__": {},
        "Config": type("Config", (), {"name": name, **config}),
    }
    for number, column in enumerate(columns):
        namespace["__annotations__"][f"f{number}"] = int if number == 0 else str
        namespace[f"f{number}"] = cb.field(alias=column, key=number < 2)
    return type("Odd", (cb.Table,), namespace)


@pytest.mark.thorough_on_postgres
@pytest.mark.parametrize("name", [n for n in ODD if n != "dot.ted"])
def test_a_table_of_any_name(db: cb.Database, name: str) -> None:
    check(db, table_named(name, ["id", "k", "v"]), ["id", "k", "v"])


def test_columns_of_any_name(db: cb.Database) -> None:
    check(db, table_named("odd", ["id", *ODD], unique=[ODD[2:4], [ODD[6], ODD[7]]]), ["id", *ODD])


def check(db: cb.Database, table: type[cb.Table], columns: list[str]) -> None:
    db.create(table)
    frame = pl.DataFrame({c: [1, 2] if i == 0 else [f"{i}-1", f"{i}-2"] for i, c in enumerate(columns)})
    assert db.insert(table, frame).counts["inserted"] == 2
    last = columns[-1]
    changed = frame.with_columns(
        pl.when(pl.int_range(2) == 0).then(pl.lit("new")).otherwise(pl.col(last)).alias(last)
    )
    assert db.upsert(table, changed).counts == {"input": 2, "updated": 1, "unchanged": 1}
    assert db.read(table, order_by=columns[0]).equals(changed)
    assert db.read(table, order_by=[f"-{columns[0]}"], columns=[last], limit=1).rows() == [
        (f"{len(columns) - 1}-2",)
    ]


@pytest.mark.parametrize("name", ["sales.orders", 'sales."or.ders"', '"Sales 2"."order"'])
def test_a_table_in_a_schema(db: cb.Database, name: str) -> None:
    check(db, table_named(name, ["id", "k", "v"]), ["id", "k", "v"])


def test_a_reference_into_a_schema(db: cb.Database) -> None:
    class Orders(cb.Table):
        id: int = cb.field(key=True)

        class Config:
            name = "sales.orders"

    class Lines(cb.Table):
        id: int = cb.field(key=True)
        parent: int = cb.field(references="sales.orders.id")

        class Config:
            name = 'sales."or.der lines"'

    db.create(Lines, Orders)
    db.insert(Orders, pl.DataFrame({"id": [1]}))
    report = db.insert(Lines, pl.DataFrame({"id": [1, 2], "parent": [1, 9]}), on_reject="keep")
    assert report.counts == {"input": 2, "inserted": 1, "rejected": 1}


def test_a_reference_to_what_is_not_unique(db: cb.Database) -> None:
    class Many(cb.Table):
        id: int = cb.field(key=True)
        group: int

    class Points(cb.Table):
        id: int = cb.field(key=True, references="Many.group")

    with pytest.raises(cb.ContractError, match="references Many.group, which is not unique"):
        db.create(Many, Points)


def test_columns_that_differ_by_case_alone(server_db: cb.Database) -> None:
    check(
        server_db,
        table_named("cases", ["id", "k", "name", "Name", "NAME"]),
        ["id", "k", "name", "Name", "NAME"],
    )


def test_more_columns_than_a_mask_has_bits(db: cb.Database) -> None:
    columns = ["id", "k", *(f"v{n}" for n in range(130))]
    table = table_named("wide", columns)
    check(db, table, columns)
    for name in ("v0", "v60", "v129"):
        frame = db.read(table).with_columns(pl.lit("x").alias(name))
        assert db.upsert(table, frame).counts.get("updated", 0) == 2
        assert db.read(table)[name].to_list() == ["x", "x"]
    both = db.read(table).with_columns(v1=pl.lit("y"), v61=pl.lit("y"))
    assert db.upsert(table, both).counts["updated"] == 2


@pytest.mark.parametrize(
    "value", ["'; DROP TABLE victims; --", '"; DROP TABLE victims; --', "\\'; --", "$$", "%s {}", "\x1b"]
)
def test_values_stay_values(db: cb.Database, value: str) -> None:
    table = table_named("victims", ["id", "k", "v"])
    db.create(table)
    frame = pl.DataFrame({"id": [1], "k": [value], "v": [value]})
    db.insert(table, frame)
    assert db.read(table).equals(frame)


DECLARATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("no key", {"id": (int, {})}, "has no key: mark the columns"),
    ("nullable key", {"id": (int, {"key": True, "nullable": True})}, "key column 'id' cannot be nullable"),
    ("reserved", {"id": (int, {"key": True}), "x": (int, {"alias": "_row"})}, "cannot be called '_row'"),
    ("uuid of a number", {"id": (int, {"key": True, "uuid": True})}, "uuid=True needs text"),
    (
        "uuid default of a number",
        {"id": (int, {"key": True, "default": "uuid"})},
        "default='uuid' needs a text",
    ),
    ("json of a number", {"id": (int, {"key": True, "json": True})}, "json=True needs text"),
    ("now for a number", {"id": (int, {"key": True}), "x": (int, {"default": "now"})}, "'now' needs a Date"),
    ("reference to nothing", {"id": (int, {"key": True, "references": "parents"})}, 'write "table.column"'),
    ("an array", {"id": (int, {"key": True}), "x": (pl.Array(pl.Int64, 2), {})}, "no exact form"),
]


@pytest.mark.parametrize(("fields", "says"), [d[1:] for d in DECLARATIONS], ids=[d[0] for d in DECLARATIONS])
def test_declarations_that_cannot_be_met(db: cb.Database, fields: dict[str, Any], says: str) -> None:
    namespace = {
        "__annotations__": {n: t for n, (t, _) in fields.items()},
        **{n: cb.field(**o) for n, (_, o) in fields.items()},
    }
    with pytest.raises(cb.ContractError, match=says):
        db.create(type("Bad", (cb.Table,), namespace))


def test_names_that_cannot_be(db: cb.Database) -> None:
    for name in ("a.b.c", ".x", "nul\0", "x."):
        with pytest.raises(cb.ContractError):
            db.create(table_named(name, ["id", "k"]))
    with pytest.raises(cb.ContractError, match="merge='sum' is not a merge rule"):
        cb.field(merge="sum")  # type: ignore[arg-type]
    with pytest.raises(cb.ContractError, match="on_update='later' is not known"):
        cb.field(on_update="later")  # type: ignore[arg-type]
    with pytest.raises(cb.ContractError, match="Config.unique names 'nope'"):
        db.create(table_named("u", ["id", "k"], unique=["nope"]))


def test_a_name_that_postgresql_would_cut_off(server_db: cb.Database) -> None:
    for table in (table_named("t" * 64, ["id", "k"]), table_named("t", ["id", "ü" * 32])):
        with pytest.raises(cb.ContractError, match="longer than 63 bytes"):
            server_db.create(table)


def test_tables_that_reference_each_other_in_a_circle(db: cb.Database) -> None:
    class Eggs(cb.Table):
        id: int = cb.field(key=True, references="Hens.id")

    class Hens(cb.Table):
        id: int = cb.field(key=True, references="Eggs.id")

    with pytest.raises(cb.ContractError, match="circle, (Eggs -> Hens -> Eggs|Hens -> Eggs -> Hens)"):
        db.create(Eggs, Hens)


@pytest.mark.parametrize("target", ["Shops.city", "Shops.shopid", "shop.id"])
def test_a_reference_to_what_is_not_there(db: cb.Database, target: str) -> None:
    class Shops(cb.Table):
        id: int = cb.field(key=True)
        city: int

    class Wares(cb.Table):
        id: int = cb.field(key=True, references=target)

    db.create(Shops)
    with pytest.raises(cb.BulkError):
        db.create(Wares)
    assert db.insert(Shops, pl.DataFrame({"id": [1], "city": [2]})).counts["inserted"] == 1
    with pytest.raises(cb.TableNotFound):
        db.read(Wares)


def test_an_option_that_is_misspelt() -> None:
    with pytest.raises(cb.ContractError, match="no option 'keey': did you mean 'key'"):
        cb.field(keey=True)

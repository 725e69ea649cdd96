"""A name that is kept is read again as the same name, also if it holds what names are written with."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crave_bulk as cb
from crave_bulk.sql import quote, quote_all
from crave_bulk.table import TableName

PART = st.text('ab." ', min_size=1, max_size=5)
PAIRS = [
    ("sales.orders", '"sales.orders"'),
    ('"x""a""."b"', '"x""a"".b"'),
    ('"a.b".c', 'a."b.c"'),
    ('"""x".y', '"""x.y"'),
]


@given(table=PART, schema=st.none() | PART)
def test_a_name_that_is_written_is_read_as_the_same(table: str, schema: str | None) -> None:
    name = TableName(table, schema)
    assert TableName.parse(str(name)) == name


@pytest.mark.parametrize("name", ["orders", "sales.orders", "Sales 2.order", '5" pipes', "it's", "a,b"])
def test_a_plain_name_is_written_as_users_write_it(name: str) -> None:
    assert str(TableName.parse(name)) == name


def create(db: cb.Database, *names: str) -> None:
    """Create tables as somebody else does, each with one row."""
    with db.session() as session:
        for name in map(TableName.parse, names):
            if name.schema:
                session.execute(f"CREATE SCHEMA {quote(name.schema)}")
            target = quote_all([part for part in (name.schema, name.table) if part]).replace(", ", ".")
            session.execute(f"CREATE TABLE {target} (id bigint PRIMARY KEY, s text)")
            session.execute(f"INSERT INTO {target} VALUES (1, 'mine')")


FRAME = pl.DataFrame({"id": [1], "s": ["yours"]})


@pytest.mark.parametrize("names", PAIRS)
def test_undo_takes_back_what_was_written_to_the_table_of_that_very_name(
    server_db: cb.Database, names: tuple[str, str]
) -> None:
    create(server_db, *names)
    for name, other in (names, names[::-1]):
        report = server_db.upsert(name, FRAME)
        assert server_db.read(other).rows() == [(1, "mine")]
        assert report.undo().counts == {"input": 1, "updated": 1}
        assert server_db.read(name).rows() == server_db.read(other).rows() == [(1, "mine")]


@pytest.mark.parametrize("names", PAIRS)
def test_once_tells_the_tables_apart(server_db: cb.Database, names: tuple[str, str]) -> None:
    create(server_db, *names)
    for name in names:
        assert server_db.upsert(name, FRAME, once=True).counts == {"input": 1, "updated": 1}
        assert server_db.upsert(name, FRAME, once=True).replayed
    server_db.upsert(names[0], FRAME, once="nightly")
    with pytest.raises(cb.ContractError, match="is the name of batch"):
        server_db.upsert(names[1], FRAME, once="nightly")
    assert server_db.batches()["table"].n_unique() == len(names)


@pytest.mark.parametrize("ledger", ['"my.ledger"', 'own."led.ger"', '"q""l"'])
def test_the_ledger_may_be_called_anything(url: str, ledger: str) -> None:
    with cb.connect(url, ledger=ledger) as db:
        create(db, "orders")
        report = db.upsert("orders", FRAME)
        report.undo()
        assert db.batches().height == 2
        assert db.read("orders").rows() == [(1, "mine")]


def test_a_reference_of_a_table_whose_name_has_a_dot(server_db: cb.Database) -> None:
    create(server_db, "sales.orders", '"sales.orders"')

    class Lines(cb.Table):
        id: int = cb.field(key=True)
        order: int = cb.field(references='"sales.orders".id')

        class Config:
            name = '"sales.lines"'

    server_db.create(Lines)
    server_db.insert('"sales.orders"', pl.DataFrame({"id": [7], "s": ["new"]}))
    for target in (Lines, '"sales.lines"'):
        wrong = pl.DataFrame({"id": [1], "order": [8]})
        with pytest.raises(cb.RejectedRows, match=r'no row of "sales\.orders" has this id'):
            server_db.insert(target, wrong)
    report = server_db.insert(Lines, pl.DataFrame({"id": [1], "order": [7]}))
    assert report.table == '"sales.lines"'
    report.undo()
    assert server_db.read(Lines).is_empty()

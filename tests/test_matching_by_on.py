"""on= columns that are unique after a fashion: the refusal says why rows cannot be matched by them."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb

TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, mail text, gone bigint{})"


def refusal(db: cb.Database, *statements: str, on: str | list[str] = "mail") -> str:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)
    frame = pl.DataFrame({"id": [1], "mail": ["a"], "gone": [0]})
    with pytest.raises(cb.ContractError, match=r"is no unique key of table t") as refused:
        db.upsert("t", frame, on=on)
    return str(refused.value)


def test_no_unique_key_at_all(db: cb.Database) -> None:
    assert refusal(db, TABLE.format("")) == "on=mail is no unique key of table t: it has ['id']"


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("(mail) WHERE gone = 0", "holds for some rows only"),
        ("(lower(mail))", "over an expression"),
        ("(lower(mail)) WHERE gone = 0", "over an expression"),
    ],
)
def test_an_index_that_is_not_of_all_rows_and_columns(db: cb.Database, index: str, reason: str) -> None:
    message = refusal(db, TABLE.format(""), f"CREATE UNIQUE INDEX by_mail ON t {index}")
    assert "by_mail" in message
    assert reason in message


def test_an_expression_beside_a_column(db: cb.Database) -> None:
    index = "CREATE UNIQUE INDEX by_mail ON t (gone, lower(mail))"
    assert "over an expression" in refusal(db, TABLE.format(""), index, on=["mail", "gone"])


def test_an_index_of_other_columns_is_not_named(db: cb.Database) -> None:
    assert "by_gone" not in refusal(
        db, TABLE.format(""), "CREATE UNIQUE INDEX by_gone ON t (gone) WHERE mail = 'x'"
    )


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        ("CONSTRAINT by_mail UNIQUE (mail) DEFERRABLE", "deferrable"),
        ("CONSTRAINT by_mail UNIQUE (mail) DEFERRABLE INITIALLY DEFERRED", "deferrable"),
        ("CONSTRAINT by_mail UNIQUE NULLS NOT DISTINCT (mail)", "NULLS NOT DISTINCT"),
    ],
)
def test_constraints_of_postgresql(server_db: cb.Database, constraint: str, reason: str) -> None:
    assert reason in refusal(server_db, TABLE.format(f", {constraint}"))


def test_operators_of_its_own(server_db: cb.Database) -> None:
    message = refusal(server_db, TABLE.format(""), "CREATE UNIQUE INDEX by_mail ON t (mail text_pattern_ops)")
    assert "operators of its own" in message


def test_a_type_of_which_equal_values_are_written_differently(server_db: cb.Database) -> None:
    message = refusal(server_db, "CREATE TABLE t (id bigint PRIMARY KEY, mail inet UNIQUE, gone bigint)")
    assert "equal and yet written differently" in message


def test_a_column_that_ignores_case() -> None:
    with cb.connect() as db:
        table = "CREATE TABLE t (id bigint PRIMARY KEY, mail text COLLATE NOCASE UNIQUE, gone bigint)"
        assert "collation" in refusal(db, table)


def test_a_declared_table_says_so_too(db: cb.Database) -> None:
    class T(cb.Table):
        id: int = cb.field(key=True)
        mail: str

        class Config:
            name = "t"

    db.create(T)
    with db.session() as session:
        session.execute("CREATE UNIQUE INDEX by_mail ON t (lower(mail))")
    with pytest.raises(cb.ContractError, match=r"table t, as .*by_mail is over an expression"):
        db.upsert(T, pl.DataFrame({"id": [1], "mail": ["a"]}), on="mail")

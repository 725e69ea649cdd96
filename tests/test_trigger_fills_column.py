"""A NOT NULL column that a trigger fills in may be left out, or be NULL in the frame: the database judges what is left."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import crave_bulk as cb


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


@pytest.fixture
def tenants(server_db: cb.Database) -> cb.Database:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE n (id int PRIMARY KEY, tenant int NOT NULL, name text NOT NULL DEFAULT 'x', v int)",
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.id < 100 THEN NEW.tenant := coalesce(NEW.tenant, 42); END IF; RETURN NEW; END $$",
            "CREATE TRIGGER fill BEFORE INSERT ON n FOR EACH ROW EXECUTE FUNCTION fill()",
        ):
            session.execute(statement)
    return server_db


@pytest.mark.parametrize("verb", ["insert", "upsert", "sync"])
def test_a_column_that_a_trigger_fills_may_be_left_out(tenants: cb.Database, verb: str) -> None:
    report = getattr(tenants, verb)("n", frame(id=[1, 2], v=[1, 2]))
    assert report.counts == {"input": 2, "inserted": 2}
    assert tenants.read("n", order_by="id").rows() == [(1, 42, "x", 1), (2, 42, "x", 2)]
    report.undo()
    assert tenants.read("n").is_empty()


def test_a_null_passes_to_the_database_which_refuses_what_stays_null(tenants: cb.Database) -> None:
    rows = frame(id=[1, 100, 2], tenant=[None, None, 7])
    report = tenants.insert("n", rows, on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "inserted"]
    assert report.failures.select("row", "stage", "column").rows() == [(1, "database", "tenant")]
    assert tenants.read("n", order_by="id")["tenant"].to_list() == [42, 7]


def test_a_declared_table_may_leave_it_out_as_well(tenants: cb.Database) -> None:
    class N(cb.Table):
        id: int = cb.field(key=True)
        tenant: int

        class Config:
            name = "n"

    assert tenants.upsert(N, frame(id=[1])).counts["inserted"] == 1
    assert tenants.read("n")["tenant"].to_list() == [42]


def test_without_such_a_trigger_the_column_is_required(tenants: cb.Database) -> None:
    with tenants.session() as session:
        session.execute("ALTER TABLE n DISABLE TRIGGER fill")
    with pytest.raises(cb.ContractError, match="column 'tenant' .* is missing"):
        tenants.insert("n", frame(id=[1]))
    report = tenants.insert("n", frame(id=[1], tenant=pl.Series([None], dtype=pl.Int32)), on_reject="keep")
    assert report.failures["stage"].to_list() == ["validate"]


def test_a_key_is_required_even_if_a_trigger_could_fill_it(tenants: cb.Database) -> None:
    with pytest.raises(cb.ContractError, match="column 'id' .* is missing"):
        tenants.insert("n", frame(tenant=[1]))


def test_a_trigger_of_a_partition_fills_its_rows(server_db: cb.Database) -> None:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE p (id int PRIMARY KEY, tenant int NOT NULL) PARTITION BY RANGE (id)",
            "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 42; RETURN NEW; END $$",
            "CREATE TRIGGER fill BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION fill()",
        ):
            session.execute(statement)
    report = server_db.insert("p", frame(id=[1, 11]), on_reject="keep")
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected"]

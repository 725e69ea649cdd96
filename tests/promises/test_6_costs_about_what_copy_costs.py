"""It costs about what COPY costs: statements are constant, and nothing grows with the table."""

from __future__ import annotations

import subprocess
import sys

import polars as pl

import crave_bulk as cb
from crave_bulk.__main__ import FoodNames, Foods
from crave_bulk.backends.postgres import Postgres
from crave_bulk.pipeline import dedupe
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.table import contract_of


def foods(start: int, rows: int, gloss: str = "g") -> pl.DataFrame:
    numbers = range(start, start + rows)
    return pl.DataFrame(
        {"food_id": [f"{n:08}-n" for n in numbers], "name": [f"f{n}" for n in numbers], "gloss": gloss}
    )


def statements(db: cb.Database, work: object) -> int:
    seen: list[str] = []
    db.trace(seen.append)
    work()  # type: ignore[operator]
    db._listeners.clear()
    return len(seen)


def test_round_trips_do_not_depend_on_the_size_of_the_batch(db: cb.Database) -> None:
    db.create(Foods, FoodNames)
    first, second = (statements(db, lambda n=n: db.upsert(Foods, foods(n * 10, n))) for n in (10, 2_000))
    assert second - first <= 2  # the second meets rows: it asks which differ, and who holds their names
    for gloss in ("h", "h"):
        small, large = (
            statements(db, lambda n=n, gloss=gloss: db.upsert(Foods, foods(n * 10, n, gloss)))
            for n in (10, 2_000)
        )
        assert small == large <= 22
    for n in (10, 2_000):
        names = foods(n * 10, n).select("food_id", alias="name", rank=pl.lit(1, dtype=pl.Int64))
        assert statements(db, lambda names=names: db.insert(FoodNames, names)) <= 17


def test_unchanged_rows_are_not_written(db: cb.Database) -> None:
    db.create(Foods)
    db.upsert(Foods, foods(0, 100))
    seen: list[str] = []
    db.trace(seen.append)
    db.upsert(Foods, foods(0, 100))
    assert not [s for s in seen if s.startswith(("MERGE", 'INSERT INTO "foods"', "UPDATE"))]


def test_a_small_batch_does_not_scan_a_large_table(db: cb.Database) -> None:
    db.create(Foods)
    db.insert(Foods, foods(0, 50_000))
    contract = contract_of(Foods)
    wire = Wire(contract, db.backend)
    rows = wire.encode(foods(100, 10, "new"), None).with_columns(wave=pl.lit(0, dtype=pl.Int32))
    with db.session() as session:
        if isinstance(db.backend, Postgres):
            session.execute("ANALYZE foods")
        with session.atomic():
            if db.backend.avoid_scans:
                session.execute(db.backend.avoid_scans)
            session.ingest(STAGE, rows)
            for query in (
                dedupe.changes_sql(wire, ["name", "gloss"]),
                dedupe.taken_sql(wire, wire.contract.key),
            ):
                assert "SCAN t" not in explain(db, session, query)
                assert "Seq Scan on foods" not in explain(db, session, query)


def explain(db: cb.Database, session: object, query: str) -> str:
    if db.backend.name == "sqlite":
        return "\n".join(session.fetch(f"EXPLAIN QUERY PLAN {query}")["detail"])  # type: ignore[attr-defined]
    with session._connection.cursor(adbc_stmt_kwargs={"adbc.postgresql.use_copy": "false"}) as cursor:  # type: ignore[attr-defined]
        cursor.execute(f"EXPLAIN {query}")
        return "\n".join(row[0] for row in cursor.fetchall())


def test_a_merge_into_a_table_last_seen_empty_is_not_quadratic(server_db: cb.Database) -> None:
    server_db.create(Foods)
    with server_db.session() as session:
        session.execute("VACUUM ANALYZE foods")
    report = server_db.upsert(Foods, foods(0, 30_000))  # 10 s as a nested loop of sequential scans, else 0.3
    assert report.counts["inserted"] == 30_000
    assert report.seconds < 8


def test_importing_the_package_does_not_import_matplotlib() -> None:
    code = "import sys, crave_bulk; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

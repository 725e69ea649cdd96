"""Measure what refused rows cost, as ratios to the same load without them: ``python tests/benchmarks/rejects.py``."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import polars as pl

import crave_bulk as cb

TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER guard BEFORE INSERT ON orders WHEN NEW.amount < 0 BEGIN SELECT RAISE(ABORT, 'below zero'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.amount < 0 THEN RAISE 'below zero'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER guard BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION guard()",
    ],
}


class Customers(cb.Table):
    """What orders point at."""

    id: int = cb.field(key=True)

    class Config:
        name = "customers"


class Orders(cb.Table):
    """A key, a unique column and a reference."""

    id: int = cb.field(key=True)
    number: str = cb.field(unique=True)
    amount: int
    customer: int = cb.field(references="customers.id")

    class Config:
        name = "orders"


def orders(rows: int) -> pl.DataFrame:
    """Make orders of a thousand customers."""
    frame = pl.DataFrame({"id": range(rows)})
    return frame.with_columns(
        number=pl.format("no {}", "id"), amount=pl.col("id") % 97, customer=pl.col("id") % 1000
    )


def load(db: cb.Database, frame: pl.DataFrame, trigger: bool) -> float:
    """Load into empty tables, and return the seconds that the load took."""
    with db.session() as session:
        for table in ("orders", "customers"):
            session.execute(f"DROP TABLE IF EXISTS {table}")
    db.create(Customers, Orders)
    db.insert(Customers, pl.DataFrame({"id": range(1000)}))
    if trigger:
        with db.session() as session:
            for statement in TRIGGERS[db.backend.name]:
                session.execute(statement)
    start = time.perf_counter()
    db.upsert(Orders, frame, on_reject="keep")
    return time.perf_counter() - start


def compare(db: cb.Database, runs: int, rows: int) -> None:
    """Print the medians of the ratios."""
    clean, number = orders(rows), pl.col("id")
    missing = clean.with_columns(
        customer=pl.when(number % 100 == 3).then(number + 5000).otherwise("customer")
    )
    refused = clean.with_columns(amount=pl.when(number % (rows // 10) == 77).then(-1).otherwise("amount"))
    for title, target, frame, trigger in (
        ("1 % missing references", 1.3, missing, False),
        ("10 rows that only a trigger refuses", 5.0, refused, True),
    ):
        pairs = [(load(db, frame, trigger), load(db, clean, trigger)) for _ in range(runs + 1)][1:]
        ratios = sorted(bad / good for bad, good in pairs)
        print(
            f"{db.backend.name:<10} {title:<36} {statistics.median(ratios):.2f}x  (target {target})  "
            f"{statistics.median(b for b, _ in pairs):.3f} s, clean {statistics.median(g for _, g in pairs):.3f} s, "
            f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with cb.connect(f"sqlite:///{folder}/rejects.db") as file:
            compare(file, options.runs, options.rows)
        with cb.embedded_postgres(f"{folder}/pg") as url, cb.connect(url) as server:
            compare(server, options.runs, options.rows)

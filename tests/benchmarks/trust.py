"""Measure what the ledger, undo and plan cost, as ratios in one run: ``python tests/benchmarks/trust.py``.

Every pair is run in turn, A B A B …, and the median of the ratios is printed. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable

import polars as pl
from bench import Entities, entities, half_changed, seconds

import crave_bulk as cb


def ledger(url: str, rows: int, runs: int) -> None:
    """Time small batches with the ledger and without; nothing is kept for undo in either."""
    with cb.connect(url) as kept, cb.connect(url, ledger=False) as bare:
        kept.create(Entities)
        spent: dict[str, list[float]] = {"with": [], "without": []}
        for run in range(runs + 5):
            for seed, (name, db) in enumerate((("with", kept), ("without", bare))):
                frame = entities(rows, seed=1000 + 2 * run + seed)
                spent[name].append(seconds(lambda db=db, frame=frame: db.upsert(Entities, frame, undo=False)))
        extra = [1000 * (a - b) for a, b in zip(spent["with"], spent["without"], strict=True)][5:]
        print(
            f"{kept.backend.name}: ledger, {rows} new rows a batch: {statistics.median(extra):.2f} ms more "
            f"(target 2 ms), of {1000 * statistics.median(spent['with'][5:]):.1f} ms",
            flush=True,
        )


def small(url: str, rows: int, runs: int) -> None:
    """Time small batches that can be undone."""
    with cb.connect(url) as db:
        db.create(Entities)
        for title, options in (("with undo", {}), ("without", {"undo": False})):
            spent = []
            for run in range(runs + 5):
                frame = entities(rows, seed=5000 + run)
                spent.append(seconds(lambda frame=frame, o=options: db.upsert(Entities, frame, **o)))
            print(
                f"{db.backend.name}: {rows} rows, {title}: {1000 * statistics.median(spent[5:]):.1f} ms",
                flush=True,
            )


def images(url: str, rows: int, runs: int) -> None:
    """Time an upsert of which half are updates, with undo and without; and a plan to its apply."""
    frame = entities(rows)
    mixed = half_changed(frame)
    with cb.connect(url) as db:
        db.create(Entities)
        ratios: dict[str, list[float]] = {"undo": [], "plan": []}
        for _ in range(runs):
            with_undo = timed(db, frame, lambda: db.upsert(Entities, mixed))
            without = timed(db, frame, lambda: db.upsert(Entities, mixed, undo=False))
            ratios["undo"].append(with_undo / without)
            plans: list[cb.Plan] = []
            planning = timed(
                db, frame, lambda plans=plans: plans.append(db.upsert(Entities, mixed, plan=True))
            )
            ratios["plan"].append(planning / seconds(plans[0].apply))
        for name, target in (("undo", "1.3, to the same without"), ("plan", "1.2, to its apply")):
            found = ratios[name]
            print(
                f"{db.backend.name}: {name}, {rows:,} rows, half updates: {statistics.median(found):.2f}x "
                f"(target {target}), {min(found):.2f}-{max(found):.2f}",
                flush=True,
            )


def timed(db: cb.Database, frame: pl.DataFrame, work: Callable[[], object]) -> float:
    """Time work on a table that holds a frame and nothing else."""
    with db.session() as session:
        session.execute("DELETE FROM entities")
    db.insert(Entities, frame, undo=False)
    if db.backend.name == "postgresql":
        with db.session() as session:
            session.execute("VACUUM ANALYZE entities")
            session.execute("CHECKPOINT")
    return seconds(work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cb.embedded_postgres(f"{folder}/pg") as server:
        for url in (f"sqlite:///{folder}/trust.db", server):
            ledger(url, 100, 40)
            small(url, 100, 20)
            images(url, options.rows, options.runs)

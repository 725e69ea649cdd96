"""Measure ingestion into a large graph: ``python tests/benchmarks/ingestion.py``.

Mentions per second, from validation to metrics, on SQLite and PostgreSQL: of names written as the graph has them or by
an alias, a share of them new ("plain"); of names as people write them, a third of which are like nothing to the letter
("dirty"); and of what was loaded before ("again"). Nothing here is a test.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

import crave_bulk as cb
from data.crave.generate import attributes, extractions, foods, restaurants

DAY = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def plain(mentions: int, places: pl.DataFrame, seed: int = 3) -> pl.DataFrame:
    """Mention restaurants and foods by their names, popular ones more often; one restaurant in twenty is new."""
    rng = np.random.default_rng(seed)
    where = rng.zipf(1.3, mentions) % places.height
    dishes = foods()
    what = rng.zipf(1.2, mentions) % dishes.height
    row = pl.int_range(pl.len())
    frame = pl.DataFrame(
        {
            "restaurant": places["name"].gather(where),
            "city": places["city"].gather(where),
            "food": dishes["name"].gather(what),
            "upvotes": rng.integers(0, 50, mentions),
        }
    )
    return frame.with_columns(
        restaurant=pl.when(row % 20 == 0).then(pl.format("Newplace {}", row // 60)).otherwise("restaurant"),
        source_id=pl.format("t1_{}", row),
        thread=pl.format("t3_{}", row // 7),
        food_attributes=pl.lit(pl.Series([["spicy"]])).first(),
        created_at=DAY,
    )


def fill(db: cb.Database, places: pl.DataFrame) -> int:
    """Create the tables, and write the entities."""
    db.create(*cb.crave.TABLES)
    known = pl.struct("city", "phone").struct.json_encode()
    columns = cb.crave.Entities.to_schema().columns
    parts = [places.with_columns(restaurant_metadata=known), foods(), attributes()]
    rows = pl.concat([part.select(c for c in part.columns if c in columns) for part in parts], how="diagonal")
    rows = rows.unique(["name", "type"], maintain_order=True).with_columns(pl.col("aliases").fill_null([]))
    db.insert(cb.crave.Entities, rows, undo=False, once=False)
    return rows.height


def measure(url: str, title: str, places: pl.DataFrame, mentions: pl.DataFrame) -> tuple[float, float]:
    """Time the first load of mentions, and the second."""
    with cb.connect(url) as db:
        entities = fill(db, places)
        spent = []
        for _ in range(2):
            start = time.perf_counter()
            report = cb.crave.ingest(db, mentions)
            spent.append(time.perf_counter() - start)
            told = ", ".join(f"{p} {s:.2f}" for p, s in report.timings.select("phase", "seconds").rows())
            print(
                f"  {title}: {entities:,} entities, {report.counts}, {spent[-1]:.2f} s ({told})", flush=True
            )
    return spent[0], spent[1]


def main() -> None:
    """Run every measure and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restaurants", type=int, default=97_000)
    parser.add_argument("--mentions", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    places = restaurants(options.restaurants, 7)
    dirty, _ = extractions(options.mentions, places, foods(), attributes(), 7)
    kinds = {"plain": plain(options.mentions, places), "dirty": dirty}
    for title, mentions in kinds.items():
        for kind in ("SQLite", "PostgreSQL"):
            first, again = [], []
            for _ in range(options.runs):
                with tempfile.TemporaryDirectory() as folder:
                    if kind == "SQLite":
                        spent = measure(f"sqlite:///{folder}/bench.db", f"{kind}, {title}", places, mentions)
                    else:
                        with cb.embedded_postgres(f"{folder}/pg") as url:
                            spent = measure(url, f"{kind}, {title}", places, mentions)
                first.append(options.mentions / spent[0])
                again.append(options.mentions / spent[1])
            print(
                f"{kind}, {title}: {statistics.median(first):,.0f} mentions/s (target 20,000), "
                f"again {statistics.median(again):,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

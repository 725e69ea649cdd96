"""Measure crave_bulk against hand-written loads, as ratios in one run: ``python tests/benchmarks/bench.py``.

Every pair is run in turn, A B A B …, and the median of the ratios is printed: the machine's own speed
cancels out. Nothing here is a test; run it on demand.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import adbc_driver_postgresql.dbapi
import polars as pl

import crave_bulk as cb

KINDS = ["restaurant", "food", "food_attribute", "restaurant_attribute"]


class Entities(cb.Table):
    """Seven columns, a uuid key and a second unique index."""

    entity_id: str = cb.field(key=True, uuid=True)
    name: str = cb.field(str_length={"min_value": 1, "max_value": 255})
    type: str = cb.field(isin=KINDS)
    praise: int = cb.field(ge=0)
    score: float = cb.field(nullable=True)
    address: str = cb.field(nullable=True)
    updated_at: pl.Datetime("us", "UTC")

    class Config:
        name = "entities"
        unique = ["name", "type"]


def entities(rows: int, seed: int = 1) -> pl.DataFrame:
    """Make distinct entities with random UUIDs, the least friendly keys for an index."""
    rng = random.Random(seed)
    return pl.DataFrame(
        {
            "entity_id": [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(rows)],
            "name": [f"Name {seed}-{i} {rng.random():.6f}" for i in range(rows)],
            "type": [rng.choice(KINDS) for _ in range(rows)],
            "praise": [rng.randrange(1000) for _ in range(rows)],
            "score": [rng.random() for _ in range(rows)],
            "address": [f"{i} Main Street" for i in range(rows)],
            "updated_at": [1_700_000_000_000_000 + i for i in range(rows)],
        }
    ).with_columns(pl.col("updated_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def half_changed(frame: pl.DataFrame) -> pl.DataFrame:
    """Change the first half, and put new rows in the place of the second."""
    half = frame.height // 2
    return pl.concat(
        [frame.head(half).with_columns(pl.col("praise") + 1), entities(frame.height - half, seed=2)]
    )


NAMES = list(Entities.to_schema().columns)
SETS = ", ".join(f"{name} = EXCLUDED.{name}" for name in NAMES[1:])


def copy_and_on_conflict(url: str, frame: pl.DataFrame) -> None:
    """Load by hand: binary COPY into a temporary table, INSERT … ON CONFLICT, one transaction."""
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("BEGIN")
        cursor.adbc_ingest("hand_stage", frame, mode="create", temporary=True)
        columns = ", ".join(f"{name}::uuid" if name == "entity_id" else name for name in NAMES)
        cursor.execute(
            f"INSERT INTO entities ({', '.join(NAMES)}) SELECT {columns} FROM hand_stage "
            f"ON CONFLICT (entity_id) DO UPDATE SET {SETS}"
        )
        cursor.execute("DROP TABLE hand_stage")
        cursor.execute("COMMIT")


def executemany(path: Path, frame: pl.DataFrame) -> None:
    """Load by hand: ``sqlite3.executemany`` with ON CONFLICT, one transaction."""
    connection = sqlite3.connect(path)
    marks = ", ".join("?" * len(NAMES))
    text = pl.col("updated_at").cast(pl.String)
    connection.executemany(
        f"INSERT INTO entities ({', '.join(NAMES)}) VALUES ({marks}) ON CONFLICT (entity_id) DO UPDATE SET {SETS}",
        frame.with_columns(text).rows(),
    )
    connection.commit()
    connection.close()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    title: str,
    target: float,
    runs: int,
    reset: Callable[[], None],
    ours: Callable[[], object],
    theirs: Callable[[], object],
) -> None:
    """Time both in turn, and print the median ratio."""
    ratios, mine, other = [], [], []
    for _ in range(runs):
        reset()
        mine.append(seconds(ours))
        reset()
        other.append(seconds(theirs))
        ratios.append(mine[-1] / other[-1])
    print(
        f"{title:<44} {statistics.median(ratios):5.2f}x  (target {target})  "
        f"ours {statistics.median(mine):.3f} s, by hand {statistics.median(other):.3f} s, {min(ratios):.2f}-{max(ratios):.2f}",
        flush=True,
    )


def postgres(rows: int, runs: int) -> None:
    """Compare on PostgreSQL with COPY + ON CONFLICT."""
    frame = entities(rows)
    mixed = half_changed(frame)
    with (
        tempfile.TemporaryDirectory() as folder,
        cb.embedded_postgres(f"{folder}/pg") as url,
        cb.connect(url) as db,
    ):
        db.create(Entities)

        def empty() -> None:
            with db.session() as session:
                session.execute("TRUNCATE entities")
                session.execute("CHECKPOINT")

        def loaded() -> None:
            empty()
            copy_and_on_conflict(url, frame)
            with db.session() as session:
                session.execute("VACUUM ANALYZE entities")
                session.execute("CHECKPOINT")

        for title, target, reset, load in (
            ("PostgreSQL, all new", 1.1, empty, frame),
            ("PostgreSQL, half changed, half new", 1.2, loaded, mixed),
            ("PostgreSQL, nothing changed", 0.3, loaded, frame),
        ):
            compare(
                title,
                target,
                runs,
                reset,
                lambda load=load: show(db.upsert(Entities, load)),
                lambda load=load: copy_and_on_conflict(url, load),
            )


def show(report: cb.Report) -> None:
    if VERBOSE:
        print(report)


def sqlite(rows: int, runs: int) -> None:
    """Compare on a SQLite file with executemany."""
    frame = entities(rows)
    mixed = half_changed(frame)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "ours.db"
        hand = Path(folder) / "hand.db"
        db = stack.enter_context(cb.connect(f"sqlite:///{path}"))
        db.create(Entities)
        with db.session() as session:
            ddl = session.fetch("SELECT sql FROM sqlite_master WHERE name = 'entities'").item()
        connection = sqlite3.connect(hand)
        connection.execute(ddl)
        connection.close()

        def empty() -> None:
            for file in (path, hand):
                connection = sqlite3.connect(file)
                connection.execute("DELETE FROM entities")
                connection.commit()
                connection.execute("VACUUM")
                connection.close()

        def loaded() -> None:
            empty()
            executemany(hand, frame)
            executemany(path, frame)

        for title, target, reset, load in (
            ("SQLite file, all new", 0.8, empty, frame),
            ("SQLite file, half changed, half new", 0.8, loaded, mixed),
            ("SQLite file, nothing changed", 0.8, loaded, frame),
        ):
            compare(
                title,
                target,
                runs,
                reset,
                lambda load=load: show(db.upsert(Entities, load)),
                lambda load=load: executemany(hand, load),
            )


def small(runs: int) -> None:
    """Time 100 rows into a SQLite file, end to end."""
    with tempfile.TemporaryDirectory() as folder, cb.connect(f"sqlite:///{folder}/small.db") as db:
        db.create(Entities)
        spent = []
        for run in range(runs + 3):
            frame = entities(100, seed=run + 10)
            spent.append(seconds(lambda frame=frame: show(db.upsert(Entities, frame))))
        print(f"SQLite file, 100 new rows: {statistics.median(spent[3:]) * 1000:.1f} ms  (target 15 ms)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", default=["postgres", "sqlite", "small"])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--verbose", action="store_true", help="print every report")
    options = parser.parse_args()
    VERBOSE = options.verbose
    if "postgres" in options.only:
        postgres(options.rows, options.runs)
    if "sqlite" in options.only:
        sqlite(options.rows, options.runs)
    if "small" in options.only:
        small(20)

"""Measure how fast names are resolved, and in how much memory: ``python tests/benchmarks/resolution.py``.

Each case runs in a process of its own, on generated restaurants, and the best of some runs is printed; memory is the
most that the process had, with the input. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

import crave_bulk as cb
from crave_bulk.crave import Index

PLACES = ["address", "city", "phone"]
SAME = ("exact", "alias")
CASES = {
    "every tier, from a frame": "10 s and 1,000 MB",
    "every tier, from an index": "",
    "exact and alias, from a frame": "",
    "exact and alias, from an index": "100,000 names/s",
    "one name, from an index": "",
}


def data(folder: Path, entities: int) -> None:
    """Write entities, names as another guide writes them, and names and aliases as they are."""
    from data.crave.generate import restaurants, rewrite

    every = restaurants(entities, 7)
    every.write_parquet(folder / "entities.parquet")
    rewrite(every.sample(min(10_000, entities), seed=1), 5).write_parquet(folder / "guide.parquet")
    some = every.sample(min(100_000, entities), seed=2, shuffle=True)
    other = (pl.int_range(pl.len()) % 10 < 3) & (pl.col("aliases").list.len() > 0)
    as_written = pl.when(other).then(pl.col("aliases").list.first()).otherwise("name")
    some.select(as_written.alias("name"), "type").write_parquet(folder / "written.parquet")
    print(f"{every.height:,} entities, {every['aliases'].list.len().sum():,} aliases", flush=True)


def case(folder: Path, title: str, runs: int) -> None:
    """Time one case, and print its line."""
    there = pl.read_parquet(folder / "entities.parquet")
    if title.startswith("every"):
        names = pl.read_parquet(folder / "guide.parquet").select("name", *PLACES)
    else:
        names = pl.read_parquet(folder / "written.parquet")
    options = {"tiers": SAME} if title.startswith("exact") else {}
    if title.startswith("one"):
        names, options = names.head(1), {"create": False}
    cb.crave.resolve(names.head(10), there.head(10))
    started = time.perf_counter()
    against = Index(there) if title.endswith("index") else there
    preparing = time.perf_counter() - started
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        found = cb.crave.resolve(names, against, **options)
        spent.append(time.perf_counter() - started)
    assert found.height == names.height
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{title:31} {names.height:>7,} names {min(spent):6.2f} s {names.height / min(spent):>9,.0f} names/s "
        f"{memory:>6,.0f} MB   prepared in {preparing:4.1f} s   {CASES[title] and 'target ' + CASES[title]}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=250_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case == "data":
        data(asked.folder, asked.entities)
    elif asked.case:
        case(asked.folder, asked.case, asked.runs)
    else:
        with tempfile.TemporaryDirectory() as folder:
            # The data as well: a process starts with the most memory that its parent had.
            for title in ("data", *CASES):
                options = ["--folder", folder, "--case", title, "--runs", str(asked.runs)]
                again = [sys.executable, __file__, "--entities", str(asked.entities), *options]
                subprocess.run(again, check=True)

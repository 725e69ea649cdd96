"""The full bench: ``python tests/faults --kills 200 --writers 8 --batches 50 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[depth]) for depth in (2, 1)
]  # the package, and the tests

import crave_bulk as cb  # noqa: E402
from faults import cutting, files, sharing, stopping  # noqa: E402
from faults.bench import Figures  # noqa: E402
from faults.server import Server  # noqa: E402

Scenario = Callable[[str], Figures]


def scenarios(options: argparse.Namespace, server: Server) -> dict[str, dict[str, list[Scenario]]]:
    """List what to run, by name and database."""
    seed, both = options.seed, {}
    both["kills"] = [partial(stopping.kills, seed=seed, count=options.kills)]
    both["writers"] = [
        partial(
            sharing.writers, seed=seed, writers=options.writers, batches=options.batches, processes=processes
        )
        for processes in (False, True)
    ]
    both["once"] = [partial(sharing.same_batch, count=options.once)]
    both["cancels"] = [partial(stopping.cancels, seed=seed, count=options.cancels)]
    both["presses"] = [partial(stopping.presses, twice=twice) for twice in (False, True)]
    both["interrupts"] = [partial(stopping.interrupts, seed=seed, count=options.interrupts)]
    sqlite = {
        "full": [partial(files.full, seed=seed, count=options.full)],
        "garbage": [partial(files.garbage, seed=seed, count=options.garbage)],
    }
    postgresql = {
        "cuts": [
            *(
                partial(cutting.cuts, lost=lost, first=first)
                for first in (False, True)
                for lost in (False, True)
            ),
            *(partial(cutting.cuts_in_a_block, lost=lost) for lost in (False, True)),
        ],
        "flaky": [partial(cutting.flaky, seed=seed, count=options.flaky)],
        "crashes": [lambda url: cutting.crashes(server, url, seed, options.crashes)],
        "outage": [lambda url: cutting.outage(server, url)],
    }
    return {"sqlite": {**both, **sqlite}, "postgresql": {**both, **postgresql}}


@contextmanager
def fresh(kind: str, server: Server, number: int) -> Iterator[str]:
    """Make an empty database."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    with cb.connect(server.url(), ledger=False) as db, db.session() as session:
        session.execute(f"CREATE DATABASE bench_{number}")
    yield server.url(f"bench_{number}")


def main() -> int:
    """Run the bench, print a line a scenario, and tell whether anything was wrong."""
    parser = argparse.ArgumentParser(
        description="Break everything that can break, and count what comes of it."
    )
    numbers = {
        "kills": 200,
        "writers": 8,
        "batches": 50,
        "once": 100,
        "cancels": 200,
        "interrupts": 200,
        "flaky": 200,
        "crashes": 20,
        "full": 20,
        "garbage": 500,
    }
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"by default {default}")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="the scenarios, such as kills or cuts; by default all")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="by default both")
    options, wrong, number = parser.parse_args(), 0, 0
    with Server() as server:
        for kind, named in scenarios(options, server).items():
            for name, runs in named.items():
                if (options.only and name not in options.only) or options.database not in (None, kind):
                    continue
                for run in runs:
                    number += 1
                    with fresh(kind, server, number) as url:
                        figures = run(url)
                    wrong += len(figures.complaints)
                    print(f"{kind:<11} {figures}", *figures.complaints[:5], sep="\n    ", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the child processes of the bench do: each says ``go`` once it is connected."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any

import polars as pl

import crave_bulk as cb
from faults.counts import ITEMS, Counts, ones
from faults.writers import spawn


def start(work: Callable[[], None], *arguments: object) -> subprocess.Popen[str]:
    """Start a child process that runs one of the functions below."""
    code = f"from faults.children import {work.__name__} as work; work()"
    return spawn(code, *map(str, arguments))


def ask(child: subprocess.Popen[str], *words: object) -> None:
    """Give a child a line of words."""
    assert child.stdin is not None
    child.stdin.write(f"{' '.join(map(str, words))}\n")
    child.stdin.flush()


def hear(child: subprocess.Popen[str]) -> Any:
    """Wait for what a child says; None where it has ended."""
    assert child.stdout is not None
    line = child.stdout.readline()
    return json.loads(line) if line[:1] in ("[", "{") else line.rstrip() or None


def _say(what: object) -> None:
    print(what if isinstance(what, str) else json.dumps(what), flush=True)


def write_on() -> None:
    """Write one batch after the other, each under a name, and tell of each when it begins and when it is done."""
    url, first = sys.argv[1:]
    with cb.connect(url) as db:
        _say("go")
        for number in count(int(first)):
            _say(f"begin {number}")
            db.upsert(Counts, ones(number), once=f"b{number}")
            _say(f"done {number}")


def write_when_asked() -> None:
    """Write the batches whose numbers it is given, and tell of each report: once by name, or by content."""
    with cb.connect(sys.argv[1]) as db:
        _say("go")
        for line in sys.stdin:
            number, once = line.split()
            report = db.upsert(Counts, ones(int(number)), once=True if once == "content" else once)
            _say({"batch_id": report.batch_id, "replayed": report.replayed, "retries": report.retries})


def write_until_interrupted() -> None:
    """Write the batches whose numbers it is given, tell what ended each, and write it again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this was started by nohup
    with cb.connect(sys.argv[1]) as db:
        _say("go")
        for line in sys.stdin:
            name, frame, told, caught = f"b{int(line)}", ones(int(line)), False, None
            try:
                _say("begin")
                db.upsert(Counts, frame, once=name)
                told = True
                time.sleep(2)  # the signal came late, or it was lost
            except BaseException as error:
                caught = error
            _say({"caught": repr(caught), "told": told})
            late, replayed = [], None
            while replayed is None and len(late) < 100:
                try:
                    replayed = db.upsert(Counts, frame, once=name).replayed
                except BaseException as error:
                    late.append(repr(error))
            _say({"late": late[:3], "replayed": replayed})


def write_with_others() -> None:
    """Write batches beside other writers once it is told to, and tell of all reports."""
    url, seed, writer, batches = sys.argv[1:]
    with cb.connect(url) as db:
        _say("go")
        sys.stdin.readline()
        _say([add(db, frame) for frame in frames(int(seed), int(writer), int(batches))])


def hold() -> None:
    """Keep a SQLite file locked for some time, by Python's own sqlite3."""
    path, begin, seconds = sys.argv[1:]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(begin)
        _say("go")
        time.sleep(float(seconds))
        connection.execute("COMMIT")


def frames(seed: int, writer: int, batches: int) -> Iterator[pl.DataFrame]:
    """Make the batches of one of several writers: the same items as the others, in another order, some twice."""
    rng = random.Random(f"{seed} {writer}")
    for number in range(batches):
        items = rng.choices(range(ITEMS // 4), k=100)
        totals = [rng.randrange(-3, 9) for _ in items]
        yield pl.DataFrame({"item": items, "total": totals, "last": [number] * len(items)})


def add(db: cb.Database, frame: pl.DataFrame) -> dict[str, Any]:
    """Write a batch, and tell of its report or error."""
    try:
        report = db.upsert(Counts, frame, once=False)
    except Exception as error:
        return {"batch_id": None, "retries": 0, "error": f"{type(error).__name__}: {error}"}
    return {"batch_id": report.batch_id, "retries": report.retries, "error": None}

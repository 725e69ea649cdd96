"""Provenance: who wrote a batch, when, with what, and what it came to, as a row of the ledger."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import platform
import socket
import sys
from functools import cache
from importlib.metadata import version
from typing import Any

import polars as pl

from crave_bulk.report import OUTCOMES, Report


def entry(report: Report, started: dt.datetime, size: int) -> dict[str, Any]:
    """Say in a row of the ledger what a batch did.

    Args:
        report: of the batch, as it stands before the commit.
        started: when the call began.
        size: bytes of the frame.

    Returns:
        Column → value.
    """
    timings = report.timings.group_by("phase", maintain_order=True).agg(pl.col("seconds").sum())
    now = dt.datetime.now(dt.UTC)
    return {
        "batch_id": report.batch_id,
        "verb": report.verb,
        "table": report.table,
        "input": report.counts["input"],
        **{name: report.counts[name] for name in OUTCOMES},
        "seconds": (now - started).total_seconds(),
        "timings": json.dumps({phase: round(seconds, 6) for phase, seconds in timings.iter_rows()}),
        "bytes": size,
        "peak_memory": peak_memory(),
        "retries": report.retries,
        "started_at": started,
        "finished_at": now,
        "who": _who(),
        "process": os.getpid(),
        "versions": _versions(),
        "undoable": False,
    }


def peak_memory() -> int | None:
    """Read the most memory that this process has used so far.

    Returns:
        Bytes of the resident set; None on Windows, which does not say.
    """
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


@cache
def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user of a container without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "?"
    return f"{user}@{socket.gethostname()}"


@cache
def _versions() -> str:
    names = ("crave_bulk", "polars", "duckdb", "pandera", "adbc-driver-sqlite", "adbc-driver-postgresql")
    return json.dumps({"python": platform.python_version(), **{name: version(name) for name in names}})

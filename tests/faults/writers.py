"""Writers in processes of their own that can be killed, and what they leave behind in the database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import adbc_driver_postgresql.dbapi

from crave_bulk.pipeline.stage import STAGE

CHECKOUT = Path(__file__).resolve().parents[2]

# The clients of this database, but for the one that asks.
_OTHERS = (
    "FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() "
    "AND a.backend_type = 'client backend'"
)
_BACKENDS = f"(SELECT count(*) {_OTHERS} AND a.xact_start IS NOT NULL)"
_LOCKS = (
    "(SELECT count(*) FROM pg_locks AS l WHERE l.granted AND l.locktype IN ('relation', 'transactionid') "
    f"AND l.pid IN (SELECT a.pid {_OTHERS}))"
)
_STAGING = (
    "ARRAY(SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    f"WHERE starts_with(n.nspname, 'pg_temp') AND starts_with(c.relname, '{STAGE}'))"
)


class Writer(subprocess.Popen[str]):
    """A child process that does not outlive the block it is used in, whatever happens there."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        super().__exit__(kind, value, traceback)


def spawn(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run code in a child process that uses the checkout's package.

    Args:
        code: prints the line ``go``, and flushes it, when it is about to do what it is to be killed in.
        arguments: what it finds in ``sys.argv[1:]``.

    Returns:
        The process; its standard input and output are pipes of text.
    """
    path = [str(CHECKOUT), str(CHECKOUT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Writer(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )


def kill_at(process: subprocess.Popen[str], seconds: float) -> list[str]:
    """Kill a process some time after it has said ``go``.

    Returns:
        The lines that it printed after that.
    """
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds if first else 0)
    process.send_signal(signal.SIGKILL)
    said = process.stdout.read()  # not communicate(), which passes over what was read ahead
    process.wait()
    assert first == "go\n", f"the writer did not begin: {first!r}, {said!r}"
    assert process.returncode == -signal.SIGKILL, f"the writer ended by itself: {process.returncode}"
    return said.splitlines()


def wait_until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for what a server does in its own time, such as noticing that a client is gone."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def backends_left(url: str) -> int:
    """Count the other clients of a PostgreSQL database that are in a transaction."""
    return _ask(url, f"SELECT {_BACKENDS}")[0][0]


def locks_left(url: str) -> int:
    """Count the locks on relations and transactions that other clients of a PostgreSQL database hold."""
    return _ask(url, f"SELECT {_LOCKS}")[0][0]


def staging_left(url: str) -> list[str]:
    """Name the staging tables that are still there, whoever made them.

    A SQLite file is read by another copy of SQLite: not while this process has a transaction open on it. The
    temporary tables of other connections cannot be seen there; they are gone with these.
    """
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(file_of(url))) as connection:
            rows = connection.execute(
                "SELECT name FROM (SELECT name FROM sqlite_master UNION ALL SELECT name FROM sqlite_temp_master) "
                f"WHERE name GLOB '{STAGE}*'"
            ).fetchall()
        return [name for (name,) in rows]
    return _ask(url, f"SELECT {_STAGING}")[0][0]


def left_in_server(url: str) -> tuple[int, int, list[str]]:
    """Ask for all three in a PostgreSQL database at once: transactions, locks and staging tables."""
    return _ask(url, f"SELECT {_BACKENDS}, {_LOCKS}, {_STAGING}")[0]


def file_of(url: str) -> Path:
    """Give the file of a SQLite database."""
    return Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))


def _ask(url: str, question: str) -> list[Any]:
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(question)
        return cursor.fetchall()

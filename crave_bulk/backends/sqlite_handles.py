"""Know whether something else in this process has a SQLite file open, as Python's own ``sqlite3`` may.

That is another copy of SQLite. POSIX locks belong to the process, so two copies in one process do not see
each other's (https://www.sqlite.org/howtocorrupt.html, 2.2.1): an open transaction of the one looks to the
other like what a crash has left behind, and would be rolled back; in WAL mode the log would be deleted
under the other's hands. Both lose rows without an error. What cannot be locked out is at least noticed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HANDLES = Path("/dev/fd")  # Linux and macOS; Windows has locks that belong to a handle
_ours: dict[tuple[int, int], set[int]] = {}
_opening = threading.Lock()


def opened(path: Path, connect: Callable[[], Any]) -> Any:
    """Open a connection, and remember which file handles are its own.

    Args:
        path: the database file.
        connect: opens the connection.

    Returns:
        The connection, whose ``close`` forgets them.
    """
    with _opening:
        before = _handles(path)
        connection = connect()
        _ours.setdefault(_identity(path), set()).update(_handles(path) - before)
    close = connection.close

    def closing() -> None:
        with _opening:
            close()
            _forget(path)

    connection.close = closing
    return connection


def in_the_way(path: Path) -> str | None:
    """Tell what makes it unsafe to open a file now.

    Args:
        path: the database file.

    Returns:
        What another copy of SQLite in this process is in the middle of, None where nothing is.
    """
    journal, log = Path(f"{path}-journal"), Path(f"{path}-wal")
    if not (journal.exists() or log.exists()):
        return None
    with _opening:
        _forget(path)
        others = _handles(path) - _ours.get(_identity(path), set())
    if not others:
        return None
    return "has it open in WAL mode" if log.exists() else "is in the middle of a transaction on it"


def _forget(path: Path) -> None:
    """Forget handles that were closed; SQLite keeps some open until other threads are done."""
    identity = _identity(path)
    left = _ours.get(identity, set()) & _handles(path)
    if left:
        _ours[identity] = left
    else:
        _ours.pop(identity, None)


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _handles(path: Path) -> set[int]:
    """List this process's handles of a file."""
    wanted, found = _identity(path), set()
    if wanted == (0, 0) or not _HANDLES.is_dir():
        return set()
    for name in os.listdir(_HANDLES):
        try:
            status = os.fstat(int(name))
        except OSError:  # the handle of this listing
            continue
        if (status.st_dev, status.st_ino) == wanted:
            found.add(int(name))
    return found

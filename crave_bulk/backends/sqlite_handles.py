"""Know whether something else in this process uses a SQLite file, as Python's own ``sqlite3`` may.

That is another copy of SQLite. POSIX locks belong to the process, so two copies in one process do not see
each other's (https://www.sqlite.org/howtocorrupt.html, 2.2.1): what the one reads, the other overwrites; an
open transaction of the one looks to the other like what a crash has left behind, and would be rolled back; in
WAL mode the log would be deleted under the other's hands. And when the one closes the file, the process loses
the locks of the other. All of that loses rows without an error. `sqlite_locks` prevents it where the system has locks that belong to a handle; elsewhere, and in WAL mode,
what cannot be locked out is at least noticed here.
"""

from __future__ import annotations

import atexit
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import adbc_driver_manager

from crave_bulk import forks

_HANDLES = Path("/dev/fd")  # Linux and macOS; Windows has locks that belong to a handle
_DETAILS = "/proc/self/fdinfo"  # Linux: which locks were taken through a handle
# What every SQLite locks (https://www.sqlite.org/src/file/src/os.h): who reads or writes holds the shared bytes.
# The first byte, and how many.
RESERVED, SHARED = (0x40000001, 1), (0x40000002, 510)
# Where a file's header tells its journal mode: how many bytes, and where (https://www.sqlite.org/fileformat.html).
JOURNAL_MODE, WAL = (1, 18), b"\2"

IN_WAL_MODE = "has it open in WAL mode"

_Identity = tuple[int, int]

_ours: dict[_Identity, set[int]] = {}  # handles of connections without locks of their own
_held = Counter[_Identity]()  # how many handles those with such locks have
_sharing = Counter[_Identity]()  # how many of our connections have POSIX locks nevertheless
_kept_open: list[_Kept] = []
_opening = threading.RLock()


class InTheWay(adbc_driver_manager.OperationalError):
    """Another copy of SQLite in this process is in the middle of something, as the text says."""

    def __init__(self, does: str) -> None:
        super().__init__(does, status_code=adbc_driver_manager.AdbcStatusCode.IO)


@dataclass(eq=False)
class _Kept:
    """A connection that is to be closed as soon as that takes no locks from another.

    Attributes:
        path: the database file.
        of: which file that was when it was opened, as another may have taken its place, and whether only to read.
        close: closes it.
        keeping_out: lets nobody begin to read or write, and tells whether that holds.
        connection: it may be used again until then.
        closed: it was.
    """

    path: Path
    of: tuple[_Identity, bool]
    close: Callable[[], None]
    keeping_out: Callable[[], AbstractContextManager[bool]]
    connection: Any = None
    closed: bool = False


def opened(path: Path, connect: Callable[[], Any], *, read_only: bool, locks: bool) -> Any:
    """Open a connection, or take one that could not be closed yet, and remember which file handles are its own.

    Args:
        path: the database file.
        connect: opens the connection.
        read_only: how it does.
        locks: the connection sees for itself what another copy of SQLite is in the middle of.

    Returns:
        The connection, whose ``close`` forgets them.

    Raises:
        InTheWay: opening and closing the file would harm another copy of SQLite in this process.
    """
    with _opening:
        _close_kept()
        for kept in _kept_open:
            if kept.connection is not None and kept.of == (_identity(path), read_only):
                _kept_open.remove(kept)
                with suppress(adbc_driver_manager.Error), kept.connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")  # what a broken one may have left
                return kept.connection
        before = _handles(path)
        if not locks and (reason := _in_the_way(path, before - _ours_of(path))):
            raise InTheWay(reason)
        connection = connect()
        if not locks:
            _ours.setdefault(_identity(path), set()).update(_handles(path) - before)
    of = _identity(path), read_only
    kept = _Kept(path, of, connection.close, getattr(connection, "keeping_out", _trusting))
    if hasattr(connection, "keeping_out") and not hasattr(connection, "once_open"):
        kept.connection = connection
    connection.close = lambda: _close_later(kept)
    try:
        getattr(connection, "once_open", lambda: None)()
    except BaseException:
        kept.connection = None
        connection.close()
        raise
    return connection


def hold(handle: int, number: int) -> None:
    """Count handles of a file as ours, or no longer.

    Args:
        handle: one of them.
        number: how many more.
    """
    _held[_identity_of(handle)] += number


def share(handle: int, number: int) -> None:
    """Count connections of ours that have POSIX locks on a file, or no longer.

    Args:
        handle: of the file.
        number: how many more.
    """
    _sharing[_identity_of(handle)] += number


def _identity_of(handle: int) -> _Identity:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def _in_the_way(path: Path, others: set[int]) -> str | None:
    """Tell what another copy of SQLite, which has these handles, is in the middle of."""
    if not others:
        return None
    if beside(path, "-wal").exists():
        return IN_WAL_MODE
    if _locked(path, others) or _left_open(path, others):
        return "is in the middle of reading it or of a transaction on it"
    return None


def _trusting() -> AbstractContextManager[bool]:
    """Trust that nobody begins to read or write just now."""
    return nullcontext(True)


def close_later(path: Path, close: Callable[[], None]) -> None:
    """Close what has the file open, once that takes no locks from another.

    Args:
        path: the database file.
        close: closes it.
    """
    _close_later(_Kept(path, (_identity(path), False), close, _trusting))


def _close_later(kept: _Kept) -> None:
    with _opening:
        if not kept.closed and kept not in _kept_open:
            _kept_open.append(kept)
        _close_kept()


def _close_kept() -> None:
    for kept in list(_kept_open):
        with kept.keeping_out() as alone:
            if alone and not locked(kept.path):
                try:
                    kept.closed = True
                    kept.close()
                finally:  # Ctrl-C may come in between: what is left is closed by then
                    _kept_open.remove(kept)
                    _ours_of(kept.path)


def locked(path: Path) -> bool:
    """Tell whether another copy of SQLite in this process has a lock on a file.

    Args:
        path: the database file.

    Returns:
        Whether it has.
    """
    own = min(1, _sharing[_identity(path)])  # the connections of one copy have their locks through one handle
    return _locked(path, _handles(path) - _ours_of(path), own)


def others(path: Path) -> bool:
    """Tell whether something in this process has a file open that is no connection of ours.

    Args:
        path: the database file.

    Returns:
        Whether there is such a handle. They are counted, as nobody can say which a connection has been given.
    """
    with _opening:
        return len(_handles(path) - _ours_of(path)) > _held[_identity(path)]


def _in_fork() -> None:
    """Leave the connections of the parent to it."""
    global _opening
    _opening = threading.RLock()
    for kept in _kept_open:
        forks.keep(kept)
    _kept_open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_fork)


@atexit.register
def _close_all() -> None:
    while _kept_open:
        _kept_open.pop().close()


def _locked(path: Path, handles: set[int], own: int = 0) -> bool:
    """Tell whether a lock of another copy was taken through some handles, of which so many have locks of ours."""
    if _kernel_lists_locks():
        return sum("POSIX" in _details(handle) for handle in handles) > own
    # Elsewhere the kernel tells of a lock only whose it is, and of our own connections we know without it.
    return not _ours.get(_identity(path)) and _locked_by_asking(path)


def _details(handle: int) -> str:
    try:
        with open(f"{_DETAILS}/{handle}", encoding="ascii") as details:
            return details.read()
    except OSError:  # it was closed meanwhile
        return ""


@cache
def _kernel_lists_locks() -> bool:
    """Find out whether the details of a handle tell its locks, which some sandboxes leave out."""
    if not os.path.isdir(_DETAILS):
        return False
    import fcntl

    with tempfile.TemporaryFile() as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        return "lock:" in _details(file.fileno())


# A process is not told of its own locks, and opening the file to ask would drop them: so another one asks.
_ASK = """
import fcntl, sys
with open(sys.argv[1], "rb") as file:
    print(fcntl.fcntl(file, fcntl.F_GETLK, bytes.fromhex(sys.argv[2])).hex())
"""


def _locked_by_asking(path: Path) -> bool:
    """Ask for a lock by another process; what cannot be told apart counts as one of this process."""
    if not sys.executable or getattr(sys, "frozen", False):
        return True
    import fcntl

    question = flock(fcntl.F_WRLCK, *SHARED).hex()
    command = [sys.executable, "-I", "-S", "-c", _ASK, str(path), question]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    answer = bytes.fromhex(asked.stdout.strip())
    if not answer:
        return True
    kind, pid = told(answer)
    # Behind another process's lock to read there may be one of ours, behind one to write there is none.
    return kind != fcntl.F_UNLCK and (kind != fcntl.F_WRLCK or pid == os.getpid())


def flock(kind: int, start: int, size: int) -> bytes:
    """Write a ``struct flock``, which asks for a lock.

    Args:
        kind: of lock, such as ``fcntl.F_WRLCK``.
        start: the first byte.
        size: how many.

    Returns:
        The structure.
    """
    if sys.platform == "linux":
        return struct.pack("hhqqi", kind, os.SEEK_SET, start, size, 0)
    return struct.pack("qqihh", start, size, 0, kind, os.SEEK_SET)


def told(answer: bytes) -> tuple[int, int]:
    """Read the kind of lock and the process of a ``struct flock``.

    Args:
        answer: the structure.

    Returns:
        Both.
    """
    if sys.platform == "linux":
        kind, _, _, _, pid = struct.unpack("hhqqi", answer)
    else:
        _, _, pid, kind, _ = struct.unpack("qqihh", answer)
    return kind, pid


def hot(journal: Path) -> bool:
    """Tell whether there is a journal that SQLite would roll back, unless a transaction is open.

    Args:
        journal: its file.

    Returns:
        Whether it has begun, which is what SQLite goes by.
    """
    try:
        with journal.open("rb") as file:
            return file.read(1) not in (b"", b"\0")
    except OSError:
        return False


def beside(path: Path, suffix: str) -> Path:
    """Name the journal or the log, which SQLite puts beside the file that a link points to.

    Args:
        path: the database file, or a link to it.
        suffix: what is added to the name.

    Returns:
        The other file.
    """
    return Path(f"{path.resolve()}{suffix}")


def _left_open(path: Path, others: set[int]) -> bool:
    """Tell whether a transaction of another copy may be open though its locks are gone, as closing the file drops them."""
    return hot(beside(path, "-journal")) and not any(_written_elsewhere(handle) for handle in others)


def _written_elsewhere(handle: int) -> bool:
    """Tell whether another process holds the lock of a transaction that writes."""
    import fcntl

    try:
        kind, _ = told(fcntl.fcntl(handle, fcntl.F_GETLK, flock(fcntl.F_WRLCK, *RESERVED)))
    except OSError:  # it was closed meanwhile
        return False
    return kind != fcntl.F_UNLCK


def _ours_of(path: Path) -> set[int]:
    """List the handles of our own connections, and forget those that are closed.

    SQLite keeps some open until other threads are done.
    """
    identity = _identity(path)
    ours = {handle for handle in _ours.get(identity, ()) if _is(handle, identity)}
    if ours:
        _ours[identity] = ours
    else:
        _ours.pop(identity, None)
    return ours


def _identity(path: Path) -> _Identity:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _handles(path: Path) -> set[int]:
    """List this process's handles of a file."""
    wanted = _identity(path)
    if wanted == (0, 0) or not _HANDLES.is_dir():
        return set()
    return {handle for handle in map(int, os.listdir(_HANDLES)) if _is(handle, wanted)}


def _is(handle: int, identity: _Identity) -> bool:
    try:
        return _identity_of(handle) == identity
    except OSError:  # it is closed
        return False

"""A fork of this process shares its connections, and must neither use nor close them."""

from __future__ import annotations

import ctypes
import os
import weakref

from crave_bulk.errors import ConnectionFailed

_inherited: weakref.WeakSet[object] = weakref.WeakSet()  # what a fork would take along
_polars_ran = False
_hangs = False  # Polars ran before this process was forked


def taken_along(owner: object) -> None:
    """Note what holds connections, so that a fork does not close them."""
    _inherited.add(owner)


def polars_runs() -> None:
    """Note that Polars has started its threads."""
    global _polars_ran
    _polars_ran = True


def keep(owner: object) -> None:
    """Keep something for as long as this process lives, also while the interpreter is taken down.

    Whoever frees an inherited connection ends that of the parent, as both talk to the server through one socket.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def check_same(process: int, what: str) -> None:
    """Refuse to use what another process has connected.

    Args:
        process: who has connected it.
        what: what to call it.

    Raises:
        ConnectionFailed: this process is a fork of that one.
    """
    if process != os.getpid():
        raise ConnectionFailed(
            f"{what} was connected by the process that this one is a fork of, and its connections cannot be shared: "
            "connect anew in this process, and start it by multiprocessing.get_context('spawn') or 'forkserver', as "
            "Polars does not survive a fork"
        )


def check_polars() -> None:
    """Refuse to connect where every call would hang.

    Raises:
        ConnectionFailed: Polars ran before this process was forked, and waits for ever for threads that are not there.
    """
    if _hangs:
        raise ConnectionFailed(
            "this process was forked from one in which Polars had run, which would hang here: start it by "
            "multiprocessing.get_context('spawn') or 'forkserver', and connect anew in it"
        )


def _in_child() -> None:
    global _hangs
    _hangs = _polars_ran
    for owner in list(_inherited):
        keep(owner)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)

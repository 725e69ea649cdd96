"""Frames as bytes: what the journal and the ledger keep of rows, as a compressed Arrow file."""

from __future__ import annotations

import hashlib
import io

import polars as pl

from crave_bulk.errors import DatabaseError

_SUM = 16  # bytes


def pack(frame: pl.DataFrame) -> bytes:
    """Write a frame as bytes.

    Args:
        frame: any rows.

    Returns:
        An Arrow IPC file, compressed, after its check sum.

    Example:
        >>> unpack(pack(pl.DataFrame({"a": [1, 2]})))["a"].to_list()
        [1, 2]
    """
    file = io.BytesIO()
    frame.write_ipc(file, compression="zstd")
    return _sum(file.getvalue()) + file.getvalue()


def unpack(packed: bytes) -> pl.DataFrame:
    """Read a frame from bytes.

    Args:
        packed: as `pack` writes it.

    Returns:
        The frame.

    Raises:
        DatabaseError: the bytes are not what was written.

    Example:
        >>> unpack(b"nonsense")
        Traceback (most recent call last):
        crave_bulk.errors.DatabaseError: what the ledger has kept of a batch is damaged, ...
    """
    if not isinstance(packed, bytes) or _sum(packed[_SUM:]) != packed[:_SUM]:
        raise damaged(ValueError("its check sum is wrong"))
    try:
        return pl.read_ipc(io.BytesIO(packed[_SUM:]))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise damaged(error) from error


def _sum(content: bytes) -> bytes:
    """Make a check sum: a file in which one bit is another can be read as other values, or end the process."""
    return hashlib.blake2b(content, digest_size=_SUM).digest()


def damaged(error: Exception) -> DatabaseError:
    """Build the error for bytes that are not what was written.

    Args:
        error: what was raised when they were read.

    Returns:
        The error to raise from it.
    """
    return DatabaseError(
        f"what the ledger has kept of a batch is damaged, as the database gives back other bytes than were written "
        f"({next(iter(str(error).splitlines()), type(error).__name__)}): check the disk, and restore the database from a backup"
    )

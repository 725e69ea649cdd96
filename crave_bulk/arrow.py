"""Frames as bytes: what the journal and the ledger keep of rows, as a compressed Arrow file."""

from __future__ import annotations

import io

import polars as pl

from crave_bulk.errors import DatabaseError


def pack(frame: pl.DataFrame) -> bytes:
    """Write a frame as bytes.

    Args:
        frame: any rows.

    Returns:
        An Arrow IPC file, compressed.

    Example:
        >>> unpack(pack(pl.DataFrame({"a": [1, 2]})))["a"].to_list()
        [1, 2]
    """
    file = io.BytesIO()
    frame.write_ipc(file, compression="zstd")
    return file.getvalue()


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
    try:
        return pl.read_ipc(io.BytesIO(packed))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise damaged(error) from error


def damaged(error: Exception) -> DatabaseError:
    """Build the error for bytes that are not what was written.

    Args:
        error: what was raised when they were read.

    Returns:
        The error to raise from it.
    """
    return DatabaseError(
        f"what the ledger has kept of a batch is damaged, as the database gives back other bytes than were written "
        f"({str(error).splitlines()[0]}): check the disk, and restore the database from a backup"
    )

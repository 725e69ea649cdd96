"""A hash of a frame's content that does not depend on how it lies in memory, or on the version of a library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import polars as pl

# Numbers that are hashed as they lie in memory; all others by their text.
_FIXED = (
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float32,
    pl.Float64,
)


def fingerprint(frame: pl.DataFrame, *about: Any) -> str:
    """Hash what is in a frame, and whatever else makes a batch one of a kind.

    Args:
        frame: any rows, in their order.
        about: what else counts, by its ``repr``.

    Returns:
        BLAKE2b of 128 bits, as 32 hexadecimal digits.

    Raises:
        TypeError: a column holds Python objects.

    Example:
        >>> whole = pl.DataFrame({"a": ["x", None, "yz"]})
        >>> parts = pl.concat([whole.head(1), whole.tail(2)], rechunk=False)
        >>> fingerprint(whole, "upsert") == fingerprint(parts, "upsert") != fingerprint(whole, "insert")
        True
    """
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    for series in frame.iter_columns():
        digest.update(f"\0{series.name}\0{series.dtype}\0{len(series)}\0".encode())
        _feed(digest, series)
    return digest.hexdigest()


def _feed(digest: Any, series: pl.Series) -> None:
    """Hash the values of a series: which are null, how long each is, and their bytes one after the other."""
    dtype = series.dtype
    if isinstance(dtype, pl.Object):
        raise TypeError(f"column {series.name!r} holds Python objects, which have no content to compare")
    if series.has_nulls():
        digest.update(b"n" + series.is_null().cast(pl.UInt8).to_numpy().tobytes())
        series = series.drop_nulls()
    if isinstance(dtype, pl.Struct):
        for part in series.struct.unnest().iter_columns():
            _feed(digest, part)
    elif isinstance(dtype, pl.List | pl.Array):
        lists = series.arr.to_list() if isinstance(dtype, pl.Array) else series
        lengths = lists.list.len()
        digest.update(lengths.to_numpy().tobytes())
        _feed(digest, lists.filter(lengths > 0).explode())
    else:
        for piece in _bytes(series):
            digest.update(piece)


def _bytes(series: pl.Series) -> Iterator[bytes]:
    """Give the bytes of values that are not nested and not null."""
    dtype = series.dtype
    if isinstance(dtype, pl.Binary):
        yield series.bin.size().cast(pl.UInt64).to_numpy().tobytes()
        yield b"".join(series)
    elif isinstance(dtype, pl.Boolean):
        yield series.cast(pl.UInt8).to_numpy().tobytes()
    elif isinstance(dtype, _FIXED) or dtype.is_temporal():
        yield series.to_physical().to_numpy().tobytes()
    elif not isinstance(dtype, pl.Null):
        text = series.cast(pl.String)
        yield text.str.len_bytes().cast(pl.UInt64).to_numpy().tobytes()
        yield (text.str.join("").item() or "").encode()

"""Tell JSON that is only written in another way from JSON that a frame cannot hold.

Polars reads a document by the dtype that it is asked for: it makes 1 of 1.5 and null of what is too large, and
leaves out the keys that a struct has no field for. So what was read is written again and compared with the text
that was there. Where they differ, the two are looked at closer: another program may put blanks between, order the
keys in another way, or write 1.0 as 1.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

Same = Callable[[str, str], bool]


def same_json(dtype: pl.DataType) -> Same:
    """Build the test whether a document says what a frame holds of it.

    Args:
        dtype: the List or Struct that the document was read as.

    Returns:
        A test of the document, and of the document that is written of what was read.

    Example:
        >>> same = same_json(pl.List(pl.Int64()))
        >>> same("[ 1.0 ]", "[1]"), same("[1.5]", "[1]")
        (True, False)
    """

    def same(found: str, written: str) -> bool:
        try:
            return _same(dtype, _parsed(found), _parsed(written))
        except (ValueError, RecursionError, OverflowError, InvalidOperation):
            return False  # numbers of too many digits, documents of too many levels

    return same


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _same(dtype: Any, found: Any, held: Any) -> bool:
    """Compare a part of a document with what a frame holds of it; a field that is missing is null."""
    if found is None or held is None:
        return found is held
    if isinstance(dtype, pl.List):
        return (
            isinstance(found, list)
            and len(found) == len(held)
            and all(_same(dtype.inner, *pair) for pair in zip(found, held, strict=True))
        )
    if isinstance(dtype, pl.Struct):
        return (
            isinstance(found, dict)
            and found.keys() <= held.keys()
            and all(_same(f.dtype, found.get(f.name), held[f.name]) for f in dtype.fields)
        )
    if dtype == pl.Decimal:
        return type(found) is not bool and Decimal(found) == Decimal(held)
    if dtype.is_float():
        return _same_float(dtype, found, held)
    if dtype.is_integer() or dtype == pl.Duration:
        return type(found) in (int, Decimal) and bool(found == held)
    if type(found) is not type(held):
        return False
    if dtype == pl.Binary:
        return bool(found.lower() == held)
    return bool(_moment(found) == _moment(held) if dtype.is_temporal() else found == held)


def _same_float(dtype: Any, found: Any, held: Any) -> bool:
    """Compare with the nearest float, as a number with a fraction is read; a whole number must be held exactly."""
    near = _single if dtype == pl.Float32 else float
    if type(found) is int:
        return bool(found == near(held))
    return type(found) is Decimal and near(found) == near(held)


def _single(number: Any) -> float:
    value: float = struct.unpack("f", struct.pack("f", number))[0]
    return value


def _moment(text: str) -> str:
    """Write a day or a time without what may be left out: UTC, and zeros in front and at the end."""
    utc = re.sub(r"(Z|\+00:00)$", "", text)
    return re.sub(r"(?<![.\d])0+(?=\d)", "", re.sub(r"\.?0*$", "", utc) if "." in utc else utc)


def first_lost(
    texts: pl.Series, encode: Callable[[pl.Expr], pl.Expr], decode: Callable[[pl.Expr], pl.Expr], same: Same
) -> int | None:
    """Find the first text that a frame cannot hold.

    Args:
        texts: the documents.
        encode: from a frame's values to documents.
        decode: from documents to a frame's values.
        same: what `same_json` builds.

    Returns:
        Its place; None where a frame holds all of them.

    Example:
        >>> from crave_bulk.backends.codec import json_form
        >>> form = json_form(pl.List(pl.Int64()))
        >>> texts = pl.Series(["[1]", "[ 2 ]", '["x"]', "[3]"])
        >>> first_lost(texts, form.encode, form.decode, same_json(pl.List(pl.Int64())))
        2
    """
    try:
        decoded = texts.alias("v").to_frame().select(decode(pl.col("v")).alias("v"))["v"]
    except pl.exceptions.PolarsError:  # does not say which: halve until one is left
        if len(texts) == 1:
            return 0
        half = len(texts) // 2
        found = first_lost(texts.head(half), encode, decode, same)
        if found is not None:
            return found
        found = first_lost(texts.slice(half), encode, decode, same)
        return None if found is None else half + found
    return first_changed(texts, decoded, encode, same)


def first_changed(
    texts: pl.Series, decoded: pl.Series, encode: Callable[[pl.Expr], pl.Expr], same: Same
) -> int | None:
    """Find the first text of which a frame holds something else.

    Args:
        texts: the documents.
        decoded: what a frame holds of them.
        encode: from a frame's values to documents.
        same: what `same_json` builds.

    Returns:
        Its place; None where there is none.
    """
    written = decoded.alias("v").to_frame().select(encode(pl.col("v")).alias("v"))["v"]
    pairs = pl.DataFrame({"found": texts, "written": written}).with_row_index("place")
    pairs = pairs.filter(pl.col("found").ne_missing(pl.col("written")))
    # Text within a document is read as it is, so blanks that are in both can be left out of both.
    bare = [pl.col(name).str.replace_all(r"\s+", "") for name in ("found", "written")]
    pairs = pairs.filter(bare[0].ne_missing(bare[1])).unique("found", keep="first", maintain_order=True)
    changed = (place for place, *pair in pairs.rows() if not same(pair[0], pair[1] or "null"))
    return next(changed, None)

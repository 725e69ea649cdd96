"""Elements: what a JSON array is made of, and which elements of a list are the best."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal

import polars as pl

from crave_bulk.table import Best

_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
_decoder = json.JSONDecoder()
_WORTH = "worth_"


def split_arrays(texts: pl.Series) -> pl.Series:
    """Split JSON arrays into the texts of their elements, which no parser may write anew: it would round numbers.

    Args:
        texts: JSON.

    Returns:
        Lists of texts without blanks between their parts; null where there is no array.

    Example:
        >>> split_arrays(pl.Series(['[1.50, {"a": "b c"}]', "{}"])).to_list()
        [['1.50', '{"a":"b c"}'], None]
    """
    return pl.Series(texts.name, [_split(text) for text in texts.to_list()], dtype=pl.List(pl.String))


def _split(text: str | None) -> list[str] | None:
    """Split one array; null where it is none."""
    inner = _STRING_OR_SPACE.sub(r"\1", text or "")
    if not (inner.startswith("[") and inner.endswith("]")):
        return None
    parts, at = [], 1
    while at < len(inner) - 1:
        _, end = _decoder.raw_decode(inner, at)
        parts.append(inner[at:end])
        at = end + 1  # the comma
    return parts


def ranked(items: pl.DataFrame, key: Sequence[str], name: str, best: Best) -> pl.DataFrame:
    """Select the best elements of each key, the greatest first.

    Args:
        items: the key and one element a row, in order of arrival.
        key: the key columns.
        name: the column of the elements: structs, or the texts of JSON values.
        best: how many stay, and the field that they are measured by.

    Returns:
        Those rows; of equals the first came first, and those that have no such value come last.

    Example:
        >>> items = pl.DataFrame({"k": [1, 1, 1], "e": ['{"n":2}', "null", '{"n":10}']})
        >>> ranked(items, ["k"], "e", (2, "n"))["e"].to_list()
        ['{"n":10}', '{"n":2}']
    """
    size, field = best
    worth = _worth(items[name], field).alias(_WORTH)
    ordered = items.with_columns(worth).sort(_WORTH, descending=True, nulls_last=True, maintain_order=True)
    return ordered.drop(_WORTH).filter(pl.int_range(pl.len()).over(key) < size)


def _worth(items: pl.Series, field: str) -> pl.Series:
    """Give what elements are measured by; of JSON its place among all such values, as those may be of any type."""
    if not isinstance(items.dtype, pl.String):
        return items.struct.field(field)
    values = [_measure(text, field) for text in items.to_list()]
    places = {value: place for place, value in enumerate(sorted({v for v in values if v is not None}))}
    return pl.Series([None if value is None else places[value] for value in values], dtype=pl.Int64)


def _measure(text: str | None, field: str) -> tuple[int, int | Decimal, str] | None:
    """Read a field of a JSON object, exactly: a text is above every number; null where there is neither."""
    found = json.loads(text, parse_float=Decimal) if text is not None else None
    value = found.get(field) if isinstance(found, dict) else None
    if isinstance(value, str):
        return 1, 0, value
    return (0, value, "") if isinstance(value, int | Decimal) else None

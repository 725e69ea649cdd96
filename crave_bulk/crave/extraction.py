"""Extraction: the mentions that were found in posts and comments, as they come in, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import polars as pl

from crave_bulk import failures
from crave_bulk.backends.codec import within_years
from crave_bulk.crave.tables import SOURCES, Moment
from crave_bulk.errors import ContractError

_LISTS = ("categories", "food_attributes", "restaurant_attributes")
PLACE = ("address", "city", "phone", "google_place_id", "latitude", "longitude")
_NEEDED: dict[str, pl.DataType] = {
    "restaurant": pl.String(),
    "food": pl.String(),
    "source_id": pl.String(),
    "created_at": Moment,
}
_OPTIONAL: dict[str, pl.DataType] = {
    "source_type": pl.String(),
    "upvotes": pl.Int64(),
    "thread": pl.String(),
    "source_url": pl.String(),
    "subreddit": pl.String(),
    "author": pl.String(),
    "content_excerpt": pl.String(),
    "restaurant_temp_id": pl.String(),
    "food_temp_id": pl.String(),
    **dict.fromkeys(_LISTS, pl.List(pl.String)),
    **dict.fromkeys(PLACE[:4], pl.String()),
    **dict.fromkeys(PLACE[4:], pl.Float64()),
}
COLUMNS = {**_NEEDED, **_OPTIONAL}
_DEFAULTS: dict[str, Any] = {"source_type": "comment", "upvotes": 0}
_LONGEST = {
    "restaurant": 255,
    "food": 255,
    "source_id": 255,
    "thread": 255,
    "google_place_id": 255,
    "address": 500,
}
_MOST = {"latitude": 90, "longitude": 180, "upvotes": 2**31 - 1}  # sums of so many fit 64 bits


def read(extraction: Any) -> pl.DataFrame:
    """Take an extraction: each row one mention of a food at a restaurant.

    Args:
        extraction: a Polars frame with ``restaurant``, ``food``, ``source_id`` (of the post or comment) and
            ``created_at``; and, where known, ``source_type`` (``post`` or ``comment``, which is assumed), ``upvotes``, ``thread``,
            ``source_url``, ``subreddit``, ``author``, ``content_excerpt``; the lists of names ``categories``,
            ``food_attributes`` and ``restaurant_attributes``; ``address``, ``city``, ``phone``, ``google_place_id``, ``latitude``
            and ``longitude`` of the restaurant; and ``restaurant_temp_id`` and ``food_temp_id``.

    Returns:
        ``row`` and all of these columns.

    Raises:
        ContractError: a column that is needed is missing, or one has the wrong type.

    Example:
        >>> import datetime as dt
        >>> moment = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
        >>> frame = pl.DataFrame({"restaurant": ["Palm"], "food": ["steak"], "source_id": ["t1_a"], "created_at": [moment]})
        >>> read(frame).select("row", "food", "source_type", "upvotes", "categories").row(0)
        (0, 'steak', 'comment', 0, [])
    """
    frame = extraction.collect() if isinstance(extraction, pl.LazyFrame) else extraction
    if not isinstance(frame, pl.DataFrame):
        raise ContractError(f"the extraction is of type {type(frame).__name__}: pass a Polars frame")
    if missing := [name for name in _NEEDED if name not in frame.columns]:
        raise ContractError(
            f"the extraction has no column {missing[0]!r}: it needs {', '.join(_NEEDED)}, and may have {', '.join(_OPTIONAL)}"
        )
    if isinstance(frame.schema["created_at"], pl.Datetime) and frame.schema["created_at"].time_zone is None:
        raise ContractError(
            "created_at has no time zone: say which it is in, as in pl.col('created_at').dt.replace_time_zone('UTC')"
        )
    try:
        known = [_cast(frame, name, dtype) for name, dtype in COLUMNS.items()]
    except pl.exceptions.PolarsError as error:
        raise ContractError(
            f"the extraction has a column of the wrong type: {str(error).splitlines()[0]}"
        ) from error
    return pl.DataFrame(known).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))


def _cast(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    if name not in frame.columns:
        empty: Any = [] if isinstance(dtype, pl.List) else _DEFAULTS.get(name)
        return pl.Series(name, [empty], dtype=dtype).new_from_index(0, frame.height)
    given = frame[name].cast(dtype)
    if isinstance(dtype, pl.List):
        named = pl.element().str.strip_chars()
        texts = given.to_frame().select(pl.col(name).list.eval(named.filter(named.str.len_chars() > 0)))
        return texts.select(pl.col(name).fill_null([])).to_series()
    text = given.str.strip_chars() if dtype == pl.String() else given
    if name in _OPTIONAL and dtype == pl.String():
        text = text.set(text == "", None)
    return text.fill_null(_DEFAULTS[name]) if name in _DEFAULTS else text


def check(mentions: pl.DataFrame) -> pl.DataFrame:
    """Find the rows that cannot be mentions.

    Args:
        mentions: what `read` gives.

    Returns:
        One line per broken rule: row, stage, rule, column, value, message.
    """
    found = [
        _broken(mentions, name, "not_null", pl.col(name).is_null(), "a value is needed") for name in _NEEDED
    ]
    for name in ("restaurant", "food", "source_id"):
        found.append(
            _broken(mentions, name, "not_empty", pl.col(name) == "", "a text that is not empty is needed")
        )
    for name, longest in _LONGEST.items():
        long = pl.col(name).str.len_chars() > longest
        found.append(_broken(mentions, name, "str_length", long, f"at most {longest} characters"))
    for name in _LISTS:
        long = pl.col(name).list.eval(pl.element().str.len_chars() > 255).list.any()
        found.append(_broken(mentions, name, "str_length", long, "names of at most 255 characters"))
    for name, dtype in COLUMNS.items():
        if isinstance(dtype, pl.String | pl.List):
            nul = pl.col(name).list.join("") if isinstance(dtype, pl.List) else pl.col(name)
            bad = nul.str.contains("\0", literal=True)
            found.append(_broken(mentions, name, "no_nul", bad, "a text without NUL characters is needed"))
    strange = ~pl.col("source_type").is_in(SOURCES)
    found.append(_broken(mentions, "source_type", "isin", strange, f"one of {', '.join(SOURCES)}"))
    for name, most in _MOST.items():
        outside = ~pl.col(name).is_between(-most, most)
        found.append(_broken(mentions, name, "in_range", outside, f"from {-most:,} to {most:,}"))
    outside = ~within_years(Moment)(pl.col("created_at"))
    found.append(_broken(mentions, "created_at", "in_range", outside, "a time in the years 1 to 9999"))
    return failures.gather(found)


def _broken(mentions: pl.DataFrame, name: str, rule: str, bad: pl.Expr, message: str) -> pl.DataFrame:
    rows = mentions.select("row", name).filter(bad)
    return failures.failures("validate", rule, name, rows["row"], rows[name], message)

"""Combine: what rows of the same key come to, by the merge rule of each column, in row order.

A row that exists counts as the first row of its key, so a batch and the table are combined by the same
few window expressions, and ``1 + 2 + 3`` is the same sum whether it came in one batch or in three. Each
row is given the state of its key after it, exactly as if rows had been sent one at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from crave_bulk.backends.codec import Step, same
from crave_bulk.errors import ContractError
from crave_bulk.table import Merge

VALUE = "="  # before the names of a user's columns, so that none can be one of these:
_ORDER, _WIDE, _FIRST, _SAME = "_row", "wide_", "first_", "same_"


@dataclass(frozen=True, slots=True)
class Combined:
    """Rows in the state of their key after them, and those whose combination has no value.

    Attributes:
        rows: as they came, with the combined columns replaced.
        impossible: ``_row`` and ``column`` of a combination that the column cannot hold: a sum too
            large for its type, or JSON that is no array.
    """

    rows: pl.DataFrame
    impossible: pl.DataFrame


def combine(
    rows: pl.DataFrame, existing: pl.DataFrame, key: Sequence[str], rules: Mapping[str, Merge]
) -> Combined:
    """Combine rows of the same key.

    A NULL adds nothing: only ``replace`` and ``keep`` take it for a value. Lists are combined on the
    last row of each key alone, as the states in between would cost the square of its rows.

    Args:
        rows: ``_row``, the key and the columns of `rules`, in row order.
        existing: the key and the columns of `rules` of the rows in the table, each key once; empty where
            there are none.
        key: the key columns.
        rules: column → merge rule.

    Returns:
        The rows in their new state.

    Example:
        >>> rows = pl.DataFrame({"_row": [0, 1], "id": [7, 7], "n": [2, 3], "tags": [["a"], ["b", "a"]]})
        >>> there = pl.DataFrame({"id": [7], "n": [10], "tags": [["c"]]})
        >>> combine(rows, there, ["id"], {"n": "add", "tags": "union"}).rows["n"].to_list()
        [12, 15]
        >>> combine(rows, there, ["id"], {"n": "add", "tags": "union"}).rows["tags"].to_list()[-1]
        ['c', 'a', 'b']
    """
    names = [*key, *rules]
    everything = pl.concat(
        [existing.select(pl.lit(-1, dtype=pl.Int64).alias(_ORDER), *names), rows.select(_ORDER, *names)]
    )
    states, impossible = everything, []
    for name, rule in rules.items():
        if rule in ("union", "append"):
            states, bad = _lists(states, everything, key, name, rule)
        else:
            states, bad = _scalars(states, everything, key, name, rule)
        # What stands in the table and cannot be combined is the trouble of every row of its key.
        there = rows.join(bad.filter(pl.col(_ORDER) < 0), on=list(key), how="semi")
        found = pl.concat([bad.select(_ORDER), there.select(_ORDER)])
        impossible.append(found.select(_ORDER, column=pl.lit(name)).filter(pl.col(_ORDER) >= 0))
    states = states.filter(pl.col(_ORDER) >= 0)
    replaced = rows.with_columns(states[name] for name in rules)
    none = pl.DataFrame(schema={_ORDER: pl.Int64, "column": pl.String})
    return Combined(replaced, pl.concat([none, *impossible]))


def stale(rows: pl.DataFrame, existing: pl.DataFrame, key: Sequence[str], newer: str) -> pl.Series:
    """Find the rows that are older than what their key held before them.

    Args:
        rows: ``_row``, the key and `newer`, in row order.
        existing: the key and `newer` of the rows in the table.
        key: the key columns.
        newer: the column that tells the age; NULL is older than anything.

    Returns:
        The numbers of the rows; one that is equally new is not stale.

    Example:
        >>> rows = pl.DataFrame({"_row": [0, 1, 2], "id": [7, 7, 7], "at": [5, 3, 5]})
        >>> stale(rows, rows.clear().drop("_row"), ["id"], "at").to_list()
        [1]
    """
    names = [*key, newer]
    everything = pl.concat(
        [existing.select(pl.lit(-1, dtype=pl.Int64).alias(_ORDER), *names), rows.select(_ORDER, *names)]
    )
    value = _roomy(everything.schema[newer], "max")[0](pl.col(newer))
    newest = value.cum_max().forward_fill().shift(1).over(key)
    older = newest.is_not_null() & (value.is_null() | (value < newest))
    return everything.filter(older & (pl.col(_ORDER) >= 0))[_ORDER]


# -- scalars: one running value per key ----------------------------------------------------------------

_FOLDS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "keep": lambda x: x.first(),
    "coalesce": lambda x: x.forward_fill(),
    "max": lambda x: x.cum_max().forward_fill(),
    "min": lambda x: x.cum_min().forward_fill(),
    "add": lambda x: x.cum_sum().forward_fill(),
}


def _scalars(
    states: pl.DataFrame, rows: pl.DataFrame, key: Sequence[str], name: str, rule: Merge
) -> tuple[pl.DataFrame, pl.DataFrame]:
    dtype = rows.schema[name]
    before, after = _roomy(dtype, rule)
    wide = _FOLDS[rule](before(pl.col(name))).over(key)
    try:
        folded = rows.select(_ORDER, *key, wide.alias(_WIDE))
    except pl.exceptions.ComputeError as error:  # 38 digits are all that a decimal has
        raise ContractError(
            f"a sum of column {name.removeprefix(VALUE)!r} has more digits than {dtype} can hold"
        ) from error
    folded = folded.with_columns(after(pl.col(_WIDE)).alias(name))
    bad = folded.filter(pl.col(name).is_null() & pl.col(_WIDE).is_not_null())
    return states.with_columns(folded[name]), bad


def _roomy(dtype: pl.DataType, rule: Merge) -> tuple[Step, Step]:
    """Choose the form in which values are folded, and the way back, which gives null where there is none.

    Sums need room, as Polars lets them wrap around in silence; floats add as the databases do. Enums and
    categories have an order, but no largest value in Polars.
    """
    if rule in ("max", "min") and isinstance(dtype, pl.Enum):
        return (lambda x: x.to_physical()), (lambda x: x.cat.to(dtype))
    if rule in ("max", "min") and isinstance(dtype, pl.Categorical):
        return (lambda x: x.cast(pl.String)), (lambda x: x.cast(dtype))
    if rule == "add" and isinstance(dtype, pl.Decimal):
        return (lambda x: x.cast(pl.Decimal(38, dtype.scale))), (lambda x: x.cast(dtype, strict=False))
    if rule == "add" and isinstance(dtype, pl.Duration):
        return (lambda x: x.to_physical().cast(pl.Int128)), (
            lambda x: x.cast(pl.Int64, strict=False).cast(dtype)
        )
    if rule == "add" and dtype.is_integer():
        return (lambda x: x.cast(pl.Int128)), (lambda x: x.cast(dtype, strict=False))
    return same, same


# -- lists: the elements of a key, one after the other ---------------------------------------------------


def _lists(
    states: pl.DataFrame, rows: pl.DataFrame, key: Sequence[str], name: str, rule: Merge
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the last row of each key all elements of the key, where it has more than one row."""
    if not (several := rows.filter(pl.struct(key).is_duplicated())).height:
        return states, rows.clear()
    text = isinstance(rows.schema[name], pl.String)
    parsed = several.with_columns(_elements(several[name])) if text else several
    bad = several.filter(several[name].is_not_null() & parsed[name].is_null())
    parsed = parsed.with_columns(several[name].alias(_FIRST)).filter(pl.col(name).is_not_null())
    united = _united(parsed, key, name) if rule == "union" else _appended(parsed, key, name)
    if text:
        united = united.with_columns(pl.format("[{}]", pl.col(name).list.join(",")))
    first = parsed.group_by(key, maintain_order=True).agg(pl.col(_FIRST).first())
    united = united.join(first, on=list(key), how="left")
    # What adds nothing leaves the first list as it stands, to the letter.
    united = united.with_columns(pl.when(_SAME).then(_FIRST).otherwise(name).alias(name))
    last = several.group_by(key, maintain_order=True).agg(pl.col(_ORDER).last())
    ends = last.join(united, on=list(key), how="inner").select(_ORDER, *key, pl.col(name).alias(_WIDE))
    joined = states.join(
        ends.drop(key).filter(pl.col(_ORDER) >= 0), on=_ORDER, how="left", maintain_order="left"
    )
    return joined.with_columns(pl.coalesce(_WIDE, name).alias(name)).drop(_WIDE), bad


def _exploded(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.filter(pl.col(name).list.len() > 0).explode(name)


def _appended(rows: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    grouped = _exploded(rows, name).group_by(key, maintain_order=True).agg(name)
    longest = _first_lengths(rows, key, pl.col(name).list.len())
    appended = _with_empty(rows, grouped, key, name).join(longest, on=list(key), how="left")
    return appended.with_columns((pl.col("size") == pl.col(name).list.len()).alias(_SAME)).drop("size")


def _united(rows: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    """Unite without repeats."""
    once = _exploded(rows, name).unique([*key, name], keep="first", maintain_order=True)
    united = _with_empty(rows, once.group_by(key, maintain_order=True).agg(name), key, name)
    different = _first_lengths(rows, key, pl.col(name).list.n_unique())
    both = united.join(different, on=list(key), how="left")
    # Every element of the first list is in the union, so equal numbers of different elements mean equal sets.
    return both.with_columns((pl.col("size") == pl.col(name).list.len()).alias(_SAME)).drop("size")


def _first_lengths(rows: pl.DataFrame, key: Sequence[str], size: pl.Expr) -> pl.DataFrame:
    return rows.group_by(key, maintain_order=True).agg(size.first().alias("size"))


def _with_empty(rows: pl.DataFrame, grouped: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    """Put back the keys all of whose lists are empty, which an explode loses."""
    keys = rows.select(key).unique(maintain_order=True)
    joined = keys.join(grouped, on=list(key), how="left", maintain_order="left")
    empty = pl.lit(pl.Series([[]], dtype=rows.schema[name])).first()
    return joined.with_columns(pl.col(name).fill_null(empty))


_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
_decoder = json.JSONDecoder()


def _elements(texts: pl.Series) -> pl.Series:
    """Split JSON arrays into the texts of their elements, which no parser may write anew: it would round numbers."""
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

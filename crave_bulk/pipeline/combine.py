"""Combine: what rows of the same key come to, by the merge rule of each column, in row order.

A row that exists counts as the first row of its key, so a batch and the table are combined by the same
few window expressions, and ``1 + 2 + 3`` is the same sum whether it came in one batch or in three. Each
row is given the state of its key after it, exactly as if rows had been sent one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import polars as pl

from crave_bulk.backends.codec import Step, same
from crave_bulk.errors import ContractError
from crave_bulk.pipeline.elements import ranked, split_arrays
from crave_bulk.table import Best, Merge

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
    rows: pl.DataFrame,
    existing: pl.DataFrame,
    key: Sequence[str],
    rules: Mapping[str, Merge],
    best: Mapping[str, Best] = MappingProxyType({}),
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
        best: column → how many of its united elements stay, and by which field.

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
            states, bad = _lists(states, everything, key, name, rule, best.get(name))
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
    dtype = rows[name].dtype
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
    if rule == "add" and isinstance(dtype, pl.UInt64):  # whose upper half no database has
        return (lambda x: x.cast(pl.Int128)), (
            lambda x: x.cast(pl.Int64, strict=False).cast(dtype, strict=False)
        )
    if rule == "add" and dtype.is_integer():
        return (lambda x: x.cast(pl.Int128)), (lambda x: x.cast(dtype, strict=False))
    return same, same


# -- lists: the elements of a key, one after the other ---------------------------------------------------


def keep_best(frame: pl.DataFrame, best: Mapping[str, Best], accepted: pl.Series) -> pl.DataFrame:
    """Keep of each row's own list what would be kept of it if it were united with others.

    Args:
        frame: validated rows.
        best: column → how many of its elements stay, and by which field.
        accepted: which rows broke no rule; what others hold may be no list.

    Returns:
        The frame; a list that is as it should be stays as it stands, to the letter.

    Example:
        >>> frame = pl.DataFrame({"reviews": [[{"votes": 1}, {"votes": None}, {"votes": 5}]]})
        >>> keep_best(frame, {"reviews": (2, "votes")}, pl.Series([True]))["reviews"].to_list()
        [[{'votes': 5}, {'votes': 1}]]
    """
    for name, wanted in best.items():
        lists = frame.select(pl.col(name).alias(VALUE + name)).with_row_index(_ORDER).filter(accepted)
        kept, _ = _one_list(lists, [_ORDER], VALUE + name, "union", wanted)
        found = (
            frame.select(name).with_row_index(_ORDER).join(kept, on=_ORDER, how="left", maintain_order="left")
        )
        frame = frame.with_columns(found.select(pl.coalesce(VALUE + name, name).alias(name)).to_series())
    return frame


def _lists(
    states: pl.DataFrame,
    rows: pl.DataFrame,
    key: Sequence[str],
    name: str,
    rule: Merge,
    best: Best | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the last row of each key all elements of the key, where it has more than one row."""
    if not (several := rows.filter(pl.struct(key).is_duplicated())).height:
        return states, rows.clear()
    united, bad = _one_list(several, key, name, rule, best)
    last = several.group_by(key, maintain_order=True).agg(pl.col(_ORDER).last())
    ends = last.join(united, on=list(key), how="inner").select(_ORDER, *key, pl.col(name).alias(_WIDE))
    joined = states.join(
        ends.drop(key).filter(pl.col(_ORDER) >= 0), on=_ORDER, how="left", maintain_order="left"
    )
    return joined.with_columns(pl.coalesce(_WIDE, name).alias(name)).drop(_WIDE), bad


def _one_list(
    rows: pl.DataFrame, key: Sequence[str], name: str, rule: Merge, best: Best | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give each key the one list that its rows come to, unless all of them are null; and what is no list."""
    text = isinstance(rows[name].dtype, pl.String)
    parsed = rows.with_columns(split_arrays(rows[name])) if text else rows
    bad = rows.filter(rows[name].is_not_null() & parsed[name].is_null())
    parsed = parsed.with_columns(rows[name].alias(_FIRST)).filter(pl.col(name).is_not_null())
    united = _united(parsed, key, name, best) if rule == "union" else _appended(parsed, key, name)
    if text:
        united = united.with_columns(pl.format("[{}]", pl.col(name).list.join(",")))
    first = parsed.group_by(key, maintain_order=True).agg(pl.col(_FIRST).first())
    united = united.join(first, on=list(key), how="left")
    # What adds nothing leaves the first list as it stands, to the letter.
    return united.with_columns(pl.when(_SAME).then(_FIRST).otherwise(name).alias(name)).select(
        *key, name
    ), bad


def _exploded(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.filter(pl.col(name).list.len() > 0).explode(name)


def _appended(rows: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    grouped = _exploded(rows, name).group_by(key, maintain_order=True).agg(name)
    longest = _first_lengths(rows, key, pl.col(name).list.len())
    appended = _with_empty(rows, grouped, key, name).join(longest, on=list(key), how="left")
    return appended.with_columns((pl.col("size") == pl.col(name).list.len()).alias(_SAME)).drop("size")


def _united(rows: pl.DataFrame, key: Sequence[str], name: str, best: Best | None) -> pl.DataFrame:
    """Unite without repeats, and leave the best where only those are wanted."""
    once = _exploded(rows, name).unique([*key, name], keep="first", maintain_order=True)
    if best:
        once = ranked(once, key, name, best)
    united = _with_empty(rows, once.group_by(key, maintain_order=True).agg(name), key, name)
    if best:
        firsts = rows.group_by(key, maintain_order=True).agg(pl.col(name).first().alias("first"))
        both = united.join(firsts, on=list(key), how="left")
        return both.with_columns(pl.col("first").eq_missing(pl.col(name)).alias(_SAME)).drop("first")
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
    empty = pl.lit(pl.Series([[]], dtype=rows[name].dtype)).first()
    return joined.with_columns(pl.col(name).fill_null(empty))

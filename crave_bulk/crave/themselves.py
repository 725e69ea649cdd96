"""Themselves: find the names of one batch that mean the same new entity."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from crave_bulk.crave.blocking import Side
from crave_bulk.crave.decide import Rules, candidates, chosen, only


def among_themselves(left: Side, decided: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Resolve the rows that mean no entity against each other, as if they had come one after the other.

    A row that is like no earlier one founds an entity; a later one means that entity, or is a question, or founds its
    own. Each round settles the rows all of whose earlier likes are settled, so there are as many rounds as the longest
    chain of likes is long, whatever the number of rows.

    Args:
        left: the rows.
        decided: what `crave_bulk.crave.decide.decide` gives.
        rules: how sure is sure enough.

    Returns:
        `decided` with ``founder``: the row whose new entity it is or may be, itself where it founds one, else null.
    """
    founding = pl.when(pl.col("decision") == "create").then("left")
    new = decided.filter(pl.col("decision") == "create")["left"]
    if new.len() < 2:
        return decided.with_columns(founder=founding)
    some = _less_crowded(only(left, new))
    earlier = _earlier(candidates(some, some, rules.tiers))
    alone = new.filter(~new.is_in(earlier["left"].implode()))
    settled = alone.to_frame("right").with_columns(founder="right")
    joined = decided.clear()
    while earlier.height:
        waiting = earlier.filter(pl.col("right").is_in(earlier["left"].implode()))["left"].implode()
        ready = earlier.filter(~pl.col("left").is_in(waiting))
        met = chosen(_founders(ready, settled), rules, of=only(some, ready["left"].unique()))
        means = pl.when(pl.col("decision") == "create").then("left").otherwise("right")
        sure = met.filter(pl.col("decision") != "review").select(right="left", founder=means)
        settled = pl.concat([settled, sure])
        joined = pl.concat([joined, met.filter(pl.col("decision") != "create")])
        earlier = earlier.filter(pl.col("left").is_in(waiting))
    # Rivals and candidates of these are rows of the batch, and no entities.
    found = joined.with_columns(
        founder="right", right=pl.lit(None, pl.UInt32), rivals=pl.lit(None, decided.schema["rivals"])
    )
    rest = decided.join(joined, on="left", how="anti")
    return pl.concat([rest.with_columns(founder=founding), found]).sort("left")


def _less_crowded(side: Side) -> Side:
    """Take one off who shares a telephone or a house: it may be the same, which is the question."""
    fewer = (pl.col("phones", "houses").cast(pl.Int64) - 1).clip(1)
    return replace(side, rows=side.rows.with_columns(fewer))


def _founders(ready: pl.DataFrame, settled: pl.DataFrame) -> pl.DataFrame:
    """Take each earlier row for the entity that it means: a name that is like any of an entity's is like the entity."""
    meant = ready.join(settled, on="right").with_columns(right="founder").drop("founder")
    return meant.sort("odds", descending=True).unique(["left", "right"], keep="first")


def _earlier(found: pl.DataFrame) -> pl.DataFrame:
    """Turn each pair so that the later row looks for the earlier, and leave out what is hardly alike."""
    turned = found.with_columns(
        left=pl.max_horizontal("left", "right"), right=pl.min_horizontal("left", "right")
    )
    once = turned.sort("odds", descending=True).unique(["left", "right"], keep="first")
    return once.filter((pl.col("left") != pl.col("right")) & (pl.col("odds") > _WORTH_A_LOOK))


_WORTH_A_LOOK = 0.5  # odds

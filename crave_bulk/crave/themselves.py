"""Themselves: find the names of one batch that mean the same new entity."""

from __future__ import annotations

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
    some = only(left, new)
    earlier = _earlier(candidates(some, some, rules.tiers))
    founders = new.filter(~new.is_in(earlier["left"].implode()))
    joined = decided.clear()
    while earlier.height:
        waiting = earlier.filter(pl.col("right").is_in(earlier["left"].implode()))["left"].implode()
        ready = earlier.filter(~pl.col("left").is_in(waiting))
        of = only(some, ready["left"].unique())
        met = chosen(ready.filter(pl.col("right").is_in(founders.implode())), rules, of)
        alone = pl.col("decision") == "create"
        joined = pl.concat([joined, met.filter(~alone)])
        founders = pl.concat([founders, met.filter(alone)["left"]])
        earlier = earlier.filter(pl.col("left").is_in(waiting))
    # Rivals and candidates of these are rows of the batch, and no entities.
    found = joined.with_columns(
        founder="right", right=pl.lit(None, pl.UInt32), rivals=pl.lit(None, decided.schema["rivals"])
    )
    rest = decided.join(joined, on="left", how="anti")
    return pl.concat([rest.with_columns(founder=founding), found]).sort("left")


def _earlier(found: pl.DataFrame) -> pl.DataFrame:
    """Turn each pair so that the later row looks for the earlier, and leave out what is hardly alike."""
    turned = found.with_columns(
        left=pl.max_horizontal("left", "right"), right=pl.min_horizontal("left", "right")
    )
    once = turned.sort("odds", descending=True).unique(["left", "right"], keep="first")
    return once.filter((pl.col("left") != pl.col("right")) & (pl.col("odds") > _WORTH_A_LOOK))


_WORTH_A_LOOK = 0.5  # odds

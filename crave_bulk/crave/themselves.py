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
    new = decided.filter(pl.col("decision") == "create")["left"]
    some = only(left, new)
    both = candidates(some, some, rules.tiers)
    earlier = both.filter((pl.col("right") < pl.col("left")) & (pl.col("odds") > _WORTH_A_LOOK))
    founders = new.filter(~new.is_in(earlier["left"].implode()))
    joined = decided.clear()
    while earlier.height:
        waiting = earlier.filter(pl.col("right").is_in(earlier["left"].implode()))["left"]
        ready = earlier.filter(~pl.col("left").is_in(waiting.implode()))
        of = only(some, ready["left"].unique())
        met = chosen(ready.filter(pl.col("right").is_in(founders.implode())), rules, of=of)
        joined = pl.concat([joined, met.filter(pl.col("decision") != "create")])
        founders = pl.concat([founders, met.filter(pl.col("decision") == "create")["left"]])
        earlier = earlier.filter(pl.col("left").is_in(waiting.implode()))
    found = pl.concat(
        [joined.select("left", founder="right"), founders.to_frame("left").with_columns(founder="left")]
    )
    rest = decided.join(joined.select("left"), on="left", how="anti")
    every = pl.concat([rest, joined.with_columns(right=pl.lit(None, decided.schema["right"]))])
    return every.join(found, on="left", how="left").sort("left")


_WORTH_A_LOOK = 0.5  # odds

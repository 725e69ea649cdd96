"""Confidence: the probability that two entities are one, from how well they agree.

The weights were fitted by ``data/crave/calibrate.py`` on labelled pairs that the generator writes down as two people would,
with and without what is known of the place; ``notebooks/06_resolution.ipynb`` shows how the confidence holds on data
that had no part in it.
"""

from __future__ import annotations

import polars as pl

# What each piece of evidence adds to the log-odds.
WEIGHTS: dict[str, float] = {
    "start": -5.61,
    "names up to half alike": 0.00,
    "names up to 75% alike": 0.50,
    "names up to 90% alike": 2.15,
    "names over 90% alike": 0.00,
    "same words": 0.00,
    "one name up to 80% in the other": 2.11,
    "one name over 80% in the other": 1.96,
    "rare": 2.47,
    "same phone": 4.73,
    "same shared phone": 0.00,
    "nearly same phone": 0.00,
    "other phone": -2.45,
    "same address": 4.64,
    "same shared address": 0.00,
    "same street": 2.48,
    "other number": 0.00,
    "other address": -2.15,
    "same city": 1.15,
    "other city": -1.98,
    "within 250 m": 3.13,
    "within 1 km": 0.00,
    "within 5 km": 0.00,
    "far away": -7.14,
    "same place id": 6.76,
    "other place id": -8.26,
    "elsewhere": -1.84,
    "other name at a shared place": -1.97,
    "other part of a hotel": -8.38,
    "other part of a hotel, same place": 0.00,
    "part of a hotel on one side": 0.00,
    "part of a hotel on one side, other phone": 0.00,
    "name alone": -1.68,
    "name alone, over 90% alike": 1.29,
    "name alone, same words": 0.58,
}


def features() -> dict[str, pl.Expr]:
    """Name the pieces of evidence, as numbers from 0 to 1 over what `compare` gives.

    Returns:
        Name → expression.
    """
    name, covered = pl.col("name"), pl.col("covered")
    phone, address, city, near, place = (pl.col(c) for c in ("phone", "address", "city", "near", "place"))
    agrees = (phone == 1) | (address == 1) | (near == 1) | (place == 1)
    known = pl.any_horizontal(pl.col("phone", "address", "city", "near", "place") != 0)
    apart = ((address < 0) | (near < 0) | (city < 0) | (phone < 0)) & ~agrees
    own_phone, own_house = pl.col("with_phone") == 1, pl.col("in_house") == 1
    crowded = ((phone == 1) & ~own_phone) | ((address == 1) & ~own_house)
    return {
        "start": pl.lit(1.0),
        "names up to half alike": _between(name, 0.0, 0.5),
        "names up to 75% alike": _between(name, 0.5, 0.75),
        "names up to 90% alike": _between(name, 0.75, 0.9),
        "names over 90% alike": _between(name, 0.9, 1.0),
        "same words": pl.col("same"),
        "one name up to 80% in the other": _between(covered, 0.0, 0.8),
        "one name over 80% in the other": _between(covered, 0.8, 1.0),
        "rare": (pl.col("shared") / 12).clip(0, 1),
        "same phone": (phone == 1) & own_phone,
        "same shared phone": (phone == 1) & ~own_phone,
        "nearly same phone": phone == 0.5,
        "other phone": phone == -1,
        "same address": (address == 1) & own_house,
        "same shared address": (address == 1) & ~own_house,
        "same street": address == 0.5,
        "other number": address == -0.5,
        "other address": address == -1,
        "same city": city == 1,
        "other city": city == -1,
        "within 250 m": near == 1,
        "within 1 km": near == 0.5,
        "within 5 km": near == -0.5,
        "far away": near == -1,
        "same place id": place == 1,
        "other place id": place == -1,
        "elsewhere": apart,
        "other name at a shared place": crowded * (1 - name),
        "other part of a hotel": pl.col("other_outlet"),
        "other part of a hotel, same place": pl.col("other_outlet") & agrees,
        "part of a hotel on one side": pl.col("one_outlet"),
        "part of a hotel on one side, other phone": pl.col("one_outlet") & (phone == -1),
        "name alone": ~known,
        "name alone, over 90% alike": ~known * _between(name, 0.9, 1.0),
        "name alone, same words": ~known & pl.col("same"),
    }


def _between(value: pl.Expr, low: float, high: float) -> pl.Expr:
    """Count from 0 at `low` to 1 at `high`, so that weights which are not negative make a curve that never falls."""
    return ((value - low) / (high - low)).clip(0, 1)


def odds(compared: pl.DataFrame) -> pl.DataFrame:
    """Weigh the evidence of each pair.

    Args:
        compared: what `crave_bulk.crave.evidence.compare` gives.

    Returns:
        The same with ``odds``: how many times likelier it is that the two are one than that they are not.
    """
    parts = features()
    total = pl.sum_horizontal(WEIGHTS[name] * parts[name].cast(pl.Float64) for name in WEIGHTS)
    return compared.with_columns(odds=total.clip(-30, 30).exp())

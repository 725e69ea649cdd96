"""Confidence: the probability that two entities are one, from how well they agree.

The weights were fitted by ``data/crave/calibrate.py`` on labelled pairs that the generator writes down as two people would,
with and without what is known of the place; ``notebooks/06_resolution.ipynb`` shows how the confidence holds on data
that had no part in it.
"""

from __future__ import annotations

from itertools import pairwise

import polars as pl

# What each piece of evidence adds to the log-odds.
WEIGHTS: dict[str, float] = {
    "start": -3.61,
    "names up to half alike": 0.00,
    "names up to 75% alike": 0.15,
    "names up to 90% alike": 2.05,
    "names over 90% alike": 0.06,
    "same words": 0.00,
    "one name up to 80% in the other": 3.41,
    "one name over 80% in the other": 0.75,
    "rare": 0.00,
    "very rare": 0.00,
    "same phone": 4.31,
    "same shared phone": 0.00,
    "nearly same phone": 2.40,
    "other phone": -1.95,
    "same address": 3.53,
    "same shared address": 0.00,
    "same street": 1.99,
    "other number": 0.00,
    "other address": -3.24,
    "same city": 1.14,
    "other city": -1.78,
    "within 250 m": 4.76,
    "within 1 km": 0.00,
    "within 5 km": 0.00,
    "far away": -5.78,
    "same place id": 7.33,
    "other place id": -6.35,
    "elsewhere": -1.76,
    "other name at a shared place": -1.64,
    "other part of a hotel": -3.05,
    "other part of a hotel, same place": -5.12,
    "part of a hotel on one side": -0.16,
    "part of a hotel on one side, other phone": -0.64,
    "alias": -1.19,
    "name alone": -1.84,
    "name alone, over 90% alike": 1.17,
    "name alone, same words": 0.72,
    "name alone, rare": -0.71,
    "name alone, very rare": 2.72,
    "name and city alone": -2.88,
    "name and city alone, over 90% alike": 1.45,
    "name and city alone, same words": -0.30,
    "name and city alone, rare": 2.02,
    "name and city alone, very rare": 1.60,
}
# The sum is not the log-odds yet: some pairs agree in everything and are two, and for these the curve is flat at its end.
_KNOTS = (-2, 0, 2, 4, 7)
CURVE: dict[str, float] = {
    "at all": -0.12,
    "up to -2": 1.03,
    "from -2": 1.22,
    "from 0": 0.90,
    "from 2": 1.05,
    "from 4": 0.56,
    "from 7": 0.63,
}
# The bar and the lounge of one hotel agree in all but one word. Where all else speaks for it, half of such are one.
_OUTLETS_AT_MOST = 1.0
_ID_ALONE_AT_MOST = 4.0  # odds of two whose names have nothing in common


def features() -> dict[str, pl.Expr]:
    """Name the pieces of evidence, as numbers from 0 to 1 over what `compare` gives.

    Returns:
        Name → expression.
    """
    name, covered = pl.col("name"), pl.col("covered")
    phone, address, city, near, place = (pl.col(c) for c in ("phone", "address", "city", "near", "place"))
    agrees = _agrees()
    placed = pl.any_horizontal(pl.col("phone", "address", "near", "place") != 0)
    alone, in_city = ~placed & (city == 0), ~placed & (city != 0)
    rare, very_rare = _between(pl.col("shared"), 0, 6), _between(pl.col("shared"), 6, 14)
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
        "rare": rare,
        "very rare": very_rare,
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
        "alias": pl.col("alias"),
        "name alone": alone,
        "name alone, over 90% alike": alone * _between(name, 0.9, 1.0),
        "name alone, same words": alone & pl.col("same"),
        "name alone, rare": alone * rare,
        "name alone, very rare": alone * very_rare,
        "name and city alone": in_city,
        "name and city alone, over 90% alike": in_city * _between(name, 0.9, 1.0),
        "name and city alone, same words": in_city & pl.col("same"),
        "name and city alone, rare": in_city * rare,
        "name and city alone, very rare": in_city * very_rare,
    }


def _between(value: pl.Expr, low: float, high: float) -> pl.Expr:
    """Count from 0 at `low` to 1 at `high`, so that weights which are not negative make a curve that never falls."""
    return ((value - low) / (high - low)).clip(0, 1)


def steps(total: pl.Expr) -> dict[str, pl.Expr]:
    """Take a sum of weights apart into what lies within each step of the curve.

    Args:
        total: the sum.

    Returns:
        Name → expression; with weights that are not negative they make a curve that never falls.

    Example:
        >>> pl.select(**steps(pl.lit(2.5))).row(0)
        (1.0, -2.0, 2.0, 2.0, 0.5, 0.0, 0.0)
    """
    parts = {f"from {low}": (total - low).clip(0, high - low) for low, high in pairwise([*_KNOTS, 30])}
    return {"at all": pl.lit(1.0), f"up to {_KNOTS[0]}": total.clip(-30, _KNOTS[0]), **parts}


def odds(compared: pl.DataFrame) -> pl.DataFrame:
    """Weigh the evidence of each pair.

    Args:
        compared: what `crave_bulk.crave.evidence.compare` gives.

    Returns:
        The same with ``odds``: how many times likelier it is that the two are one than that they are not; and
        ``elsewhere``: they are in two cities, and nothing says otherwise.
    """
    parts = features()
    total = pl.sum_horizontal(WEIGHTS[name] * parts[name].cast(pl.Float64) for name in WEIGHTS)
    weighed = compared.with_columns(odds=total)
    bent = pl.sum_horizontal(CURVE[name] * part for name, part in steps(pl.col("odds")).items())
    told = weighed.with_columns(odds=bent.clip(-30, 30).exp())
    # A place id that was copied wrongly names another restaurant: where only it says so, somebody should look.
    nothing_else = (pl.col("name") < 0.3) & (pl.max_horizontal("phone", "address") < 1)
    most = pl.when("other_outlet").then(_OUTLETS_AT_MOST).when(nothing_else).then(_ID_ALONE_AT_MOST)
    elsewhere = (pl.col("city") == -1) & ~_agrees()
    return told.with_columns(odds=pl.min_horizontal("odds", most), elsewhere=elsewhere)


def _agrees() -> pl.Expr:
    """Say whether anything of the place but its city agrees."""
    return pl.any_horizontal(pl.col("phone", "address", "near", "place") == 1)

"""Fit the weights of ``crave_bulk/crave/confidence.py``: ``python data/crave/calibrate.py`` prints them.

A name means one of its candidates or none of them, so the weights are those of a conditional logit with "none" as the
outside option (McFadden 1974, "Conditional Logit Analysis of Qualitative Choice Behavior"): they maximise the
likelihood of the true choices in lists whose truth the generator knows. What agrees must not count against, and what
differs not for: weights keep their sign.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

if __name__ == "__main__":  # run as a script, the checkout is not where Python looks
    sys.path.insert(0, str(Path(__file__).parents[2]))

from crave_bulk.crave.confidence import features, steps
from crave_bulk.crave.decide import candidates
from crave_bulk.crave.sides import side
from data.crave.generate import foods, guides, restaurants, rewrite, rewrite_names
from data.crave.rewriting import Level

Floats = NDArray[np.float64]

_RIDGE = 0.5  # keeps weights of what is hardly ever seen near zero
_STEPS = 100
_PLACES = ["address", "city", "phone"]
_ALL = [*_PLACES, "latitude", "longitude", "google_place_id"]


def lists(n: int) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Make the lists to learn from: with much, some and nothing known of the place; and foods, of which nothing is.

    Args:
        n: How many restaurants each has.

    Returns:
        Pairs of entities, and of names with the ``true_id`` of each.
    """
    made = [_guides(n, 0.5, 1, _PLACES), _guides(n, 0.3, 2, _PLACES), _guides(n, 0.5, 3, _PLACES, "typist")]
    # Short lists of which most are in one only, as two guides of one city are.
    made += [_guides(400, 0.3, seed, _PLACES) for seed in range(20, 30)]
    some = [["city"], ["address", "city"], ["city", "phone"]]
    made += [_guides(n, 0.5, seed, columns) for seed, columns in enumerate(some, 4)]
    made.append(_guides(n, 0.9, 7, []))
    every = restaurants(2 * n, 12)
    # Three in four of what people mention is known.
    again = rewrite(every.slice(n // 4, n), 12, evidence=True)
    for columns in (_ALL, _ALL[3:5], ["city", *_ALL[3:5]], _ALL[5:], ["aliases"], ["aliases", "city"]):
        asked = again.select("true_id", "name", *(c for c in columns if c != "aliases"))
        made.append((every.head(n).select("entity_id", "name", *columns), asked))
    dishes = foods()
    some = dishes.sample(fraction=0.7, seed=1)
    made.append((some.drop("type", "aliases"), rewrite_names(dishes, 13)))
    made.append((some.drop("type"), rewrite_names(dishes, 14)))
    return made


def _guides(
    n: int, overlap: float, seed: int, columns: list[str], level: Level = "guide"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    first, second = guides(n, overlap, seed, level)
    return first.select("entity_id", "name", *columns), second.select("true_id", "name", *columns)


def choices(entities: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Find the candidates of each name, and mark the true one.

    Args:
        entities: What `resolve` looks names up in.
        names: The same as its names, with ``true_id``.

    Returns:
        What `candidates` gives, with ``true``.
    """
    found = candidates(side(names), side(entities))
    ids = entities.select(right=pl.int_range(pl.len(), dtype=pl.UInt32), entity_id="entity_id")
    truth = names.select(left=pl.int_range(pl.len(), dtype=pl.UInt32), true_id="true_id")
    both = found.join(ids, on="right").join(truth, on="left")
    return both.with_columns(true=(pl.col("entity_id") == pl.col("true_id")).fill_null(False))


def signs() -> Floats:
    """Tell what may count only for (1), only against (-1), or either way (0).

    Returns:
        One number a feature.
    """
    ways = {
        "other": -1.0,
        "elsewhere": -1.0,
        "far": -1.0,
        "part": -1.0,
        "alias": -1.0,
        "start": 0.0,
        "name alone": 0.0,
        "name and": 0.0,
    }
    return np.array(
        [next((way for word, way in ways.items() if name.startswith(word)), 1.0) for name in features()]
    )


def fit(x: Floats, y: Floats, group: NDArray[np.int64], sign: Floats) -> Floats:
    """Fit a conditional logit with an outside option of utility 0 by projected Newton steps.

    Args:
        x: One line a candidate, one column a feature.
        y: 1 where the candidate is the true one.
        group: Which candidates compete: 0, 1, …
        sign: What `signs` gives.

    Returns:
        One weight a feature.
    """
    ridge = np.full(x.shape[1], _RIDGE)
    low, high = np.where(sign > 0, 0, -np.inf), np.where(sign < 0, 0, np.inf)
    weights = np.zeros(x.shape[1])
    share, loss = _shares(x, y, group, weights, ridge)
    for _ in range(_STEPS):
        slope = x.T @ (share - y) + ridge * weights
        weighed = x * share[:, None]
        means = np.zeros((group.max() + 1, x.shape[1]))
        np.add.at(means, group, weighed)
        bend = x.T @ weighed - means.T @ means + np.diag(ridge)
        held = ((weights <= low) & (slope > 0)) | ((weights >= high) & (slope < 0))
        step = np.zeros_like(weights)
        step[~held] = np.linalg.solve(bend[np.ix_(~held, ~held)] + 1e-6 * np.eye((~held).sum()), slope[~held])
        tried = [np.clip(weights - step * 0.5**halving, low, high) for halving in range(12)]
        better = next((w for w in tried if _shares(x, y, group, w, ridge)[1] < loss - 1e-4), None)
        if better is None:
            break
        weights = better
        share, loss = _shares(x, y, group, weights, ridge)
    return weights


def _shares(
    x: Floats, y: Floats, group: NDArray[np.int64], weights: Floats, ridge: Floats
) -> tuple[Floats, float]:
    """Give the probability of each candidate, and the penalised negative log-likelihood."""
    utility = np.clip(x @ weights, -30, 30)
    odds = np.exp(utility)
    mass = 1 + np.bincount(group, odds)
    return odds / mass[group], float(np.log(mass).sum() - utility @ y + 0.5 * (ridge * weights**2).sum())


def values(found: pl.DataFrame, parts: dict[str, pl.Expr]) -> Floats:
    """Work out numbers for each candidate.

    Args:
        found: The candidates.
        parts: Name → expression.

    Returns:
        One line a candidate, one column an expression.
    """
    return found.select(part.cast(pl.Float64).alias(name) for name, part in parts.items()).to_numpy()


def main(n: int = 3000) -> None:
    """Fit the weights and the curve, and print them.

    Args:
        n: How many restaurants each list has.
    """
    each = [choices(*pair) for pair in lists(n)]
    found = pl.concat([part.with_columns(at=pl.lit(i)) for i, part in enumerate(each)])
    y = found["true"].to_numpy().astype(np.float64)
    group = found.select(pl.struct("at", "left").rank("dense") - 1).to_series().cast(pl.Int64).to_numpy()
    x = values(found, features())
    weights = fit(x, y, group, signs())
    curve = steps(pl.lit(pl.Series(x @ weights)))
    slopes = fit(values(found, curve), y, group, np.array([0.0] + [1.0] * (len(curve) - 1)))
    for title, names, fitted in (("WEIGHTS", features(), weights), ("CURVE", curve, slopes)):
        print(f"{title}: dict[str, float] = {{")
        for name, weight in zip(names, fitted, strict=True):
            print(f'    "{name}": {weight:.2f},')
        print("}")


if __name__ == "__main__":
    main()

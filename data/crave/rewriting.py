"""The same places as a second guide writes them, and pairs of guides that share some of their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from data.crave import changes
from data.crave.dice import Dice
from data.crave.places import COLUMNS, places

Level = Literal["guide", "typist", "names"]


@dataclass(frozen=True)
class Step:
    """One change, the column that it changes, and the share of the rows that it is tried on."""

    column: str
    rate: float
    change: changes.Change


NAMES = [
    Step("name", 0.50, changes.word_order),
    Step("name", 0.35, changes.drop_tail),
    Step("name", 0.04, changes.add_tail),
    Step("name", 0.20, changes.drop_kind),
    Step("name", 0.08, changes.add_kind),
    Step("name", 0.35, changes.drop_the),
    Step("name", 0.15, changes.the_last),
    Step("name", 0.03, changes.add_the),
    Step("name", 0.40, changes.ampersand),
    Step("name", 0.30, changes.abbreviate),
    Step("name", 0.15, changes.expand),
    Step("name", 0.30, changes.compounds),
    Step("name", 0.015, changes.join_words),
    Step("name", 0.60, changes.drop_accents),
    Step("name", 0.05, changes.drop_possessive),
    Step("name", 0.25, changes.drop_apostrophes),
    Step("name", 0.08, changes.change_apostrophes),
    Step("name", 0.12, changes.drop_punctuation),
    Step("name", 0.08, changes.typo),
    Step("name", 0.06, changes.branch),
    Step("name", 0.02, changes.double_spaces),
    Step("name", 0.45, changes.lower),
    Step("name", 0.03, changes.upper),
]
PLACES = [
    Step("address", 0.40, changes.spelled_ordinal),
    Step("address", 0.75, changes.short_suffix),
    Step("address", 0.08, changes.drop_direction),
    Step("address", 0.70, changes.short_direction),
    Step("address", 0.50, changes.drop_unit),
    Step("address", 0.03, changes.other_number),
    Step("address", 0.02, changes.no_number),
    Step("address", 0.03, changes.typo),
    Step("address", 0.12, changes.cross_street),
    Step("address", 0.04, changes.add_unit),
    Step("address", 0.03, changes.add_hotel),
    Step("address", 0.45, changes.lower),
    Step("phone", 0.05, changes.other_phone),
    Step("phone", 0.04, changes.missing),
    Step("phone", 0.60, changes.phone_format),
    Step("city", 0.12, changes.suburb),
    Step("city", 0.35, changes.city_name),
    Step("city", 0.01, changes.typo),
    Step("city", 0.45, changes.lower),
]
TYPIST = [
    Step("name", 0.10, changes.drop_word),
    Step("name", 0.10, changes.double_letter),
    Step("name", 0.10, changes.by_ear),
    Step("name", 0.45, changes.typo),
    Step("name", 0.20, changes.typo),
    Step("name", 0.08, changes.typo),
    Step("name", 0.08, changes.join_words),
    Step("address", 0.30, changes.typo),
    Step("address", 0.10, changes.typo),
    Step("address", 0.05, changes.other_number),
    Step("phone", 0.10, changes.typo),
    Step("city", 0.12, changes.typo),
]
LEVELS: dict[Level, list[Step]] = {"names": NAMES, "guide": NAMES + PLACES, "typist": TYPIST + NAMES + PLACES}


def tried(frame: pl.DataFrame, step: Step, dice: Dice) -> pl.DataFrame:
    """Try a change on some rows.

    Args:
        frame: The rows.
        step: The change.
        dice: The draws.

    Returns:
        The rows; a text that would be empty stays as it was.
    """
    rows = np.flatnonzero(dice.hits(step.rate))
    change = step.change(pl.col(step.column), dice.sub("rows", len(rows)))
    values = frame[rows].select(pl.when(change == "").then(step.column).otherwise(change))
    source = np.arange(len(frame))
    source[rows] = len(frame) + np.arange(len(rows))
    return frame.with_columns(pl.concat([frame[step.column], values.to_series()])[source].alias(step.column))


def written(frame: pl.DataFrame, steps: list[Step], dice: Dice) -> pl.DataFrame:
    """Try one change after the other.

    Args:
        frame: The rows.
        steps: The changes.
        dice: The draws.

    Returns:
        The rows as they are written then.
    """
    for number, step in enumerate(steps):
        frame = tried(frame, step, dice.sub(f"{number} {step.column} {step.change.__name__}"))
    return frame


def _evidence(frame: pl.DataFrame, dice: Dice) -> list[pl.Expr]:
    """Measure the coordinates again, some twenty metres off, and lose every fifth Google identifier.

    Args:
        frame: The restaurants.
        dice: The draws.

    Returns:
        The three columns.
    """
    offsets = {axis: 0.0002 * dice.sub(axis).bell() for axis in ("latitude", "longitude")}
    measured = [
        changes.draws(frame[axis] + pl.Series(off)).round(6).alias(axis) for axis, off in offsets.items()
    ]
    kept = pl.when(changes.draws(dice.sub("google").hits(0.8))).then(changes.draws(frame["google_place_id"]))
    return [*measured, kept.alias("google_place_id")]


def rewrite(
    frame: pl.DataFrame, seed: int, level: Level = "guide", *, evidence: bool = False
) -> pl.DataFrame:
    """Write the same places as a second, independent guide does.

    Args:
        frame: What `restaurants` returns.
        seed: What the draws depend on.
        level: "guide"; "typist", with many more slips of the keys; or "names", the names alone.
        evidence: Whether coordinates and Google's identifiers are given as well.

    Returns:
        In the order of the frame: true_id, name, and but for level "names" address, city, phone, and what evidence
        asks for: latitude, longitude, google_place_id.
    """
    dice = Dice(seed, f"rewrite {level}", len(frame))
    new = written(frame.select("name", "address", "city", "phone"), LEVELS[level], dice)
    columns = ["name"] if level == "names" else ["name", "address", "city", "phone"]
    more = _evidence(frame, dice) if evidence else []
    return new.select(frame["entity_id"].alias("true_id"), *columns, *more)


def table() -> str:
    """Describe the changes and their rates, for the README.

    Returns:
        A table in Markdown.
    """
    lines = ["| level | column | rate | change |", "|---|---|---|---|"]
    parts = {"typist": TYPIST, "names, guide, typist": NAMES, "guide, typist": PLACES}
    for level, steps in parts.items():
        for step in steps:
            what = (step.change.__doc__ or "").strip().rstrip(".")
            lines.append(f"| {level} | {step.column} | {100 * step.rate:g}% | {what} |")
    return "\n".join(lines) + "\n"


def _sides(frame: pl.DataFrame, n: int, dice: Dice) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Deal places to two guides; half of the groups are torn apart, one member to each guide.

    Args:
        frame: The places.
        n: How many each guide has.
        dice: The draws.

    Returns:
        The places of either guide, in an order of its own.
    """
    torn = (Dice(dice.seed, "torn", len(frame)).uniform() < 0.5)[frame["group"].to_numpy()]
    torn &= (frame["kind"] != "single").to_numpy()
    side = np.where(torn, np.where(frame["member"].to_numpy() % 2 == 0, -1.0, 1.0), 0.0)
    dealt = frame[np.argsort(dice.uniform() + side, kind="stable")]
    first, second = dealt.head(n), dealt.tail(n)
    return first[dice.sub("first", n).order()], second[dice.sub("second", n).order()]


def guides(n: int, overlap: float, seed: int, level: Level = "guide") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make two lists of restaurants that share some, of chains and hotels often one branch in each list alone.

    Args:
        n: How many restaurants each list has.
        overlap: The share of them that are in both.
        seed: What the draws depend on.
        level: How the second list is written; see `rewrite`.

    Returns:
        The first list as `restaurants` writes it, and the second as `rewrite` does, with a true_id where the place
        is in the first list, else null.

    Example:
        >>> first, second = guides(400, 0.5, 7)
        >>> second["true_id"].drop_nulls().is_in(first["entity_id"].to_list()).sum()
        200
    """
    both = round(n * overlap)
    every = places(2 * n - both, seed)
    first, second = _sides(every, n, Dice(seed, "guides", 2 * n - both))
    new = rewrite(second.select(COLUMNS), seed, level)
    known = pl.col("true_id").is_in(first["entity_id"].implode())
    return first.select(COLUMNS), new.with_columns(true_id=pl.when(known).then("true_id"))

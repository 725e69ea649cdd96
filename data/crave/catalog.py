"""The real foods and the attributes as entities, and the foods as people write them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import polars as pl

from data.crave import changes
from data.crave.dice import Dice
from data.crave.rewriting import TYPIST, Step, written
from data.crave.words import attribute_words, food_file

SPACE = uuid.UUID("6f2c8a50-3d1b-5e47-9a60-0c5d1e7b4f93")
KINDS = ("food_attribute", "restaurant_attribute")
FOODS = [
    Step("name", 0.20, changes.plural),
    Step("name", 0.40, changes.ampersand),
    Step("name", 0.08, changes.turned),
    Step("name", 0.15, changes.hyphen),
    Step("name", 0.03, changes.join_words),
    Step("name", 0.50, changes.drop_accents),
    Step("name", 0.20, changes.drop_apostrophes),
    Step("name", 0.03, changes.by_ear),
    Step("name", 0.05, changes.double_letter),
    Step("name", 0.12, changes.typo),
    Step("name", 0.30, changes.title),
    Step("name", 0.20, changes.lower),
    Step("name", 0.02, changes.upper),
]
SLOPPY = [step for step in TYPIST if step.column == "name"] + FOODS


def _ids(texts: Iterable[str]) -> pl.Series:
    """Derive identifiers from texts.

    Args:
        texts: The texts.

    Returns:
        A UUID of version 5 for each, as text.
    """
    return pl.Series("entity_id", [str(uuid.uuid5(SPACE, text)) for text in texts], dtype=pl.String)


def _other_names(food: pl.DataFrame) -> pl.DataFrame:
    """List the other names of foods, of which no two are alike but for case.

    Args:
        food: food_id and name of each.

    Returns:
        food_id and aliases.
    """
    folded = pl.col("alias").str.to_lowercase()
    names = food_file("aliases.csv").join(food, on="food_id", maintain_order="left")
    others = names.filter(folded != pl.col("name").str.to_lowercase())
    once = others.filter(pl.struct("food_id", folded).is_first_distinct())
    return once.group_by("food_id", maintain_order=True).agg(aliases="alias")


def known_foods(seed: int = 0) -> pl.DataFrame:
    """Read the real foods, of those with the same name the first.

    Args:
        seed: Another seed gives other identifiers.

    Returns:
        What `foods` returns, and food_id.
    """
    every = food_file("foods.csv").select("food_id", "name")
    once = every.filter(pl.col("name").str.to_lowercase().is_first_distinct())
    found = once.join(_other_names(once), on="food_id", how="left", maintain_order="left")
    return found.select(
        _ids(f"{seed}/{food_id}" for food_id in found["food_id"]),
        "name",
        pl.lit("food").alias("type"),
        pl.col("aliases").fill_null([]),
        "food_id",
    )


def foods(seed: int = 0) -> pl.DataFrame:
    """Read the real foods as entities.

    Args:
        seed: Another seed gives other identifiers.

    Returns:
        One line per food: entity_id, name, type, aliases; no two names differ in case alone.

    Example:
        >>> foods().select("name", "aliases").row(0)
        ('food', ['solid food'])
    """
    return known_foods(seed).drop("food_id")


def attributes(seed: int = 0) -> pl.DataFrame:
    """List attributes of foods and of restaurants as entities.

    Args:
        seed: Another seed gives other identifiers.

    Returns:
        One line per attribute: entity_id, name, type, aliases.

    Example:
        >>> attributes().filter(name="vegan").select("type", "aliases").row(0)
        ('food_attribute', ['plant-based'])
    """
    lines = [(kind, words) for kind in KINDS for words in attribute_words(kind)]
    return pl.DataFrame(
        {
            "entity_id": _ids(f"{seed}/{kind}/{words[0]}" for kind, words in lines),
            "name": [words[0] for _, words in lines],
            "type": [kind for kind, _ in lines],
            "aliases": pl.Series([words[1:] for _, words in lines], dtype=pl.List(pl.String)),
        }
    )


def rewrite_names(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Write the names of foods as people do.

    Args:
        frame: entity_id and name of each.
        seed: What the draws depend on.

    Returns:
        In the order of the frame: true_id, name.

    Example:
        >>> rewrite_names(foods().head(3), 7)["name"].to_list()
        ['Food', 'comfort-food', 'comestible']
    """
    names = written(frame.select("name"), FOODS, Dice(seed, "rewrite names", len(frame)))
    return names.select(frame["entity_id"].alias("true_id"), "name")

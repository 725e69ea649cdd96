"""The vocabulary: pools of words, templates of names, cities, and the real foods."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

HERE = Path(__file__).parent
FOODS = HERE.parent / "foods"


@cache
def _file() -> dict[str, Any]:
    """Read the words.

    Returns:
        What the file holds.
    """
    return tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))


@cache
def pool(name: str) -> list[str]:
    """List the words of a pool.

    Args:
        name: Its name.

    Returns:
        Its words.

    Example:
        >>> pool("relation")[:2]
        ['& Sons', '& Son']
    """
    if name == "dish":
        return dishes()
    pools = _file()["pools"] | _file()["pools_of_mentions"]
    return [" ".join(word.split()) for word in pools[name].split(",")]


def attribute_words(kind: str) -> list[list[str]]:
    """List the attributes of a kind, each followed by other ways to say it.

    Args:
        kind: "food_attribute" or "restaurant_attribute".

    Returns:
        The ways to say each.

    Example:
        >>> attribute_words("food_attribute")[0]
        ['spicy', 'hot']
    """
    return [[word.strip() for word in entry.split("=")] for entry in _file()["attributes"][kind].split(",")]


def sentences() -> list[str]:
    """List the sentences of mentions, with {food}, {restaurant} and {praise} to be filled in.

    Returns:
        The sentences.
    """
    return [sentence.strip() for sentence in _file()["sentences"]["list"].split("|")]


def templates(name: str) -> list[tuple[float, str]]:
    """List the templates of a kind of names, each with its weight.

    Args:
        name: The kind.

    Returns:
        Pairs of a weight and a template.
    """
    return [(weight, template) for weight, template in _file()["templates"][name]]


def cities() -> pl.DataFrame:
    """Read the cities.

    Returns:
        One row per city; area codes and suburbs are lists.
    """
    frame = pl.read_csv(HERE / "cities.csv", schema_overrides={"area_codes": pl.String})
    return frame.with_columns(pl.col("area_codes", "suburbs").str.split("|"))


def food_file(name: str) -> pl.DataFrame:
    """Read one of the files of real foods, as text.

    Args:
        name: The file's name.

    Returns:
        Its rows.
    """
    return pl.read_csv(FOODS / name, infer_schema=False)


@cache
def dishes() -> list[str]:
    """List the real foods that a restaurant may be named after.

    Returns:
        Their names, in title case.

    Example:
        >>> "Fried Rice" in dishes()
        True
    """
    foods, links = food_file("foods.csv"), food_file("is_a.csv")
    kinds = foods.filter(pl.col("name").is_in(pool("dish_kinds"))).select(category_id="food_id")
    names = links.join(kinds, on="category_id").join(foods, on="food_id")["name"]
    plain = names.filter(names.str.contains(r"^[A-Za-z' -]{3,16}$") & ~names.is_in(pool("no_dishes")))
    return plain.str.to_titlecase().str.replace_all("'S", "'s", literal=True).unique().sort().to_list()

"""Restaurants: names, addresses, phones and aliases, with chains, hotels and namesakes among them."""

from __future__ import annotations

import numpy as np
import polars as pl

from data.crave import changes
from data.crave.dice import Dice, Ints, uuids
from data.crave.names import distinct
from data.crave.words import cities, pool, templates

# The share of the restaurants that are branches of a chain, share a hotel, or have a namesake in their city.
CHAINS, HOTELS, NAMESAKES = 0.06, 0.03, 0.02
COLUMNS = (
    "entity_id", "name", "type", "aliases", "address", "city", "phone", "google_place_id", "latitude", "longitude",
)  # fmt: skip


def _sizes(kind: str, rows: int, dice: Dice) -> Ints:
    """Draw how many restaurants are in each group, until there are enough.

    Args:
        kind: The kind of groups.
        rows: Restaurants in all of them.
        dice: The draws.

    Returns:
        The sizes; the last group is cut.
    """
    few = dice.sub("few", rows // 2 + 1)
    if kind == "namesake":
        sizes = np.full(few.size, 2)
    elif kind == "hotel":
        sizes = 2 + few.below(3)
    else:
        least, spread = np.array([2, 6, 13]), np.array([4, 7, 18])
        chain = few.weighted([0.75, 0.2, 0.05])
        sizes = least[chain] + few.below(spread[chain])
    cut: Ints = np.diff(np.minimum(np.cumsum(sizes), rows), prepend=0)
    return cut[cut > 0]


def _groups(kind: str, rows: int, dice: Dice) -> pl.DataFrame:
    """Put restaurants into groups.

    Args:
        kind: The kind of groups.
        rows: How many restaurants.
        dice: The draws.

    Returns:
        One line per restaurant: kind, number of its group, its place within it.
    """
    sizes = _sizes(kind, rows, dice) if kind != "single" else np.ones(rows, dtype=np.int64)
    group = np.repeat(np.arange(len(sizes)), sizes)
    member = np.arange(rows) - (np.cumsum(sizes) - sizes)[group]
    frame = pl.DataFrame({"group": group, "member": member})
    return frame.select(pl.lit(kind).alias("kind"), pl.all().cast(pl.Int64))


def _structure(n: int, dice: Dice) -> pl.DataFrame:
    """Lay out chains, hotels, namesakes and single restaurants.

    Args:
        n: How many restaurants.
        dice: The draws.

    Returns:
        One line per restaurant: kind, member, group; groups are numbered throughout.
    """
    rows = {"chain": round(CHAINS * n), "hotel": round(HOTELS * n), "namesake": 2 * round(NAMESAKES * n / 2)}
    rows["single"] = max(0, n - sum(rows.values()))
    frame = pl.concat([_groups(kind, count, dice.sub(kind)) for kind, count in rows.items()]).head(n)
    return frame.with_columns(group=pl.struct("kind", "group").rle_id().cast(pl.Int64))


def _group_names(groups: pl.DataFrame, dice: Dice) -> pl.Series:
    """Name each group: a hotel as hotels are named, the others as restaurants are.

    Args:
        groups: One line per group.
        dice: The draws.

    Returns:
        Their names.
    """
    hotels = groups["kind"] == "hotel"
    count = int(hotels.sum())
    places = np.empty(len(groups), dtype=np.int64)
    places[np.flatnonzero(hotels)] = np.arange(count)
    places[np.flatnonzero(~hotels)] = np.arange(count, len(groups))
    inns = distinct(templates("hotels"), dice.sub("hotels", count))
    return pl.concat([inns, distinct(templates("list"), dice.sub("names", len(groups) - count))])[places]


def _cities(frame: pl.DataFrame, dice: Dice) -> Ints:
    """Place each restaurant in a city; the branches of a chain are in different ones.

    Args:
        frame: Kind, group and member of each.
        dice: The draws, one per group.

    Returns:
        The number of its city.
    """
    weights = cities()["weight"].to_numpy()
    start, step = dice.weighted(weights), dice.below(4) + 1
    group, member = frame["group"].to_numpy(), frame["member"].to_numpy()
    moved = np.where((frame["kind"] == "chain").to_numpy(), member * step[group], 0)
    city: Ints = (start[group] + moved) % len(weights)
    return city


def _named(frame: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Add the names; those in one hotel differ by what they are in it.

    Args:
        frame: Kind, group and member of each restaurant.
        dice: The draws, one per group.

    Returns:
        The frame with `name`.
    """
    outlets = pl.Series(pool("outlet"))
    first = dice.below(len(outlets))[frame["group"].to_numpy()]
    outlet = outlets[(first + frame["member"].to_numpy()) % len(outlets)]
    names = _group_names(frame.filter(pl.col("member") == 0), dice)[frame["group"]]
    inside = pl.when(pl.col("kind") == "hotel").then(changes.draws(names + " " + outlet))
    return frame.with_columns(name=inside.otherwise(changes.draws(names)))


def _street(dice: Dice) -> pl.Expr:
    """Draw the names of streets: three in four have a name, the others a number.

    Args:
        dice: The draws.

    Returns:
        Texts like "Pine Street" and "42nd Street".
    """
    number = pl.min_horizontal(changes.draws(dice.below(120)), changes.draws(dice.below(120))) + 1
    kinds = pl.Series(["Street", "Street", "Avenue"])
    numbered = changes.ordinal(number) + " " + changes.draws(dice.pick(kinds))
    named = changes.draws(dice.pick(pool("street"))) + " " + changes.draws(dice.pick(pool("suffix")))
    return pl.when(changes.draws(dice.hits(0.75))).then(named).otherwise(numbered)


def addresses(dice: Dice) -> pl.Expr:
    """Draw addresses: a number, for every fourth a direction, a street, for some a suite.

    Args:
        dice: The draws.

    Returns:
        Texts like "435 South La Cienega Boulevard".

    Example:
        >>> pl.select(addresses(Dice(7, "addresses", 2))).to_series().to_list()
        ['511 Wells Plaza', '4471 97th Street']
    """
    scale = np.array([1, 10, 100, 1000, 10000])[dice.weighted([3, 12, 42, 40, 3])]
    number = changes.draws(scale + dice.below(np.minimum(9 * scale, 20_000))).cast(pl.String)
    direction = changes.draws(dice.pick(pool("direction"))) + " "
    turned = pl.when(changes.draws(dice.hits(0.25))).then(direction).otherwise(pl.lit(""))
    plain = number + " " + turned + _street(dice)
    return pl.when(changes.draws(dice.hits(0.05))).then(changes.add_unit(plain, dice)).otherwise(plain)


def phones(codes: pl.Expr, dice: Dice) -> pl.Expr:
    """Draw phone numbers of an area.

    Args:
        codes: Lists of area codes.
        dice: The draws.

    Returns:
        Texts like "310-246-1501".
    """
    code = codes.list.get((changes.draws(dice.uniform()) * codes.list.len()).cast(pl.Int64))
    line = changes.draws(dice.below(10_000)).cast(pl.String).str.zfill(4)
    return code + "-" + changes.draws(dice.below(800) + 200).cast(pl.String) + "-" + line


def _google(dice: Dice) -> pl.Expr:
    """Draw identifiers of places as Google writes them; every tenth place has none.

    Args:
        dice: The draws.

    Returns:
        Texts of 27 characters.
    """
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    pairs = pl.Series([first + second for first in letters for second in letters])
    texts = pl.concat_str(pl.lit("ChIJ"), *[changes.draws(dice.pick(pairs)) for _ in range(11)], pl.lit("4"))
    return pl.when(changes.draws(dice.hits(0.9))).then(texts)


def _located(frame: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Add address, city, phone and coordinates; what is in one hotel shares all, or all but the phone.

    Args:
        frame: Kind, group, member and name of each restaurant.
        dice: The draws.

    Returns:
        The frame with where each is.
    """
    city = cities()[_cities(frame, dice.sub("cities", frame["group"].n_unique()))]
    around = {axis: changes.draws(0.06 * dice.sub(axis).bell()) for axis in ("latitude", "longitude")}
    sites = city.select(
        "city",
        addresses(dice.sub("addresses")).alias("address"),
        phones(pl.col("area_codes"), dice.sub("phones")).alias("phone"),
        *[(pl.col(axis) + offset).round(6).alias(axis) for axis, offset in around.items()],
    )
    row = np.arange(len(frame))
    site = np.where((frame["kind"] == "hotel").to_numpy(), row - frame["member"].to_numpy(), row)
    shared = sites[np.where(dice.sub("own phone").hits(0.25), row, site)]["phone"]
    return pl.concat([frame, sites[site].with_columns(phone=shared)], how="horizontal")


# More ways to write a name, each with how readily it comes to mind.
VARIANTS: list[tuple[float, changes.Change]] = [
    (4, changes.drop_the), (4, changes.ampersand), (4, changes.drop_accents), (3, changes.drop_punctuation),
    (4, changes.drop_kind), (4, changes.drop_tail), (2, changes.branch), (2, changes.add_kind), (2, changes.typo),
    (1, changes.typo), (1, changes.add_tail), (2, changes.abbreviate), (2, changes.expand), (2, changes.compounds),
    (2, changes.word_order), (2, changes.drop_apostrophes), (1, changes.join_words), (2, changes.drop_word),
    (1, changes.the_last), (1, changes.add_the), (1, changes.branch), (0.5, changes.by_ear), (0.3, changes.double_letter),
]  # fmt: skip


def _variant(number: int, weight: float, change: changes.Change, dice: Dice) -> list[pl.Expr]:
    """Write every name in one way, with a draw by which ways are chosen.

    Args:
        number: The way's number.
        weight: How readily it comes to mind.
        change: The way.
        dice: The draws.

    Returns:
        The texts and the draws.
    """
    text = change(pl.col("name"), dice).str.strip_chars().alias(f"text{number}")
    return [text, changes.draws(dice.uniform() / weight).alias(f"key{number}")]


def _variants(frame: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Write every name in every way.

    Args:
        frame: Name and city of each restaurant.
        dice: The draws.

    Returns:
        One line per restaurant and way: row, alias, key; a way that is the name itself, but for case, is left out.
    """
    names = frame.select("name", "city", row=pl.int_range(pl.len()))
    lines = [
        names.select("row", "name", *_variant(number, weight, change, dice.sub(f"{number}"))).rename(
            {f"text{number}": "alias", f"key{number}": "key"}
        )
        for number, (weight, change) in enumerate(VARIANTS)
    ]
    folded = pl.col("alias").str.to_lowercase()
    differs = (folded != pl.col("name").str.to_lowercase()) & (pl.col("alias").str.len_chars() > 1)
    return pl.concat([line.filter(differs).select("row", "alias", "key") for line in lines])


def alias_lists(frame: pl.DataFrame, average: float, dice: Dice) -> pl.Series:
    """Draw other names for each restaurant: none is its name, and no two are alike but for case.

    Args:
        frame: Name and city of each restaurant.
        average: How many each has, on average.
        dice: The draws.

    Returns:
        One list per restaurant.
    """
    wanted = np.floor(dice.uniform() * 2 * average + 0.5).astype(np.int64)
    lines = _variants(frame, dice).sort("row", "key")
    lines = lines.filter(pl.struct("row", pl.col("alias").str.to_lowercase()).is_first_distinct())
    lines = lines.with_row_index("rank").with_columns(rank=pl.col("rank") - pl.col("rank").min().over("row"))
    lines = lines.filter(pl.Series(lines["rank"].to_numpy() < wanted[lines["row"].to_numpy()]))
    lists = lines.group_by("row", maintain_order=True).agg("alias")
    every = pl.DataFrame({"row": np.arange(len(frame))}).join(
        lists, on="row", how="left", maintain_order="left"
    )
    return every["alias"].fill_null([])


def places(n: int, seed: int, *, aliases: float = 4.4) -> pl.DataFrame:
    """Make restaurants, and tell what makes some of them hard.

    Args:
        n: How many.
        seed: What the draws depend on.
        aliases: Other names of each, on average.

    Returns:
        What `restaurants` returns, and kind ("chain", "hotel", "namesake", "single"), group and member within it.
    """
    dice = Dice(seed, "restaurants", n)
    frame = _structure(n, dice)
    frame = _named(frame, dice.sub("groups", frame["group"].n_unique()))
    frame = _located(frame, dice)[dice.order()]
    return frame.with_columns(
        uuids(dice.sub("entity_id")).alias("entity_id"),
        pl.lit("restaurant").alias("type"),
        alias_lists(frame, aliases, dice.sub("aliases")).alias("aliases"),
        _google(dice.sub("google")).alias("google_place_id"),
    ).select(*COLUMNS, "kind", "group", "member")


def restaurants(n: int, seed: int, *, aliases: float = 4.4) -> pl.DataFrame:
    """Make restaurants with realistic names, addresses and phones.

    Args:
        n: How many.
        seed: What the draws depend on.
        aliases: Other names of each, on average.

    Returns:
        One line per restaurant: entity_id, name, type, aliases, address, city, phone, google_place_id, latitude,
        longitude.

    Example:
        >>> restaurants(2, 7).select("name", "city").rows()
        [("Betty and Cindy's Drive-In", 'New Orleans'), ('Lin Chan Restaurant', 'San Francisco')]
    """
    return places(n, seed, aliases=aliases).select(COLUMNS)

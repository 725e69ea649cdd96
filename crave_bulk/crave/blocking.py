"""Blocking: which entities could be the one that a name means, without comparing each with each.

Names that may mean the same share a key: the skeleton of a word, the beginning or the end of the whole name, a
telephone number, a house in a street. Keys that very many names share tell nothing on their own, and count only two
at a time, or together with the city: so the number of pairs grows with the number of names, not with its product.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from crave_bulk.crave.names import skeleton, word

_COMMON = 60  # names that share a key, beyond which it is not followed on its own
_CROWDED = 150  # the same for what two keys share
_ENDS = 5  # letters at either end of a name without its spaces
_PLACE_KEYS = (["place_id"], ["phone"], ["house", "street"], ["house", "start"], ["house", "city"])
_START = 4  # letters of a street
_SAME_CITY = 4.0  # worth in blocking, in nats
_SLICE = 200_000  # names
_WORTH = 0.6  # of what the likeliest has in common with a row, that others have at least
_BEST = 6  # entities a row is compared with, closely


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two lists that are compared.

    Attributes:
        rows: ``id`` (0, 1, …) and what is known of each: type, place_id, phone, house, street, city, latitude,
            longitude, and how many have its ``phones`` and ``houses``.
        names: ``id`` of the row, its ``type``, ``simple``, whether it is an ``alias``, and whether it is only a ``part`` of
            a name: every name that the row goes by.
    """

    rows: pl.DataFrame
    names: pl.DataFrame


def name_keys(names: pl.LazyFrame) -> pl.LazyFrame:
    """List the keys of names: the skeletons of their words, and the beginning and the end of the whole.

    Args:
        names: ``id`` (a number), ``type`` and ``simple``.

    Returns:
        ``id``, ``key`` (a hash) and ``end`` (it is the beginning or the end of the whole).

    Example:
        >>> names = pl.LazyFrame({"id": [1, 2], "type": ["food", "food"], "simple": ["apple pie", "aple pies"]})
        >>> shared = name_keys(names).collect().filter(pl.col("key").is_duplicated())
        >>> shared["end"].to_list()
        [False, False, False, False]
    """
    kind = pl.col("type").hash(5)
    split = names.with_columns(pl.col("simple").str.split(" ")).explode("simple")
    # There are far fewer different words than words, and what each comes to takes longest.
    bones = split.select("simple").unique().with_columns(bones=skeleton(word(pl.col("simple"))).hash(1))
    keyed = split.join(bones, on="simple").select("id", key=pl.col("bones") ^ kind, end=False)
    whole = pl.col("simple").str.replace_all(" ", "", literal=True)
    long = names.filter(whole.str.len_bytes() >= _ENDS)
    ends = [
        frame.select("id", key=part.hash(seed) ^ kind, end=True)
        for seed, frame, part in ((2, names, whole.str.head(_ENDS)), (3, long, whole.str.tail(_ENDS)))
    ]
    return pl.concat([keyed, *ends])


def same_names(left: Side, right: Side) -> pl.DataFrame:
    """Pair the rows that share a name in its simplest form.

    Args:
        left: the rows that are looked up.
        right: the entities.

    Returns:
        ``left`` and ``right``, the ids; ``alias``, whether the entity has it as an alias only; and ``times``, how many
        entities have the name, of which no more than some hundreds are paired.
    """
    on = ["type", "simple"]
    asked = left.names.filter(~pl.col("part")).select(*on, left="id")
    names = (
        right.names.lazy()
        .filter(~pl.col("part"))
        .join(asked.lazy().select(on).unique(), on=on, how="semi")
        .collect(engine="streaming")
    )
    once = names.group_by(*on, right="id").agg(pl.col("alias").min()).sort(*on, "right")
    few = once.with_columns(times=pl.len().over(on)).filter(pl.int_range(pl.len()).over(on) < _CROWDED)
    both = asked.join(few, on=on).with_columns(
        words=1 + pl.col("simple").str.count_matches(" ", literal=True)
    )
    named = pl.col("alias", "times").min(), pl.col("words").max()
    return both.group_by("left", "right", maintain_order=True).agg(*named)


def pairs(left: Side, right: Side) -> pl.DataFrame:
    """Pair the rows of one list with those of another that they could mean, the likeliest few of each.

    Args:
        left: the rows that are looked up.
        right: the entities.

    Returns:
        ``left`` and ``right``, the ids, each pair once.
    """
    asked = _keys(left)
    found = _keys(right, asked.select("key").unique())
    often = (
        found.group_by("key")
        .agg(times=pl.len())
        .with_columns(weight=(1 + right.rows.height / pl.col("times")).log().cast(pl.Float32))
    )
    asked, found = (keys.join(often, on="key") for keys in (asked, found))
    lone = _meet(asked.filter(pl.col("times") <= _COMMON), found)
    asked, found = (keys.filter(pl.col("times") > _COMMON) for keys in (asked, found))
    twice = _meet_uncrowded(_twice(asked), _twice(found))
    nearby = _meet_uncrowded(_with_city(left, asked), _with_city(right, found))
    alike = pl.concat([lone, twice, nearby]).group_by("left", "right").agg(pl.col("weight").sum())
    at_place = [_at_same_place(left.rows, right.rows, columns) for columns in _PLACE_KEYS]
    return pl.concat([_likeliest(left, right, alike), *at_place]).unique()


def _likeliest(left: Side, right: Side, alike: pl.DataFrame) -> pl.DataFrame:
    """Keep the best few of each row; of those with as much in common, the ones in its city."""
    here, there = (side.rows.select("id", city=pl.col("city").hash(9)) for side in (left, right))
    both = alike.join(here, left_on="left", right_on="id").join(
        there, left_on="right", right_on="id", suffix="_2"
    )
    near = pl.when(pl.col("city") == pl.col("city_2")).then(_SAME_CITY).otherwise(0.0)
    weight = pl.col("weight")
    rated = both.with_columns(weight + near)
    worthy = rated.filter(weight >= _WORTH * weight.max().over("left")).sort(
        "weight", "right", descending=[True, False]
    )
    return worthy.select("left", "right").group_by("left", maintain_order=True).head(_BEST)


def _keys(side: Side, wanted: pl.DataFrame | None = None) -> pl.DataFrame:
    """List the keys of each row; where `wanted` is given, those alone, as most rows of a large list share none."""
    # All at once, the keys of a large list would take more than its names; all names of a row are taken together.
    size = _SLICE * side.rows.height // max(1, side.names.height) + 1
    starts = range(0, max(side.rows["id"].tail(1).to_list(), default=-1) + 1, size)
    parts = [
        _keys_of(side.names.filter(pl.col("id").is_between(start, start + size - 1)), wanted)
        for start in starts
    ]
    return pl.concat(parts or [_keys_of(side.names, wanted)])


def _keys_of(names: pl.DataFrame, wanted: pl.DataFrame | None) -> pl.DataFrame:
    keys = name_keys(names.lazy().select("id", "type", "simple"))
    if wanted is not None:
        keys = keys.join(wanted.lazy(), on="key", how="semi")
    return keys.unique(["id", "key"]).collect(engine="streaming")


def _meet(asked: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    asked = asked.select("key", left="id")
    return asked.join(found.select("key", "weight", right="id"), on="key").select("left", "right", "weight")


def _meet_uncrowded(asked: pl.LazyFrame, found: pl.LazyFrame) -> pl.DataFrame:
    """Let two lists meet on keys that are made of two, which would be many before most are left out."""
    mine = asked.collect()
    wanted = mine.lazy().select("key").unique()
    theirs = found.join(wanted, on="key", how="semi").collect(engine="streaming")
    return _meet(mine, theirs.filter(pl.len().over("key") <= _CROWDED))


def _twice(keys: pl.DataFrame) -> pl.LazyFrame:
    """Make one key of each two words that a row has."""
    of_words = keys.lazy().filter(~pl.col("end")).select("id", "key", "weight")
    both = of_words.join(of_words, on="id", suffix="_2").filter(pl.col("key") < pl.col("key_2"))
    mixed = pl.col("key").hash(7) ^ pl.col("key_2").hash(8)
    return both.select("id", key=mixed, weight=pl.col("weight") + pl.col("weight_2"))


def _with_city(side: Side, keys: pl.DataFrame) -> pl.LazyFrame:
    """Make one key of each that a row has, and its city."""
    cities = side.rows.lazy().filter(pl.col("city").is_not_null()).select("id", city=pl.col("city").hash(9))
    both = keys.lazy().join(cities, on="id")
    return both.select("id", key=pl.col("key").hash(7) ^ pl.col("city"), weight="weight")


def _at_same_place(left: pl.DataFrame, right: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    on = ["type", *columns]
    start = pl.col("street").str.head(_START).alias("start")
    found = right.with_columns(start).select(*on, right="id").drop_nulls()
    asked = left.with_columns(start).select(*on, left="id").drop_nulls()
    found = found.join(asked.select(on).unique(), on=on, how="semi").filter(pl.len().over(on) <= _COMMON)
    return asked.join(found, on=on).select("left", "right")

"""Evidence: how well two entities agree, and what that says about their being one.

Each pair is described by a handful of features: how much of the names agrees, weighted by how rare the words are, and
whether telephone, address, city, coordinates and place id agree, differ or are not known. A logistic model adds up what
each is worth, so that its sum is the log-odds of the two being the same (Fellegi and Sunter 1969, "A Theory for Record
Linkage", with the weights fitted together rather than one by one).
"""

from __future__ import annotations

import polars as pl

from crave_bulk.crave.blocking import Side
from crave_bulk.crave.names import GENERIC, OUTLETS, SMALL, skeleton, word, words
from crave_bulk.engine import query

_NAMES_OF_EACH = 2  # of the names of an entity, those that are most alike are compared word by word
_SAMPLE = 200_000  # names to count words in
_UNSEEN = (
    2_000  # names that a list is taken to stand for beside its own: in a short one nothing would be rare
)
# What a word is worth that names a kind of place, is an article, or names the city.
_GENERIC_WORTH, _SMALL_WORTH, _CITY_WORTH = 0.35, 0.1, 0.25

# How alike two words are: a typo in a long word weighs less than one in a short word; numbers are the same or not.
_ALIKE = """CASE
        WHEN l.word = r.word THEN 1.0
        WHEN l.digits OR r.digits THEN 0.0
        WHEN l.bones = r.bones AND length(l.bones) > 2 AND least(length(l.word), length(r.word)) > 4 THEN 0.95
        WHEN least(length(l.word), length(r.word)) < 4 THEN 0.0
        WHEN starts_with(l.word, r.word) OR starts_with(r.word, l.word) THEN 0.9
        -- which is ten times quicker, and says no to nearly all
        WHEN jaro_winkler_similarity(l.word, r.word) < 0.75 THEN 0.0
        WHEN damerau_levenshtein(l.word, r.word) <= least(length(l.word), length(r.word)) // 4 THEN 0.88
        ELSE 0.0 END"""


def _worth(side: str) -> str:
    return f"{side}.worth * CASE WHEN contains(p.town, ' ' || {side}.word) THEN {_CITY_WORTH} ELSE 1 END"


_NAMES = f"""
WITH met AS (
    SELECT p.pair, l.place AS a, r.place AS b, {_worth("l")} AS l_worth, {_worth("r")} AS r_worth, {_ALIKE} AS alike,
        l.outlet AS l_outlet, r.outlet AS r_outlet
    FROM pairs AS p JOIN words AS l USING (line) JOIN words_2 AS r USING (line_2)
),
lefts AS (SELECT pair, any_value(l_worth) AS worth, max(alike) AS alike, any_value(l_outlet) AS outlet FROM met GROUP BY pair, a),
rights AS (SELECT pair, any_value(r_worth) AS worth, max(alike) AS alike, any_value(r_outlet) AS outlet FROM met GROUP BY pair, b),
l AS (SELECT pair, sum(worth) AS worth, sum(worth * alike) AS met, bool_or(outlet AND alike = 0) AS outlet FROM lefts GROUP BY pair),
r AS (SELECT pair, sum(worth) AS worth, sum(worth * alike) AS met, bool_or(outlet AND alike = 0) AS outlet FROM rights GROUP BY pair)
SELECT pair, (l.met + r.met) / (l.worth + r.worth) AS common,
    greatest(l.met / l.worth, r.met / r.worth) AS covered, least(l.met, r.met) AS shared, least(l.worth, r.worth) AS whole,
    l.outlet AND r.outlet AS other_outlet, l.outlet <> r.outlet AS one_outlet
FROM l JOIN r USING (pair)
"""

_LIKEST = f"""
SELECT * EXCLUDE (likest) FROM (
    SELECT *, row_number() OVER (PARTITION BY "left", "right" ORDER BY jaro_winkler_similarity(glued, glued_2) DESC, alias, simple_2, part_2, simple, part) AS likest
    FROM named
) WHERE likest <= {_NAMES_OF_EACH}
"""

_CLOSE = """
SELECT pair, CASE WHEN jaro_winkler_similarity(glued, glued_2) < 0.75 THEN 0
    ELSE 1 - damerau_levenshtein(glued, glued_2) / greatest(length(glued), length(glued_2)) END AS close
FROM lines
"""

# 1 where the two agree, -1 where they differ, 0 where one of them is not known, something in between where they nearly do.
_PLACES = """
WITH known AS (
    SELECT p."left", p."right", l.* EXCLUDE (id, type, phones, houses),
        r.phone AS phone_2, r.house AS house_2, r.street AS street_2,
        r.city AS city_2, r.place_id AS place_id_2,
        greatest(l.phones, r.phones) AS with_phone, greatest(l.houses, r.houses) AS in_house,
        111.2 * sqrt((l.latitude - r.latitude) ** 2
            + ((l.longitude - r.longitude) * cos(radians(l.latitude))) ** 2) AS km,
        string_split(l.street, ' ') AS ways, string_split(r.street, ' ') AS ways_2,
        NOT regexp_matches(l.street || r.street, '[0-9]') AS worded,
        jaro_winkler_similarity(l.street, r.street) AS close
    FROM pairs AS p JOIN lefts AS l ON l.id = p."left" JOIN rights AS r ON r.id = p."right"
),
told AS (
    SELECT *, len(list_intersect(ways, ways_2)) AS met,
        met = least(len(ways), len(ways_2)) OR (worded AND close > 0.88) AS same_street
    FROM known
)
SELECT "left", "right",
    CASE WHEN place_id = place_id_2 THEN 1 WHEN place_id <> place_id_2 THEN -1 ELSE 0 END AS place,
    CASE WHEN right(phone, 7) = right(phone_2, 7) THEN 1
        WHEN damerau_levenshtein(phone, phone_2) = 1 THEN 0.5 WHEN phone <> phone_2 THEN -1 ELSE 0 END AS phone,
    CASE WHEN same_street IS NULL THEN 0
        WHEN same_street AND house = house_2 THEN 1
        WHEN same_street AND house <> house_2 THEN -0.5
        WHEN same_street OR (house = house_2 AND 2 * met >= greatest(len(ways), len(ways_2))) THEN 0.5
        ELSE -1 END AS address,
    CASE WHEN contains(' ' || city || ' ', ' ' || city_2 || ' ') THEN 1
        WHEN contains(' ' || city_2 || ' ', ' ' || city || ' ') THEN 1
        WHEN jaro_winkler_similarity(city, city_2) > 0.92 AND NOT regexp_matches(city, '[0-9]') THEN 1
        WHEN city <> city_2 THEN -1 ELSE 0 END AS city,
    CASE WHEN km < 0.25 THEN 1 WHEN km < 1 THEN 0.5 WHEN km < 5 THEN -0.5 WHEN km >= 5 THEN -1 ELSE 0 END AS near,
    coalesce(with_phone, 1) AS with_phone, coalesce(in_house, 1) AS in_house
FROM told
"""


_NAME = {
    "name": 0.0, "same": False, "covered": 0.0, "shared": 0.0, "other_outlet": False, "one_outlet": False,
    "alias": False,
}  # fmt: skip
_KNOWN = ["place_id", "phone", "street", "city", "latitude"]
_PLACE = {
    "place": 0.0,
    "phone": 0.0,
    "address": 0.0,
    "city": 0.0,
    "near": 0.0,
    "with_phone": 1,
    "in_house": 1,
}


def compare(left: Side, right: Side, pairs: pl.DataFrame) -> pl.DataFrame:
    """Describe how well the two rows of each pair agree.

    Args:
        left: the rows that are looked up.
        right: the entities.
        pairs: ``left`` and ``right``, ids.

    Returns:
        The pairs, with the best of the names of each: ``name`` (how alike the names are, 0 to 1), ``same`` (they are the
        same words), ``covered`` (how much of the one is in the other, 0 to 1), ``shared`` (what they share, in nats),
        ``other_outlet`` (each is called another part of a hotel), ``one_outlet`` (one of the two is), ``alias`` (it was an alias
        of the entity); and ``place``, ``phone``, ``address``, ``city`` and ``near``: 1 where they agree, -1 where they differ, 0
        where one is not known, and steps in between; and ``with_phone`` and ``in_house``, how many share the telephone and
        the house, on the side where more do.
    """
    if not pairs.height:
        return pairs.with_columns(pl.lit(value).alias(name) for name, value in (_NAME | _PLACE).items())
    lines = _lines(left, right, pairs)
    named = lines.join(_words_in_common(left, right, lines), on="pair", how="left").with_columns(
        pl.col("common", "covered", "shared", "whole").fill_null(0),
        pl.col("other_outlet", "one_outlet").fill_null(False),
    )
    one = pl.col("glued") == pl.col("glued_2")
    # Another letter in a long word is found word by word; in a short one it makes another: Ray's and Roy's.
    spaces, spaces_2 = (pl.col(name).str.count_matches(" ", literal=True) for name in ("simple", "simple_2"))
    spaced = spaces != spaces_2
    typed = pl.when((pl.col("close") >= 0.8) & spaced).then("close").otherwise(0.0)
    rated = named.with_columns(
        same=(one | (pl.col("common") > 0.995)) & ~pl.col("part") & ~pl.col("part_2"),
        shared=pl.when(one).then("whole").otherwise("shared"),
        name=pl.when(one).then(1.0).otherwise(pl.max_horizontal("common", typed)),
        covered=pl.when(one).then(1.0).otherwise(pl.max_horizontal("covered", typed)),
    )
    # A hotel goes by its name alone as well, which must not hide that one is its bar and the other its lounge.
    pair = ["left", "right"]
    rated = rated.with_columns(
        other_outlet=pl.col("other_outlet").any().over(pair) & ~pl.col("same").any().over(pair)
    )
    # Rounded and to the last detail, as sums of fractions and what is equal come out another way every time.
    rated = rated.with_columns(pl.col("name", "covered", "shared").round(6))
    order = ["name", "covered", "same", "shared", "alias", "one_outlet"]
    best = rated.sort(order, descending=[True] * 4 + [False] * 2).unique(pair, keep="first")
    found = best.select(*pair, *_NAME)
    return found.join(_places(left, right, pairs), on=pair)


def compare_places(left: Side, right: Side, same: pl.DataFrame) -> pl.DataFrame:
    """Describe how well the two rows of each pair agree, where their names are the same.

    Args:
        left: the rows that are looked up.
        right: the entities.
        same: what `crave_bulk.crave.blocking.same_names` gives.

    Returns:
        The columns of `compare`.
    """
    rare = (1 + (_UNSEEN + right.rows.height) / pl.col("times")).log() * pl.col("words")
    named = same.select(
        "left",
        "right",
        pl.lit(1.0).alias("name"),
        same=True,
        covered=1.0,
        shared=rare,
        other_outlet=False,
        one_outlet=False,
        alias="alias",
    )
    return named.join(_places(left, right, same.select("left", "right")), on=["left", "right"])


def _places(left: Side, right: Side, pairs: pl.DataFrame) -> pl.DataFrame:
    known = left.rows.select(pl.any_horizontal(pl.col(_KNOWN).is_not_null().any())).item()
    if not (pairs.height and known):
        return pairs.with_columns(pl.lit(value).alias(name) for name, value in _PLACE.items())
    lefts = left.rows.filter(pl.col("id").is_in(pairs["left"].unique().implode()))
    rights = right.rows.filter(pl.col("id").is_in(pairs["right"].unique().implode()))
    found = query(_PLACES, pairs=pairs, lefts=lefts, rights=rights)
    # What is there must not depend on whether there were pairs.
    return found.with_columns(
        pl.col(n).cast(pl.Float64 if type(v) is float else pl.Int32) for n, v in _PLACE.items()
    )


def _lines(left: Side, right: Side, pairs: pl.DataFrame) -> pl.DataFrame:
    """Pair the names of the rows of each pair, of which the most alike are kept."""
    glued = pl.col("simple").str.replace_all(" ", "", literal=True)
    mine = left.names.with_row_index("line").join(pairs, left_on="id", right_on="left")
    theirs = right.names.with_row_index("line").filter(pl.col("id").is_in(pairs["right"].unique().implode()))
    both = mine.select("right", "line", "part", "simple", left="id", glued=glued).join(
        theirs.select("line", "alias", "part", "simple", right="id", glued=glued),
        on="right",
        suffix="_2",
    )
    few = query(_LIKEST, named=both)
    towns = [side.rows.select("id", "city") for side in (left, right)]
    towned = few.join(towns[0], left_on="left", right_on="id").join(
        towns[1], left_on="right", right_on="id", suffix="_2"
    )
    town = pl.concat_str(pl.lit(""), "city", "city_2", separator=" ", ignore_nulls=True)
    numbered = towned.with_columns(town=town).with_row_index("pair")
    return numbered.join(query(_CLOSE, lines=numbered.select("pair", "glued", "glued_2")), on="pair")


def _words_in_common(left: Side, right: Side, lines: pl.DataFrame) -> pl.DataFrame:
    """Compare names word by word; what a word is worth depends on how many names have it."""
    sides = [_words(left, lines["line"]), _words(right, lines["line_2"])]
    often = _often(right, pl.concat([side["bones"] for side in sides]).unique())
    rare = (1 + (_UNSEEN + right.names.height) / pl.col("times").fill_null(1)).log()
    generic = pl.when(pl.col("word").is_in(GENERIC)).then(_GENERIC_WORTH)
    worth = generic.when(pl.col("word").is_in(SMALL)).then(_SMALL_WORTH).otherwise(1.0)
    mine, theirs = (
        side.join(often, on="bones", how="left").with_columns(worth=worth * rare) for side in sides
    )
    asked = lines.select("pair", "line", "line_2", "town")
    return query(_NAMES, pairs=asked, words=mine, words_2=theirs.rename({"line": "line_2"}))


def _words(side: Side, lines: pl.Series) -> pl.DataFrame:
    names = side.names.with_row_index("line").filter(pl.col("line").is_in(lines.unique().implode()))
    told = names.select("line", word=words(pl.col("simple"))).explode("word").filter(pl.col("word") != "and")
    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("line")
    return told.with_columns(
        place=place,
        bones=skeleton(pl.col("word")),
        digits=pl.col("word").str.contains(r"^\d+$"),
        outlet=pl.col("word").is_in(OUTLETS),
    )


def _often(side: Side, bones: pl.Series) -> pl.DataFrame:
    """Look up how many names have each word, up to typos."""
    wanted = pl.DataFrame({"bones": bones})
    if side.kept is None:
        return _counted(side, wanted)
    return side.keep("often", lambda: _counted(side)).join(wanted, on="bones", how="semi")


def _counted(side: Side, wanted: pl.DataFrame | None = None) -> pl.DataFrame:
    """Estimate how many names have each word, or each of some, from a sample where there are very many."""
    step = 1 + side.names.height // _SAMPLE
    # By entities: which are taken must not depend on the order of the rows.
    some = side.names.lazy().filter(pl.col("id") % step == 0)
    split = some.select(word=pl.col("simple").str.split(" ")).explode("word")
    every = split.select(bones=skeleton(word(pl.col("word"))))
    if wanted is not None:
        every = every.join(wanted.lazy(), on="bones", how="semi")
    return every.group_by("bones").agg(times=pl.len() * step).collect()

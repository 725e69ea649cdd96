"""Mentions of restaurants and foods, as a language model extracts them from posts and comments, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from data.crave import changes
from data.crave.catalog import FOODS, SLOPPY
from data.crave.dice import Dice, Floats, Ints, uuids
from data.crave.names import distinct
from data.crave.places import places
from data.crave.rewriting import NAMES, PLACES, TYPIST, Step, written
from data.crave.words import dishes, food_file, pool, sentences, templates

END = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 730  # before the end, in which threads begin
TALK = 5  # days that a thread goes on
SHARES = [0.7, 0.2, 0.1]  # of names written as they are, lightly and heavily changed
ALIASES = 0.35  # of those that are written as they are, the share that goes by an alias
WRITTEN = pl.Series(["exact", "light", "heavy", "alias"])
CITY, CITY_OF_MANY, ADDRESS = 0.2, 0.85, 0.1  # how often a city is given, where names repeat, and an address
AS_IT_IS = [
    Step("name", 0.45, changes.lower),
    Step("name", 0.02, changes.upper),
    Step("name", 0.15, changes.drop_punctuation),
    Step("name", 0.10, changes.drop_apostrophes),
]
HEAVY = [step for step in TYPIST if step.column == "name"] + NAMES
EVIDENCE = [step for step in PLACES if step.column != "phone"]
COLUMNS = (
    "source_id", "source_type", "source_url", "subreddit", "thread", "author", "content_excerpt", "upvotes",
    "created_at", "restaurant", "food", "categories", "food_attributes", "restaurant_attributes", "address", "city",
)  # fmt: skip


@dataclass(frozen=True)
class Things:
    """What can be mentioned: first the known, then the new."""

    frame: pl.DataFrame
    known: int
    appeal: Floats


def zipf(size: int, dice: Dice, bonus: Floats | None = None) -> Floats:
    """Say how popular each thing is: the one of rank r as often as 1 / (r + 5).

    Args:
        size: How many things there are.
        dice: The draws; their size is not used.
        bonus: What is taken off a draw from 0 to 1, so that some are rather popular.

    Returns:
        One weight per thing.
    """
    draw = dice.sub("rank", size).uniform()
    rank = np.argsort(np.argsort(draw if bonus is None else draw - bonus, kind="stable"), kind="stable")
    return np.reciprocal(rank.astype(np.float64) + 5.0)


def _unknown(names: pl.Series, known: pl.DataFrame) -> pl.Series:
    """Say which names no known thing has, as its name or an alias.

    Args:
        names: The names.
        known: name and aliases of what is known.

    Returns:
        True or false for each.
    """
    taken = pl.concat([known["name"], known["aliases"].explode().drop_nulls()]).str.to_lowercase()
    return ~names.str.to_lowercase().is_in(taken.unique().implode())


def _restaurants(known: pl.DataFrame, dice: Dice, new: int) -> Things:
    """Put new restaurants behind the known ones.

    Args:
        known: The known ones.
        dice: The draws.
        new: How many new ones there are at most.

    Returns:
        All of them.
    """
    columns = ["entity_id", "name", "aliases", "address", "city"]
    made = places(new + 1, dice.sub("new", 1).below(1 << 30).item(), aliases=2.0).select(columns)
    both = pl.concat([known.select(columns), made.filter(_unknown(made["name"], known))])
    many = pl.col("name").str.to_lowercase().is_duplicated()
    appeal = np.concatenate([zipf(len(known), dice), zipf(len(both) - len(known), dice.sub("new"))])
    return Things(both.with_columns(many=many), len(known), appeal)


def _parents(known: pl.DataFrame) -> pl.DataFrame:
    """List the categories of foods, by name.

    Args:
        known: The foods.

    Returns:
        One line per food: the names of its parents.
    """
    every = food_file("foods.csv").select("food_id", "name")
    parents = food_file("is_a.csv").join(
        every, left_on="category_id", right_on="food_id", maintain_order="left"
    )
    named = parents.select("food_id", parent="name").join(every, on="food_id", maintain_order="left")
    lists = named.group_by(pl.col("name").str.to_lowercase(), maintain_order=True).agg("parent")
    keyed = known.select(pl.col("name").str.to_lowercase())
    joined = keyed.join(lists, on="name", how="left", maintain_order="left")
    return joined.select(parents=pl.col("parent").list.unique(maintain_order=True).fill_null([]))


def _foods(known: pl.DataFrame, dice: Dice, new: int) -> Things:
    """Put new foods behind the known ones; dishes are rather popular.

    Args:
        known: The known ones.
        dice: The draws.
        new: How many new ones there are at most.

    Returns:
        All of them.
    """
    made = (
        distinct(templates("new_foods"), dice.sub("new", new + 1))
        .str.to_lowercase()
        .unique(maintain_order=True)
    )
    made = made.filter(_unknown(made, known))
    fresh = pl.DataFrame({"entity_id": uuids(dice.sub("ids", len(made))), "name": made})
    empty = pl.lit([], dtype=pl.List(pl.String))
    old = pl.concat([known.select("entity_id", "name", "aliases"), _parents(known)], how="horizontal")
    both = pl.concat([old, fresh.with_columns(aliases=empty, parents=empty)])
    liked = old["name"].str.to_titlecase().is_in(dishes()).to_numpy() * 0.5
    appeal = np.concatenate([zipf(len(old), dice, liked), zipf(len(made), dice.sub("new"))])
    return Things(both, len(known), appeal)


def _drawn(things: Things, known: float, dice: Dice) -> Ints:
    """Draw what is mentioned, the popular more often.

    Args:
        things: What can be mentioned.
        known: The share of what is known.
        dice: The draws.

    Returns:
        A number per mention.
    """
    old, new = things.appeal[: things.known], things.appeal[things.known :]
    if not len(old) or not len(new):
        return dice.weighted(things.appeal)
    drawn: Ints = np.where(
        dice.hits(known), dice.sub("known").weighted(old), len(old) + dice.sub("new").weighted(new)
    )
    return drawn


def _sources(rows: int, dice: Dice) -> pl.DataFrame:
    """Lay out threads of sources, each of which names one to four pairs.

    Args:
        rows: How many pairs.
        dice: The draws.

    Returns:
        One line per pair: thread, source, its place in the thread, and whether it goes on with the pair before.
    """
    sizes = 1 + dice.weighted([0.7, 0.2, 0.07, 0.03])
    source = np.repeat(np.arange(rows), sizes)[:rows]
    lengths = 1 + dice.sub("threads").below(1 + dice.sub("lengths").below(24))
    thread = np.repeat(np.arange(rows), lengths)[:rows][source]
    frame = pl.DataFrame({"thread": thread, "source": source})
    return frame.with_columns(
        place=pl.col("source") - pl.col("source").min().over("thread"),
        more=pl.col("source") == pl.col("source").shift(1, fill_value=-1),
    )


def _pairs(n: int, known: float, eat: Things, visit: Things, dice: Dice) -> pl.DataFrame:
    """Draw which restaurant and which food each mention is of; restaurants have five foods they are known for.

    Args:
        n: How many mentions.
        known: The share of what is known.
        eat: The foods.
        visit: The restaurants.
        dice: The draws.

    Returns:
        What `_sources` returns, with restaurant and food as numbers; no source names a pair twice.
    """
    wide = dice.sub("pairs", n + n // 20 + 8)
    frame = _sources(wide.size, wide.sub("sources"))
    restaurant, food = _drawn(visit, known, wide.sub("visit")), _drawn(eat, known, wide.sub("eat"))
    again = (frame["more"].to_numpy()) & wide.hits(0.5)
    restaurant = np.where(again, np.roll(restaurant, 1), restaurant)
    signature = wide.sub("signature", 5 * len(visit.frame)).weighted(eat.appeal[: eat.known])
    usual = signature[5 * restaurant + wide.below(5)]
    food = np.where((food < eat.known) & wide.hits(0.5), usual, food)
    drawn = frame.with_columns(restaurant=pl.Series(restaurant), food=pl.Series(food))
    return drawn.unique(["source", "restaurant", "food"], keep="first", maintain_order=True).head(n)


_PAIRS = pl.Series(
    [
        f"{a}{b}"
        for a in "0123456789abcdefghijklmnopqrstuvwxyz"
        for b in "0123456789abcdefghijklmnopqrstuvwxyz"
    ]
)


def base36(numbers: Ints) -> pl.Series:
    """Write numbers as Reddit writes identifiers.

    Args:
        numbers: Numbers below 36 to the power of 8.

    Returns:
        Texts without leading zeros.

    Example:
        >>> base36(np.array([35, 1_000_000_000])).to_list()
        ['z', 'gjdgxs']
    """
    parts = [pl.lit(_PAIRS[numbers // 1296**power % 1296]) for power in (3, 2, 1, 0)]
    return pl.select(pl.concat_str(parts).str.strip_chars_start("0")).to_series()


def _numbered(start: int, step: int, dice: Dice) -> pl.Series:
    """Draw identifiers that grow.

    Args:
        start: The number before the first.
        step: How far apart they are at most.
        dice: The draws.

    Returns:
        One identifier per row.
    """
    return base36(start + np.cumsum(1 + dice.below(step)))


def _threads(count: int, dice: Dice) -> pl.DataFrame:
    """Make threads, the oldest first.

    Args:
        count: How many.
        dice: The draws.

    Returns:
        One line per thread: its identifier, subreddit, and when it began.
    """
    rows = dice.sub("threads", count)
    seconds = np.sort(rows.below((DAYS - TALK) * 86_400))
    begun = pl.lit(END - timedelta(days=DAYS)) + pl.duration(seconds=changes.draws(seconds))
    subreddit = rows.pick(pool("subreddit"))
    names = _numbered(62_000_000_000, 400_000, rows)
    return pl.select(
        changes.draws(names).alias("thread"), changes.draws(subreddit).alias("subreddit"), begun=begun
    )


def _upvotes(posts: pl.Expr, dice: Dice) -> pl.Expr:
    """Draw upvotes: most have a few, few have thousands, some less than none.

    Args:
        posts: Whether each is a post, which gets more.
        dice: The draws.

    Returns:
        Whole numbers.
    """
    many = changes.draws(np.floor(1.5 / (dice.uniform() + 0.0003)).astype(np.int64))
    liked = many * pl.when(posts).then(6).otherwise(1)
    return pl.when(changes.draws(dice.hits(0.05))).then(-changes.draws(dice.below(12))).otherwise(liked)


def _author(dice: Dice) -> pl.Expr:
    """Draw names of authors.

    Args:
        dice: The draws.

    Returns:
        Texts like "hungry_otter42".
    """
    words = [changes.draws(dice.pick(pool(name))) for name in ("author_start", "author_end")]
    return pl.concat_str(words[0], pl.lit("_"), words[1], changes.draws(dice.below(100)).cast(pl.String))


def _origins(layout: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Tell of each source where, when and by whom it was written.

    Args:
        layout: thread, source and place of each mention.
        dice: The draws.

    Returns:
        One line per mention: the columns from source_id to created_at, but for the excerpt.
    """
    sources = layout.unique("source", maintain_order=True)
    rows = dice.sub("sources", len(sources))
    threads = _threads(layout["thread"].n_unique(), dice)[sources["thread"]]
    post = sources["place"] == 0
    late = np.floor(rows.uniform() * rows.uniform() * TALK * 86_400_000_000).astype(np.int64)
    comment = _numbered(41_000_000_000_000 // 100, 90_000, rows)
    here = threads.rename({"thread": "id"}).with_columns(sources["source"])
    told = here.select(
        "source",
        source_id=pl.when(post).then("t3_" + pl.col("id")).otherwise("t1_" + changes.draws(comment)),
        source_type=pl.when(post).then(pl.lit("post")).otherwise(pl.lit("comment")),
        source_url=pl.concat_str(
            pl.lit("https://www.reddit.com/r/"), "subreddit", pl.lit("/comments/"), "id", pl.lit("/"),
            pl.when(post).then(pl.lit("")).otherwise("_/" + changes.draws(comment) + "/"),
        ),
        subreddit="subreddit",
        thread="id",
        author=_author(rows),
        upvotes=_upvotes(pl.lit(post), rows),
        created_at=pl.col("begun") + pl.duration(microseconds=pl.when(post).then(0).otherwise(changes.draws(late))),
    )  # fmt: skip
    return layout.select("source").join(told, on="source", how="left", maintain_order="left")


def _spelled(things: pl.DataFrame, styles: list[list[Step]], dice: Dice) -> pl.DataFrame:
    """Write the names of what is mentioned: most as they are or by an alias, some lightly changed, some heavily.

    Args:
        things: name and aliases of what each mention is of, and what the changes look at.
        styles: The changes of each way.
        dice: The draws.

    Returns:
        One line per mention: name, and which way it was written.
    """
    way, count = dice.weighted(SHARES), things["aliases"].list.len().to_numpy()
    by_alias = (way == 0) & dice.hits(ALIASES) & (count > 0)
    other = pl.col("aliases").list.get(changes.draws(dice.below(np.maximum(count, 1))), null_on_oob=True)
    lines = things.with_columns(name=pl.when(changes.draws(by_alias)).then(other).otherwise("name"))
    lines = lines.with_row_index("row")
    parts = [
        written(
            lines[np.flatnonzero(way == number)], steps, dice.sub(str(number), int((way == number).sum()))
        )
        for number, steps in enumerate(styles)
    ]
    found = pl.concat(parts).sort("row").select(pl.col("name").str.strip_chars())
    return found.with_columns(WRITTEN[np.where(by_alias, 3, way)].alias("written"))


def _evidence(visited: pl.DataFrame, dice: Dice) -> pl.DataFrame:
    """Give the city of some restaurants, of most whose name is not theirs alone, and the address of a few.

    Args:
        visited: address and city of the restaurant of each mention, and whether many have its name.
        dice: The draws.

    Returns:
        address and city, as people write them, or null.
    """
    rate = pl.when("many").then(CITY_OF_MANY).otherwise(CITY)
    told = changes.draws(dice.uniform()) < rate
    where = written(visited.select("address", "city"), EVIDENCE, dice)
    return pl.concat([where, visited.select("many")], how="horizontal").select(
        pl.when(changes.draws(dice.hits(ADDRESS))).then("address").alias("address"),
        pl.when(told).then("city").alias("city"),
    )


def _categories(parents: pl.Expr, dice: Dice) -> pl.Expr:
    """Name the categories of foods: some in the plural, some in title case, of every seventh none.

    Args:
        parents: Lists of names.
        dice: The draws.

    Returns:
        Lists of names.
    """
    many = parents.list.eval(changes.plural(pl.element(), dice))
    ways = [parents, parents, parents, many, parents.list.eval(pl.element().str.to_titlecase())]
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return pl.when(changes.draws(dice.hits(1 / 7))).then(nothing).otherwise(changes.one_of(ways, dice))


def _traits(attributes: pl.DataFrame, dice: Dice) -> tuple[pl.Expr, pl.Expr]:
    """Draw up to three different attributes for each mention, written by their names or other words.

    Args:
        attributes: The attributes of a kind.
        dice: The draws.

    Returns:
        Lists of words, and lists of the true identifiers.
    """
    start, step = (
        dice.weighted(zipf(len(attributes), dice)),
        1 + dice.below(max(1, (len(attributes) - 1) // 2)),
    )
    count = changes.draws(dice.weighted([0.5, 0.3, 0.15, 0.05]))
    words, ids = [], []
    for number in range(3):
        lines = attributes[(start + number * step) % len(attributes)]
        alias = (changes.draws(dice.uniform()) * changes.draws(lines["aliases"].list.len())).cast(pl.Int64)
        other = (
            changes.draws(lines["aliases"])
            .list.get(alias, null_on_oob=True)
            .fill_null(changes.draws(lines["name"]))
        )
        words.append(
            pl.when(changes.draws(dice.hits(0.4))).then(other).otherwise(changes.draws(lines["name"]))
        )
        ids.append(changes.draws(lines["entity_id"]))
    return pl.concat_list(words).list.head(count), pl.concat_list(ids).list.head(count)


def _excerpt(dice: Dice) -> pl.Expr:
    """Write a sentence about each mention.

    Args:
        dice: The draws.

    Returns:
        Texts that name the food and the restaurant.
    """
    text = changes.draws(dice.pick(sentences()))
    for slot, value in {"food": pl.col("food"), "restaurant": pl.col("restaurant")}.items():
        text = text.str.replace(f"{{{slot}}}", value, literal=True)
    return text.str.replace("{praise}", changes.draws(dice.pick(pool("praise"))), literal=True)


def _truth(what: str, things: Things, numbers: pl.Series, spelled: pl.DataFrame) -> pl.DataFrame:
    """Tell what each mention is truly of.

    Args:
        what: "restaurant" or "food".
        things: What can be mentioned.
        numbers: What is mentioned.
        spelled: Which way each was written.

    Returns:
        One line per mention.
    """
    found = things.frame[numbers]
    columns = {"id": found["entity_id"], "name": found["name"], "new": numbers >= things.known}
    columns["written"] = spelled["written"]
    return pl.DataFrame({f"true_{what}_{key}": column for key, column in columns.items()})


def _attributes(attributes: pl.DataFrame, what: str, dice: Dice) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw the attributes of each mention.

    Args:
        attributes: Those of foods and of restaurants.
        what: "restaurant" or "food".
        dice: The draws.

    Returns:
        One line per mention: the words, and the truth.
    """
    words, ids = _traits(attributes.filter(type=f"{what}_attribute"), dice.sub(what))
    return pl.select(words.alias(f"{what}_attributes")), pl.select(ids.alias(f"true_{what}_attribute_ids"))


def extractions(
    n: int,
    restaurants: pl.DataFrame,
    foods: pl.DataFrame,
    attributes: pl.DataFrame,
    seed: int,
    *,
    known: float = 0.95,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make mentions, as a language model extracts them from posts and comments.

    Args:
        n: How many.
        restaurants: The restaurants that are known.
        foods: The foods that are known.
        attributes: The attributes that are known.
        seed: What the draws depend on.
        known: The share of the mentioned restaurants, and of the foods, that are among these; the others are new.

    Returns:
        The mentions, and the truth about each in the same order: source_id and columns that begin with true_; a new
        thing has an identifier of its own, the same wherever it is mentioned.

    Example:
        >>> from data.crave.catalog import attributes, foods
        >>> from data.crave.places import restaurants
        >>> mentions, truth = extractions(3, restaurants(20, 7), foods(), attributes(), 7)
        >>> mentions["content_excerpt"][0]
        'Had the chicken soup at chez hervé last night, better than ever.'
    """
    dice = Dice(seed, "extractions", n)
    fresh = round(n * (1 - known) / 3) + 1
    visit, eat = _restaurants(restaurants, dice.sub("visit"), fresh), _foods(foods, dice.sub("eat"), fresh)
    pairs = _pairs(n, known, eat, visit, dice)
    visited, eaten = visit.frame[pairs["restaurant"]], eat.frame[pairs["food"]]
    place = _spelled(visited, [AS_IT_IS, NAMES, HEAVY], dice.sub("places"))
    dish = _spelled(eaten, [AS_IT_IS, FOODS, SLOPPY], dice.sub("dishes"))
    traits = [_attributes(attributes, what, dice.sub("traits")) for what in ("food", "restaurant")]
    origins = _origins(pairs, dice.sub("origins"))
    named = pl.DataFrame({"restaurant": place["name"], "food": dish["name"]})
    told = _evidence(visited, dice.sub("evidence"))
    lists = eaten.select(_categories(pl.col("parents"), dice.sub("categories")).alias("categories"))
    mentions = pl.concat([origins, named, told, lists, *(words for words, _ in traits)], how="horizontal")
    truth = [
        _truth("restaurant", visit, pairs["restaurant"], place),
        _truth("food", eat, pairs["food"], dish),
    ]
    aside = pl.concat([origins.select("source_id"), *truth, *(ids for _, ids in traits)], how="horizontal")
    return mentions.with_columns(content_excerpt=_excerpt(dice.sub("excerpt"))).select(COLUMNS), aside

"""Decide: which of the candidates a name means, how sure that is, and what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from crave_bulk.crave.blocking import Side, pairs, same_names
from crave_bulk.crave.confidence import odds
from crave_bulk.crave.evidence import compare, compare_places
from crave_bulk.errors import ContractError

TIERS = ("exact", "alias", "fuzzy")
_ALIAS_OF_A_NAME = 0.05  # of its odds, that an alias has where another entity has it as its name
_LIKE_A_NAME = 0.05  # the same for an entity whose name is only like it
DECISION = pl.Enum(["exact", "alias", "merge", "review", "create", "none"])
_WORTH_NAMING = 0.001  # the confidence of a runner-up
_ELSEWHERE_AT_MOST = (
    2.0  # odds of all candidates in other cities together: they are for look-ups, and no question
)


@dataclass(frozen=True, slots=True)
class Rules:
    """How sure is sure enough.

    Attributes:
        merge_at: the confidence from which a name is taken for the entity.
        review_at: the confidence from which somebody should look.
        create: names without an entity become new ones; else they have none.
        candidates: how many entities to name for each.
        tiers: which tiers to try.
    """

    merge_at: float = 0.85
    review_at: float = 0.70
    create: bool = True
    candidates: int = 4
    tiers: tuple[str, ...] = TIERS

    def __post_init__(self) -> None:
        if not 0 < self.review_at <= self.merge_at <= 1:
            raise ContractError(
                f"merge_at={self.merge_at!r}, review_at={self.review_at!r}: 0 < review_at <= merge_at <= 1 is needed"
            )
        if type(self.candidates) is not int or self.candidates < 1:
            raise ContractError(f"candidates={self.candidates!r}: name 1 or more for each")
        if not self.tiers or set(self.tiers) - set(TIERS):
            raise ContractError(f"tiers={self.tiers!r}: choose from {', '.join(map(repr, TIERS))}")


def decide(left: Side, right: Side, rules: Rules) -> pl.DataFrame:
    """Find the candidates of each row, and choose.

    Args:
        left: the rows that are looked up.
        right: the entities.
        rules: how sure is sure enough.

    Returns:
        What `chosen` gives.
    """
    found = same = _same(left, right, rules.tiers)
    if "fuzzy" in rules.tiers:
        # Whoever only looks wants all that is alike; who writes needs no more than what is sure.
        rest = only(left, _unsure(same, left, rules)) if rules.create else left
        found = pl.concat([same, _behind(_alike(rest, right, same), same)])
    return chosen(found, rules, of=left)


def _unsure(same: pl.DataFrame, left: Side, rules: Rules) -> pl.Series:
    """Find the rows whose name alone does not tell which entity they mean."""
    sure = _rated(same).filter(pl.col("confidence") >= rules.merge_at)["left"]
    ids = left.rows["id"]
    return ids.filter(~ids.is_in(sure.implode()))


def candidates(left: Side, right: Side, tiers: Sequence[str] = TIERS) -> pl.DataFrame:
    """Find and weigh all candidates of each row.

    Args:
        left: the rows that are looked up.
        right: the entities.
        tiers: which tiers to try.

    Returns:
        Pairs with their evidence, ``odds`` and ``tier``.
    """
    same = _same(left, right, tiers)
    return pl.concat([same, _alike(left, right, same)]) if "fuzzy" in tiers else same


def only(side: Side, ids: pl.Series) -> Side:
    """Select some rows.

    Args:
        side: the rows.
        ids: which.

    Returns:
        Those, with their names.
    """
    chosen = pl.col("id").is_in(ids.implode())
    return Side(side.rows.filter(chosen), side.names.filter(chosen))


def _same(left: Side, right: Side, tiers: Sequence[str]) -> pl.DataFrame:
    """Weigh the candidates of the same name, or of a same alias."""
    same = odds(compare_places(left, right, same_names(left, right)))
    tier = pl.when("alias").then(pl.lit("alias")).otherwise(pl.lit("exact"))
    tried = same.with_columns(tier=tier).filter(pl.col("tier").is_in(list(tiers)))
    # What is one entity's name and another's alias means the one that has it as its name, unless the place says otherwise.
    named = (~pl.col("alias")).any().over("left")
    less = pl.when(pl.col("alias") & named).then(_ALIAS_OF_A_NAME).otherwise(1.0)
    return tried.with_columns(pl.col("odds") * less)


def _alike(left: Side, right: Side, same: pl.DataFrame) -> pl.DataFrame:
    """Weigh the candidates whose names are only alike."""
    alike = pairs(left, right).join(same, on=["left", "right"], how="anti")
    return odds(compare(left, right, alike)).with_columns(tier=pl.lit("fuzzy")).select(same.columns)


def _behind(alike: pl.DataFrame, same: pl.DataFrame) -> pl.DataFrame:
    """Put what is only alike behind an entity that has the very name, where nothing of its place speaks against that."""
    named = same.filter((pl.col("tier") == "exact") & (pl.col("odds") >= 1))["left"]
    less = pl.when(pl.col("left").is_in(named.implode())).then(_LIKE_A_NAME).otherwise(1.0)
    return alike.with_columns(pl.col("odds") * less)


def chosen(found: pl.DataFrame, rules: Rules, of: Side) -> pl.DataFrame:
    """Choose the likeliest candidate of each row, and decide what is to be done.

    At most one of its candidates can be what a row means. So the probability of each is its odds over the sum of all,
    and one for "none of them": two that are equally good are a question for somebody, and no answer.

    Args:
        found: pairs with their evidence, ``odds`` and ``tier``.
        rules: how sure is sure enough.
        of: the rows that are looked up.

    Returns:
        One line per row of `of`: ``left``, ``decision``, ``right`` (the candidate, or null where none is meant),
        ``confidence`` (that it is the candidate, or none of them), ``tier``, ``evidence`` and ``rivals``: the other candidates,
        a list of right and confidence.
    """
    rated = _rated(found)
    best = rated.filter(pl.col("rank") == 0).select(
        "left", "right", "tier", "confidence", "some", evidence=_evidence()
    )
    every = of.rows.select(left="id").join(best, on="left", how="left", maintain_order="left")
    decided = every.with_columns(decision=_decision(rules))
    meant = ~pl.col("decision").is_in(["create", "none"])
    told = decided.with_columns(
        right=pl.when(meant).then("right"),
        tier=pl.when(meant).then("tier"),
        confidence=pl.when(meant).then("confidence").otherwise(1 - pl.col("some").fill_null(0.0)),
    )
    rivals = _rivals(rated, told, rules.candidates)
    return told.drop("some").join(rivals, on="left", how="left", maintain_order="left")


def _rated(found: pl.DataFrame) -> pl.DataFrame:
    """Turn odds into probabilities, and rank the candidates of each row."""
    # However many branches of a chain there are in other cities, they do not make one of them likely.
    far = pl.when("elsewhere").then("odds").sum().over("left")
    bounded = (
        pl.when("elsewhere").then(pl.col("odds") * (_ELSEWHERE_AT_MOST / far).clip(0, 1)).otherwise("odds")
    )
    total = pl.col("odds").sum().over("left")
    # Rounded, as the last digits of a sum depend on the order of adding up.
    rated = found.with_columns(odds=bounded).with_columns(
        confidence=(pl.col("odds") / (1 + total)).round(6), some=(total / (1 + total)).round(6)
    )
    ordered = rated.sort("left", "confidence", "right", descending=[False, True, False])
    return ordered.with_columns(rank=pl.int_range(pl.len()).over("left"))


def _decision(rules: Rules) -> pl.Expr:
    sure, maybe = pl.col("confidence") >= rules.merge_at, pl.col("some") >= rules.review_at
    named = pl.when(pl.col("tier") == "fuzzy").then(pl.lit("merge")).otherwise("tier")
    none = pl.lit("create" if rules.create else "none")
    return pl.when(sure).then(named).when(maybe).then(pl.lit("review")).otherwise(none).cast(DECISION)


def _rivals(rated: pl.DataFrame, told: pl.DataFrame, candidates: int) -> pl.DataFrame:
    """List the candidates that were not chosen."""
    worth = (pl.col("rank") < candidates) & (pl.col("confidence") >= _WORTH_NAMING)
    few = rated.filter(worth).join(told.select("left", chosen="right"), on="left")
    rest = few.filter(pl.col("right").ne_missing(pl.col("chosen")))
    return rest.group_by("left", maintain_order=True).agg(rivals=pl.struct("right", "confidence"))


def _evidence() -> pl.Expr:
    """Say in words what speaks for and against."""
    alike = pl.format("names {}% alike", (100 * pl.col("name")).round(0).cast(pl.Int32))
    same = pl.when(pl.col("tier") == "alias").then(pl.lit("same as an alias"))
    names = (
        same.when(pl.col("tier") == "exact")
        .then(pl.lit("same name"))
        .when("same")
        .then(pl.lit("same words"))
        .otherwise(alike)
    )
    told = [
        pl.when(pl.col(column) == value).then(pl.lit(text))
        for column, values in _TEXTS.items()
        for value, text in values.items()
    ]
    return pl.concat_list(names, *told).list.drop_nulls()


_TEXTS: dict[str, dict[float, str]] = {
    "place": {1: "same place id", -1: "other place id"},
    "phone": {1: "same phone", 0.5: "nearly the same phone", -1: "other phone"},
    "address": {
        1: "same address",
        0.5: "address alike",
        -0.5: "other number in the street",
        -1: "other address",
    },
    "city": {1: "same city", -1: "other city"},
    "near": {1: "within 250 m", 0.5: "within 1 km", -0.5: "within 5 km", -1: "more than 5 km away"},
}

"""Merging: two entities that were found to be one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from crave_bulk.crave import graph
from crave_bulk.crave.ids import well_formed
from crave_bulk.crave.metrics import metrics, moment
from crave_bulk.crave.tables import TOP_MENTIONS, Connections, Entities, Lookups, Mentions, Reviews
from crave_bulk.database import Database
from crave_bulk.errors import ContractError
from crave_bulk.report import Report

_TRIPLE = ["restaurant_id", "food_id", "attributes"]
_LISTS = {"food": "categories", "food_attribute": "food_attributes"}
_COUNTS = ["mention_count", "total_upvotes", "source_diversity", "recent_mention_count"]
_FIRST_KNOWN = [
    "address",
    "google_place_id",
    "latitude",
    "longitude",
    "restaurant_metadata",
    "restaurant_quality_score",
]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge of two entities did.

    Attributes:
        entity_id: the entity that stays.
        counts: how many ``connections`` moved, how many of them were ``united`` with one that the other had, how many
            ``mentions`` moved, and how many of them were ``repeated``, as their source was there already.
        reports: of everything that was written, in order.
        database: where.
    """

    entity_id: str
    counts: dict[str, int]
    reports: list[Report] = field(repr=False)
    database: Any = field(repr=False)

    def undo(self, *, force: bool = False) -> Report:
        """Take the merge back.

        Args:
            force: leave what has changed since.

        Returns:
            What became of each row.

        Raises:
            UndoRefused: rows have changed since.
        """
        report: Report = self.database.undo(self.reports[0].batch_id, force=force)
        return report


def merge_entities(db: Database, entity_id: str, into: str, *, as_of: dt.datetime | None = None) -> Merged:
    """Make one of two entities: all that was said of the first is said of the second.

    The name and aliases of the first become aliases of the second. Its connections go along; where the second has the
    same connection, their mentions are put together, a source that is in both counts once, and the metrics are worked
    out anew. The first is deleted. All of it is one transaction.

    Args:
        db: the database.
        entity_id: the entity that goes.
        into: the entity that stays, of the same type.
        as_of: the moment from which the days of the metrics are counted; now, if not given.

    Returns:
        What was done, which can be taken back.

    Raises:
        ContractError: one of them is not there, they are of two types, they are the same, or `as_of` has no time zone.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import polars as pl, crave_bulk as cb
        >>> rows = pl.DataFrame({"name": ["The Palm", "Palm Steakhouse"], "type": ["restaurant"] * 2})
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     palm, same = db.insert(cb.crave.Entities, rows).keys["entity_id"]
        ...     merged = cb.crave.merge_entities(db, same, palm)
        ...     db.read(cb.crave.Entities, columns=["name", "aliases"]).rows()
        [('The Palm', ['Palm Steakhouse'])]
    """
    then = moment(as_of)
    return db.atomically(lambda: _Merge(db, entity_id, into, then).run(), turn=graph.TURN)


class _Merge:
    """One merge, within its transaction."""

    def __init__(self, db: Database, gone: str, into: str, as_of: dt.datetime) -> None:
        self.db, self.gone, self.into, self.as_of = db, gone, into, as_of
        self.reports: list[Report] = []
        self.type = ""

    def run(self) -> Merged:
        both = self._both()
        self.type = both["type"][0]
        moved = self._moved()
        counts = self._join_connections(moved)
        if self.type == "restaurant_attribute":
            self._swap_attributes()
        for table in (Lookups, Reviews):
            self.reports.append(
                self.db.update_where(table, {"entity_id": self.into}, where={"entity_id": self.gone})
            )
        self._unite(both)
        return Merged(self.into, counts, self.reports, self.db)

    def _both(self) -> pl.DataFrame:
        """Read the two, the one that stays first."""
        if self.gone == self.into:
            raise ContractError(f"{self.into} cannot be merged into itself")
        there = self.db.read(Entities, where={"entity_id__in": well_formed([self.gone, self.into])})
        if missing := {self.gone, self.into} - set(there["entity_id"]):
            raise ContractError(f"there is no entity {min(missing)!r}")
        if there["type"].n_unique() > 1:
            kinds = " and ".join(
                f"{name!r} is a {kind}" for name, kind in there.select("name", "type").iter_rows()
            )
            raise ContractError(f"{kinds}: only entities of one type can be one")
        return there.sort(pl.col("entity_id") == self.gone)

    # -- connections and mentions --

    def _moved(self) -> pl.DataFrame:
        """Read the connections that speak of the entity that goes."""
        if self.type == "restaurant":
            return self.db.read(Connections, where={"restaurant_id": self.gone})
        if self.type == "restaurant_attribute":
            return self.db.read(Connections, limit=0)
        parts = [self.db.read(Connections, where={f"{_LISTS[self.type]}__contains": self.gone})]
        if self.type == "food":
            parts.append(self.db.read(Connections, where={"food_id": self.gone}))
        return pl.concat(parts).unique("connection_id", maintain_order=True)

    def _join_connections(self, moved: pl.DataFrame) -> dict[str, int]:
        """Let connections that have become the same be one, and move their mentions."""
        if not moved.height:
            return {"connections": 0, "united": 0, "mentions": 0, "repeated": 0}
        restaurants = moved["restaurant_id"].replace(self.gone, self.into).unique()
        others = self.db.read(Connections, where={"restaurant_id__in": restaurants})
        others = others.join(moved, on="connection_id", how="anti")
        now = pl.concat([others.with_columns(came=False), moved.with_columns(came=True)]).with_columns(
            *self._renamed()
        )
        stays = pl.col("connection_id").first().over(_TRIPLE)
        now = now.with_columns(attributes=pl.col("food_attributes").list.join(",")).with_columns(stays=stays)
        touched = now.filter(pl.col("came").any().over("stays"))
        gone = touched.filter(pl.col("stays") != pl.col("connection_id"))
        after, counts = self._move_mentions(touched)
        if gone.height:
            self.reports.append(self.db.delete(Connections, gone["connection_id"]))
        self._rewrite(touched, after)
        return {"connections": moved.height, "united": gone.height, **counts}

    def _renamed(self) -> list[pl.Expr]:
        ids = [pl.col(name).replace(self.gone, self.into) for name in ("restaurant_id", "food_id")]
        element = pl.element().replace(self.gone, self.into)
        return ids + [
            pl.col(name).list.eval(element).list.unique().list.sort()
            for name in ("food_attributes", "categories")
        ]

    def _move_mentions(self, touched: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        mentions = graph.mentions(self.db, touched["connection_id"])
        to = touched.select("connection_id", "stays")
        both = mentions.join(to, on="connection_id").with_columns(
            moves=pl.col("stays") != pl.col("connection_id")
        )
        # Of two of one source the one that was written last is the news.
        ranked = both.sort("mention_id", descending=True)
        twice = ~pl.struct("stays", "source_id").is_first_distinct()
        repeated, kept = ranked.filter(twice), ranked.filter(~twice)
        if repeated.height:
            self.reports.append(self.db.delete(Mentions, repeated["mention_id"]))
        moving = kept.filter("moves").select("mention_id", connection_id="stays")
        if moving.height:
            self.reports.append(self.db.update(Mentions, moving))
        after = kept.with_columns(connection_id="stays")
        return after, {"mentions": both.filter("moves").height, "repeated": repeated.height}

    def _rewrite(self, touched: pl.DataFrame, mentions: pl.DataFrame) -> None:
        """Write what the connections that stay come to; figures that rest on no mentions are put together."""
        each = touched.group_by("stays", maintain_order=True).agg(
            pl.col("restaurant_id", "food_id", "food_attributes").first(),
            pl.col("categories").list.explode().drop_nulls().unique().sort(),
            pl.col("food_quality_score").drop_nulls().first(),
            pl.col(_COUNTS).sum(),
            pl.col("last_mentioned_at").max(),
            pl.col("activity_level").first(),
            top_mentions=pl.col("top_mentions").list.explode().drop_nulls(),
        )
        best = pl.element().struct.field("upvotes")
        rows = each.rename({"stays": "connection_id"}).with_columns(
            pl.col("top_mentions").list.eval(pl.element().sort_by(best, descending=True).head(TOP_MENTIONS))
        )
        counted = metrics(mentions, self.as_of)
        known = rows.drop(*counted.columns[1:]).join(counted, on="connection_id", maintain_order="left")
        untold = rows.join(counted, on="connection_id", how="anti", maintain_order="left")
        for part in (known, untold):
            if part.height:
                self.reports.append(self.db.update(Connections, part))

    # -- entities --

    def _swap_attributes(self) -> None:
        has = self.db.read(
            Entities,
            columns=["entity_id", "restaurant_attributes"],
            where={"restaurant_attributes__contains": self.gone},
        )
        if has.height:
            other = pl.col("restaurant_attributes").list.eval(pl.element().replace(self.gone, self.into))
            self.reports.append(self.db.update(Entities, has.with_columns(other.list.unique().list.sort())))

    def _unite(self, both: pl.DataFrame) -> None:
        """Delete the one, and let the other have what it had."""
        aliases = pl.concat_list(
            pl.col("name").slice(1).implode(), pl.col("aliases").list.explode().drop_nulls().implode()
        )
        own = pl.col("name").first().implode()
        united = both.select(
            pl.col("entity_id").first(),
            aliases=aliases.first().list.unique(maintain_order=True).list.set_difference(own),
            restaurant_attributes=pl.col("restaurant_attributes")
            .list.explode()
            .drop_nulls()
            .unique()
            .sort()
            .implode(),
            general_praise_upvotes=pl.col("general_praise_upvotes").sum(),
            **{name: pl.col(name).drop_nulls().first() for name in _FIRST_KNOWN},
        )
        self.reports.append(self.db.delete(Entities, [self.gone]))
        self.reports.append(self.db.update(Entities, united))

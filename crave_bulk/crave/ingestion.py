"""Ingestion: from extracted mentions to entities, connections, mentions and metrics, in one transaction."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from crave_bulk.connections import one_of
from crave_bulk.crave import graph
from crave_bulk.crave.decide import Rules
from crave_bulk.crave.extraction import check, read
from crave_bulk.crave.ids import new_ids
from crave_bulk.crave.memory import remember, remembered
from crave_bulk.crave.metrics import metrics, moment
from crave_bulk.crave.newcomers import gained, new_entities, with_free_places
from crave_bulk.crave.queue import enqueue, pending
from crave_bulk.crave.resolution import resolve
from crave_bulk.crave.story import Ingested, Story
from crave_bulk.crave.tables import Connections, Entities, Mentions
from crave_bulk.crave.wishes import ROLES, wishes
from crave_bulk.database import Database
from crave_bulk.errors import RejectedRows
from crave_bulk.pipeline.work import OnReject

_SOURCE = [
    "source_type",
    "source_id",
    "thread",
    "source_url",
    "subreddit",
    "content_excerpt",
    "author",
    "upvotes",
    "created_at",
]
_TRIPLE = ["restaurant_id", "food_id", "attributes"]


@dataclass(frozen=True, slots=True)
class Options:
    """How an extraction is ingested; see `ingest`."""

    merge_at: float = 0.85
    review_at: float = 0.70
    on_reject: OnReject = "raise"
    as_of: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    undo: bool = True


def ingest(
    db: Database,
    extraction: Any,
    *,
    merge_at: float = 0.85,
    review_at: float = 0.70,
    on_reject: OnReject = "raise",
    as_of: dt.datetime | None = None,
    undo: bool = True,
) -> Ingested:
    """Bring extracted mentions into the graph: entities, connections, mentions and metrics, all or nothing.

    Names are resolved (`resolve`): those that mean an entity go there, and what they were written like becomes one of its
    aliases; those that mean none become new entities. A mention any of whose names may mean an entity, but not surely,
    is held until somebody has answered (`review`, `accept`, `reject`). A source counts once for a connection, however
    often it is loaded: the second time its upvotes and texts are brought up to date. Metrics are worked out from all
    mentions of each connection. Ingestions into one database take turns, so that they are exact when many run at once.

    Args:
        db: the database, with the tables of `crave_bulk.crave.TABLES`.
        extraction: a frame of mentions; see `crave_bulk.crave.extraction.read` for its columns.
        merge_at: the confidence, from 0 to 1, from which a name is taken for the entity.
        review_at: the confidence from which a name goes to review; below, a new entity is created.
        on_reject: ``raise`` writes nothing when a row is no mention; ``keep`` writes the others.
        as_of: the moment from which the days of the metrics are counted; now, if not given.
        undo: keep what there was, so that `Ingested.undo` can put it back.

    Returns:
        What became of each row, and of each name.

    Raises:
        ContractError: a column is missing or of the wrong type, or `as_of` has no time zone.
        RejectedRows: rows are no mentions and ``on_reject="raise"``; nothing was written.
        TableNotFound: the tables are not there: ``db.create(*crave_bulk.crave.TABLES)`` makes them.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import datetime as dt, polars as pl, crave_bulk as cb
        >>> day = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
        >>> said = {"restaurant": ["The Palm", "palm"], "food": ["steak", "Steak"], "source_id": ["t1_a", "t1_b"]}
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     report = cb.crave.ingest(db, pl.DataFrame(said).with_columns(created_at=day, upvotes=pl.lit(3)))
        ...     db.read(cb.crave.Connections, columns=["mention_count", "total_upvotes"]).rows()
        [(2, 6)]
        >>> report.counts
        {'input': 2, 'inserted': 2}
    """
    one_of("on_reject", on_reject, ("raise", "keep"))
    Rules(merge_at, review_at)
    options = Options(merge_at, review_at, on_reject, moment(as_of), undo)
    story = Story(extraction)
    with story.phase("validate"):
        mentions = read(story.source)
        story.reject(check(mentions))
    if on_reject == "raise" and story.rejected.height:
        raise RejectedRows(story.refused())
    good = mentions.filter(~pl.col("row").is_in(story.rejected["row"].implode()))
    return db.atomically(lambda: _Ingestion(db, options, story.again()).run(good), turn=graph.TURN)


class _Ingestion:
    """One ingestion, within its transaction."""

    def __init__(self, db: Database, options: Options, story: Story) -> None:
        self.db, self.options, self.story = db, options, story

    def run(self, mentions: pl.DataFrame) -> Ingested:
        wanted = wishes(mentions)
        named, there = self._resolve(wanted.names)
        held = _held(wanted.uses, named)
        kept = mentions.join(held, on="row", how="anti", maintain_order="left")
        uses = wanted.uses.join(held, on="row", how="anti", maintain_order="left").join(
            named.select("wish", "entity_id"), on="wish", maintain_order="left"
        )
        needed = _needed(named, uses, held)
        # What only waiting mentions say of an entity that is there counts when they do.
        new, known = (_spelled(needed, all_of) for all_of in (wanted.uses, uses))
        self._write_entities(new.filter("new"), known.filter(~pl.col("new")), there, _attributes(uses))
        self._remember(needed)
        enqueue(self.db, self.story, named, mentions.join(held, on="row"), undo=self.options.undo)
        self.story.outcome(held["row"], "review")
        if kept.height:
            self._write_connections(_placed(kept, uses))
        self.story.ids = _ids(mentions, wanted.uses, needed)
        return self.story.told(self.db)

    def _resolve(self, names: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Find the entity that each name means, and the entities that there are."""
        with self.story.phase("read"):
            known, there = remembered(self.db, names)
            open_ = pending(self.db, names).with_columns(decision=pl.lit("review"))
        told = (
            pl.concat([known, open_], how="diagonal")
            .join(names.select("lookup", "wish"), on="lookup")
            .drop("lookup")
        )
        told = told.with_columns(pl.lit(False).alias(name) for name in ("new", "founds", "fresh"))
        unknown = names.join(told, on="wish", how="anti", maintain_order="left")
        if unknown.height:
            with self.story.phase("read"):
                # A new name may be like that of any entity, and no database has an index for that: all are read.
                there = graph.entities(self.db)
            with self.story.phase("resolve"):
                found = self._compare(unknown, there)
            told = pl.concat(
                [told.with_columns(pl.col("decision").cast(found.schema["decision"])), found], how="diagonal"
            )
        named = names.join(told, on="wish", how="left", maintain_order="left")
        self.story.resolved = named.drop(
            "wish", "lookup", "new", "founds", "fresh", strict=False
        ).with_columns(pl.col("evidence", "runners_up").fill_null([]))
        return named, there

    def _compare(self, names: pl.DataFrame, there: pl.DataFrame) -> pl.DataFrame:
        options = self.options
        found = resolve(names, there, merge_at=options.merge_at, review_at=options.review_at)
        new = pl.col("with_row").is_not_null()
        told = found.select(
            "decision",
            "entity_id",
            "confidence",
            "tier",
            "evidence",
            "runners_up",
            new=new,
            founds=pl.col("with_row") == pl.col("row"),
        )
        return told.with_columns(wish=names["wish"], fresh=True)

    # -- entities --

    def _write_entities(
        self, unknown: pl.DataFrame, known: pl.DataFrame, there: pl.DataFrame, attributes: pl.DataFrame
    ) -> None:
        """Write what is new of entities: themselves, aliases, what is learnt of places, and attributes of restaurants."""
        new = new_entities(unknown, there)
        if new.height:
            had = new.join(attributes, on="entity_id", how="left").with_columns(
                pl.col("restaurant_attributes").fill_null([])
            )
            # Attributes first would do as well: a row may point at any row of its own batch.
            self.story.add("entities", self.db.insert(Entities, had, undo=self.options.undo))
        more = gained(known, there, attributes)
        if more.height:
            more = with_free_places(more, graph.placed(self.db, more["google_place_id"]))
            self.story.add("known entities", self.db.upsert(Entities, more, undo=self.options.undo))

    def _remember(self, needed: pl.DataFrame) -> None:
        """Remember what the names mean that were compared now."""
        fresh = needed.filter("fresh")
        if fresh.height:
            self.story.add("lookups", remember(self.db, fresh, undo=self.options.undo))

    # -- connections and their mentions --

    def _write_connections(self, placed: pl.DataFrame) -> None:
        """Write connections with their metrics, and then the mentions that these rest on."""
        with self.story.phase("read"):
            found = graph.connections(self.db, placed["restaurant_id"].unique())
        found = found.with_columns(attributes=pl.col("food_attributes").list.sort().list.join(","))
        each = placed.group_by(_TRIPLE, maintain_order=True).agg(
            pl.col("food_attributes").first(),
            categories=pl.col("categories").list.explode().drop_nulls().unique().sort(),
        )
        both = each.join(
            found.drop("food_attributes"), on=_TRIPLE, how="left", maintain_order="left", suffix="_there"
        )
        both = both.with_columns(new=pl.col("connection_id").is_null()).with_columns(
            connection_id=_filled(both["connection_id"])
        )
        mine = placed.join(
            both.select(*_TRIPLE, "connection_id", "new"), on=_TRIPLE, how="left", maintain_order="left"
        )
        with self.story.phase("read"):
            before = graph.mentions(self.db, both.filter(~pl.col("new"))["connection_id"])
        once, after = self._united(mine, before)
        with self.story.phase("metrics"):
            counted = metrics(after, self.options.as_of)
        self._put_connections(both.join(counted, on="connection_id"))
        self._put_mentions(once)

    def _united(self, mine: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Let the mentions of this batch stand for those that are there of the same source, and the last for all."""
        pair = ["connection_id", "source_id"]
        last = pl.struct(pair).is_last_distinct()
        self.story.outcome(mine.filter(~last)["row"], "duplicate")
        once = mine.filter(last).join(
            before.select("mention_id", *pair), on=pair, how="left", maintain_order="left"
        )
        columns = before.drop("mention_id").columns
        others = before.join(once.select(pair), on=pair, how="anti").select(columns)
        return once, pl.concat([others, once.select(columns)])

    def _put_connections(self, rows: pl.DataFrame) -> None:
        undo = self.options.undo
        told = pl.exclude("new", "categories_there", "attributes")
        new = rows.filter("new").select(told)
        if new.height:
            self.story.add("connections", self.db.insert(Connections, new, undo=undo))
        all_of = pl.concat_list("categories_there", "categories").list.unique().list.sort()
        old = rows.filter(~pl.col("new")).with_columns(categories=all_of).select(told)
        if old.height:
            self.story.add(
                "metrics",
                self.db.update(
                    Connections, old.drop("restaurant_id", "food_id", "food_attributes"), undo=undo
                ),
            )

    def _put_mentions(self, once: pl.DataFrame) -> None:
        undo = self.options.undo
        rows = once.select("row", "mention_id", "connection_id", *_SOURCE)
        new = rows.filter(pl.col("mention_id").is_null())
        if new.height:
            new = new.with_columns(mention_id=new_ids(new.height))
            report = self.db.insert(Mentions, new.drop("row"), undo=undo)
            self.story.add("mentions", report)
            self.story.outcomes(new["row"], report)
        old = rows.filter(pl.col("mention_id").is_not_null())
        if old.height:
            report = self.db.update(Mentions, old.drop("row"), undo=undo)
            self.story.add("known mentions", report)
            self.story.outcomes(old["row"], report)


def _held(uses: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Find the rows that wait for a review: ``row`` and the ``wish`` that it is about, of several always the same one."""
    open_ = named.filter(pl.col("decision") == "review").select("wish", "lookup")
    order = pl.col("role").cast(pl.Enum(list(ROLES))).to_physical()
    waiting = uses.join(open_, on="wish").sort("row", order, "lookup")
    return waiting.unique("row", keep="first", maintain_order=True).select("row", "wish")


def _needed(named: pl.DataFrame, uses: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Select the names whose entities are there, or are written now: what only waiting mentions name is not."""
    questions = named.join(held, on="wish", how="semi")["entity_id"]
    written = pl.concat([uses["entity_id"], questions]).unique()
    there = ~pl.col("new") | pl.col("entity_id").is_in(written.implode())
    return named.filter(there & (pl.col("decision") != "review"))


def _spelled(needed: pl.DataFrame, uses: pl.DataFrame) -> pl.DataFrame:
    """Repeat each name in all ways in which it is written."""
    ways = uses.select("wish", "name").unique(maintain_order=True)
    return needed.drop("name").join(ways, on="wish", maintain_order="left_right")


def _attributes(uses: pl.DataFrame) -> pl.DataFrame:
    """Collect the attributes that restaurants were said to have."""
    restaurants = uses.filter(role="restaurant").select("row", "entity_id")
    said = uses.filter(role="restaurant_attributes").select("row", restaurant_attributes="entity_id")
    both = restaurants.join(said, on="row")
    return both.group_by("entity_id").agg(pl.col("restaurant_attributes").unique().sort())


def _placed(kept: pl.DataFrame, uses: pl.DataFrame) -> pl.DataFrame:
    """Give each mention the ids of what it names; ``attributes`` is the list of food attributes as one text."""
    one = [
        uses.filter(role=role).select("row", pl.col("entity_id").alias(f"{role}_id"))
        for role in ("restaurant", "food")
    ]
    placed = kept.select("row", *_SOURCE)
    for ids in one:
        placed = placed.join(ids, on="row", how="left", maintain_order="left")
    for role in ("categories", "food_attributes"):
        ids = uses.filter(role=role).group_by("row").agg(pl.col("entity_id").unique().sort().alias(role))
        placed = placed.join(ids, on="row", how="left", maintain_order="left").with_columns(
            pl.col(role).fill_null([])
        )
    return placed.with_columns(attributes=pl.col("food_attributes").list.join(","))


def _filled(ids: pl.Series) -> pl.Series:
    """Make an id where there is none."""
    missing = ids.is_null().arg_true()
    return ids.scatter(missing, new_ids(len(missing))) if len(missing) else ids


def _ids(mentions: pl.DataFrame, uses: pl.DataFrame, needed: pl.DataFrame) -> pl.DataFrame:
    """Map what each row called its restaurant and its food to their ids; null where that is not known yet."""
    temp = mentions.select("row", restaurant="restaurant_temp_id", food="food_temp_id").unpivot(
        index="row", variable_name="role", value_name="temp_id"
    )
    called = uses.filter(pl.col("role").is_in(["restaurant", "food"])).join(temp, on=["row", "role"])
    both = called.join(needed.select("wish", "entity_id"), on="wish", how="left")
    return both.select("row", "temp_id", pl.col("role").alias("type"), "name", "entity_id").sort(
        "row", "type", descending=[False, True]
    )

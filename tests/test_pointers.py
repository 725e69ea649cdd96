"""References with a condition, and references of lists: each row that points at nothing is refused with its reason."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest

import crave_bulk as cb


def no(number: int) -> str:
    """A UUID that a number stands for."""
    return str(uuid.UUID(int=number))


class Entities(cb.Table):
    """Things of several types, which point at things of a type each."""

    entity_id: str = cb.field(key=True, uuid=True)
    type: str
    chain: str | None = cb.field(
        uuid=True, references="entities.entity_id", references_where={"type": "restaurant"}
    )
    tags: pl.List(pl.String) = cb.field(  # type: ignore[valid-type]
        uuid=True,
        references="entities.entity_id",
        references_where={"type": "tag"},
        merge="union",
        nullable=True,
    )

    class Config:
        name = "entities"


class Mentions(cb.Table):
    """Rows of another table that point at things."""

    mention_id: int = cb.field(key=True)
    restaurant_id: str | None = cb.field(
        uuid=True, references="entities.entity_id", references_where={"type": "restaurant"}
    )
    foods: pl.List(pl.String) = cb.field(  # type: ignore[valid-type]
        uuid=True,
        references="entities.entity_id",
        references_where={"type": "food"},
        merge="union",
        default=[],
    )
    anything: pl.List(pl.String) = cb.field(  # type: ignore[valid-type]
        uuid=True, references="entities.entity_id", nullable=True
    )
    said: str | None

    class Config:
        name = "mentions"


ENTITIES = {"entity_id": pl.String, "type": pl.String, "chain": pl.String, "tags": pl.List(pl.String)}
MENTIONS = {
    "mention_id": pl.Int64,
    "restaurant_id": pl.String,
    "foods": pl.List(pl.String),
    "anything": pl.List(pl.String),
    "said": pl.String,
}


def ids(numbers: list[int | None] | None) -> list[str | None] | None:
    return None if numbers is None else [None if n is None else no(n) for n in numbers]


def entity(number: int, kind: str, chain: int | None = None, tags: Any = ()) -> dict[str, Any]:
    ours = None if tags is None else ids(list(tags))
    return {
        "entity_id": no(number),
        "type": kind,
        "chain": None if chain is None else no(chain),
        "tags": ours,
    }


def mention(number: int, restaurant: int | None = None, foods: Any = (), **rest: Any) -> dict[str, Any]:
    return {
        "mention_id": number,
        "restaurant_id": None if restaurant is None else no(restaurant),
        "foods": ids(list(foods)),
        "anything": ids(rest.get("anything")),
        "said": rest.get("said"),
    }


def entities(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ENTITIES)


def mentions(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=MENTIONS)


def outcomes(report: cb.Report) -> list[str]:
    return report.outcomes["outcome"].to_list()


RESTAURANT, OTHER, FOOD, SECOND, TAG, NOBODY = 1, 2, 3, 4, 5, 99


@pytest.fixture
def world(db: cb.Database) -> cb.Database:
    db.create(Mentions, Entities)
    db.insert(
        Entities,
        entities(
            entity(RESTAURANT, "restaurant"),
            entity(OTHER, "restaurant"),
            entity(FOOD, "food"),
            entity(SECOND, "food"),
            entity(TAG, "tag"),
        ),
    )
    return db


# -- what is refused, and why --------------------------------------------------------------------------


def test_a_parent_must_meet_the_condition(world: cb.Database) -> None:
    frame = mentions(mention(1, RESTAURANT), mention(2, FOOD), mention(3, NOBODY), mention(4))
    report = world.insert(Mentions, frame, on_reject="keep")
    assert outcomes(report) == ["inserted", "rejected", "rejected", "inserted"]
    reason = (
        "reference",
        "references(entities.entity_id, type='restaurant')",
        "restaurant_id",
        "no row of entities has this entity_id and type 'restaurant'",
    )
    assert report.failures.select("row", "stage", "rule", "column", "value", "message").rows() == [
        (1, *reason[:3], no(FOOD), reason[3]),
        (2, *reason[:3], no(NOBODY), reason[3]),
    ]


def test_every_element_must_point_at_such_a_row(world: cb.Database) -> None:
    frame = mentions(
        mention(1, foods=[FOOD, SECOND]),
        mention(2, foods=[FOOD, RESTAURANT, NOBODY, NOBODY]),
        mention(3, anything=[FOOD, RESTAURANT]),
        mention(4, anything=[NOBODY]),
    )
    report = world.insert(Mentions, frame, on_reject="keep")
    assert outcomes(report) == ["inserted", "rejected", "inserted", "rejected"]
    assert report.failures.select("rule", "column", "value", "message").rows() == [
        (
            "references(entities.entity_id, type='food')",
            "foods",
            f"{no(RESTAURANT)}, {no(NOBODY)}",
            "no row of entities has this entity_id and type 'food'",
        ),
        (
            "references(entities.entity_id)",
            "anything",
            no(NOBODY),
            "no row of entities has this entity_id",
        ),
    ]
    assert world.read(Mentions, order_by="mention_id")["foods"].to_list() == [ids([FOOD, SECOND]), []]


def test_nulls_and_empty_lists_point_at_nothing(world: cb.Database) -> None:
    frame = mentions(mention(1), mention(2, foods=[None, FOOD]), mention(3, anything=None))
    assert world.insert(Mentions, frame).counts == {"input": 3, "inserted": 3}
    assert world.read(Mentions, order_by="mention_id")["foods"].to_list() == [[], ids([None, FOOD]), []]


def test_raise_writes_nothing(world: cb.Database) -> None:
    with pytest.raises(cb.RejectedRows, match="no row of entities has this entity_id and type 'food'"):
        world.insert(Mentions, mentions(mention(1, foods=[FOOD]), mention(2, foods=[TAG])))
    assert not world.read(Mentions).height


def test_a_row_that_breaks_two_pointers_has_a_line_for_each(world: cb.Database) -> None:
    report = world.insert(Mentions, mentions(mention(1, FOOD, [RESTAURANT])), on_reject="keep")
    assert report.failures["column"].to_list() == ["restaurant_id", "foods"]


# -- every verb ----------------------------------------------------------------------------------------


def test_an_upsert_checks_what_a_row_comes_to(world: cb.Database) -> None:
    world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD])))
    frame = mentions(mention(1, OTHER, [SECOND]), mention(2, TAG), mention(3, RESTAURANT, [TAG]))
    report = world.upsert(Mentions, frame, on_reject="keep")
    assert outcomes(report) == ["updated", "rejected", "rejected"]
    assert world.read(Mentions)["foods"].to_list() == [ids([FOOD, SECOND])]
    assert world.upsert(Mentions, frame.head(1)).counts == {"input": 1, "unchanged": 1}


def test_a_row_that_was_combined_with_a_bad_one_stands_without_it(world: cb.Database) -> None:
    frame = mentions(mention(1, foods=[FOOD]), mention(1, foods=[TAG]), mention(1, foods=[SECOND]))
    report = world.upsert(Mentions, frame, on_reject="keep")
    assert outcomes(report) == ["duplicate", "rejected", "inserted"]
    assert world.read(Mentions)["foods"].to_list() == [ids([FOOD, SECOND])]


def test_update_and_sync_check_as_well(world: cb.Database) -> None:
    world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD]), mention(2, RESTAURANT)))
    change = mentions(mention(1, TAG), mention(2, OTHER)).select("mention_id", "restaurant_id")
    assert outcomes(world.update(Mentions, change, on_reject="keep")) == ["rejected", "updated"]
    report = world.sync(Mentions, mentions(mention(1, foods=[TAG]), mention(3, OTHER)), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted", "deleted"]
    assert world.read(Mentions, order_by="mention_id")["mention_id"].to_list() == [1, 3]


def test_update_where_checks_the_values_that_it_sets(world: cb.Database) -> None:
    world.insert(Mentions, mentions(mention(1), mention(2)))
    seen: list[str] = []
    world.trace(seen.append)
    assert world.update_where(Mentions, {"restaurant_id": no(OTHER)}, "true").counts["updated"] == 2
    assert sum(s.startswith("UPDATE") for s in seen) == 1
    with pytest.raises(cb.RejectedRows, match="type 'restaurant'"):
        world.update_where(Mentions, {"restaurant_id": no(FOOD)}, {"mention_id": 1})
    report = world.update_where(Mentions, {"foods": [no(TAG)]}, {"mention_id": 1}, on_reject="keep")
    assert outcomes(report) == ["rejected"]
    assert report.failures["value"].to_list() == [no(TAG)]
    assert world.update_where(Mentions, {"foods": [no(FOOD)]}, {"mention_id": 1}).counts["updated"] == 1


def test_a_pointer_that_stays_is_not_asked_again(world: cb.Database) -> None:
    world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD]), mention(2, RESTAURANT)))
    world.update_where(Entities, {"type": "closed"}, {"entity_id": no(RESTAURANT)})
    change = mentions(mention(1, RESTAURANT, [FOOD], said="x"), mention(2, OTHER), mention(3, RESTAURANT))
    report = world.upsert(Mentions, change, on_reject="keep")
    assert outcomes(report) == ["updated", "updated", "rejected"]


def test_plan_and_undo(world: cb.Database) -> None:
    plan = world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD]), mention(2, TAG)), plan=True)
    assert plan.counts == {"input": 2, "inserted": 1, "rejected": 1}
    report = world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD])), plan=True).apply()
    changed = world.upsert(Mentions, mentions(mention(1, OTHER, [SECOND])))
    changed.undo()
    assert world.read(Mentions).select("restaurant_id", "foods").rows() == [(no(RESTAURANT), ids([FOOD]))]
    report.undo()
    assert not world.read(Mentions).height


# -- parents in the same batch -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["insert", "upsert", "sync"])
def test_a_parent_may_be_a_later_row_of_the_batch(world: cb.Database, verb: str) -> None:
    frame = entities(
        entity(10, "restaurant", chain=11, tags=[12, TAG, None]),
        entity(11, "restaurant", tags=None),
        entity(12, "tag"),
    )
    frame = pl.concat([frame, world.read(Entities).select(frame.columns)]) if verb == "sync" else frame
    report = getattr(world, verb)(Entities, frame)
    assert report.counts["inserted"] == 3


def test_a_parent_of_the_batch_must_meet_the_condition(world: cb.Database) -> None:
    frame = entities(entity(10, "restaurant", chain=11), entity(11, "tag"), entity(12, "food", tags=[11, 10]))
    report = world.insert(Entities, frame, on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted", "rejected"]
    assert report.failures["value"].to_list() == [no(11), no(10)]


def test_rows_that_point_at_a_refused_row_are_refused(world: cb.Database) -> None:
    frame = entities(
        entity(10, "food", tags=[11]),
        entity(11, "tag", chain=12),
        entity(12, "restaurant", chain=NOBODY),
        entity(13, "food", tags=[TAG]),
    )
    report = world.insert(Entities, frame, on_reject="keep")
    assert outcomes(report) == ["rejected", "rejected", "rejected", "inserted"]
    assert report.failures["column"].to_list() == ["tags", "chain", "chain"]


def test_what_the_batch_turns_into_something_else_is_no_parent(world: cb.Database) -> None:
    frame = entities(
        entity(OTHER, "food"),
        entity(20, "restaurant", chain=OTHER),
        entity(FOOD, "tag"),
        entity(21, "food", tags=[FOOD]),
    )
    report = world.upsert(Entities, frame, on_reject="keep")
    assert outcomes(report) == ["updated", "rejected", "updated", "inserted"]


def test_what_a_refused_row_would_have_become_does_not_count(world: cb.Database) -> None:
    frame = entities(entity(OTHER, "food", chain=NOBODY), entity(20, "restaurant", chain=OTHER))
    report = world.upsert(Entities, frame, on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted"]


def test_the_last_row_of_a_key_decides_what_it_is(world: cb.Database) -> None:
    frame = entities(entity(20, "food"), entity(20, "tag"), entity(21, "food", tags=[20]))
    assert outcomes(world.upsert(Entities, frame)) == ["duplicate", "inserted", "inserted"]
    frame = entities(entity(30, "tag"), entity(30, "food"), entity(31, "food", tags=[30]))
    report = world.upsert(Entities, frame, on_reject="keep")
    assert outcomes(report) == ["duplicate", "inserted", "rejected"]


def test_a_type_that_the_frame_leaves_out_is_that_of_the_table(world: cb.Database) -> None:
    frame = entities(entity(OTHER, "", chain=RESTAURANT), entity(RESTAURANT, "", chain=OTHER)).drop("type")
    assert world.update(Entities, frame).counts == {"input": 2, "updated": 2}
    wrong = entities(entity(OTHER, "", tags=[FOOD]), entity(FOOD, "", tags=[TAG])).drop("type")
    assert outcomes(world.update(Entities, wrong, on_reject="keep")) == ["rejected", "updated"]


# -- types, cost, names --------------------------------------------------------------------------------


class Parts(cb.Table):
    """Numbered, with conditions of every kind."""

    part: pl.Int32 = cb.field(key=True)
    kind: pl.Enum(["a", "it's"])  # type: ignore[valid-type]
    size: int
    sold: bool

    class Config:
        name = "parts"


class Kits(cb.Table):
    """Points by whole numbers of other widths."""

    kit: int = cb.field(key=True)
    one: int = cb.field(references="parts.part", references_where={"size": 3, "sold": True})
    parts: pl.List(pl.Int64) = cb.field(  # type: ignore[valid-type]
        references="parts.part", references_where={"kind": "it's", "sold": False}
    )

    class Config:
        name = "kits"


def test_numbers_and_conditions_of_every_type(db: cb.Database) -> None:
    db.create(Kits, Parts)
    kinds = pl.Series("kind", ["a", "it's", "it's"], dtype=pl.Enum(["a", "it's"]))
    parts = pl.DataFrame({"part": [1, 2, 3], "kind": kinds, "size": [3, 3, 4], "sold": [True, False, False]})
    db.insert(Parts, parts.cast({"part": pl.Int32}))
    frame = pl.DataFrame({"kit": [1, 2, 3], "one": [1, 2, 1], "parts": [[2, 3], [3], [2, 1]]})
    report = db.insert(Kits, frame, on_reject="keep")
    assert outcomes(report) == ["inserted", "rejected", "rejected"]
    assert report.failures.select("rule", "value", "message").rows() == [
        (
            "references(parts.part, size=3, sold=true)",
            "2",
            "no row of parts has this part and size 3 and sold true",
        ),
        (
            "references(parts.part, kind='it''s', sold=false)",
            "1",
            "no row of parts has this part and kind 'it''s' and sold false",
        ),
    ]


class Nodes(cb.Table):
    """Points within itself by whole numbers that are narrower than its key."""

    node: int = cb.field(key=True)
    root: bool
    near: pl.List(pl.Int32) = cb.field(  # type: ignore[valid-type]
        references="nodes.node", references_where={"root": True}
    )

    class Config:
        name = "nodes"


def test_narrow_numbers_find_their_parents_within_a_batch(db: cb.Database) -> None:
    db.create(Nodes)
    near = pl.Series("near", [[2, 1], [], [2, 1]], dtype=pl.List(pl.Int32))
    frame = pl.DataFrame({"node": [1, 2, 3], "root": [False, True, True], "near": near})
    report = db.insert(Nodes, frame, on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted", "rejected"]
    assert report.failures["value"].to_list() == ["1", "1"]


def test_a_mark_of_deletion_does_not_matter_as_with_plain_references(db: cb.Database) -> None:
    class Old(cb.Table):
        id: int = cb.field(key=True)
        kind: str
        gone: bool = cb.field(soft_delete=True, default=False)

        class Config:
            name = "old"

    class New(cb.Table):
        id: int = cb.field(key=True)
        olds: pl.List(pl.Int64) = cb.field(  # type: ignore[valid-type]
            references="old.id", references_where={"kind": "x"}
        )

        class Config:
            name = "new"

    db.create(Old, New)
    db.insert(Old, pl.DataFrame({"id": [1], "kind": ["x"]}))
    db.delete(Old, [1])
    assert db.insert(New, pl.DataFrame({"id": [1], "olds": [[1]]})).counts["inserted"] == 1


def test_statements_do_not_depend_on_the_size_of_the_batch(world: cb.Database) -> None:
    counts, seen = [], list[str]()
    world.trace(seen.append)
    for start, size in ((0, 9), (100, 50), (10_000, 5_000)):
        seen.clear()
        rows = [
            mention(start + i, RESTAURANT if i % 9 else TAG, [FOOD, SECOND] if i % 7 else [TAG])
            for i in range(size)
        ]
        report = world.insert(Mentions, mentions(*rows), on_reject="keep")
        bad = sum(not (i % 9 and i % 7) for i in range(size))
        assert report.counts == {"input": size, "inserted": size - bad, "rejected": bad}
        asked = [s for s in seen if "NOT EXISTS (SELECT 1 FROM" in s and "AS v" in s]
        assert len(asked) == 2  # of anything, all lists are null
        counts.append(len(seen))
    assert counts[1] == counts[2]


def test_names_and_values_are_quoted(db: cb.Database) -> None:
    class Odd(cb.Table):
        id: int = cb.field(key=True)
        kind: str = cb.field(alias='the "kind"')

        class Config:
            name = 'o"dd'

    class Points(cb.Table):
        id: int = cb.field(key=True)
        odd: int = cb.field(references='o"dd.id', references_where={'the "kind"': "it's; --"})

        class Config:
            name = "points"

    db.create(Points, Odd)
    db.insert(Odd, pl.DataFrame({"id": [1, 2], 'the "kind"': ["it's; --", "its"]}))
    report = db.insert(Points, pl.DataFrame({"id": [1, 2], "odd": [1, 2]}), on_reject="keep")
    assert outcomes(report) == ["inserted", "rejected"]


# -- creating tables -----------------------------------------------------------------------------------


def test_create_makes_parents_of_lists_first_and_no_foreign_key_for_them(db: cb.Database) -> None:
    seen: list[str] = []
    db.trace(seen.append)
    db.create(Kits, Parts)
    made = [s.split("(")[0].split('"')[-2] for s in seen if s.startswith("CREATE TABLE")]
    assert made == ["parts", "kits"]
    keys = [s for s in seen if "FOREIGN KEY" in s]
    assert len(keys) == 1
    assert keys[0].count("FOREIGN KEY") == 1  # that of a single value stays
    assert db.evolve(Kits, Parts) == []


def test_the_database_enforces_the_plain_part_by_itself(world: cb.Database) -> None:
    world.insert(Mentions, mentions(mention(1, RESTAURANT, [FOOD])))
    report = world.delete(Entities, [no(RESTAURANT), no(FOOD)], on_reject="keep")
    assert outcomes(report) == ["rejected", "deleted"]  # what a list points at may go


def test_lists_may_point_in_a_circle(db: cb.Database) -> None:
    class Left(cb.Table):
        id: int = cb.field(key=True)
        rights: pl.List(pl.Int64) = cb.field(references="right.id", default=[])  # type: ignore[valid-type]

        class Config:
            name = "left"

    class Right(cb.Table):
        id: int = cb.field(key=True)
        left: int = cb.field(references="left.id")

        class Config:
            name = "right"

    db.create(Right, Left)
    db.insert(Left, pl.DataFrame({"id": [1]}))
    db.insert(Right, pl.DataFrame({"id": [1], "left": [1]}))
    assert db.upsert(Left, pl.DataFrame({"id": [1], "rights": [[1]]})).counts["updated"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references_where": {"type": "food"}}, "say by references="),
        ({"references": "a.id", "references_where": {"type": 1.5}}, "text, whole numbers or booleans"),
        ({"references": "a.id", "references_where": {"type": None}}, "text, whole numbers or booleans"),
        ({"references": "a.id", "references_where": {}}, "write a mapping"),
        ({"references": "a.id", "references_where": "type = 'food'"}, "write a mapping"),
    ],
)
def test_a_condition_that_cannot_be_understood_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(cb.ContractError, match=message):
        cb.field(**options)


def pointing_table(dtype: Any, **options: Any) -> type[cb.Table]:
    namespace = {
        "__annotations__": {"id": int, "points": dtype},
        "id": cb.field(key=True),
        "points": cb.field(**options),
    }
    return type("Pointing", (cb.Table,), namespace)


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        (pl.Int64, {"references_where": {"color": "x"}}, "no such column"),
        (pl.Int64, {"references_where": {"size": "x"}}, "size is Int64: give such a value"),
        (pl.Int64, {"references_where": {"size": True}}, "size is Int64: give such a value"),
        (pl.Int64, {"references_where": {"sold": 1}}, "sold is Boolean: give such a value"),
        (pl.Int64, {"references_where": {"kind": "z"}}, "give such a value"),
        (pl.List(pl.String), {}, "declare both alike"),
        (pl.List(pl.String), {"uuid": True}, "String with uuid=True|declare both alike"),
        (pl.List(pl.List(pl.Int64)), {}, "no single values"),
    ],
)
def test_a_pointer_that_no_row_could_meet_is_an_error(
    dtype: Any, options: dict[str, Any], message: str
) -> None:
    with cb.connect() as db, pytest.raises(cb.ContractError, match=message):
        db.create(Parts, pointing_table(dtype, references="parts.part", **options))


def test_a_list_must_point_at_a_unique_column() -> None:
    with cb.connect() as db, pytest.raises(cb.ContractError, match="is not unique"):
        db.create(Parts, pointing_table(pl.List(pl.Int64), references="parts.size"))


# -- a unique key that holds a list --------------------------------------------------------------------


class Dishes(cb.Table):
    """A dish is told apart by where, what and how."""

    dish_id: int = cb.field(key=True)
    restaurant_id: str = cb.field(uuid=True)
    food_id: str = cb.field(uuid=True)
    food_attributes: pl.List(pl.String) = cb.field(uuid=True, default=[])  # type: ignore[valid-type]
    votes: int = cb.field(merge="add", default=0)

    class Config:
        name = "dishes"
        unique = ["restaurant_id", "food_id", "food_attributes"]


def dish(number: int, attributes: list[int], votes: int = 1) -> dict[str, Any]:
    return {
        "dish_id": number,
        "restaurant_id": no(1),
        "food_id": no(2),
        "food_attributes": ids([*attributes]),
        "votes": votes,
    }


def dishes(*rows: dict[str, Any]) -> pl.DataFrame:
    dtypes = [pl.Int64, pl.String, pl.String, pl.List(pl.String), pl.Int64]
    return pl.DataFrame(rows, schema=dict(zip(dish(1, []), dtypes, strict=True)))


def test_a_unique_key_may_hold_a_list(db: cb.Database) -> None:
    db.create(Dishes)
    assert db.evolve(Dishes) == []
    db.insert(Dishes, dishes(dish(1, []), dish(2, [7]), dish(3, [7, 8])))
    report = db.insert(Dishes, dishes(dish(4, []), dish(5, [9]), dish(6, [9])), on_reject="keep")
    assert outcomes(report) == ["rejected", "inserted", "rejected"]
    assert report.failures["rule"].unique().to_list() == ["unique(restaurant_id, food_id, food_attributes)"]
    again = dishes(dish(11, []), dish(12, [8, 7]), dish(13, [8, 7]), dish(14, [7], 3))
    report = db.upsert(Dishes, again, on=["restaurant_id", "food_id", "food_attributes"])
    assert outcomes(report) == ["updated", "duplicate", "inserted", "updated"]
    assert report.keys["dish_id"].to_list() == [1, 12, 2]  # the first row of a key gives it its number
    there = db.read(Dishes, order_by="dish_id").select("dish_id", "food_attributes", "votes")
    assert there.filter(pl.col("dish_id") < 10).rows() == [
        (1, [], 2),
        (2, ids([7]), 4),
        (3, ids([7, 8]), 1),
        (5, ids([9]), 1),
    ]
    report = db.upsert(Dishes, dishes(dish(2, []), dish(3, [4])), on_reject="keep", once=False)
    assert outcomes(report) == ["rejected", "updated"]

"""Review: what is not sure waits, counts for nothing, and goes in once somebody has said what it means."""

from __future__ import annotations

import json
import uuid
from typing import Any

import polars as pl
import pytest
from crave_world import NOW, Oracle, changed, entity, held, ingest, people, said, tables

import crave_bulk as cb
from crave_bulk import crave
from data.crave.generate import everything

pytestmark = pytest.mark.thorough_on_postgres  # here as everywhere, what the verbs do is tested on both

SURE = said("Golden Lotus", "ramen", "s1", city="Austin", google_place_id="G1")
# The same place under another name: nobody can say but somebody who knows it.
UNSURE = said("Zebra Noodles", "pizza", "s2", 4, google_place_id="G1")
COLUMNS = [
    "review_id", "type", "name", "candidate", "confidence", "evidence", "mentions", "known", "entity_id", "runners_up",
    "status", "created_at",
]  # fmt: skip


@pytest.fixture
def graph(db: cb.Database) -> cb.Database:
    db.create(*crave.TABLES)
    ingest(db, SURE, said("Casa Verde", "brisket", "s0"))
    return db


@pytest.fixture
def memory() -> Any:
    """A graph for what does not depend on the database."""
    with cb.connect() as db:
        db.create(*crave.TABLES)
        ingest(db, SURE, said("Casa Verde", "brisket", "s0"))
        yield db


def questions(db: cb.Database) -> list[str]:
    return crave.review(db)["review_id"].to_list()


def figures(db: cb.Database) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Mentions and upvotes of each restaurant and food."""
    return {
        key[:2]: (one["mention_count"], one["total_upvotes"]) for key, one in held(db, named=True).items()
    }


# -- the queue --


def test_what_is_not_sure_waits_and_counts_for_nothing(graph: cb.Database) -> None:
    before = tables(graph)
    report = ingest(graph, UNSURE)
    assert report.counts == {"input": 1, "review": 1}
    assert set(changed(before, tables(graph))) == {"Reviews", "HeldMentions"}
    assert report.ids["entity_id"].to_list() == [None, None]
    assert (report.counts["inserted"], report.outcomes["outcome"].to_list()) == (0, ["review"])
    [question] = crave.review(graph).iter_rows(named=True)
    assert (question["type"], question["name"], question["candidate"]) == (
        "restaurant",
        "Zebra Noodles",
        "Golden Lotus",
    )
    assert question["entity_id"] == entity(graph, "restaurant", "Golden Lotus")
    assert (question["mentions"], question["status"]) == (1, "pending")
    assert "same place id" in question["evidence"]
    assert json.loads(question["known"])["google_place_id"] == "G1"
    assert 0.7 <= question["confidence"] < 0.85


def test_the_queue_has_its_columns_and_the_surest_first(memory: cb.Database) -> None:
    assert crave.review(memory).columns == COLUMNS
    less = said("Lotus Golden Sun", "pizza", "s3")
    ingest(memory, UNSURE, less, merge_at=1.0, review_at=0.01)
    queue = crave.review(memory)
    assert queue.columns == COLUMNS
    assert queue.height == 2
    assert queue["confidence"].is_sorted(descending=True)
    assert crave.review(memory, limit=1).equals(queue.head(1))
    assert crave.review(memory, status="accepted").height == 0
    with pytest.raises(cb.ContractError, match="status"):
        crave.review(memory, status="open")


def test_what_waits_waits_once_however_often_it_is_loaded(graph: cb.Database) -> None:
    ingest(graph, UNSURE)
    before = tables(graph)
    assert ingest(graph, UNSURE, UNSURE).counts == {"input": 2, "review": 2}
    assert changed(before, tables(graph)) == []
    ingest(graph, {**UNSURE, "upvotes": 40}, said("Zebra Noodles", "ramen", "s3", google_place_id="G1"))
    assert crave.review(graph)["mentions"].to_list() == [2]
    crave.accept(graph, questions(graph))
    assert figures(graph)["Golden Lotus", "pizza"] == (1, 40)


def test_what_waits_does_not_change_where_it_is_loaded_in_other_company(memory: cb.Database) -> None:
    other = {**UNSURE, "restaurant": "zebra noodles", "source_id": "s3"}
    ingest(memory, UNSURE, other)
    before = tables(memory)
    for part in ([other], [UNSURE], [other, UNSURE]):
        ingest(memory, *part)
        assert changed(before, tables(memory)) == []


@pytest.mark.thorough
def test_loaded_again_generated_mentions_change_nothing(memory: cb.Database) -> None:
    extraction = everything(40, 250, 3, listed=5)["extraction"]
    for start in range(0, 250, 50):
        crave.ingest(memory, extraction[start : start + 50], as_of=NOW)
    assert crave.review(memory).height > 5
    before = tables(memory)
    for part in (extraction, extraction[100:130], extraction[::-1]):
        crave.ingest(memory, part.unique("source_id", maintain_order=True), as_of=NOW)
        assert changed(before, tables(memory)) == []


def test_a_question_that_was_answered_can_be_asked_again(memory: cb.Database) -> None:
    ingest(memory, UNSURE)
    crave.accept(memory, questions(memory), entity_id=entity(memory, "restaurant", "Casa Verde"))
    memory.delete_where(crave.Lookups, {"decision": "alias"})
    memory.update(
        crave.Entities,
        pl.DataFrame(
            {"entity_id": entity(memory, "restaurant", "Casa Verde"), "aliases": [[]]},
            schema_overrides={"aliases": pl.List(pl.String)},
        ),
    )
    assert ingest(memory, UNSURE).counts == {"input": 1, "review": 1}
    assert crave.review(memory)["mentions"].to_list() == [1]


def test_one_source_may_wait_under_several_attributes(memory: cb.Database) -> None:
    ingest(memory, {**UNSURE, "food_attributes": ["spicy"]}, {**UNSURE, "food_attributes": ["vegan"]})
    assert crave.review(memory)["mentions"].to_list() == [2]
    assert crave.accept(memory, questions(memory)).counts == {"input": 2, "inserted": 2}


def test_others_are_written_while_one_waits(memory: cb.Database) -> None:
    lists = {"restaurant_attributes": ["patio"], "categories": ["bread"]}
    report = ingest(memory, {**UNSURE, **lists}, said("Blue Whale", "cod", "s3"))
    assert report.outcomes["outcome"].to_list() == ["review", "inserted"]
    assert figures(memory)["Blue Whale", "cod"] == (1, 1)
    # What only the one that waits names is not there yet.
    assert {name for kind, name in people(memory) if kind != "restaurant"} == {"ramen", "brisket", "cod"}
    assert report.ids["entity_id"].null_count() == 2


def test_a_candidate_that_is_new_itself_is_there_to_be_asked_about(memory: cb.Database) -> None:
    first = said("Blue Whale", "cod", "s5", google_place_id="G5")
    ingest(memory, first, said("Red Door", "cod", "s6", google_place_id="G5"))
    assert crave.review(memory)["candidate"].to_list() == ["Blue Whale"]
    crave.accept(memory, questions(memory))
    assert figures(memory)["Blue Whale", "cod"] == (2, 2)


# -- answers --


def test_accepted_it_goes_to_the_candidate(graph: cb.Database) -> None:
    ingest(graph, UNSURE)
    report = crave.accept(graph, questions(graph)[0])
    assert report.counts == {"input": 1, "inserted": 1}
    assert figures(graph)["Golden Lotus", "pizza"] == (1, 4)
    assert people(graph)["restaurant", "Golden Lotus"]["aliases"] == ["Zebra Noodles"]
    assert graph.read(crave.HeldMentions).height == 0
    answered = crave.review(graph, status="accepted")
    assert (answered["name"].to_list(), answered["mentions"].to_list()) == (["Zebra Noodles"], [0])
    assert graph.read(crave.Reviews)["decided_at"].null_count() == 0


def test_once_accepted_the_name_goes_straight_in(memory: cb.Database) -> None:
    ingest(memory, UNSURE)
    crave.accept(memory, questions(memory), as_of=NOW)
    before = tables(memory)
    assert ingest(memory, UNSURE).counts == {"input": 1, "unchanged": 1}
    assert changed(before, tables(memory)) == []
    assert ingest(memory, {**UNSURE, "source_id": "s9"}).counts == {"input": 1, "inserted": 1}
    assert ingest(memory, said("zebra noodles", "pizza", "s10")).counts == {"input": 1, "inserted": 1}
    assert figures(memory)["Golden Lotus", "pizza"] == (3, 9)


def test_accepted_for_another_entity_it_goes_there(memory: cb.Database) -> None:
    ingest(memory, UNSURE)
    other = entity(memory, "restaurant", "Casa Verde")
    crave.accept(memory, questions(memory), entity_id=other)
    assert figures(memory)["Casa Verde", "pizza"] == (1, 4)
    told = people(memory)
    assert told["restaurant", "Casa Verde"]["aliases"] == ["Zebra Noodles"]
    assert (
        told["restaurant", "Casa Verde"]["google_place_id"],
        told["restaurant", "Golden Lotus"]["google_place_id"],
    ) == (None, "G1")
    assert ingest(memory, UNSURE).counts == {"input": 1, "unchanged": 1}


def test_rejected_it_becomes_an_entity_of_its_own(graph: cb.Database) -> None:
    ingest(graph, {**UNSURE, "address": "5 Elm St"})
    assert crave.reject(graph, questions(graph)).counts == {"input": 1, "inserted": 1}
    assert figures(graph)["Zebra Noodles", "pizza"] == (1, 4)
    told = people(graph)["restaurant", "Zebra Noodles"]
    assert (told["address"], told["google_place_id"]) == ("5 Elm St", None)
    assert people(graph)["restaurant", "Golden Lotus"]["aliases"] == []
    assert ingest(graph, {**UNSURE, "address": "5 Elm St"}).counts == {"input": 1, "unchanged": 1}
    assert crave.review(graph, status="rejected")["candidate"].to_list() == ["Zebra Noodles"]


def test_a_mention_that_waits_for_two_names_goes_in_after_both(memory: cb.Database) -> None:
    two = said("Zebra Noodles", "ramens bowl", "s2", google_place_id="G1")
    thresholds = {"merge_at": 0.999, "review_at": 0.05}
    assert ingest(memory, two, **thresholds).counts == {"input": 1, "review": 1}
    assert crave.review(memory)["type"].to_list() == ["restaurant"]
    # Loaded once more it waits for the same name, and only for that.
    ingest(memory, said("Casa Verde", "ramens bowl", "s7"), two, **thresholds)
    assert dict(crave.review(memory).select("type", "mentions").iter_rows()) == {"restaurant": 1, "food": 1}
    by_type = dict(crave.review(memory).select("type", "review_id").iter_rows())
    assert crave.accept(memory, by_type["restaurant"]).counts == {"input": 1, "review": 1}
    assert len(held(memory)) == 2
    assert crave.review(memory)["mentions"].to_list() == [2]
    assert crave.accept(memory, by_type["food"]).counts == {"input": 2, "inserted": 2}
    assert figures(memory)["Golden Lotus", "ramen"] == (2, 2)
    assert memory.read(crave.HeldMentions).height == 0


def test_many_are_answered_at_once(graph: cb.Database) -> None:
    mentions = [
        said(f"{name} House", "pizza", name, google_place_id=f"G-{name}") for name in ("Blue", "Red", "Gray")
    ]
    ingest(graph, *mentions)
    ingest(
        graph, *({**one, "restaurant": f"Chez {n}", "source_id": f"x{n}"} for n, one in enumerate(mentions))
    )
    assert crave.review(graph).height == 3
    assert crave.accept(graph, crave.review(graph)["review_id"]).counts == {"input": 3, "inserted": 3}
    assert [figures(graph)[f"{name} House", "pizza"] for name in ("Blue", "Red", "Gray")] == [(2, 2)] * 3
    assert crave.accept(graph, []).counts == {"input": 0}


def test_answers_come_to_what_mentions_counted_one_at_a_time_come_to(memory: cb.Database) -> None:
    more = [{**UNSURE, "source_id": f"y{n}", "upvotes": n, "categories": ["bread"]} for n in range(12)]
    ingest(memory, UNSURE, *more)
    crave.accept(memory, questions(memory), as_of=NOW)
    renamed = [{**one, "restaurant": "Golden Lotus"} for one in (UNSURE, *more)]
    found, told = held(memory, named=True), Oracle().say(renamed).told()
    assert {key: one for key, one in found.items() if key in told} == told


def test_an_answer_can_be_taken_back(graph: cb.Database) -> None:
    ingest(graph, UNSURE)
    for answer in (crave.accept, crave.reject):
        before = tables(graph)
        report = answer(graph, questions(graph))
        assert changed(before, tables(graph)) != []
        report.undo()
        assert changed(before, tables(graph)) == []


def test_what_waits_can_be_taken_back(memory: cb.Database) -> None:
    before = tables(memory)
    ingest(memory, UNSURE).undo()
    assert changed(before, tables(memory)) == []


# -- errors --


@pytest.mark.parametrize("answer", [crave.accept, crave.reject])
def test_a_question_is_answered_once(memory: cb.Database, answer: Any) -> None:
    ingest(memory, UNSURE)
    [question] = questions(memory)
    crave.accept(memory, question)
    before = tables(memory)
    with pytest.raises(cb.ContractError, match=f"review {question} of 'Zebra Noodles' was accepted already"):
        answer(memory, question)
    assert changed(before, tables(memory)) == []


@pytest.mark.parametrize("answer", [crave.accept, crave.reject])
def test_a_question_that_is_not_there_cannot_be_answered(graph: cb.Database, answer: Any) -> None:
    ingest(graph, UNSURE)
    for nobody in (str(uuid.UUID(int=1)), "nonsense"):
        before = tables(graph)
        with pytest.raises(cb.ContractError, match=f"there is no review '{nobody}'"):
            answer(graph, [*questions(graph), nobody])
        assert changed(before, tables(graph)) == []


def test_an_entity_that_is_not_there_or_of_another_type_is_no_answer(graph: cb.Database) -> None:
    ingest(graph, UNSURE)
    before = tables(graph)
    for nobody in (str(uuid.UUID(int=1)), "nonsense"):
        with pytest.raises(cb.ContractError, match=f"there is no entity '{nobody}'"):
            crave.accept(graph, questions(graph), entity_id=nobody)
    with pytest.raises(cb.ContractError, match="is of a restaurant: 'ramen' is a food"):
        crave.accept(graph, questions(graph), entity_id=entity(graph, "food", "ramen"))
    assert changed(before, tables(graph)) == []


def test_a_review_is_shown_as_a_frame_of_plain_values(memory: cb.Database) -> None:
    ingest(memory, UNSURE)
    schema = crave.review(memory).schema
    assert (schema["confidence"], schema["evidence"]) == (pl.Float64, pl.List(pl.String))
    assert schema["mentions"].is_integer()

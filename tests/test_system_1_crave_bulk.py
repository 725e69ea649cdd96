"""System 1, the bulk operations of a food-discovery backend: every line of it, over entities and connections."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy.pool import QueuePool

import crave_bulk as cb
from crave_bulk.crave import TABLES, Connections, Entities, assign_attributes

ROOT = Path(__file__).parent.parent
THERE = {
    "restaurant": ["Palm", "Katz's"],
    "food": ["steak", "soup"],
    "food_attribute": ["spicy"],
    "restaurant_attribute": ["patio", "view"],
}
TRIPLE = ["restaurant_id", "food_id", "food_attributes"]
NO_IDS = pl.lit([], pl.List(pl.String))
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def crave(db: cb.Database) -> cb.Database:
    db.create(*TABLES)
    return db


@pytest.fixture
def ids(crave: cb.Database) -> dict[str, str]:
    """Name → id of the entities that are there."""
    rows = [(name, kind) for kind, names in THERE.items() for name in names]
    frame = pl.DataFrame(rows, ["name", "type"], orient="row")
    return dict(zip(frame["name"], crave.insert(Entities, frame).keys["entity_id"], strict=True))


def restaurants(number: int) -> pl.DataFrame:
    names = pl.Series("name", [f"Place {n}" for n in range(number)])
    return pl.DataFrame(names).with_columns(
        type=pl.lit("restaurant"),
        address=pl.lit("12 Main Street"),
        general_praise_upvotes=pl.lit(3, pl.Int64),
    )


def pairs(ids: dict[str, str], *names: tuple[str, str], **more: list[object]) -> pl.DataFrame:
    """Connect restaurants and foods, by their names or ids."""
    found = [[ids.get(name, name) for name in side] for side in zip(*names, strict=True)]
    return pl.DataFrame({"restaurant_id": found[0], "food_id": found[1], **more})


def sizes(db: cb.Database) -> list[int]:
    return [db.read(table).height for table in (Entities, Connections)]


def python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# -- create, update, upsert --


def test_entities_are_created_in_bulk(crave: cb.Database) -> None:
    report = crave.insert(Entities, restaurants(120))
    assert report.counts == {"input": 120, "inserted": 120}
    assert report.keys["entity_id"].n_unique() == 120
    there = crave.read(Entities, order_by="entity_id", columns=["entity_id", "name", "aliases"])
    assert set(there["entity_id"]) == set(report.keys["entity_id"])
    assert there["aliases"].list.len().sum() == 0


def test_connections_are_created_in_bulk(crave: cb.Database, ids: dict[str, str]) -> None:
    frame = pairs(ids, ("Palm", "steak"), ("Palm", "soup"), ("Katz's", "soup"))
    assert crave.insert(Connections, frame).counts == {"input": 3, "inserted": 3}
    there = crave.read(Connections, columns=["mention_count", "activity_level", "top_mentions"])
    assert there.rows() == [(0, "normal", [])] * 3


def test_entities_are_updated_by_a_condition(crave: cb.Database, ids: dict[str, str]) -> None:
    changes = {"restaurant_quality_score": 4.5, "general_praise_upvotes": 7}
    report = crave.update_where(Entities, changes, {"type": "restaurant", "name__startswith": "P"})
    assert report.keys["entity_id"].to_list() == [ids["Palm"]]
    scores = crave.read(Entities, where={"restaurant_quality_score__gt": 4}, columns=["name"])
    assert scores["name"].to_list() == ["Palm"]


def test_connections_are_updated_by_a_condition(crave: cb.Database, ids: dict[str, str]) -> None:
    crave.insert(Connections, pairs(ids, ("Palm", "steak"), ("Palm", "soup"), mention_count=[40, 2]))
    crave.update_where(Connections, {"activity_level": "trending"}, "mention_count >= 10")
    there = crave.read(Connections, where={"activity_level": "trending"})
    assert there["food_id"].to_list() == [ids["steak"]]


def test_entities_are_upserted_and_conflicts_resolved(crave: cb.Database, ids: dict[str, str]) -> None:
    frame = pl.DataFrame(
        {
            "name": ["Palm", "Palm", "Nobu"],
            "type": ["restaurant"] * 3,
            "aliases": [["The Palm"], ["Palm Steaks", "The Palm"], []],
            "address": ["1 Elm St", "2 Elm St", None],
            "general_praise_upvotes": [1, 2, 3],
        }
    )
    report = crave.upsert(Entities, frame, on=["name", "type"])
    assert report.counts == {"input": 3, "inserted": 1, "updated": 1, "duplicate": 1}
    palm = crave.read(Entities, where={"entity_id": ids["Palm"]}).row(0, named=True)
    assert palm["aliases"] == ["The Palm", "Palm Steaks"]
    assert (palm["address"], palm["general_praise_upvotes"]) == ("2 Elm St", 3)
    assert palm["created_at"] <= palm["last_updated"]


def test_connections_are_upserted_and_conflicts_resolved(crave: cb.Database, ids: dict[str, str]) -> None:
    def found(count: int, category: str) -> pl.DataFrame:
        lists = {"food_attributes": [[ids["spicy"]], []], "categories": [[ids[category]]] * 2}
        return pairs(ids, *[("Palm", "soup")] * 2, mention_count=[count, 1], **lists)

    crave.upsert(Connections, found(2, "soup"), on=TRIPLE)
    report = crave.upsert(Connections, found(5, "steak"), on=TRIPLE)
    assert report.counts == {"input": 2, "updated": 2}
    there = crave.read(Connections, where={"food_attributes__contains": ids["spicy"]}).row(0, named=True)
    assert there["mention_count"] == 7
    assert set(there["categories"]) == {ids["soup"], ids["steak"]}


def test_conflicts_may_also_be_ignored_or_refused(crave: cb.Database, ids: dict[str, str]) -> None:
    again = pl.DataFrame({"entity_id": [ids["Palm"]], "name": ["Palm"], "type": ["restaurant"]})
    assert crave.insert(Entities, again, on_conflict="ignore").counts == {"input": 1, "ignored": 1}
    with pytest.raises(cb.RejectedRows):
        crave.insert(Entities, again)


# -- what is checked --


def test_the_type_of_an_entity_is_validated(crave: cb.Database) -> None:
    frame = pl.DataFrame(
        {"name": ["Palm", "Bar", "x" * 256, None], "type": ["restaurant", "bar", "food", "food"]}
    )
    report = crave.insert(Entities, frame, on_reject="keep")
    assert report.failures.select("row", "column", "rule").rows() == [
        (1, "type", "isin"),
        (2, "name", "str_length"),
        (3, "name", "not_nullable"),
    ]
    assert crave.read(Entities)["name"].to_list() == ["Palm"]


@pytest.mark.parametrize(
    ("pair", "column", "kind"),
    [
        (("Palm", NOBODY), "food_id", "food"),
        ((NOBODY, "soup"), "restaurant_id", "restaurant"),
        (("Palm", "Katz's"), "food_id", "food"),
        (("steak", "soup"), "restaurant_id", "restaurant"),
    ],
)
def test_a_connection_needs_a_restaurant_and_a_food(
    crave: cb.Database, ids: dict[str, str], pair: tuple[str, str], column: str, kind: str
) -> None:
    report = crave.insert(Connections, pairs(ids, ("Palm", "soup"), pair), on_reject="keep")
    failure = report.failures.row(0, named=True)
    assert (failure["row"], failure["stage"], failure["column"]) == (1, "reference", column)
    assert failure["message"] == f"no row of entities has this entity_id and type '{kind}'"
    assert crave.read(Connections).height == 1


@pytest.mark.parametrize(("column", "name"), [("food_attributes", "patio"), ("categories", "spicy")])
def test_the_lists_of_a_connection_hold_their_type(
    crave: cb.Database, ids: dict[str, str], column: str, name: str
) -> None:
    with pytest.raises(cb.RejectedRows, match="no row of entities has this entity_id and type"):
        crave.insert(Connections, pairs(ids, ("Palm", "soup"), **{column: [[ids[name]]]}))
    assert crave.read(Connections).height == 0


def test_attributes_are_assigned_to_many_restaurants_at_once(crave: cb.Database, ids: dict[str, str]) -> None:
    many = crave.insert(Entities, restaurants(50)).keys["entity_id"]
    assign_attributes(crave, many.head(20), [ids["view"]])
    report = assign_attributes(crave, many, [ids["patio"], ids["view"], ids["patio"]])
    assert report.counts == {"input": 50, "updated": 50}
    there = crave.read(Entities, where={"restaurant_attributes__contains": ids["patio"]})
    assert there["restaurant_attributes"].to_list() == [sorted([ids["patio"], ids["view"]])] * 50
    assert assign_attributes(crave, many, [ids["view"]]).counts == {"input": 50, "unchanged": 50}


def test_attributes_are_of_restaurants_alone(crave: cb.Database, ids: dict[str, str]) -> None:
    with pytest.raises(cb.RejectedRows, match="type 'restaurant_attribute'"):
        assign_attributes(crave, [ids["Palm"]], [ids["spicy"]])
    with pytest.raises(cb.ContractError, match="only restaurants have attributes"):
        assign_attributes(crave, [ids["soup"]], [ids["view"]])
    assert assign_attributes(crave, [NOBODY], [ids["view"]]).counts == {"input": 1, "missing": 1}


# -- all or nothing, or what can be written --


def end_to_end(db: cb.Database, food: str | None = None) -> None:
    """Create restaurants and foods, and connections that need the ids of both."""
    foods = pl.DataFrame({"name": ["pie", "stew"], "type": ["food", "food"]})
    with db.transaction():
        places = db.insert(Entities, restaurants(2)).keys["entity_id"]
        eaten = db.insert(Entities, foods).keys["entity_id"].to_list()
        db.insert(
            Connections, pl.DataFrame({"restaurant_id": places, "food_id": [eaten[0], food or eaten[1]]})
        )


def test_entities_and_connections_are_created_end_to_end(crave: cb.Database) -> None:
    end_to_end(crave)
    assert sizes(crave) == [4, 2]
    assert crave.batches()["transaction_id"].n_unique() == 1


def test_a_failure_takes_all_of_it_back(crave: cb.Database, ids: dict[str, str]) -> None:
    before = crave.read(Entities, order_by="entity_id"), crave.batches()
    with pytest.raises(cb.RejectedRows):
        end_to_end(crave, food=ids["Palm"])
    assert crave.read(Entities, order_by="entity_id").equals(before[0])
    assert crave.read(Connections).height == 0
    assert crave.batches().equals(before[1])


def test_a_list_of_operations_is_one_call(crave: cb.Database, ids: dict[str, str]) -> None:
    right = cb.Operation("insert", Entities, (restaurants(2),))
    wrong = cb.Operation("insert", Connections, (pairs(ids, ("Palm", "Palm")),))
    with pytest.raises(cb.RejectedRows):
        crave.run([right, wrong])
    assert sizes(crave) == [7, 0]
    assert [r.succeeded for r in crave.run([wrong, right], recovery="skip")] == [False, True]
    assert sizes(crave) == [9, 0]


def test_partial_success_has_an_error_for_each_item(crave: cb.Database, ids: dict[str, str]) -> None:
    frame = pairs(ids, ("Palm", "soup"), ("Palm", "Palm"), (NOBODY, "soup"), ("Katz's", "soup"))
    report = crave.insert(Connections, frame, on_reject="keep")
    assert report.counts == {"input": 4, "inserted": 2, "rejected": 2}
    assert report.outcomes["outcome"].to_list() == ["inserted", "rejected", "rejected", "inserted"]
    assert report.rejected["_row"].to_list() == [1, 2]
    assert all(report.rejected["_reasons"].list.len() == 1)
    assert report.keys["_row"].to_list() == [0, 3]


def test_a_violated_unique_constraint_is_named(crave: cb.Database, ids: dict[str, str]) -> None:
    frame = pl.DataFrame(
        {"name": ["Palm", "Two", "Three"], "type": ["restaurant"] * 3, "google_place_id": [None, "g", "g"]}
    )
    found = crave.insert(Entities, frame, on_reject="keep").failures
    assert found.select("row", "stage", "rule").rows() == [
        (0, "unique", "unique(name, type)"),
        (2, "unique", "unique(google_place_id)"),
    ]
    assert found["message"][0] == f"another row holds this name, type: its entity_id is {ids['Palm']}"
    assert crave.read(Entities, where={"google_place_id": "g"})["name"].to_list() == ["Two"]


def test_a_violated_reference_is_named(crave: cb.Database, ids: dict[str, str]) -> None:
    crave.insert(Connections, pairs(ids, ("Palm", "soup")))
    with pytest.raises(cb.RejectedRows) as refused:
        crave.delete(Entities, [ids["Palm"]])
    failure = refused.value.report.failures.row(0, named=True)
    assert (failure["stage"], failure["value"]) == ("reference", ids["Palm"])
    assert "connections" in failure["rule"] + failure["message"]
    assert sizes(crave) == [7, 1]


# -- what is measured --


def test_one_id_goes_through_report_ledger_and_logs(
    crave: cb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "crave_bulk")
    report = crave.insert(Entities, restaurants(3))
    lines = [line for line in caplog.messages if report.batch_id in line]
    assert "3 inserted" in lines[0]
    assert any("merge: 3 rows in" in line for line in lines[1:])
    assert crave.batches(where={"batch_id": report.batch_id})["inserted"].to_list() == [3]


def test_a_batch_that_failed_is_logged_by_its_id(
    crave: cb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crave_bulk")
    with pytest.raises(cb.RejectedRows) as refused:
        crave.insert(Entities, pl.DataFrame({"name": ["Secret"], "type": ["bar"]}))
    lines = [line for line in caplog.messages if refused.value.report.batch_id in line]
    assert "1 rejected" in lines[0]
    assert "rolled back" in lines[0]
    assert "Secret" not in caplog.text


def test_timings_and_counts_of_each_operation(crave: cb.Database) -> None:
    frame = pl.concat([restaurants(30), restaurants(1).with_columns(name=pl.lit(""))])
    report = crave.insert(Entities, frame, on_reject="keep")
    assert {"validate", "stage", "merge"} <= set(report.timings["phase"])
    assert 0 < report.timings["seconds"].sum() <= report.seconds
    assert report.rows_per_second == 31 / report.seconds
    entry = crave.batches().row(0, named=True)
    assert (entry["input"], entry["inserted"], entry["rejected"]) == (31, 30, 1)
    assert entry["seconds"] > 0
    assert "merge" in entry["timings"]


MEMORY = """
import sys, polars as pl, crave_bulk as cb
from crave_bulk.crave import TABLES, Entities
def rows(first, size):
    names = [f"Place {n}" for n in range(first, first + size)]
    return pl.DataFrame({"name": names, "type": ["restaurant"] * size, "aliases": [["a" * 100, "b" * 100]] * size})
with cb.connect(sys.argv[1]) as db:
    db.create(*TABLES)
    for first, size in ((0, 10), (10, 500)):
        db.insert(Entities, rows(first, size))
    peaks = db.batches()["peak_memory"].sort()
    print(peaks[1] - peaks[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="which does not say how much memory a process used")
def test_a_batch_takes_less_than_100_mb(url: str) -> None:
    done = python(MEMORY, url)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50 * 2**20


@pytest.mark.timed
@pytest.mark.parametrize(("rows", "seconds"), [(100, 0.5), (500, 1.0)])
def test_a_batch_is_fast(crave: cb.Database, ids: dict[str, str], rows: int, seconds: float) -> None:
    """There, 100 rows were to take less than 2 s and 500 less than 8."""

    def load(turn: int) -> float:
        new = restaurants(rows).with_columns(name=pl.format("{} of {}", "name", pl.lit(turn)))
        first = crave.insert(Entities, new)
        linked = pl.DataFrame({"restaurant_id": first.keys["entity_id"], "food_id": [ids["soup"]] * rows})
        return first.seconds + crave.insert(Connections, linked).seconds

    assert statistics.median(load(turn) for turn in range(3)) < seconds


# -- connections, many at once, and what goes wrong --


def test_connections_are_pooled(server_db: cb.Database) -> None:
    """A SQLite file is opened anew for each call, so that nothing keeps it locked."""

    def process() -> int:
        with server_db.session() as session:
            found: int = session.fetch("SELECT pg_backend_pid() AS pid")["pid"].item()
        return found

    server_db.create(*TABLES)
    first = process()
    server_db.insert(Entities, restaurants(2))
    assert process() == first


@pytest.mark.thorough
def test_bulk_operations_run_at_the_same_time(crave: cb.Database, ids: dict[str, str]) -> None:
    def count(turn: int) -> None:
        frame = pairs(
            ids, ("Palm", "soup"), ("Katz's", "soup"), mention_count=[1, 2], total_upvotes=[turn, 1]
        )
        crave.upsert(Connections, frame.with_columns(food_attributes=NO_IDS), on=TRIPLE, once=False)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(16)))
    there = crave.read(Connections, order_by="mention_count", columns=["mention_count", "total_upvotes"])
    assert there.rows() == [(16, sum(range(16))), (32, 16)]


def test_a_pool_that_is_exhausted_says_so_and_recovers(
    server_db: cb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_db.create(*TABLES)
    two = QueuePool(server_db.backend.connect, 1, 1, timeout=0.05, reset_on_return=None)
    server_db._pool.dispose()
    server_db._pool = two
    monkeypatch.setattr("crave_bulk.connections._POOL_SECONDS", 0.2)
    monkeypatch.setattr("crave_bulk.retry.ATTEMPTS", 2)
    taken, free = threading.Barrier(3), threading.Event()

    def hold() -> None:
        with server_db.session():
            taken.wait(30)
            free.wait(30)

    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(hold) for _ in range(2)]
        taken.wait(30)
        with pytest.raises(cb.DatabaseBusy, match="were in use .* use fewer threads"):
            server_db.insert(Entities, restaurants(2))
        free.set()
        assert [one.result(30) for one in held] == [None, None]
    assert server_db.insert(Entities, restaurants(2)).counts["inserted"] == 2


def test_a_file_that_others_use_is_waited_for(tmp_path: Path) -> None:
    with cb.connect(f"sqlite:///{tmp_path}/crave.db") as db, ThreadPoolExecutor(1) as threads:
        db.create(*TABLES)
        with db.transaction():
            db.insert(Entities, restaurants(2))
            other = threads.submit(db.upsert, Entities, restaurants(3), on=["name", "type"], once=False)
            with pytest.raises(TimeoutError):
                other.result(0.3)
        assert other.result(30).counts == {"input": 3, "inserted": 1, "updated": 2}


DIES = """
import os, sys, polars as pl, crave_bulk as cb
from crave_bulk.crave import Entities
with cb.connect(sys.argv[1]) as db, db.transaction():
    print(db.insert(Entities, pl.DataFrame({"name": ["Lost"], "type": ["food"]})).counts["inserted"], flush=True)
    os._exit(3)
"""


def test_a_process_that_dies_leaves_nothing_behind(crave: cb.Database, url: str) -> None:
    done = python(DIES, url)
    assert (done.returncode, done.stdout) == (3, "1\n"), done.stderr
    assert crave.read(Entities).height == 0
    assert crave.batches().height == 0
    assert crave.insert(Entities, restaurants(2)).counts["inserted"] == 2


def test_a_lost_connection_is_made_again(server_db: cb.Database) -> None:
    server_db.create(*TABLES)
    server_db.insert(Entities, restaurants(2))
    with cb.connect(server_db.backend.label) as other, other.session() as session:
        session.fetch(
            "SELECT pg_terminate_backend(pid) AS gone FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert server_db.upsert(Entities, restaurants(4), on=["name", "type"]).counts["inserted"] == 2


def test_a_batch_that_was_stopped_can_be_run_again(crave: cb.Database) -> None:
    with pytest.raises(cb.TimedOut):
        crave.insert(Entities, restaurants(300), timeout=0.0001)
    assert crave.read(Entities).height == 0
    assert crave.insert(Entities, restaurants(300)).counts["inserted"] == 300

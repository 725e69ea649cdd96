"""Undo and plan, as people call them; that they are exact is proven in the promises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods


def foods(*ids: int, name: str = "soup") -> pl.DataFrame:
    return pl.DataFrame({"food_id": ids, "name": [name] * len(ids)})


@pytest.fixture
def kitchen(db: cb.Database) -> cb.Database:
    db.create(Foods)
    db.insert(Foods, foods(1, 2, 3))
    return db


def rows(db: cb.Database) -> list[tuple[object, ...]]:
    return db.read(Foods, order_by="food_id").rows()


# -- undo --


def test_undo_by_the_report_and_by_the_id(kitchen: cb.Database, url: str) -> None:
    before = rows(kitchen)
    kitchen.upsert(Foods, foods(3, 4, name="x")).undo()
    assert rows(kitchen) == before
    wrong = kitchen.delete(Foods, [1, 2])
    with cb.connect(url) as other:
        report = other.undo(wrong.batch_id)
    assert rows(kitchen) == before
    assert (report.verb, report.table, report.counts) == ("undo", "foods", {"input": 2, "inserted": 2})
    assert report.keys["food_id"].sort().to_list() == [1, 2]
    assert kitchen.batches()["undone_by"][1] == report.batch_id


def test_a_batch_is_taken_back_once(kitchen: cb.Database) -> None:
    wrong = kitchen.delete(Foods, [1])
    wrong.undo()
    with pytest.raises(cb.UndoRefused, match="was taken back already, by batch"):
        wrong.undo()


def test_an_undo_can_be_taken_back(kitchen: cb.Database) -> None:
    report = kitchen.upsert(Foods, foods(3, 4, name="x"))
    after = rows(kitchen)
    report.undo().undo()
    assert rows(kitchen) == after
    report.undo()  # it stands again, so it can be taken back again
    assert kitchen.read(Foods).height == 3


def test_an_undo_that_came_to_nothing_can_be_taken_back(kitchen: cb.Database) -> None:
    before = rows(kitchen)
    with kitchen.transaction():
        report = kitchen.insert(Foods, foods(9))
        kitchen.delete(Foods, [9])
    for _ in range(2):
        undone = report.undo()
        assert undone.counts == {"input": 2, "inserted": 1, "deleted": 1}
        undone.undo()
        assert rows(kitchen) == before


def test_the_tables_of_a_transaction_are_taken_back_together(kitchen: cb.Database) -> None:
    class Dishes(cb.Table):
        dish_id: int = cb.field(key=True)
        food_id: int = cb.field(references="foods.food_id")

        class Config:
            name = "dishes"

    kitchen.create(Dishes)
    with kitchen.transaction():
        first = kitchen.insert(Foods, foods(9))
        kitchen.insert(Dishes, pl.DataFrame({"dish_id": [1], "food_id": [9]}))
        kitchen.delete(Foods, [1])
    report = first.undo()
    assert report.table == "foods, dishes"
    assert report.counts == {"input": 3, "inserted": 1, "deleted": 2}
    assert kitchen.read(Dishes).is_empty()
    assert [row[0] for row in rows(kitchen)] == [1, 2, 3]


def test_what_went_along_and_was_made_anew_goes_back_and_forth(db: cb.Database) -> None:
    with db.session() as session:
        for statement in (
            "CREATE TABLE parents (id bigint PRIMARY KEY NOT NULL)",
            "CREATE TABLE leaves (id bigint PRIMARY KEY NOT NULL, parent bigint REFERENCES parents ON DELETE CASCADE)",
            "INSERT INTO parents VALUES (3)",
            "INSERT INTO leaves VALUES (2, 3)",
        ):
            session.execute(statement)
    with db.transaction():
        db.delete("parents", [3])
        report = db.insert("leaves", pl.DataFrame({"id": [2], "parent": [None]}))
    for _ in range(2):  # leaf 2 goes, its parent comes or goes, and leaf 2 comes again: in this order only
        undone = report.undo()
        assert (db.read("parents").rows(), db.read("leaves").rows()) == ([(3,)], [(2, 3)])
        assert undone.undo().counts == {"input": 3, "inserted": 1, "deleted": 2}
        assert (db.read("parents").rows(), db.read("leaves").rows()) == ([], [(2, None)])


def test_rows_that_changed_since_are_listed(kitchen: cb.Database) -> None:
    report = kitchen.upsert(Foods, foods(1, 2, 4, name="x"))
    kitchen.update_where(Foods, {"name": "y"}, "food_id = 2")
    kitchen.delete(Foods, [4])
    with pytest.raises(cb.UndoRefused, match="2 rows that batch .* wrote have changed since") as refused:
        report.undo()
    assert refused.value.rows.sort("key", "column").rows() == [
        ("foods", "2", "name", "x", "y"),
        ("foods", "4", "food_id", "4", None),
        ("foods", "4", "name", "x", None),
    ]
    assert rows(kitchen) == [(1, "x"), (2, "y"), (3, "soup")]
    assert report.undo(force=True).counts == {"input": 3, "updated": 1, "stale": 2}
    assert rows(kitchen) == [(1, "soup"), (2, "y"), (3, "soup")]


def test_rows_that_changed_since_are_listed_also_where_they_are_in_the_way_of_others(db: cb.Database) -> None:
    with db.session() as session:
        session.execute(
            "CREATE TABLE n (id bigint PRIMARY KEY NOT NULL, twin bigint REFERENCES n, said text)"
        )
        session.execute("INSERT INTO n VALUES (1, NULL, NULL), (3, NULL, NULL)")
    with db.transaction():
        db.update("n", pl.DataFrame({"id": [1, 3], "said": ["a", "a"]}))
        report = db.upsert("n", pl.DataFrame({"id": [3, 5], "twin": [5, None]}))
    db.update_where("n", {"said": "x"}, "id IN (1, 3)")
    before = sorted(db.read("n").rows())
    with pytest.raises(cb.UndoRefused, match="2 rows that batch .* wrote have changed since") as refused:
        report.undo()  # row 5 cannot go, as row 3 points at it, which is left alone
    assert sorted(refused.value.rows.rows()) == [("n", "1", "said", "a", "x"), ("n", "3", "said", "a", "x")]
    assert sorted(db.read("n").rows()) == before


def test_what_cannot_be_put_back_is_said(kitchen: cb.Database) -> None:
    class Dishes(cb.Table):
        dish_id: int = cb.field(key=True)
        food_id: int = cb.field(references="foods.food_id")

        class Config:
            name = "dishes"

    new = kitchen.insert(Foods, foods(8, 9))
    kitchen.create(Dishes)
    kitchen.insert(Dishes, pl.DataFrame({"dish_id": [1], "food_id": [9]}))
    with pytest.raises(cb.UndoRefused, match="1 row of table foods cannot be put back: food_id = '9'"):
        new.undo()
    assert kitchen.read(Foods).height == 5
    report = new.undo(force=True)
    assert report.counts == {"input": 2, "deleted": 1, "rejected": 1}
    assert [row[0] for row in rows(kitchen)] == [1, 2, 3, 9]


def test_only_so_many_batches_are_kept(url: str) -> None:
    with cb.connect(url, keep_undo=2) as db:
        db.create(Foods)
        reports = [db.insert(Foods, foods(number)) for number in range(4)]
        with pytest.raises(cb.UndoRefused, match="only that of the newest 2"):
            reports[1].undo()
        assert db.read("crave_bulk_batches_journal")["batch_id"].n_unique() == 2
        reports[2].undo()
        assert [row[0] for row in rows(db)] == [0, 1, 3]


def test_a_batch_that_changed_nothing_is_taken_back_too(kitchen: cb.Database) -> None:
    assert kitchen.upsert(Foods, foods(1)).undo().counts == {"input": 0}


@pytest.mark.parametrize("batch_id", ["nonsense", "01a20dcb-2ed3-719c-9641-41a135bda23d", None, 7])
def test_a_batch_that_is_not_there(kitchen: cb.Database, batch_id: str) -> None:
    with pytest.raises(cb.UndoRefused, match="see db.batches()"):
        kitchen.undo(batch_id)


def test_without_images_there_is_no_undo(kitchen: cb.Database) -> None:
    with pytest.raises(cb.UndoRefused, match="undo=False"):
        kitchen.delete(Foods, [1], undo=False).undo()


def test_a_table_that_is_gone_or_another(kitchen: cb.Database) -> None:
    wrong = kitchen.delete(Foods, [1])
    with kitchen.session() as session:
        session.execute("ALTER TABLE foods RENAME COLUMN name TO title")
    with pytest.raises(cb.UndoRefused, match="column 'name' of table foods is gone"):
        wrong.undo()
    with kitchen.session() as session:
        session.execute("DROP TABLE foods")
    with pytest.raises(cb.UndoRefused, match="table foods is gone"):
        wrong.undo()


def test_a_table_that_has_grown(kitchen: cb.Database) -> None:
    wrong = kitchen.upsert(Foods, foods(1, 4, name="x"))
    with kitchen.session() as session:
        session.execute("ALTER TABLE foods ADD COLUMN rating integer DEFAULT 3")
    wrong.undo()
    assert rows(kitchen) == [(1, "soup"), (2, "soup"), (3, "soup")]


def test_columns_that_nobody_declared_come_back(kitchen: cb.Database) -> None:
    with kitchen.session() as session:
        session.execute("ALTER TABLE foods ADD COLUMN rating integer DEFAULT 3")
        session.execute("UPDATE foods SET rating = 7 WHERE food_id = 1")
    before = sorted(kitchen.read("foods").rows())
    kitchen.delete(Foods, [1, 2]).undo()
    assert sorted(kitchen.read("foods").rows()) == before
    report = kitchen.upsert(Foods, foods(1, name="x"))
    with kitchen.session() as session:
        session.execute("UPDATE foods SET rating = 8 WHERE food_id = 1")
    with pytest.raises(cb.UndoRefused, match="rating was '7' and is '8'"):
        report.undo()


def test_a_value_that_no_frame_can_hold_keeps_nobody_from_writing(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2))
    with server_db.session() as session:
        session.execute("ALTER TABLE foods ADD COLUMN seen timestamp DEFAULT 'infinity'")
    report = server_db.upsert(Foods, foods(1, name="x"))
    assert report.counts["updated"] == 1
    if "cannot be taken back" in repr(report):
        with pytest.raises(cb.UndoRefused, match="cannot be taken back"):
            report.undo()
    else:
        report.undo()
        assert set(server_db.read(Foods)["name"]) == {"soup"}


# -- plan --


def test_a_plan_writes_nothing_until_it_is_applied(kitchen: cb.Database, url: str) -> None:
    before = rows(kitchen)
    plan = kitchen.upsert(Foods, foods(1, 4, name="x"), plan=True)
    assert rows(kitchen) == before
    assert plan.counts == {"input": 2, "inserted": 1, "updated": 1}
    assert plan.changes.rows() == [
        (0, "1", "name", "soup", "x"),
        (1, "4", "food_id", None, "4"),
        (1, "4", "name", None, "x"),
    ]
    assert kitchen.batches().height == 1
    report = plan.apply()
    assert report.counts == plan.counts
    assert rows(kitchen) == [(1, "x"), (2, "soup"), (3, "soup"), (4, "x")]
    assert kitchen.batches()["batch_id"][0] == report.batch_id


def test_a_plan_in_words_and_as_a_card(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(1, 4, name="<b>"), plan=True)
    assert repr(plan).startswith("plan: upsert foods: 2 rows -> 1 inserted, 1 updated\n")
    assert "1: name: 'soup' -> '<b>'" in repr(plan)
    html = plan._repr_html_()
    assert "Nothing was written" in html
    assert "&lt;b&gt;" in html
    assert "<b>x" not in html
    assert html.count("<div") == html.count("</div>")


def test_a_plan_says_how_much_more_there_is(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(*range(100, 150)), plan=True)
    assert "... and 90 more changes" in repr(plan)
    assert "92 more in .changes" in plan._repr_html_()


@pytest.mark.parametrize("change", ["food_id = 1", "food_id = 3"])
def test_a_plan_whose_rows_have_moved_is_stale(kitchen: cb.Database, change: str) -> None:
    plan = kitchen.delete(Foods, [1], plan=True)
    kitchen.update_where(Foods, {"name": "y"}, change)
    if change == "food_id = 3":
        assert plan.apply().counts == {"input": 1, "deleted": 1}
        return
    with pytest.raises(
        cb.PlanStale, match="not as they were: 1, the first with the key 1; nothing was written"
    ):
        plan.apply()
    assert kitchen.read(Foods).height == 3


def test_a_plan_shows_what_would_be_refused(kitchen: cb.Database) -> None:
    plan = kitchen.insert(Foods, foods(1, 7), plan=True)
    assert plan.counts == {"input": 2, "inserted": 1, "rejected": 1}
    assert plan.rejected["food_id"].to_list() == [1]
    assert plan.failures.height == 1
    assert plan.outcomes["outcome"].to_list() == ["rejected", "inserted"]
    with pytest.raises(cb.RejectedRows):
        plan.apply()
    kept = kitchen.insert(Foods, foods(1, 7), plan=True, on_reject="keep").apply()
    assert kept.counts == {"input": 2, "inserted": 1, "rejected": 1}


def test_a_plan_whose_table_has_changed_is_stale(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(1, name="x"), plan=True)
    with kitchen.session() as session:
        session.execute("ALTER TABLE foods ADD COLUMN rating integer")
    with pytest.raises(cb.PlanStale, match="columns"):
        plan.apply()
    with kitchen.session() as session:
        session.execute("DROP TABLE foods")
    with pytest.raises(cb.PlanStale, match="cannot be written any more"):
        plan.apply()


def test_a_plan_keeps_the_keys_and_moments_that_it_made(db: cb.Database) -> None:
    class Notes(cb.Table):
        note_id: str = cb.field(key=True, uuid=True, default="uuid")
        text: str
        at: pl.Datetime("us", "UTC") = cb.field(default="now", on_update="now")  # type: ignore[valid-type]

        class Config:
            name = "notes"

    db.create(Notes)
    plan = db.insert(Notes, pl.DataFrame({"text": ["a", "b"]}), plan=True)
    planned = plan.changes.filter(column="at")["new"].to_list()
    keys = plan.changes["key"].unique(maintain_order=True).to_list()
    report = plan.apply()
    assert report.keys["note_id"].to_list() == keys
    assert [str(at)[:19] for at in db.read(Notes)["at"]] == [text[:19] for text in planned]


def test_a_plan_keeps_the_keys_that_the_database_made(db: cb.Database) -> None:
    with db.session() as session:
        identity = (
            "integer PRIMARY KEY"
            if db.backend.name == "sqlite"
            else "int GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        )
        session.execute(f"CREATE TABLE tasks (id {identity}, title text NOT NULL)")
    plan = db.insert("tasks", pl.DataFrame({"title": ["a", "b"]}), plan=True)
    keys = plan.changes["key"].unique(maintain_order=True).to_list()
    assert [str(key) for key in plan.apply().keys["id"]] == keys
    assert db.insert("tasks", pl.DataFrame({"title": ["c"]})).keys["id"].item() == 3


def test_every_verb_plans(kitchen: cb.Database) -> None:
    before = rows(kitchen)
    plans = [
        kitchen.update(Foods, foods(1, name="x"), plan=True),
        kitchen.delete(Foods, [1], plan=True),
        kitchen.sync(Foods, foods(1, name="x"), plan=True),
        kitchen.update_where(Foods, {"name": "x"}, "food_id = 1", plan=True),
        kitchen.delete_where(Foods, "food_id = 1", plan=True),
    ]
    assert [plan.counts for plan in plans] == [
        {"input": 1, "updated": 1},
        {"input": 1, "deleted": 1},
        {"input": 3, "updated": 1, "deleted": 2},
        {"input": 1, "updated": 1},
        {"input": 1, "deleted": 1},
    ]
    assert rows(kitchen) == before
    assert plans[2].changes.filter(pl.col("row").is_null())["key"].unique().sort().to_list() == ["2", "3"]
    for plan in (plans[0], plans[4]):
        plan.apply()
        if plan is plans[0]:
            kitchen.update(Foods, foods(1))
    assert [row[0] for row in rows(kitchen)] == [2, 3]


def test_an_undo_can_be_planned(kitchen: cb.Database) -> None:
    wrong = kitchen.delete(Foods, [1])
    plan = kitchen.undo(wrong.batch_id, plan=True)
    assert plan.counts == {"input": 1, "inserted": 1}
    assert kitchen.read(Foods).height == 2
    plan.apply()
    assert kitchen.read(Foods).height == 3


def test_a_plan_within_a_transaction(kitchen: cb.Database) -> None:
    with kitchen.transaction():
        kitchen.insert(Foods, foods(9))
        plan = kitchen.update(Foods, foods(9, name="x"), plan=True)
        assert plan.counts["updated"] == 1
        plan.apply()
    assert rows(kitchen)[-1] == (9, "x")


def test_a_login_that_may_delete_but_not_update_still_deletes(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2, 3))
    with server_db.session() as session:
        session.execute("DROP ROLE IF EXISTS crave_bulk_cleo")
        session.execute("CREATE ROLE crave_bulk_cleo")
        session.execute("GRANT SELECT, DELETE ON foods TO crave_bulk_cleo")
        session.execute("GRANT ALL ON crave_bulk_batches, crave_bulk_batches_journal TO crave_bulk_cleo")
        session.execute("GRANT USAGE ON SCHEMA public TO crave_bulk_cleo")
        session.execute("SET ROLE crave_bulk_cleo")
    try:
        reports = [server_db.delete(Foods, [1]), server_db.delete_where(Foods, "food_id = 2")]
    finally:
        with server_db.session() as session:
            session.execute("RESET ROLE")
            session.execute("DROP OWNED BY crave_bulk_cleo")
            session.execute("DROP ROLE crave_bulk_cleo")
    for report in reports:
        assert report.counts == {"input": 1, "deleted": 1}
        assert "cannot be taken back: permission denied for table foods" in repr(report)
        with pytest.raises(cb.UndoRefused, match="cannot be taken back"):
            report.undo()
    assert [row[0] for row in rows(server_db)] == [3]


def test_two_transactions_at_once_may_be_the_first_to_write(server_db: cb.Database) -> None:
    server_db.create(Foods)
    inside = threading.Barrier(2, timeout=20)

    def write(number: int) -> None:
        with server_db.transaction():
            if number == 1:
                server_db.insert(Foods, foods(1))
                inside.wait()
                time.sleep(0.3)  # the other waits for this transaction now
                server_db.insert(Foods, foods(2))
            else:
                inside.wait()
                server_db.insert(Foods, foods(3))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (1, 2)))
    assert server_db.batches().height == 3


def test_unique_values_that_were_exchanged_go_back(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE t (k bigint PRIMARY KEY NOT NULL, code bigint UNIQUE, tags text)")
        session.execute("INSERT INTO t VALUES (1, 1, NULL), (2, 2, NULL), (3, 3, NULL)")
    exchange = pl.DataFrame({"k": [1, 2, 1], "code": [None, 1, 2]})
    hand_on = pl.DataFrame({"k": [3, 1], "code": [9, 3]})
    for frame in (exchange, hand_on):
        before = sorted(db.read("t").rows())
        report = db.upsert("t", frame)
        after = sorted(db.read("t").rows())
        undone = report.undo()
        assert sorted(db.read("t").rows()) == before
        undone.undo()
        assert sorted(db.read("t").rows()) == after


def test_a_transaction_of_many_batches_is_kept_whole(url: str) -> None:
    with cb.connect(url, keep_undo=2) as db:
        db.create(Foods)
        with db.transaction():
            reports = [db.insert(Foods, foods(number)) for number in range(5)]
        db.insert(Foods, foods(10))
        assert db.batches()["undoable"].to_list() == [True] * 6
        reports[3].undo()
        assert [row[0] for row in rows(db)] == [10]
        assert db.batches()["undoable"].to_list() == [True, True] + [False] * 5


def test_a_row_that_another_writer_makes_change_is_kept_too(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2, 3, 4, name="a"))
    once = [True]

    def intrude(statement: str) -> None:
        if once[0] and "FOR NO KEY UPDATE" in statement:
            once[0] = False
            with ThreadPoolExecutor(1) as pool:
                pool.submit(server_db.update_where, Foods, {"name": "other"}, {"food_id": 1}).result()

    server_db.trace(intrude)
    frame = pl.DataFrame({"food_id": [1, 2, 3, 4], "name": ["a", "x", "x", "x"]})
    report = server_db.upsert(Foods, frame)
    assert not once[0]
    # Whether it is overwritten depends on the kind of merge; either way it is as it was afterwards.
    assert report.counts["updated"] in (3, 4)
    assert report.undo().counts["updated"] == report.counts["updated"]
    assert [row[1] for row in rows(server_db)] == ["other", "a", "a", "a"]


def test_what_the_database_makes_of_a_value_is_what_was_written(server_db: cb.Database) -> None:
    class Prices(cb.Table):
        k: int = cb.field(key=True)
        v: pl.Decimal(12, 4)  # type: ignore[valid-type]
        at: pl.Datetime("us")  # type: ignore[valid-type]

        class Config:
            name = "prices"

    with server_db.session() as session:
        for statement in (
            "CREATE TABLE prices (k bigint PRIMARY KEY, v numeric(12,4), at timestamp)",
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := round(NEW.v, 2); "
            "NEW.at := date_trunc('second', NEW.at); RETURN NEW; END $$",
            "CREATE TRIGGER cut BEFORE INSERT ON prices FOR EACH ROW EXECUTE FUNCTION cut()",
        ):
            session.execute(statement)
    moment = pl.lit("2024-05-01 12:00:00.6").str.to_datetime(time_unit="us")
    frame = pl.DataFrame({"k": [1, 2]}).with_columns(v=pl.lit("1.2345").cast(pl.Decimal(12, 4)), at=moment)
    plan = server_db.insert(Prices, frame, plan=True)
    assert plan.changes.filter(column="v")["new"].to_list() == ["1.2300", "1.2300"]
    report = plan.apply()
    assert report.undo().counts == {"input": 2, "deleted": 2}


def test_a_trigger_of_a_partition_is_minded(server_db: cb.Database) -> None:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE foods (food_id bigint PRIMARY KEY, name text NOT NULL) PARTITION BY RANGE (food_id)",
            "CREATE TABLE foods_1 PARTITION OF foods FOR VALUES FROM (0) TO (100)",
            "CREATE FUNCTION upper_name() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$",
            "CREATE TRIGGER u BEFORE INSERT ON foods_1 FOR EACH ROW EXECUTE FUNCTION upper_name()",
        ):
            session.execute(statement)
    report = server_db.insert(Foods, foods(1, 2))
    assert rows(server_db) == [(1, "SOUP"), (2, "SOUP")]
    assert report.undo().counts == {"input": 2, "deleted": 2}


def test_what_a_trigger_keeps_from_being_put_back_is_said(server_db: cb.Database) -> None:
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE counted (k bigint PRIMARY KEY, v bigint, n bigint)",
            "INSERT INTO counted VALUES (1, 1, 0)",
            "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END $$",
            "CREATE TRIGGER c BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION count_up()",
        ):
            session.execute(statement)
    report = server_db.upsert("counted", pl.DataFrame({"k": [1], "v": [2]}))
    undone = report.undo()
    assert server_db.read("counted").rows() == [(1, 1, 2)]
    assert "1 row of table counted could not be put back exactly" in repr(undone)


def test_children_without_a_key_do_not_keep_their_parents_from_being_deleted(db: cb.Database) -> None:
    db.create(Foods)
    db.insert(Foods, foods(1, 2, 3))
    with db.session() as session:
        session.execute("CREATE TABLE notes (food_id bigint REFERENCES foods ON DELETE CASCADE, txt text)")
        session.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b')")
    for number in (1, 2):
        report = db.delete(Foods, [number])
        assert "cannot be taken back: rows of table notes, which has no key" in repr(report)
    assert "cannot be taken back" in repr(db.delete_where(Foods, "food_id = 3"))
    assert db.read("notes").is_empty()
    with pytest.raises(cb.UndoRefused):
        report.undo()


def test_a_login_that_may_not_see_what_goes_along_still_deletes(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2))
    with server_db.session() as session:
        for statement in (
            "CREATE TABLE kid (k bigint PRIMARY KEY, food_id bigint REFERENCES foods ON DELETE CASCADE)",
            "INSERT INTO kid VALUES (1, 1)",
            "DROP ROLE IF EXISTS crave_bulk_eve",
            "CREATE ROLE crave_bulk_eve",
            "GRANT ALL ON foods, crave_bulk_batches, crave_bulk_batches_journal TO crave_bulk_eve",
            "GRANT USAGE ON SCHEMA public TO crave_bulk_eve",
            "SET ROLE crave_bulk_eve",
        ):
            session.execute(statement)
    try:
        for report in (server_db.delete(Foods, [1]), server_db.delete_where(Foods, "food_id = 2")):
            assert report.counts["deleted"] == 1
            assert "cannot be taken back: permission denied for table kid" in repr(report)
    finally:
        with server_db.session() as session:
            session.execute("RESET ROLE")
            session.execute("DROP OWNED BY crave_bulk_eve")
            session.execute("DROP ROLE crave_bulk_eve")
    assert server_db.read("kid").is_empty()


def test_a_parent_that_is_updated_may_be_pointed_at_meanwhile(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1))
    with server_db.session() as session:
        session.execute("CREATE TABLE kid (k bigint PRIMARY KEY, food_id bigint REFERENCES foods)")

    def add() -> None:
        server_db.insert("kid", pl.DataFrame({"k": [1], "food_id": [1]}), timeout=5)

    with server_db.transaction():
        server_db.upsert(Foods, foods(1, name="x"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(add).result()
    assert server_db.read("kid").height == 1


def test_rows_that_go_along_by_a_shorter_and_a_longer_way_come_back(db: cb.Database) -> None:
    tables = ("parents", "buds", "leaves")  # a bud points at its leaf and at the parent of both
    with db.session() as session:
        for statement in (
            "CREATE TABLE parents (id bigint PRIMARY KEY NOT NULL)",
            "CREATE TABLE leaves (id bigint PRIMARY KEY NOT NULL, parent bigint REFERENCES parents ON DELETE CASCADE)",
            "CREATE TABLE buds (id bigint PRIMARY KEY NOT NULL, parent bigint REFERENCES parents ON DELETE CASCADE,"
            " leaf bigint REFERENCES leaves ON DELETE CASCADE)",
            "INSERT INTO parents VALUES (1)",
            "INSERT INTO leaves VALUES (2, 1)",
            "INSERT INTO buds VALUES (3, 1, 2)",
        ):
            session.execute(statement)
    before = [db.read(name).rows() for name in tables]
    undone = db.delete("parents", [1]).undo()
    assert [db.read(name).rows() for name in tables] == before
    undone.undo()
    assert [db.read(name).height for name in tables] == [0, 0, 0]


def test_rows_that_go_along_with_others_of_the_same_deletion_come_back(db: cb.Database) -> None:
    with db.session() as session:
        session.execute(
            "CREATE TABLE n (id bigint PRIMARY KEY NOT NULL, up bigint REFERENCES n ON DELETE CASCADE)"
        )
        session.execute("INSERT INTO n VALUES (1, NULL), (2, 1), (3, 2)")
    before = sorted(db.read("n").rows())
    report = db.delete("n", [1, 2])
    assert db.read("n").is_empty()
    report.undo()
    assert sorted(db.read("n").rows()) == before
    report = db.delete_where("n", "id > 0")
    assert report.counts == {"input": 3, "deleted": 3}
    report.undo()
    assert sorted(db.read("n").rows()) == before


def test_a_plan_that_was_applied_says_so(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(1, 3, name="x"), plan=True)
    report = plan.apply()
    for _ in range(2):
        with pytest.raises(cb.PlanStale, match=f"applied already, as batch {report.batch_id}; nothing more"):
            plan.apply()
    assert kitchen.batches()["batch_id"].to_list()[0] == report.batch_id
    report.undo()
    assert plan.apply().counts == report.counts  # it stands no longer


def test_a_plan_that_changes_nothing_is_applied_once_too(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(1), plan=True)
    assert plan.apply().counts == {"input": 1, "unchanged": 1}
    with pytest.raises(cb.PlanStale, match="applied already"):
        plan.apply()


def test_a_plan_whose_transaction_was_rolled_back_can_be_applied(kitchen: cb.Database) -> None:
    plan = kitchen.upsert(Foods, foods(3, name="x"), plan=True)
    with pytest.raises(ZeroDivisionError), kitchen.transaction():
        plan.apply()
        with pytest.raises(cb.PlanStale, match="applied already"):
            plan.apply()
        raise ZeroDivisionError
    assert plan.apply().counts == {"input": 1, "updated": 1}


def test_a_plan_without_a_ledger_is_applied_once(url: str) -> None:
    with cb.connect(url, ledger=False) as db:
        db.create(Foods)
        plan = db.upsert(Foods, foods(1), plan=True)
        plan.apply()
        with pytest.raises(cb.PlanStale, match="applied already"):
            plan.apply()


def test_a_refused_undo_says_why_and_what_to_do(kitchen: cb.Database) -> None:
    wrong = kitchen.upsert(Foods, foods(1, name="wrong"))
    kitchen.update(Foods, foods(1, name="since"), undo=False)
    undone = kitchen.upsert(Foods, foods(2, name="undone"))
    by = undone.undo()
    refused = {
        wrong.batch_id: ("has changed since", "force=True"),
        kitchen.update(Foods, foods(2, name="not kept"), undo=False).batch_id: (
            "rows of table foods were not kept as they were: it was written with undo=False",
            "a batch of your own",
        ),
        undone.batch_id: (f"was taken back already, by batch {by.batch_id}", "brings it back"),
        "nonsense": ("there is no batch 'nonsense'", "see db.batches()"),
    }
    for batch_id, (reason, advice) in refused.items():
        with pytest.raises(cb.UndoRefused) as error:
            kitchen.undo(batch_id)
        assert reason in error.value.reason
        assert advice in error.value.advice
        assert str(error.value) == f"{error.value.reason}; nothing was changed: {error.value.advice}"
    kept = kitchen.batches(where={"verb": "update"})["not_kept"].to_list()
    assert kept == ["it was written with undo=False"] * 2


def test_why_rows_could_not_be_kept_is_said_again_by_the_undo(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2))
    with server_db.session() as session:
        session.execute("CREATE TABLE notes (food_id bigint REFERENCES foods ON DELETE CASCADE)")
        session.execute("INSERT INTO notes VALUES (1)")
    report = server_db.delete(Foods, [1])
    (note,) = (note for note in report.notes if "cannot be taken back" in note)
    with pytest.raises(cb.UndoRefused) as error:
        report.undo()
    assert "rows of table notes, which has no key" in error.value.reason
    assert note.partition(": ")[2].rstrip(".") in error.value.reason


@pytest.mark.parametrize(
    "call", [lambda db: db.delete_where("k", "v = 1"), lambda db: db.update_where("k", {"v": 2}, "v = 1")]
)
def test_a_key_that_is_nan_cannot_be_taken_back_and_says_so(
    server_db: cb.Database, call: Callable[[cb.Database], cb.Report]
) -> None:
    with server_db.session() as session:
        session.execute("CREATE TABLE k (id float8 PRIMARY KEY, v int)")
        session.execute("INSERT INTO k VALUES ('NaN', 1)")
    report = call(server_db)
    assert "cannot be taken back: column 'id' of the key" in report.notes[0]
    with pytest.raises(cb.UndoRefused, match="put them back by a batch of your own"):
        report.undo()


@pytest.mark.parametrize("kind", ["numeric(10,0)", "decimal(8,2)", "numeric(8,2)"])
def test_rows_whose_key_is_a_decimal_are_taken_back(db: cb.Database, kind: str) -> None:
    with db.session() as session:
        session.execute(f"CREATE TABLE k (id {kind} PRIMARY KEY NOT NULL, v bigint)")
        session.execute("INSERT INTO k VALUES (1, 1), (-30, 2)")
    before = db.read("k", order_by="id")
    other = before.with_columns(v=pl.lit(7, pl.Int64))
    calls: list[Callable[[], cb.Report]] = [
        lambda: db.delete_where("k", "v > 0"),
        lambda: db.update_where("k", {"v": 5}, "v > 0"),
        lambda: db.upsert("k", other),
        lambda: db.update("k", other),
        lambda: db.delete("k", before.select("id")),
        lambda: db.sync("k", other[:1]),
    ]
    for call in calls:
        report = call()
        changed = db.read("k", order_by="id")
        undone = report.undo()
        assert db.read("k", order_by="id").equals(before)
        again = undone.undo()
        assert db.read("k", order_by="id").equals(changed)
        again.undo()
    assert db.read("k", order_by="id").equals(before)


@pytest.mark.parametrize("kind", ["time", "timestamp"])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # PostgreSQL has one form for a value
def test_a_key_that_others_wrote_in_another_form_cannot_be_taken_back_and_says_so(
    url: str, kind: str
) -> None:
    value = {"time": "08:00:00", "timestamp": "2024-05-01 08:00:00"}[kind]
    with cb.connect(url) as db:
        with db.session() as session:
            session.execute(f"CREATE TABLE k (id {kind} PRIMARY KEY NOT NULL, v bigint)")
            session.execute(f"INSERT INTO k VALUES ('{value}', 1), ('{value}.100000', 2)")
        report = db.update_where("k", {"v": 7}, "v = 2")
        assert report.undo().counts["updated"] == 1
        for call in (lambda: db.update_where("k", {"v": 5}, "v = 1"), lambda: db.delete_where("k", "v = 5")):
            report = call()
            assert "cannot be taken back" in report.notes[0]
            with pytest.raises(cb.UndoRefused, match="wrote in another form"):
                report.undo()
        assert db.read("k")["v"].to_list() == [2]

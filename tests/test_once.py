"""Once: a batch that was written is not written again; its first report comes back."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb


class Visits(cb.Table):
    """Visits to pages, which add up."""

    page: str = cb.field(key=True)
    visits: int = cb.field(merge="add", ge=0)
    log: pl.List(pl.String) = cb.field(merge="append", default=[])  # type: ignore[valid-type]

    class Config:
        name = "visits"


class Pages(cb.Table):
    """Pages, which are replaced."""

    page: str = cb.field(key=True)
    title: str

    class Config:
        name = "pages"


VISITS = pl.DataFrame({"page": ["a", "b", "a", "c"], "visits": [1, 2, 3, -1]})


@pytest.fixture
def site(db: cb.Database) -> cb.Database:
    db.create(Visits, Pages)
    return db


def pages(title: str) -> pl.DataFrame:
    return pl.DataFrame({"page": ["a", "b"], "title": title})


def visits(db: cb.Database) -> dict[str, int]:
    return dict(db.read(Visits, columns=["page", "visits"]).rows())


def test_a_named_batch_is_written_once(site: cb.Database, url: str) -> None:
    first = site.upsert(Pages, pages("x"), once="morning")
    with cb.connect(url) as other:
        again = other.upsert(Pages, pages("x"), once="morning")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.batch_id == first.batch_id
    assert again.counts == first.counts
    assert again.outcomes.equals(first.outcomes)
    assert again.keys.equals(first.keys)
    assert site.batches()["name"].to_list() == ["morning"]
    assert "NOTHING WRITTEN NOW" in repr(again)
    assert "Written before" in again._repr_html_()


def test_another_name_is_another_batch(site: cb.Database) -> None:
    site.upsert(Pages, pages("x"), once="one")
    assert site.upsert(Pages, pages("x"), once="two").counts == {"input": 2, "unchanged": 2}


def test_what_adds_is_written_as_often_as_it_is_run_and_says_so(site: cb.Database) -> None:
    first = site.upsert(Visits, VISITS, on_reject="keep")
    assert not first.notes
    again = site.upsert(Visits, VISITS, on_reject="keep")
    assert not again.replayed
    assert visits(site) == {"a": 8, "b": 4}
    assert f"UTC by batch {first.batch_id}" in again.notes[0]
    assert "report.undo() takes this batch back" in repr(again)
    assert first.batch_id in again._repr_html_()
    third = site.upsert(Visits, VISITS, on_reject="keep", once=False)
    assert f"by batch {again.batch_id}" in third.notes[0]
    third.undo()
    again.undo()
    assert visits(site) == {"a": 4, "b": 2}
    assert f"by batch {first.batch_id}" in site.upsert(Visits, VISITS, on_reject="keep").notes[0]


def test_what_adds_is_not_skipped_after_the_table_was_emptied(site: cb.Database) -> None:
    site.upsert(Visits, VISITS.head(2))
    site.delete_where(Visits, "true")
    assert site.upsert(Visits, VISITS.head(2)).counts == {"input": 2, "inserted": 2}
    with site.session() as session:
        session.execute("DROP TABLE visits")
    site.create(Visits)
    assert site.upsert(Visits, VISITS.head(2)).counts == {"input": 2, "inserted": 2}
    assert visits(site) == {"a": 1, "b": 2}


def test_only_an_equal_batch_that_adds_is_noted(site: cb.Database) -> None:
    good = VISITS.head(3)
    site.upsert(Visits, good)
    assert not site.upsert(Visits, good.reverse()).notes
    assert not site.upsert(Visits, good.with_columns(log=pl.Series([["x"]] * 3))).notes
    assert not site.sync(Visits, good).notes
    assert not site.update(Visits, good).notes
    assert [len(site.upsert(Pages, pages("x")).notes) for _ in range(2)] == [0, 0]
    assert site.upsert(Visits, pl.concat([good.head(1), good.tail(2)], rechunk=False)).notes
    assert site.upsert(Visits, good.lazy()).notes


def test_a_plan_says_that_the_same_was_added_before(site: cb.Database) -> None:
    assert not site.upsert(Visits, VISITS.head(2), plan=True).report.notes
    plan = site.upsert(Visits, VISITS.head(2), plan=True)
    plan.apply()
    assert site.upsert(Visits, VISITS.head(2), plan=True).report.notes


def test_what_adds_in_one_transaction_is_noted(site: cb.Database) -> None:
    with site.transaction():
        first, again = (site.upsert(Visits, VISITS.head(2)) for _ in range(2))
    assert first.batch_id in again.notes[0]
    assert visits(site) == {"a": 2, "b": 4}


def test_python_objects_are_added_without_a_note(db: cb.Database) -> None:
    class Things(cb.Table):
        k: int = cb.field(key=True)
        n: int = cb.field(merge="add")

        class Config:
            name = "things"

    db.create(Things)
    frame = pl.DataFrame({"k": [1], "n": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(cb.ContractError):
        db.upsert(Things, frame)


def test_the_earlier_batch_is_found_by_an_index(db: cb.Database) -> None:
    db.create(Visits)
    db.upsert(Visits, VISITS.head(1))
    with db.session() as session:
        if db.backend.name == "sqlite":
            plan = session.fetch("EXPLAIN QUERY PLAN SELECT * FROM crave_bulk_batches WHERE content = 'x'")
            assert "SEARCH" in plan["detail"][0]
        else:
            found = session.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'crave_bulk_batches'")
            assert any(sql.endswith("(content)") for sql in found.to_series())


def test_a_verb_that_adds_nothing_may_be_repeated(site: cb.Database) -> None:
    site.upsert(Visits, VISITS.head(2))
    frame = VISITS.head(2).with_columns(visits=pl.lit(9, dtype=pl.Int64))
    assert [site.update(Visits, frame).replayed for _ in range(2)] == [False, False]
    assert [site.upsert(Pages, pages("x")).replayed for _ in range(2)] == [False, False]


def test_once_by_content(site: cb.Database) -> None:
    assert [site.upsert(Pages, pages(t), once=True).replayed for t in "xyx"] == [False, False, True]
    assert site.update_where(Pages, {"title": "z"}, "true", once=True).counts["updated"] == 2
    assert site.update_where(Pages, {"title": "z"}, "true", once=True).replayed
    assert not site.update_where(Pages, {"title": "w"}, "true", once=True).replayed


def test_a_name_with_another_frame_says_so(site: cb.Database) -> None:
    first = site.upsert(Visits, VISITS, once="n", on_reject="keep")
    other = site.upsert(Visits, VISITS.head(1), once="n")
    assert other.replayed
    assert "not what was written then" in repr(other)
    assert other.counts == first.counts
    assert other.rejected.select("page", "visits", "_row", "_reasons").equals(
        first.rejected.select("page", "visits", "_row", "_reasons")
    )


def test_a_name_belongs_to_one_verb_and_table(site: cb.Database) -> None:
    site.upsert(Pages, pages("x"), once="n")
    with pytest.raises(cb.ContractError, match="once='n' is the name of batch .* upsert pages"):
        site.insert(Visits, VISITS.head(1), once="n")


def test_a_batch_that_failed_is_not_once(site: cb.Database) -> None:
    with pytest.raises(cb.RejectedRows):
        site.upsert(Visits, VISITS, once="n")
    assert not site.upsert(Visits, VISITS.head(2), once="n").replayed


def test_a_batch_that_was_taken_back_may_be_written_again(site: cb.Database) -> None:
    site.upsert(Visits, VISITS.head(2), once=True).undo()
    assert visits(site) == {}
    again = [site.upsert(Visits, VISITS.head(2), once=True) for _ in range(2)]
    assert [report.replayed for report in again] == [False, True]
    assert visits(site) == {"a": 1, "b": 2}
    again[1].undo()
    assert visits(site) == {}


def test_a_batch_that_stands_again_is_once_again(site: cb.Database) -> None:
    for once in (True, "n"):
        frame = VISITS.head(2).with_columns(log=pl.Series([[str(once)]] * 2))
        before = visits(site)
        report = site.upsert(Visits, frame, once=once)
        undone = report.undo()
        undone.undo()
        assert site.upsert(Visits, frame, once=once).replayed
        assert visits(site) == {"a": before.get("a", 0) + 1, "b": before.get("b", 0) + 2}


def test_a_batch_cannot_stand_again_beside_another_of_its_content(site: cb.Database) -> None:
    undone = site.upsert(Visits, VISITS.head(2), once=True).undo()
    site.upsert(Visits, VISITS.head(2), once=True)
    with pytest.raises(cb.UndoRefused):
        undone.undo()
    assert visits(site) == {"a": 1, "b": 2}


def test_a_batch_without_once_stands_again_beside_another_of_its_content(site: cb.Database) -> None:
    undone = site.upsert(Visits, VISITS.head(2)).undo()
    undone.undo()
    again = site.upsert(Visits, VISITS.head(2))
    assert visits(site) == {"a": 2, "b": 4}
    again.undo()
    assert visits(site) == {"a": 1, "b": 2}


def test_the_time_of_a_call_is_no_content(db: cb.Database) -> None:
    class Notes(cb.Table):
        k: int = cb.field(key=True)
        v: int
        at: pl.Datetime("us", "UTC") = cb.field(default="now", on_update="now")  # type: ignore[valid-type]
        gone: pl.Datetime("us", "UTC") = cb.field(soft_delete=True, nullable=True)  # type: ignore[valid-type]

        class Config:
            name = "notes"

    db.create(Notes)
    db.insert(Notes, pl.DataFrame({"k": [1, 2], "v": [1, 1]}))
    for where in ({"k__in": {1, 2}}, "k > 0"):
        assert not db.update_where(Notes, {"v": 2}, where, once=True).replayed
        assert db.update_where(Notes, {"v": 2}, where, once=True).replayed
        assert not db.delete_where(Notes, where, once=True).replayed
        assert db.delete_where(Notes, where, once=True).replayed


def test_a_transaction_that_is_rolled_back_is_not_once(site: cb.Database) -> None:
    with pytest.raises(ZeroDivisionError), site.transaction():
        site.upsert(Visits, VISITS.head(2), once=True)
        raise ZeroDivisionError
    assert not site.upsert(Visits, VISITS.head(2), once=True).replayed


def test_a_plan_of_what_was_written(site: cb.Database) -> None:
    plan = site.upsert(Visits, VISITS.head(2), plan=True, once=True)
    first = plan.apply()
    again = site.upsert(Visits, VISITS.head(2), plan=True, once=True)
    assert again.report.replayed
    assert again.changes.is_empty()
    assert again.apply().batch_id == first.batch_id
    assert visits(site) == {"a": 1, "b": 2}


@pytest.mark.parametrize("once", ["", "  ", 3, 0.5])
def test_a_name_must_be_text(site: cb.Database, once: object) -> None:
    with pytest.raises(cb.ContractError, match="is no name"):
        site.upsert(Pages, pages("x"), once=once)  # type: ignore[arg-type]


def test_python_objects_have_no_content(site: cb.Database) -> None:
    frame = pl.DataFrame({"page": ["a"], "title": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(cb.ContractError):
        site.upsert(Pages, frame, once="n")


def test_a_table_is_one_by_whichever_name(db: cb.Database) -> None:
    with db.session() as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, n bigint)")
    names = ("t", "public.t", '"t"') if db.backend.name == "postgresql" else ("t", "main.t", "T")
    frame = pl.DataFrame({"id": [1], "n": [1]})
    for once in (True, "a name"):
        assert [db.upsert(name, frame, once=once).replayed for name in names] == [False, True, True]


def test_tables_of_one_name_in_two_schemas_are_two(server_db: cb.Database) -> None:
    frame = pl.DataFrame({"id": [1]})
    with server_db.session() as session:
        session.execute("CREATE SCHEMA other")
        for name in ("t", "other.t"):
            session.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY)")
    assert [server_db.upsert(name, frame, once=True).replayed for name in ("t", "other.t")] == [False, False]
    server_db.upsert("t", frame, once="a name")
    with pytest.raises(cb.ContractError, match="is the name of batch"):
        server_db.upsert("other.t", frame, once="a name")

"""Typed calls that a checker must accept: run by mypy, never by Python."""

from __future__ import annotations

import datetime as dt

import polars as pl

import crave_bulk as cb
from crave_bulk import crave
from crave_bulk.examples import Foods


def calls(frame: pl.DataFrame) -> None:
    """Use every public name as its types say."""
    with cb.connect("sqlite:///x.db", ledger="ops.batches", keep_undo=5) as db:
        db.create(Foods)
        report: cb.Report = db.insert(Foods, frame, on_conflict="ignore", on_reject="keep")
        report = db.upsert(Foods, frame.lazy(), on_reject="raise")
        report = db.upsert("foods", frame, on=["name"], newer="name", duplicates="error")
        report = db.update(Foods, frame)
        report = db.delete(Foods, [1, 2], hard=True)
        report = db.sync(Foods, frame, within={"name__startswith": "a"}, allow_empty=True)
        report = db.update_where(Foods, {"name": "x"}, where="food_id = 1")
        report = db.delete_where("foods", {"food_id__in": [1, 2]})
        report = db.restore_where(Foods, where={"food_id": 1})
        plan: cb.Plan = db.upsert(Foods, frame, plan=True, once="name", undo=False, timeout=1.5)
        plan = db.delete_where("foods", "food_id = 1", plan=True)
        plan = db.undo(report.batch_id, plan=True)
        report = plan.apply()
        report = db.upsert(Foods, frame, plan=False, once=True)
        report = report.undo(force=True)
        report = db.undo(report.batch_id, force=True)
        changes: list[pl.DataFrame] = [plan.changes, db.batches(where={"verb": "upsert"}, limit=3)]
        stopped: int = db.cancel()
        db.trace(print, values=True)
        ddl: list[str] = db.evolve(Foods, plan=True)
        with db.transaction():
            results: list[cb.Result] = db.run([cb.Operation("insert", Foods, (frame,))], atomic=False)
            results = db.run([cb.Operation("insert", Foods, (frame,))], recovery="partial")
        counts: dict[str, int] = report.counts
        frames: list[pl.DataFrame] = [
            report.rejected,
            report.failures,
            report.outcomes,
            report.keys,
            report.deleted,
            report.timings,
        ]
        numbers: list[float] = [report.seconds, report.rows_per_second, counts["input"]]
        back: pl.DataFrame = db.read(
            Foods, where={"food_id__gt": 3}, columns=["name"], order_by=["-name"], limit=3
        )
        back = db.read("foods", unreadable="text")
        print(frames, numbers, back, ddl, results, changes, stopped, report.batch_id, report.plot())
        food_discovery(db, frame)
    with cb.embedded_postgres("pgdata") as url:
        name: str = url
        print(name)


def food_discovery(db: cb.Database, frame: pl.DataFrame) -> None:
    """Use every function of food discovery as its types say."""
    day = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    db.create(*crave.TABLES)
    report: crave.Ingested = crave.ingest(db, frame, merge_at=0.9, review_at=0.6, on_reject="keep", as_of=day)
    report = db.atomically(lambda: crave.ingest(db, frame.lazy(), undo=False), turn="loading")
    parts: dict[str, cb.Report] = report.reports
    frames: list[pl.DataFrame] = [report.resolved, report.ids, crave.review(db, status="accepted", limit=3)]
    frames.append(crave.resolve(["Palm"], frame, create=False, candidates=2, tiers=["exact", "alias"]))
    frames.append(crave.resolve(frame, crave.Index(frame), merge_at=0.8, review_at=None))
    report = crave.accept(db, frames[2]["review_id"], entity_id="a")
    report = crave.reject(db, ["a", "b"])
    done: cb.Report = crave.assign_attributes(db, frame["entity_id"], ["a"], on_reject="keep")
    done = crave.remove_attributes(db, ["a"], ["b"], undo=False)
    merged: crave.Merged = crave.merge_entities(db, "a", "b", as_of=day)
    done = merged.undo(force=True)
    with db.transaction(turn="loading"):
        print(parts, frames, done, merged.counts, report.undo())

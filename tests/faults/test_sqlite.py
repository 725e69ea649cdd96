"""SQLite files that are full, locked or damaged."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import crave_bulk as cb
from faults import children, files
from faults.bench import begun
from faults.counts import Counts, agree, ones
from faults.writers import file_of


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/test.db"


@pytest.mark.thorough
def test_a_full_disk(url: str) -> None:
    figures = files.full(url, seed=5, count=4)
    assert figures.complaints == [], figures
    assert figures.errors == {"DatabaseFull": figures.faults}
    assert figures.faults > 1


def test_a_full_disk_is_named_and_what_is_smaller_fits(url: str) -> None:
    with begun(url) as (db, written):
        with files.pages_at_most(30):
            with pytest.raises(
                cb.DatabaseFull, match="make room and run the call again; nothing was written"
            ):
                db.upsert(Counts, ones(1, 200_000), once="b1")
            with pytest.raises(cb.DatabaseFull, match="nothing was written"), db.transaction():
                db.upsert(Counts, ones(2), once="b2")
                db.upsert(Counts, ones(1, 200_000), once="b1")
            assert agree(db, url, written) == []
        report = db.upsert(Counts, ones(2), once="b2")
        written.add(ones(2))
        assert agree(db, url, written, report) == []


@pytest.mark.thorough
def test_a_file_that_another_process_has_locked(url: str) -> None:
    with begun(url) as (db, written):
        with children.start(children.hold, file_of(url), "BEGIN EXCLUSIVE", 0.4) as holder:
            assert children.hear(holder) == "go"
            report = db.upsert(Counts, ones(1), once="b1")
            assert report.seconds > 0.2
        written.add(ones(1))
        with children.start(children.hold, file_of(url), "BEGIN IMMEDIATE", 60) as holder:
            assert children.hear(holder) == "go"
            start = time.monotonic()
            with pytest.raises(cb.TimedOut, match="nothing was written"):
                db.upsert(Counts, ones(2), once="b2", timeout=0.8)
            assert 0.7 < time.monotonic() - start < 8
        assert agree(db, url, written, report) == []


def test_a_lock_that_is_there_before_anything_else(url: str) -> None:
    with begun(url) as (_, written), cb.connect(url) as db:
        with children.start(children.hold, file_of(url), "BEGIN EXCLUSIVE", 60) as holder:
            assert children.hear(holder) == "go"
            start = time.monotonic()
            with pytest.raises(cb.TimedOut, match="nothing was written"):
                db.upsert(Counts, ones(1), once="b1", timeout=1)  # its first call looks at the ledger, too
            assert 0.9 < time.monotonic() - start < 8
        assert agree(db, url, written) == []


def test_a_file_that_is_no_database(url: str) -> None:
    file = file_of(url)
    file.write_bytes(b"soup, bread, cake\n" * 1_000)
    with (
        pytest.raises(cb.ConnectionFailed, match="is not a SQLite database: check the path"),
        cb.connect(url) as db,
    ):
        db.read(Counts)
    assert file.read_bytes() == b"soup, bread, cake\n" * 1_000


def test_a_file_whose_pages_are_damaged(url: str) -> None:
    with begun(url) as (db, _):
        file = file_of(url)
        whole = file.read_bytes()
        file.write_bytes(whole[:16_384] + b"\xee" * (len(whole) - 16_384))
        damaged = file.read_bytes()
        for call in (
            lambda: db.read(Counts),
            lambda: db.batches(),
            lambda: db.upsert(Counts, ones(1), once="b1"),
        ):
            with pytest.raises(cb.DatabaseError, match="malformed"):
                call()
        assert file.read_bytes() == damaged
        file.write_bytes(whole)
        assert not db.upsert(Counts, ones(1), once="b1").replayed


def test_garbage_anywhere_in_a_file(url: str) -> None:
    figures = files.garbage(url, seed=6, count=25)
    assert figures.complaints == [], figures
    assert figures.errors.total() > 25

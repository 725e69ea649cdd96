"""Once: a batch that was written already is not written again; its first report is given back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from crave_bulk import failures
from crave_bulk.arrow import damaged, pack, unpack
from crave_bulk.errors import BulkError, ContractError
from crave_bulk.fingerprint import fingerprint
from crave_bulk.report import OUTCOME, TIMINGS, Report
from crave_bulk.table import TableName

if TYPE_CHECKING:
    from crave_bulk.ledger import Ledger
    from crave_bulk.pipeline.work import Once, Work
    from crave_bulk.session import Session


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a batch one of a kind.

    Attributes:
        text: as the ledger has it; None where the batch is written as often as it is run.
        content: a hash of what was passed.
        named: the caller gave it a name, rather than let the content speak.
    """

    text: str | None
    content: str
    named: bool


def key(session: Session, once: Once, work: Work, ledger: bool) -> Key | None:
    """Find out what makes a batch one of a kind.

    Args:
        session: a connection.
        once: a name, True for the content, False or None for a batch that is written as often as it is run.
        work: the batch.
        ledger: whether the database keeps one.

    Returns:
        The key; None where nobody asks what was written before.

    Raises:
        ContractError: there is no ledger to look it up in, or the frame has no content to compare.
        BulkError: the database refused.
    """
    if not once and not (work.repeats and ledger):
        return None
    if not ledger:
        raise ContractError(
            f"once={once!r} needs the ledger, which says what was written: connect without ledger=False"
        )
    try:
        content = fingerprint(work.passed(), work.verb, _known_as(session, work.contract.name), work.about())
    except TypeError as error:
        if not once:
            return None
        raise ContractError(f"the frame cannot be told from another: {error}; pass once=False") from error
    if not once:
        return Key(None, content, named=False)
    if isinstance(once, str):
        return Key(f"name:{once}", content, named=True)
    return Key(f"content:{content}", content, named=False)


def notes(session: Session, book: Ledger, key: Key | None, work: Work) -> tuple[str, ...]:
    """Say that what a batch adds was added before, where it was.

    Args:
        session: the connection, in the transaction of the batch.
        book: the ledger.
        key: what makes the batch one of a kind.
        work: the batch.

    Returns:
        What the report says of it.

    Raises:
        BulkError: the database refused.
    """
    if key is None or not work.repeats:
        return ()
    earlier = book.equal(session, key.content)
    if not earlier.height:
        return ()
    row = earlier.row(0, named=True)
    return (
        f"The same rows were written before, at {row['started_at']:%Y-%m-%d %H:%M:%S} UTC by batch {row['batch_id']}, "
        "and their values are added once more now. If that is not meant, report.undo() takes this batch back; with "
        "once=True, or a name, from the first time on, a call that is run again writes nothing.",
    )


def _known_as(session: Session, name: TableName) -> str:
    """Give the one name of a table, which may be called by several."""
    with session.shielded():
        return str(session.fetch(session.backend.known_as(name)).item())


def columns(key: Key, report: Report) -> dict[str, Any]:
    """Say in the ledger what a re-run needs.

    Args:
        key: what makes the batch one of a kind.
        report: what the re-run is told.

    Returns:
        Column → value.
    """
    if key.text is None:
        return {"content": key.content}
    found = {"once": key.text, "content": key.content, "report": _packed(report, key)}
    return {**found, "name": key.text.removeprefix("name:")} if key.named else found


def replayed(session: Session, key: Key, work: Work, row: dict[str, Any]) -> Report:
    """Give the report of a batch that was written before.

    Args:
        session: a connection.
        key: what makes the batch one of a kind.
        work: what was to be written now.
        row: the batch in the ledger.

    Returns:
        The first report.

    Raises:
        ContractError: the name belongs to another verb or table.
    """
    if row["verb"] != work.verb or not _same_table(session, row["table"], work):
        raise ContractError(
            f"once={str(key.text).removeprefix('name:')!r} is the name of batch {row['batch_id']}, {row['verb']} "
            f"{row['table']}; nothing was written: choose another name for this one"
        )
    when = f"{row['started_at']:%Y-%m-%d %H:%M:%S} UTC"
    said = [f"Written before, at {when}; nothing was done now. once=False, or another name, writes it again."]
    same = row["content"] == key.content
    if not same:
        said.append("What was passed now is not what was written then under this name.")
    return _unpacked(row["report"], work, same, row, tuple(said))


def _same_table(session: Session, name: str, work: Work) -> bool:
    if name == work.table:
        return True
    try:
        found = _known_as(session, TableName.parse(name))
    except BulkError:  # it is not there any more
        return False
    return found == _known_as(session, work.contract.name)


# -- the report as bytes -------------------------------------------------------------------------------


def _packed(report: Report, key: Key) -> bytes:
    keys = report.keys_by_row
    # Of the same content, the keys are those of the frame, which need not be kept.
    passed = not key.named and _holds(report.source, keys)
    rows = pl.DataFrame({"outcome": report.outcomes_by_row.cast(pl.String)})
    if not passed:
        rows = keys.rename({name: f"k{i}" for i, name in enumerate(keys.columns)}).hstack(rows)
    rest = {
        "keys": keys.columns,
        "passed": passed,
        "source": report.source.height,
        "seconds": report.seconds,
        "retries": report.retries,
    }
    files = [pack(frame) for frame in (rows, report.failures, report.timings, report.rejected)]
    head = json.dumps({**rest, "sizes": [len(file) for file in files]}).encode()
    return len(head).to_bytes(4) + head + b"".join(files)


def _holds(source: pl.DataFrame, keys: pl.DataFrame) -> bool:
    return set(keys.columns) <= set(source.columns) and source.select(keys.columns).equals(keys)


def _unpacked(packed: bytes, work: Work, same: bool, row: dict[str, Any], notes: tuple[str, ...]) -> Report:
    try:
        return _read(packed, work, same, row, notes)
    except (ValueError, TypeError, KeyError, AttributeError, pl.exceptions.PolarsError) as error:
        raise damaged(error) from error


def _read(packed: bytes, work: Work, same: bool, row: dict[str, Any], notes: tuple[str, ...]) -> Report:
    size = int.from_bytes(packed[:4])
    head = json.loads(packed[4 : 4 + size])
    at, frames = 4 + size, []
    for length in head["sizes"]:
        frames.append(unpack(packed[at : at + length]))
        at += length
    rows, failed, timings, rejected = frames
    names = {f"k{i}": name for i, name in enumerate(head["keys"])}
    keys = work.source.select(head["keys"]) if head["passed"] else rows.drop("outcome").rename(names)
    return Report(
        verb=work.verb,
        table=work.table,
        batch_id=str(row["batch_id"]),
        written=True,
        # Rows of another frame than now have their numbers only; what was rejected of it is kept.
        source=work.source if same else _numbered(rejected, head["source"]),
        keys_by_row=keys,
        outcomes_by_row=rows["outcome"].cast(OUTCOME),
        failures=failed.cast(failures.SCHEMA),
        timings=timings.cast(pl.Schema(TIMINGS)),
        seconds=head["seconds"],
        retries=head["retries"],
        replayed=True,
        notes=notes,
    )


def _numbered(rejected: pl.DataFrame, height: int) -> pl.DataFrame:
    """Put the rows that were rejected in their places among as many rows as there were."""
    rows = pl.DataFrame({"_row": range(height)}, schema={"_row": pl.Int64})
    return rows.join(rejected.drop("_reasons"), on="_row", how="left", maintain_order="left").drop("_row")

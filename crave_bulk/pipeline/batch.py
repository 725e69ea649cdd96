"""Run the steps of one batch in order, in one transaction, and account for every row."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from crave_bulk import failures
from crave_bulk.engine import value
from crave_bulk.errors import ContractError, DatabaseBusy, RejectedRows
from crave_bulk.pipeline.attempt import Attempt
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.intake import Intake, filled_by_database, fit, fit_keys, to_polars, with_constants
from crave_bulk.pipeline.job import Job, Others
from crave_bulk.pipeline.merge import Kind, columns_to_write
from crave_bulk.pipeline.reasons import checkable
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.validate import Validated, validate
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.write import Raced
from crave_bulk.report import OUTCOME, Report
from crave_bulk.session import Session
from crave_bulk.table import Contract, Merge

Verb = Literal["insert", "upsert", "update", "delete", "sync"]
OnConflict = Literal["error", "ignore"]
OnReject = Literal["raise", "keep"]
Duplicates = Literal["combine", "error"]

# Another writer can take a key between the check and the merge, or wait for us as we wait for it: then
# everything is checked again. What still fails in the last attempt is put down to the rows.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asked for.

    Attributes:
        verb: what to do with the rows.
        contract: the table.
        on_conflict: what becomes of an insert whose key exists.
        on_reject: whether a refused row refuses the batch.
        duplicates: whether rows of the same key are combined.
        on: another unique key to match rows by.
        newer: the column that must not be older than what is there.
        hard: delete rows that could be marked as deleted.
        within: which rows a sync may delete.
        allow_empty: a sync with no rows may delete all.
    """

    verb: Verb
    contract: Contract
    on_conflict: OnConflict = "error"
    on_reject: OnReject = "raise"
    duplicates: Duplicates = "combine"
    on: tuple[str, ...] | None = None
    newer: str | None = None
    hard: bool = False
    within: Mapping[str, Any] | str | None = None
    allow_empty: bool = False

    @property
    def kind(self) -> Kind:
        """How rows are applied."""
        if self.verb == "delete":
            return "update" if self.contract.soft_delete and not self.hard else "delete"
        kinds: dict[str, Kind] = {"insert": "insert", "update": "update"}
        return kinds.get(self.verb, "merge")


def run(
    open_session: Callable[[], AbstractContextManager[Session]], wire: Wire, call: Call, source: Any
) -> Report:
    """Run one batch: validate → dedupe → stage → merge → report.

    Args:
        open_session: gives a connection; a transaction that is open in this thread is joined.
        wire: the table on its database.
        call: what to do.
        source: a frame of any kind; of a delete, the keys.

    Returns:
        What became of each row.

    Raises:
        ContractError: the frame does not fit the table.
        RejectedRows: rows were refused and ``on_reject="raise"``; nothing was written.
        BulkError: the database refused; nothing was written.
    """
    start, clock = time.perf_counter(), Clock()
    frame = fit_keys(call.contract, source) if call.verb == "delete" else to_polars(source)
    if call.kind in ("insert", "merge"):
        wire, call = _completed(open_session, wire, call, frame)
    with clock.phase("validate", frame.height):
        intake, checked = _take(wire, call, frame)
        job = _job(wire, call, intake, checked.frame)
    with clock.phase("merge", frame.height), open_session() as session:
        verdict, refused = _write(session, job, call, checked.failures, clock)
    with clock.phase("report", frame.height):
        found, batch_id = failures.gather(verdict.failures), str(value("SELECT uuidv7()"))
        keys = _keys(checked.frame.select(call.contract.key), verdict.keys)
        outcomes = verdict.outcomes
        if verdict.deleted is not None:
            keys = pl.concat([keys, verdict.deleted])
            outcomes = outcomes.append(
                pl.repeat("deleted", verdict.deleted.height, dtype=OUTCOME, eager=True)
            )
    report = Report(
        verb=call.verb,
        table=str(call.contract.name),
        batch_id=batch_id,
        committed=not refused,
        source=frame,
        keys_by_row=keys,
        outcomes_by_row=outcomes,
        failures=found,
        timings=clock.frame(),
        seconds=time.perf_counter() - start,
    )
    if refused:
        raise RejectedRows(report)
    return report


def _completed(
    open_session: Callable[[], AbstractContextManager[Session]], wire: Wire, call: Call, frame: pl.DataFrame
) -> tuple[Wire, Call]:
    """Let columns be left out that the database fills in, such as an identity."""

    def found() -> Contract:
        with open_session() as session, session.shielded():
            return session.backend.reflect(session, call.contract.name)

    contract = filled_by_database(call.contract, frame, found)
    return (
        (wire, call) if contract is call.contract else (wire.over(contract), replace(call, contract=contract))
    )


def _take(wire: Wire, call: Call, frame: pl.DataFrame) -> tuple[Intake, Validated]:
    """Fit the frame to the table and validate what is written."""
    partial = call.verb in ("update", "delete")
    if call.verb == "delete" and call.kind == "update":
        frame = with_constants(frame, call.contract, _mark(call.contract))
    intake = fit(call.contract, frame, partial=partial)
    checked = validate(call.contract, wire.codecs, intake.frame, intake.written, whole=not partial)
    return intake, checked


def _mark(contract: Contract) -> dict[str, Any]:
    """Say how a row is marked as deleted."""
    mark = contract.soft_delete
    return {mark.name: True if isinstance(mark.dtype, pl.Boolean) else "now"} if mark else {}


def _job(wire: Wire, call: Call, intake: Intake, frame: pl.DataFrame) -> Job:
    contract = call.contract
    keys = {frozenset(key) for key in (contract.key, *contract.unique)}
    if call.on and frozenset(call.on) not in keys:
        raise ContractError(
            f"on={', '.join(call.on)} is no unique key of table {contract.name}: it has "
            f"{', '.join(str(list(key)) for key in (contract.key, *contract.unique))}"
        )
    if call.newer and (call.newer not in intake.given or call.newer in contract.key):
        raise ContractError(
            f"newer={call.newer!r} must be a column of the frame and of table {contract.name}, and not of its key"
        )
    if call.newer and contract.column(call.newer).dtype.is_nested():
        raise ContractError(
            f"newer={call.newer!r} is a {contract.column(call.newer).dtype}, which has no order"
        )
    if call.verb == "sync" and (made := [name for name in contract.key if name not in intake.given]):
        raise ContractError(
            f"a sync of table {contract.name} needs its key {made[0]!r} in the frame: without it every row would be "
            "deleted and inserted anew"
        )
    return Job(
        wire=wire,
        kind=call.kind,
        columns=columns_to_write(contract, intake, call.kind),
        rules=_rules(contract, intake) if call.kind == "merge" else {},
        frame=frame,
        on=call.on if call.on and set(call.on) != set(contract.key) else None,
        newer=call.newer,
        ignores=call.on_conflict == "ignore",
        distinct=call.duplicates == "error",
        changed="deleted" if call.verb == "delete" else "updated",
        others=_others(call, frame) if call.verb == "sync" else None,
    )


def _others(call: Call, frame: pl.DataFrame) -> Others:
    if not (frame.height or call.allow_empty):
        raise ContractError(
            f"the frame is empty, so a sync would delete every row of table {call.contract.name}"
            f"{' within the condition' if call.within else ''}: pass allow_empty=True if that is meant"
        )
    return Others("true" if call.within is None else call.within, call.hard)


def _rules(contract: Contract, intake: Intake) -> dict[str, Merge]:
    """Collect the columns that a later row of the same key does not simply replace.

    A column that the frame left out is filled in for new rows, and no later row touches it.
    """
    given = {c.name: c.options.merge for c in contract.columns if c.name in intake.given}
    rules: dict[str, Merge] = {name: rule for name, rule in given.items() if rule != "replace"}
    made = {c.name for c in contract.columns if c.options.default == "uuid" and not c.options.key}
    return {**rules, **dict.fromkeys(made - intake.given, "keep")}


def _keys(keys: pl.DataFrame, known: pl.DataFrame | None) -> pl.DataFrame:
    """Put the keys that were made or found in place of those of the frame."""
    if known is None:
        return keys
    found = known.select("_row", *(pl.col(name).alias(f"found_{name}") for name in keys.columns))
    rows = keys.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
    joined = rows.join(found, on="_row", how="left", maintain_order="left")
    return joined.select(pl.coalesce(f"found_{name}", name).alias(name) for name in keys.columns)


class _Refused(Exception):
    pass


def _write(
    session: Session, job: Job, call: Call, invalid: pl.DataFrame, clock: Clock
) -> tuple[Verdict, bool]:
    """Run the transaction, again where another writer came in between; tell whether it was refused."""
    joined, races = session.in_transaction, True
    for attempt in range(1, _ATTEMPTS + 1):
        verdict, last = Verdict.over(job.frame.height), attempt == _ATTEMPTS or not races
        verdict.reject(invalid)
        try:
            with session.atomic():
                Attempt(session, job, verdict, clock, joined=joined, last=last).run()
                if call.on_reject == "raise" and verdict.failures:
                    raise _Refused
        except _Refused:
            return verdict, True
        except (Raced, DatabaseBusy) as error:
            # A transaction that was opened outside has read what is locked or out of date by now.
            if last or not session.backend.concurrent or (joined and isinstance(error, DatabaseBusy)):
                raise
            races = isinstance(error, DatabaseBusy) or checkable(session, job.wire, error.constraint)
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - two that met must not meet again
            continue
        return verdict, False
    raise AssertionError  # the last attempt returns or raises

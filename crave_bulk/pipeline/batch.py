"""The work on a frame: validate → dedupe → stage → merge, and an outcome for every row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from crave_bulk.backends.catalog import why_not_matched
from crave_bulk.errors import ContractError, shown
from crave_bulk.pipeline import characters
from crave_bulk.pipeline.attempt import Attempt
from crave_bulk.pipeline.clock import Clock
from crave_bulk.pipeline.combine import keep_best
from crave_bulk.pipeline.conditional import said
from crave_bulk.pipeline.intake import (
    Intake,
    filled_by_database,
    fit,
    fit_keys,
    to_polars,
    typed_as_given,
    with_constants,
)
from crave_bulk.pipeline.job import Job, Others
from crave_bulk.pipeline.merge import Kind, columns_to_write
from crave_bulk.pipeline.stage import Wire
from crave_bulk.pipeline.validate import Validated, validate
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.work import Turn, Work
from crave_bulk.pipeline.write import Renamed
from crave_bulk.session import Session
from crave_bulk.table import Contract, Merge

Verb = Literal["insert", "upsert", "update", "delete", "sync"]
OnConflict = Literal["error", "ignore"]
Duplicates = Literal["combine", "error"]

# Why a verb needs the key of every row, also if the key of the table can be made.
_BY_KEY = {
    "upsert": "without it every run would insert the rows anew: add it, match rows by another unique key with on=, "
    "or write new rows with db.insert",
    "update": "it says which row is meant",
    "delete": "it says which row is meant",
    "sync": "without it every row would be deleted and inserted anew: add it",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asked for.

    Attributes:
        verb: what to do with the rows.
        contract: the table.
        on_conflict: what becomes of an insert whose key exists.
        duplicates: whether rows of the same key are combined.
        on: another unique key to match rows by.
        newer: the column that must not be older than what is there.
        hard: delete rows that could be marked as deleted.
        revives: an update is of rows that are marked as deleted.
        within: which rows a sync may delete.
        allow_empty: a sync with no rows may delete all.
        called: what reports call it, where that is not the verb.
        said: what the caller has passed, where the call has found the rows by itself.
    """

    verb: Verb
    contract: Contract
    on_conflict: OnConflict = "error"
    duplicates: Duplicates = "combine"
    on: tuple[str, ...] | None = None
    newer: str | None = None
    hard: bool = False
    revives: bool = False
    within: Mapping[str, Any] | str | None = None
    allow_empty: bool = False
    called: str | None = None
    said: str | None = None

    @property
    def other_key(self) -> tuple[str, ...] | None:
        """The unique key that rows are matched by, if that is not the key of the table."""
        return self.on if self.on and set(self.on) != set(self.contract.key) else None

    @property
    def kind(self) -> Kind:
        """How rows are applied."""
        if self.verb == "delete":
            return "update" if self.contract.soft_delete and not self.hard else "delete"
        kinds: dict[str, Kind] = {"insert": "insert", "update": "update"}
        return kinds.get(self.verb, "merge")


class RowWork(Work):
    """A verb that writes the rows of a frame.

    Args:
        wire: the table on its database.
        call: what to do.
        source: the frame that was passed.
        job: the same, validated.
        invalid: the rows that broke a rule of the contract.
        clock: seconds so far.
    """

    def __init__(
        self, wire: Wire, call: Call, source: pl.DataFrame, job: Job, invalid: pl.DataFrame, clock: Clock
    ) -> None:
        self.verb = call.called or call.verb
        self.wire, self.call, self.source, self.job, self.clock = wire, call, source, job, clock
        self.repeats = any(rule in ("add", "append") for rule in job.rules.values())
        self._invalid = invalid

    def write(self, turn: Turn) -> Verdict:
        """Write the frame."""
        verdict = Verdict.over(self.job.frame.height)
        verdict.reject(self._invalid)
        for found in characters.refused(turn.session, self.wire, self.job.frame, verdict.outcomes.is_null()):
            verdict.reject(found)
        with self.clock.phase("merge", self.job.frame.height):
            try:
                Attempt(turn, self.job, verdict, self.clock).run()
            except Renamed as found:
                known = [found.keys] if self.job.renamed is None else [self.job.renamed, found.keys]
                self.job = replace(self.job, renamed=pl.concat(known).unique("_row", keep="last"))
                raise
        return verdict

    def accounts(self, verdict: Verdict) -> tuple[pl.DataFrame, pl.Series]:
        """Give the rows of the frame, and those of the table that were to be deleted besides."""
        keys = _keys(_keys(self.job.frame.select(self.contract.key), verdict.keys), verdict.rekeyed)
        if verdict.others is None or verdict.others_outcomes is None:
            return keys, verdict.outcomes
        return pl.concat([keys, verdict.others]), pl.concat([verdict.outcomes, verdict.others_outcomes])

    def about(self) -> str:
        """Name the options, and the merge rules."""
        if self.call.said is not None:
            return self.call.said
        call = replace(self.call, contract=None, within=said(self.call.within))  # type: ignore[arg-type]
        return repr((call, sorted(self.job.rules.items())))

    def passed(self) -> pl.DataFrame:
        """Give the frame, unless the call has found it by itself."""
        return self.source if self.call.said is None else self.source.select(self.contract.key).clear()

    def fixed(self, verdict: Verdict) -> None:
        """Give the rows the keys that were made for them."""
        if verdict.keys is not None:
            given = self.job.frame.select(self.contract.key)
            made = _keys(given, verdict.keys)
            keys = [given[name].fill_null(made[name]) for name in given.columns]
            self.job = replace(self.job, frame=self.job.frame.with_columns(keys))


def prepare(
    open_session: Callable[[], AbstractContextManager[Session]], wire: Wire, call: Call, source: Any
) -> RowWork:
    """Take the frame and validate it.

    Args:
        open_session: gives a connection.
        wire: the table on its database.
        call: what to do.
        source: a frame of any kind; of a delete, the keys.

    Returns:
        The work.

    Raises:
        ContractError: the frame does not fit the table.
    """
    clock = Clock()
    if (
        call.verb == "sync"
    ):  # it makes the table equal to the frame, so nothing is combined with what is there
        wire, call = _over(wire, call, call.contract.without_rules())
    _check_on(open_session, call)
    frame = fit_keys(call.contract, source) if call.verb == "delete" else to_polars(source)
    if call.kind in ("insert", "merge"):
        wire, call = _completed(open_session, wire, call, frame)
    contract = typed_as_given(call.contract, frame.schema)
    if contract is not call.contract:
        wire, call = Wire(contract, wire.backend), replace(call, contract=contract)
    with clock.phase("validate", frame.height):
        intake, checked = _take(wire, call, frame)
        job = _job(wire, call, intake, frame, checked.frame)
    return RowWork(wire, call, frame, job, checked.failures, clock)


def _completed(
    open_session: Callable[[], AbstractContextManager[Session]], wire: Wire, call: Call, frame: pl.DataFrame
) -> tuple[Wire, Call]:
    """Let columns be left out that the database fills in, such as an identity."""

    def found() -> Contract:
        with open_session() as session, session.shielded():
            return session.backend.reflect(session, call.contract.name)

    contract = filled_by_database(call.contract, frame, found)
    return _over(wire, call, contract)


def _over(wire: Wire, call: Call, contract: Contract) -> tuple[Wire, Call]:
    """Take another contract of the same table."""
    if contract is call.contract:
        return wire, call
    return wire.over(contract), replace(call, contract=contract)


def _take(wire: Wire, call: Call, frame: pl.DataFrame) -> tuple[Intake, Validated]:
    """Fit the frame to the table and validate what is written."""
    partial = call.verb in ("update", "delete")
    if call.verb == "delete" and call.kind == "update":
        frame = with_constants(frame, call.contract, _mark(call.contract))
    on = call.other_key or ()
    by_key = "" if on else _BY_KEY.get(call.verb, "")
    intake = fit(call.contract, frame, partial=partial, by_key=by_key, on=on)
    matched = call.contract.key if partial else on
    checked = validate(
        call.contract,
        wire.codecs,
        intake.frame,
        intake.written,
        whole=not partial,
        matched=matched,
        later=intake.later,
    )
    return intake, checked if partial else _only_best(call.contract, checked)


def _only_best(contract: Contract, checked: Validated) -> Validated:
    """Keep the best elements of each row, so that it does not matter which rows come in one batch."""
    if not contract.best:
        return checked
    rows = pl.Series(range(checked.frame.height), dtype=pl.Int64)
    accepted = ~rows.is_in(checked.failures["row"].implode())
    return replace(checked, frame=keep_best(checked.frame, contract.best, accepted))


def _mark(contract: Contract) -> dict[str, Any]:
    """Say how a row is marked as deleted."""
    mark = contract.soft_delete
    return {mark.name: True if isinstance(mark.dtype, pl.Boolean) else "now"} if mark else {}


def _check_on(open_session: Callable[[], AbstractContextManager[Session]], call: Call) -> None:
    """Check that rows are matched by columns that no two rows share."""
    contract = call.contract
    if call.on and len(set(call.on)) < len(call.on):
        raise ContractError(f"on={', '.join(call.on)} names a column twice: name each once")
    keys = {frozenset(key) for key in (contract.key, *contract.unique)}
    if call.on and frozenset(call.on) not in keys:
        with open_session() as session, session.shielded():
            found = session.fetch(session.backend.uniques_sql(contract.name))
        flaw = why_not_matched(json.loads(found.item()), call.on)
        raise ContractError(
            f"on={', '.join(call.on)} is no unique key of table {contract.name}{flaw}: it has "
            f"{', '.join(str(list(key)) for key in (contract.key, *contract.unique))}"
        )

    if combined := [name for name in call.on or () if contract.column(name).options.merge != "replace"]:
        rule = contract.column(combined[0]).options.merge
        raise ContractError(
            f"on={combined[0]!r}: rows are matched by this column, so it cannot change by merge={rule!r}: match them by "
            "another unique key, or declare the column without a merge rule"
        )


def _job(wire: Wire, call: Call, intake: Intake, source: pl.DataFrame, frame: pl.DataFrame) -> Job:
    contract = call.contract
    if call.newer is not None and (
        not isinstance(call.newer, str) or call.newer not in intake.given or call.newer in contract.key
    ):
        raise ContractError(
            f"newer={shown(call.newer)} must be a column of the frame and of table {contract.name}, and not of its key"
        )
    if call.newer and contract.column(call.newer).dtype.is_nested():
        raise ContractError(
            f"newer={call.newer!r} is of type {contract.column(call.newer).dtype}, which has no order"
        )
    if call.newer and (rule := contract.column(call.newer).options.merge) != "replace":
        raise ContractError(
            f"newer={call.newer!r} decides which row stands, so the column cannot be combined by merge={rule!r} as well: "
            "leave newer= out, or declare the column without a merge rule"
        )
    return Job(
        wire=wire,
        kind=call.kind,
        columns=columns_to_write(contract, intake, call.kind),
        rules=_rules(contract, intake) if call.kind == "merge" else {},
        frame=frame,
        on=call.other_key,
        newer=call.newer,
        ignores=call.on_conflict == "ignore",
        distinct=call.duplicates == "error",
        changed="deleted" if call.verb == "delete" else "updated",
        revives=call.revives,
        others=_others(call, frame) if call.verb == "sync" else None,
        defaulted=_defaulted(call, intake, source) if call.kind == "merge" else {},
    )


def _defaulted(call: Call, intake: Intake, source: pl.DataFrame) -> dict[str, pl.Series]:
    """Note which nulls were filled as if their rows were new; those that say which row is meant must have a value."""
    names = intake.gaps - {*call.contract.key, *(call.on or ())}
    return {name: source[name].is_null() for name in call.contract.column_names if name in names}


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

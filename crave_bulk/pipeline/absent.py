"""Absent rows: those of the table that a sync deletes, as its frame does not have them.

They go before the frame is written, so that their unique values are free. A row that others still refer to goes
afterwards, as the frame may point those elsewhere. What cannot go even then is refused, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import polars as pl

from crave_bulk import failures
from crave_bulk.backends.codec import same
from crave_bulk.compare import Parameters
from crave_bulk.errors import PermissionRefused
from crave_bulk.journal import Change
from crave_bulk.pipeline.conditional import deleted, stamps
from crave_bulk.pipeline.job import Job, Others
from crave_bulk.pipeline.merge import Columns
from crave_bulk.pipeline.reasons import value_text
from crave_bulk.pipeline.stage import STAGE, Wire, with_keys, without
from crave_bulk.pipeline.staging import Staging
from crave_bulk.pipeline.verdict import Verdict
from crave_bulk.pipeline.write import Renamed
from crave_bulk.report import OUTCOME
from crave_bulk.session import Session
from crave_bulk.sql import quote_all
from crave_bulk.table import Column
from crave_bulk.where import compile_wanted, computing

_NOT_FOUND = "the row cannot be found again by its key, so it is still there: delete it by a condition"


class AbsentRows:
    """The rows of the table that are not in the frame of a sync.

    Args:
        session: the connection, in the transaction of the batch.
        job: the sync.
        others: which rows it deletes.
        verdict: is told what becomes of them.
        run: runs a job and tells the verdict what became of its rows.
    """

    def __init__(
        self,
        session: Session,
        job: Job,
        others: Others,
        verdict: Verdict,
        run: Callable[[Job, Verdict], None],
    ) -> None:
        self.session, self.job, self.others, self.verdict, self._run = session, job, others, verdict, run
        # The keys travel as they stand in the table: also one that no frame could hold is found again.
        codecs = {name: replace(codec, fallible=False) for name, codec in job.wire.codecs.items()}
        codecs |= {name: replace(codecs[name], encode=same, decode=same) for name in job.wire.contract.key}
        self._raw = Wire(job.wire.contract, job.wire.backend, codecs)
        self._rows = pl.DataFrame()
        self._outcomes = pl.Series(dtype=OUTCOME)
        self._wanted: set[int] = set()  # a row of the frame is to refer to these

    def find(self, staging: Staging, *, watched: bool) -> None:
        """Read which rows are to go, and keep others from changing them.

        Args:
            staging: the staging table, which is free.
            watched: policies may hide a row from a lock that can be read.
        """
        wire, key = self.job.wire, self.job.wire.contract.key
        own = [r for r in wire.contract.references if r.table == wire.contract.name]
        names = list(dict.fromkeys([*key, *(name for r in own for name in r.targets)]))
        no_key = [f.filter(pl.col("column").is_in(key))["row"] for f in self.verdict.failures]
        numbers = pl.Series(range(self.job.frame.height), dtype=pl.Int64)
        valid = ~numbers.is_in(pl.concat(no_key).implode()) if no_key else None
        keys = wire.encode(self.job.frame, valid, key)
        staging.put(keys if self.job.renamed is None else with_keys(keys, self.job.renamed, wire.shorts(key)))
        parameters = Parameters(self.session.backend)
        tests = [compile_wanted(wire, self.session.backend, self.others.within, parameters).sql]
        tests += [wire.alive()] if self._mark else []
        staged = wire.staged(key, STAGE)
        tests.append(f"NOT EXISTS (SELECT 1 FROM ({staged}) AS s WHERE {wire.equal(key, 't', 's')})")
        query = f"SELECT {wire.read(names)} FROM {wire.target} AS t WHERE {' AND '.join(tests)}"
        lock = self.session.backend.lock_rows.format(quote_all(key, "t."))
        if watched and lock:
            self._lock(query + lock, names, parameters.frame())
            lock = ""
        with computing():
            found = wire.fetch(self.session, query + lock, names, parameters=parameters.frame())
        staging.drop()
        self._rows = found.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
        self._outcomes = Verdict.over(found.height).outcomes
        for reference in own if found.height else ():
            frame = wire.encode(self.job.frame, self.verdict.outcomes.is_null(), reference.columns)
            columns, targets = wire.shorts(reference.columns), wire.shorts(reference.targets)
            self._wanted |= set(self._rows.join(frame, left_on=targets, right_on=columns, how="semi")["_row"])

    def _lock(self, query: str, names: list[str], parameters: pl.DataFrame | None) -> None:
        """Keep others from changing the rows that this login may change."""
        with suppress(PermissionRefused), self.session.shielded():
            self.job.wire.fetch(self.session, query, names, parameters=parameters)

    def must_not_hold(self, renamed: Sequence[pl.DataFrame]) -> None:
        """Do everything again if a trigger makes the key of an absent row out of a key of the frame.

        Raises:
            Renamed: it does.
        """
        key = self.job.wire.shorts(self.job.wire.contract.key)
        found = [keys.join(self._rows, on=key, how="semi") for keys in renamed]
        if any(keys.height for keys in found):
            raise Renamed(pl.concat(found))

    def delete_what_may_go(self) -> None:
        """Delete the rows that no other row of the table refers to, which frees their unique values."""
        self._delete(without(self._rows, self._wanted))
        self._tell(failures.none())

    def delete_the_rest(self) -> bool:
        """Delete the rows that could not go before, and tell whether some could; what cannot go even now is refused."""
        rest = self._rows.filter(self._outcomes.is_null() | (self._outcomes == "rejected"))
        if rest.height:
            self._tell(self._delete(rest))
        return bool((self._outcomes.gather(rest["_row"]) == "deleted").any())

    def _delete(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Delete rows as far as the database lets them go, and list why others stay."""
        found = Verdict.over(rows.height)
        if not rows.height:
            return failures.none()
        self._run(self._deletion(rows), found)
        if not self.session.backend.concurrent:  # nobody else can have deleted it meanwhile
            lost = (found.outcomes == "missing").arg_true()
            nothing = pl.repeat(None, len(lost), dtype=pl.String, eager=True)
            found.reject(failures.failures("database", "key", "", lost, nothing, _NOT_FOUND))
        self._outcomes = self._outcomes.scatter(rows["_row"], found.outcomes)
        self.verdict.changes += map(self._readable, found.changes)
        self.verdict.unkept = self.verdict.unkept or found.unkept
        for text in found.notes:
            self.verdict.note(text)
        lines = failures.gather(found.failures)
        return lines.with_columns(row=rows["_row"].gather(lines["row"]))

    def _deletion(self, rows: pl.DataFrame) -> Job:
        """Make the job that deletes rows, or marks them as deleted."""
        contract, mark = self._raw.contract, self._mark
        keys = rows.select(pl.col(self._raw.short[name]).alias(name) for name in contract.key)
        if mark is None:
            columns, values = Columns(list(contract.key), [], []), []
        else:
            values = [pl.select(deleted(mark)).to_series(), *stamps(contract.columns, [mark.name])]
            names = [value.name for value in values]
            columns = Columns([*contract.key, *names], names, [mark.name])
        known = {*contract.key, *(value.name for value in values)}
        empty = [pl.lit(None, c.dtype).alias(c.name) for c in contract.columns if c.name not in known]
        frame = keys.with_columns(*(pl.lit(value).first().alias(value.name) for value in values), *empty)
        return Job(
            self._raw,
            "update" if mark else "delete",
            columns,
            {},
            frame.select(contract.column_names),
            changed="deleted",
            spares=True,
        )

    @property
    def _mark(self) -> Column | None:
        return None if self.others.hard else self.job.wire.contract.soft_delete

    def _readable(self, change: Change) -> Change:
        """Give a change of the table the codecs of its keys again, for what people read; its rows are none of the input."""
        if change.wire.target != self._raw.target:
            return change
        keys = {name: self.job.wire.codecs[name] for name in self._raw.contract.key}
        wire = change.wire.by_keys(keys)
        before, after, new = (
            rows.with_columns(_row=pl.lit(-1, pl.Int64)) for rows in (change.before, change.after, change.new)
        )
        return replace(change, wire=wire, before=before, after=after, new=new)

    def _tell(self, lines: pl.DataFrame) -> None:
        """Tell the verdict what became of the rows; another writer may have deleted some."""
        key = self.job.wire.contract.key
        keys = self.job.wire.decode(self._rows, key)
        done = self._outcomes.is_in(["deleted", "rejected"])
        self.verdict.others, self.verdict.others_outcomes = keys.filter(done), self._outcomes.filter(done)
        # What was said before of such rows is out of date.
        still = [part.drop_nulls("row") for part in self.verdict.failures]
        self.verdict.failures = [part for part in still if part.height]
        if lines.height:
            values = value_text(keys, key, lines["row"].to_list())
            self.verdict.failures.append(
                lines.with_columns(row=pl.lit(None, pl.Int64), column=pl.lit(", ".join(key)), value=values)
            )

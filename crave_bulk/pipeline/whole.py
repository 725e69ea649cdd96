"""A table with all of its columns, as its journal needs it: every value that they hold, also one that no frame can hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.backends.codec import Codec, Form, same
from crave_bulk.errors import ContractError, Unreadable
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session
from crave_bulk.sql import chain, quote
from crave_bulk.table import Column, Contract

_STAGE = "crave_bulk_raw"
_BITS = 60  # columns beyond share a bit, which then stands for all of them


class Whole(Wire):
    """All columns of a table that can be written, and how any of their values travels.

    As a rule a column travels natively. Where that is exact for some values only, each read tells whether there
    were others, and the column then travels as text from there on.

    Attributes:
        forms: of each column.
        raw: the columns that travel as text, as they hold what would not be exact otherwise.
        schema: where the table was found.
        children: the tables that inherit from it.
        policies: they may hide rows from who locks or changes them.
    """

    def __init__(
        self,
        contract: Contract,
        backend: Backend,
        keys: dict[str, Codec],
        forms: dict[str, Form],
        *,
        raw: Collection[str] = (),
        schema: str | None = None,
        children: tuple[str, ...] = (),
        policies: bool = False,
    ) -> None:
        self.forms, self.raw, self.schema, self.children = forms, frozenset(raw), schema, children
        self.policies = policies
        codecs = {
            name: keys.get(name) or (form.raw if name in self.raw else form.plain)
            for name, form in forms.items()
        }
        super().__init__(contract, backend, codecs)

    def rawer(self, names: Iterable[str]) -> Whole:
        """Let more columns travel as text.

        Args:
            names: the columns.

        Returns:
            The same table, in which they do.
        """
        more = self.raw | {n for n in names if n in self.forms and n not in self.contract.key}
        keys = {name: self.codecs[name] for name in self.contract.key}
        return self if more == self.raw else self._like(keys, more)

    def by_keys(self, keys: dict[str, Codec]) -> Whole:
        """Let the key travel in another way.

        Args:
            keys: the codec of each of its columns.

        Returns:
            The same table, in which it does.
        """
        return self._like(keys, self.raw)

    def _like(self, keys: dict[str, Codec], raw: Collection[str]) -> Whole:
        found = Whole(
            self.contract,
            self.backend,
            keys,
            self.forms,
            raw=raw,
            schema=self.schema,
            children=self.children,
            policies=self.policies,
        )
        found.short, found.target = self.short, self.target
        return found

    def _tests(self) -> dict[str, str]:
        """Collect the conditions under which the values of a row are exact as they travel now."""
        return {n: form.clean for n, form in self.forms.items() if form.clean and n not in self.raw}

    @property
    def with_children(self) -> str:
        """Name the tables that inherit from it, for a message."""
        return f" and of those that inherit from it ({', '.join(self.children)})" if self.children else ""

    @property
    def numbers(self) -> list[str]:
        """What `read_all` selects before the columns."""
        return ["odd"] if self._tests() else []

    def read_all(self, alias: str = "t") -> str:
        """Write the select list of all columns, after a number that says which of them do not travel exactly.

        Args:
            alias: the target's alias.

        Returns:
            Such as ``CASE WHEN NOT (…) THEN 1 ELSE 0 END AS odd, t."id" AS c0``.
        """
        odd = [
            f"CASE WHEN NOT ({clean.format(f'{alias}.{quote(name)}')}) THEN {self._bit(name)} ELSE 0 END"
            for name, clean in self._tests().items()
        ]
        number = [f"({chain(odd, self.backend.spelling.op('|'))}) AS odd"] if odd else []
        return ", ".join([*number, self.read(self.contract.column_names, alias)])

    def _bit(self, name: str) -> int:
        return 1 << list(self.forms).index(name) % _BITS

    def rows(
        self,
        session: Session,
        query: Callable[[Whole], str],
        numbers: Sequence[str] = (),
        parameters: pl.DataFrame | None = None,
    ) -> tuple[Whole, pl.DataFrame]:
        """Read all columns of some rows.

        Args:
            session: the connection.
            query: writes the query, which selects `numbers` and then `read_all`.
            numbers: 64-bit integers.
            parameters: the values that the query binds.

        Returns:
            How the columns travel, and the rows.

        Raises:
            ContractError: a key holds what no frame can.
        """
        names = self.contract.column_names
        try:
            found = self.fetch(
                session, query(self), names, numbers=[*numbers, *self.numbers], parameters=parameters
            )
        except Unreadable as error:  # text that is not UTF-8
            rawer = self.rawer(error.columns)
            if rawer is self:
                raise
            return rawer.rows(session, query, numbers, parameters)
        self._refuse_nan(found)
        if not self.numbers:
            return self, found
        bits = found["odd"].unique()
        odd = [n for n in self._tests() if (bits & self._bit(n) != 0).any()]
        if held := next((name for name in odd if name in self.contract.key), None):
            raise _unheld(self, held)
        if odd:
            return self.rawer(odd).rows(session, query, numbers, parameters)
        return self, found.drop("odd")

    def _refuse_nan(self, found: pl.DataFrame) -> None:
        """Refuse a key that is NaN, as every frame's is: a join of one row with one does not find it (polars 2.1)."""
        names = self.contract.key
        values = found[self.short[names[0]]] if len(names) == 1 else pl.Series(dtype=pl.Null)
        if values.dtype.is_float() and values.is_nan().any():
            raise _unheld(self, names[0])

    def convert(self, session: Session, frame: pl.DataFrame, to: Whole) -> pl.DataFrame:
        """Bring rows to the form in which another has them, by the database itself.

        Args:
            session: the connection, in a transaction.
            frame: rows, of which some or all short columns of this.
            to: how they are to travel: more of them as text.

        Returns:
            The same rows.
        """
        names = [n for n in to.raw - self.raw if self.short[n] in frame.columns]
        if not names:
            return frame
        if frame.select(pl.all_horizontal(pl.col(self.shorts(names)).is_null().all())).item():
            return frame.cast(dict.fromkeys(self.shorts(names), pl.String))
        staged = frame.select(self.shorts(names)).with_row_index("_row").cast({"_row": pl.Int64})
        stored = {n: f"({self.codecs[n].stage.format(f's.{self.short[n]}')})" for n in names}
        values = ", ".join(f"{to.codecs[n].read.format(stored[n])} AS {self.short[n]}" for n in names)
        session.ingest(_STAGE, staged)
        stage = self.backend.spelling.temp(_STAGE)
        query = f"SELECT s._row, {values} FROM {stage} AS s"
        found = to.fetch(session, query, names, numbers=["_row"]).sort("_row").drop("_row")
        session.execute(f"DROP TABLE {stage}")
        return frame.with_columns(found[to.short[n]].alias(self.short[n]) for n in names)


def _unheld(wire: Wire, name: str) -> ContractError:
    return ContractError(
        f"column {name!r} of the key of table {wire.contract.name} holds a value that a frame cannot"
    )


def whole(session: Session, wire: Wire) -> Whole:
    """Add the columns that a table has and its declaration has not, and leave out those that it computes.

    Args:
        session: a connection.
        wire: the table, as it is written to.

    Returns:
        All columns that can be written, those of the declaration first and by the names that they have there.

    Raises:
        BulkError: the database refused.
    """
    backend, contract = session.backend, wire.contract
    found = backend.overview(session, contract.name)
    columns = found.columns
    if found.own_types:
        columns = backend.reflect(session, contract.name).columns
    by_name = {column.name: column for column in columns}
    folded = {column.name.casefold(): column for column in columns}
    there = {c.name: by_name.get(c.name) or folded.get(c.name.casefold()) for c in contract.columns}
    known = {declared: column for declared, column in there.items() if column is not None}
    taken = {column.name for column in known.values()}
    more = {c.name: c for c in columns if c.name not in taken}
    written = {name: column for name, column in {**known, **more}.items() if not column.generated}
    declared = {column.name: column for column in contract.columns}
    keys = {name: wire.codecs[name] for name in contract.key}
    result = Whole(
        replace(
            contract,
            columns=tuple(_described(declared.get(name), column) for name, column in written.items()),
        ),
        backend,
        keys,
        {name: _shown(backend, wire, name, column) for name, column in written.items()},
        schema=found.schema,
        children=found.children,
        policies=found.policies,
    )
    result.short = {name: wire.short.get(name, f"w{place}") for place, name in enumerate(written)}
    return result


def _described(declared: Column | None, found: Column) -> Column:
    """Take the declared column with the type that it has in the database."""
    return replace(declared, sql_type=found.sql_type) if declared else found


def _shown(backend: Backend, wire: Wire, name: str, column: Column) -> Form:
    """Choose the form of a column, whose values are shown as a frame has them if they travel as its do."""
    form = backend.form(column)
    codec = wire.codecs.get(name) or backend.codec(column)
    if form.plain.decode is same and form.plain.wire == codec.wire:
        return replace(form, plain=replace(form.plain, decode=codec.decode))
    return form

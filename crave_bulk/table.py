"""Table and field: the contract that a frame and a database table share.

A `Table` is a Pandera model for Polars; `field` is ``pandera.Field`` plus what a database needs to
know. `contract_of` reads both once into plain values, which is all that the pipeline ever sees.
"""

from __future__ import annotations

import datetime as dt
import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from numbers import Number
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaError, SchemaErrorReason

from crave_bulk.errors import ContractError, shown
from crave_bulk.sql import name_part, quote, split_name

Merge = Literal["replace", "keep", "add", "max", "min", "coalesce", "union", "append"]
Best = tuple[int, str]

_METADATA = "crave_bulk"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OTHER_WORDS = {
    "primary_key": "key",
    "pk": "key",
    "foreign_key": "references",
    "fk": "references",
    "server_default": "default",
}
_PARTS = {
    pl.List: "pl.List(pl.String)",
    pl.Array: "pl.List(pl.String)",
    pl.Struct: 'pl.Struct({"name": pl.String})',
    pl.Enum: 'pl.Enum(["small", "large"])',
    pl.Decimal: "pl.Decimal(10, 2)",
}
_LISTS = ("isin", "notin", "unique_values_eq")
_RULES = {  # Pandera's name of a check, and the option that declares it
    "equal_to": "eq",
    "not_equal_to": "ne",
    "greater_than": "gt",
    "greater_than_or_equal_to": "ge",
    "less_than": "lt",
    "less_than_or_equal_to": "le",
    "in_range": "in_range",
    "isin": "isin",
    "notin": "notin",
    "unique_values_eq": "unique_values_eq",
    "str_contains": "str_contains",
    "str_endswith": "str_endswith",
    "str_matches": "str_matches",
    "str_length": "str_length",
    "str_startswith": "str_startswith",
}
_RESERVED = ("_row", "_reasons")  # the columns that a report adds to a user's own


@dataclass(frozen=True, slots=True)
class FieldOptions:
    """What a field tells the database, beyond what it tells Pandera."""

    key: bool = False
    references: str | None = None
    references_where: tuple[tuple[str, Any], ...] = ()
    merge: Merge = "replace"
    best: Best | None = None
    default: Any = None
    on_update: Literal["now"] | None = None
    uuid: bool = False
    json: bool = False
    soft_delete: bool = False
    index: bool | None = None


def field(
    *,
    key: bool = False,
    references: str | None = None,
    references_where: Mapping[str, str | int | bool] | None = None,
    merge: Merge = "replace",
    best: Best | None = None,
    default: Any = None,
    on_update: Literal["now"] | None = None,
    uuid: bool = False,
    json: bool = False,
    soft_delete: bool = False,
    index: bool | None = None,
    metadata: dict[str, Any] | None = None,
    **pandera_options: Any,
) -> Any:
    """Declare a column: ``pandera.Field`` and what a database needs to know.

    Args:
        key: the column is (part of) the key that identifies a row.
        references: the column that this one points at, as ``"table.column"``; of a list, every element does.
        references_where: what the row pointed at must have besides, such as ``{"type": "food"}``. This, and
            what lists point at, is checked for the rows that are written; the database itself enforces the
            plain reference of a single value only.
        merge: how an upsert combines the value with the one that is there.
        best: ``(10, "upvotes")`` keeps of a united list of structs, or JSON array of objects, the 10 different
            elements with the greatest ``upvotes``, the greatest first and those without one last.
        default: the value for new rows that have none, or a null; ``"uuid"`` makes a time-ordered UUIDv7 and
            ``"now"`` the time of the batch.
        on_update: ``"now"`` sets the time of the batch whenever the row really changes.
        uuid: the strings are UUIDs, 36 characters in lower case; PostgreSQL's own type there.
        json: the strings are JSON, kept to the letter.
        soft_delete: a deleted row is marked in this column rather than removed.
        index: False makes no index on a column with ``references``, which has one otherwise: without it, the
            deletion of a row that is pointed at reads the whole table. `Table` lists other indexes.
        metadata: passed on to Pandera.
        pandera_options: every option of ``pandera.Field``: ``ge``, ``isin``, ``nullable``, ``unique``,
            ``coerce``, ``alias``, ``str_length`` and so on.

    Returns:
        A Pandera field.

    Raises:
        ContractError: an option is not known, or not of the form that it must have.

    Example:
        >>> class Foods(Table):
        ...     food_id: str = field(key=True)
        ...     name: str = field(unique=True, str_length={"max_value": 255})
        >>> contract_of(Foods).key, contract_of(Foods).unique
        (('food_id',), (('name',),))
    """
    if not isinstance(merge, str) or merge not in get_args(Merge):
        raise ContractError(
            f"merge={shown(merge)} is not a merge rule: use one of {', '.join(get_args(Merge))}"
        )
    if references is not None and not (isinstance(references, str) and references):
        raise ContractError(
            f'references={shown(references)} is not understood: write it as text, "table.column"'
        )
    if on_update not in (None, "now"):
        raise ContractError(f"on_update={on_update!r} is not known: the only rule is 'now'")
    options = FieldOptions(
        key=key,
        references=references,
        references_where=_conditions(references, references_where),
        merge=merge,
        best=_best(merge, best),
        default=default,
        on_update=on_update,
        uuid=uuid,
        json=json,
        soft_delete=soft_delete,
        index=_index(references, index),
    )
    for name in _LISTS:
        values = pandera_options.get(name)
        if values is not None and (isinstance(values, str | bytes) or not isinstance(values, Iterable)):
            raise ContractError(
                f"{name}={shown(values)} is not a list of values: write one, as in {name}=[…]"
            )
    known = inspect.signature(pa.Field).parameters
    for name in pandera_options:
        if name in _OTHER_WORDS:
            raise ContractError(f"cb.field has no option {name!r}: it is called {_OTHER_WORDS[name]!r} here")
        near = difflib.get_close_matches(name, [*known, *FieldOptions.__dataclass_fields__], n=1)
        if name not in known and near:
            raise ContractError(f"cb.field has no option {name!r}: did you mean {near[0]!r}?")
    try:
        return pa.Field(metadata={**(metadata or {}), _METADATA: options}, **pandera_options)
    except Exception as error:  # what a check raises that cannot be, such as a bad regular expression
        raise ContractError(f"cb.field: {shown(pandera_options)}: {error}") from error


def _conditions(references: str | None, where: Any) -> tuple[tuple[str, Any], ...]:
    """Check what the row pointed at must have, and write it as a value that cannot change."""
    if where is None:
        return ()
    if not references:
        raise ContractError(
            f"references_where={where!r} is about nothing: say by references= what it points at"
        )
    fits = isinstance(where, Mapping) and where
    if not fits or not all(isinstance(n, str) and isinstance(v, str | int | bool) for n, v in where.items()):
        raise ContractError(
            f"references_where={where!r} is not understood: write a mapping of columns of the table pointed at to "
            'values that are text, whole numbers or booleans, such as {"type": "food"}'
        )
    return tuple(where.items())


def _index(references: str | None, index: Any) -> bool | None:
    if index is None or (references and isinstance(index, bool)):
        return index
    raise ContractError(
        f"index={index!r} is not understood: it is True or False, and about a column with references=; list other "
        "indexes in Config.indexes"
    )


def _best(merge: Merge, best: Any) -> Best | None:
    """Check the form of ``best``; `_check_best` checks that the elements have such a field."""
    if best is None:
        return None
    if merge != "union":
        raise ContractError(f"best={best!r} chooses among united elements: it needs merge='union'")
    size, name = best if isinstance(best, tuple | list) and len(best) == 2 else (None, None)
    if not (isinstance(size, int) and not isinstance(size, bool) and size > 0 and isinstance(name, str)):
        raise ContractError(
            f'best={best!r} is not understood: write how many, and by which of their fields, as in (10, "upvotes")'
        )
    return size, name


class Table(pa.DataFrameModel):
    """A table: one annotated `field` per column, and a ``Config`` with its name and unique keys.

    A column annotated ``X | None`` may be left out of a frame and may hold NULL; a ``nullable=True``
    field may hold NULL but must be in the frame. ``Config.name`` may be qualified (``sales.orders``),
    ``Config.unique`` is one list of columns, or a list of such lists. ``Config.indexes`` lists what else has an
    index: columns, and lists of columns.

    Example:
        >>> class Orders(Table):
        ...     '''One row per order.'''
        ...     order_id: int = field(key=True)
        ...     customer: str
        ...     class Config:
        ...         name = "orders"
        ...         indexes = ["customer", ["customer", "order_id"]]
        >>> contract_of(Orders).columns[1]
        Column(name='customer', dtype=String, nullable=False, required=True)
    """

    __indexes__: ClassVar[Any] = None

    @classmethod
    def _collect_config_and_extras(cls) -> tuple[type[Any], dict[str, Any]]:
        """Take what Pandera does not know out of ``Config``: it would look for checks of these names."""
        config, extras = super()._collect_config_and_extras()
        cls.__indexes__ = extras.pop("indexes", None)
        return config, extras

    @classmethod
    def build_schema_(cls, **kwargs: Any) -> pa.DataFrameSchema:
        """Build the Pandera schema, in which an optional column may hold nulls.

        Args:
            kwargs: Pandera's own.

        Returns:
            The schema.
        """
        schema = super().build_schema_(**kwargs)
        for column in schema.columns.values():
            # Pandera takes ``X | None`` for "may be left out" only; what is left out becomes NULL.
            column.nullable = column.nullable or not column.required
        return schema


@dataclass(frozen=True, slots=True)
class TableName:
    """The name of a table, with its schema where it has one."""

    table: str
    schema: str | None = None

    @classmethod
    def parse(cls, name: str) -> TableName:
        """Read ``table`` or ``schema.table``.

        Args:
            name: the name; a part that holds dots stands in double quotes.

        Returns:
            The name in parts.

        Raises:
            ContractError: the name has more than two parts, or an empty one.
        """
        parts = split_name(name)
        # Half of a character, which no database holds.
        lone = any("\ud800" <= sign <= "\udfff" for sign in name)
        if not 1 <= len(parts) <= 2 or not all(parts) or lone:
            raise ContractError(f'{name!r} is not a table name: write "table" or "schema.table"')
        return cls(parts[-1], parts[0] if len(parts) == 2 else None)

    def __str__(self) -> str:
        """Write the name as `parse` reads it again: a part that would be taken for another is quoted, no other is."""
        return ".".join(name_part(part) for part in (self.schema, self.table) if part)


@dataclass(frozen=True, slots=True, repr=False)
class Column:
    """One column of a contract.

    Attributes:
        name: as in the database, unquoted.
        dtype: of the frame.
        nullable: whether it may hold NULL.
        required: whether a frame must have it.
        coerce: whether a frame's values are cast to `dtype`, where that changes nothing.
        options: what `field` declared.
        sql_type: the type in the database, where the table was found there rather than declared.
        default_sql: the SQL expression of what the database fills in, in its own dialect; ``i`` in it
            stands for the number of the row, from 1.
        generated: computed by the database: read, and never written.
        identity_always: the database makes the value, and takes another only when it is overruled.
        insert_only: only an INSERT that leaves the column out has a value made: the login may not ask for one.
        filled_by_trigger: a trigger may put a value where a new row has NULL, so only the database can tell
            whether NULL may stand there.
        untyped: each value has a type of its own in the database, whatever the others have.
    """

    name: str
    dtype: pl.DataType
    nullable: bool
    required: bool
    coerce: bool
    options: FieldOptions
    sql_type: str | None = None
    default_sql: str | None = None
    generated: bool = False
    identity_always: bool = False
    insert_only: bool = False
    filled_by_trigger: bool = False
    untyped: bool = False

    def __repr__(self) -> str:
        return f"Column(name={self.name!r}, dtype={self.dtype}, nullable={self.nullable}, required={self.required})"


@dataclass(frozen=True, slots=True)
class Reference:
    """Columns that point at the row of another table that has the same values in `targets`.

    Attributes:
        columns: the columns that point; where one of them is NULL, there is nothing to point at.
        table: the other table.
        targets: its columns, in the order of `columns`.
        deferred: the database checks it when the transaction is committed.
    """

    columns: tuple[str, ...]
    table: TableName
    targets: tuple[str, ...]
    deferred: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.columns)} -> {self.table}.{', '.join(self.targets)}"


@dataclass(frozen=True, slots=True)
class Pointer(Reference):
    """A reference that no foreign key can hold, or not all of it.

    Attributes:
        where: columns of the other table, and the values that the row pointed at has there.
        each: the column is a list, and every element points.
    """

    where: tuple[tuple[str, Any], ...] = ()
    each: bool = False


@dataclass(frozen=True, eq=False)
class Contract:
    """A table as the pipeline sees it: columns, key, unique keys, references and Pandera's schema.

    Attributes:
        references: those that the database enforces by itself.
        read_only: why it cannot be written, and what to do about it; None where it can.
        pointers: the references of lists, and those with a condition; one of a single value is among
            `references` as well, without its condition.
        indexes: the columns of each index, besides the keys, that is wanted; of a table that was found, the
            columns that each of its indexes begins with.
    """

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]
    references: tuple[Reference, ...]
    schema: pa.DataFrameSchema
    read_only: str | None = None
    pointers: tuple[Pointer, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.columns]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def soft_delete(self) -> Column | None:
        """The column that marks a row as deleted, where the table has one."""
        return next((column for column in self.columns if column.options.soft_delete), None)

    @property
    def best(self) -> dict[str, Best]:
        """Column → how many of its united elements stay, and by which field, where not all of them do."""
        return {column.name: column.options.best for column in self.columns if column.options.best}

    def without_rules(self) -> Contract:
        """Leave the merge rules out, so that every value of a frame replaces what is there.

        Returns:
            The contract.
        """
        plain = [replace(c, options=replace(c.options, merge="replace", best=None)) for c in self.columns]
        return replace(self, columns=tuple(plain))

    def column(self, name: str) -> Column:
        """Find a column by its name.

        Args:
            name: the column's name, which must be one of the contract's.

        Returns:
            The column.
        """
        return self._by_name[name]


def contract_of(table: type[Table]) -> Contract:
    """Read a table's declaration into a contract, checking that it can be one.

    Args:
        table: a subclass of `Table`.

    Returns:
        The contract.

    Raises:
        ContractError: the declaration has no key, names a column that is not there, or cannot be met.
    """
    if not (isinstance(table, type) and issubclass(table, Table)):
        raise ContractError(
            f"an object of type {type(table).__name__} is not a table: the first argument is a subclass of cb.Table, or the name of a "
            "table in the database as text; the frame comes second"
        )
    return _contract(table)


@lru_cache(maxsize=512)
def _contract(table: type[Table]) -> Contract:
    where = f"table {table.__name__}"
    try:
        _check_config(where, table)
        schema = table.to_schema()
    except ContractError:
        raise
    except Exception as error:  # a check that is not registered, an annotation that names nothing, …
        raise ContractError(f"{where} is not a Pandera model: {error}") from error
    columns = tuple(_column(where, name, column, schema.coerce) for name, column in schema.columns.items())
    contract = Contract(
        name=TableName.parse(schema.name or table.__name__),
        columns=columns,
        key=tuple(column.name for column in columns if column.options.key),
        unique=_unique_keys(where, schema),
        references=tuple(_reference(where, column) for column in columns if _enforced(column)),
        schema=schema,
        pointers=tuple(_pointer(where, column) for column in columns if _checked(column)),
        indexes=_indexes(where, table.__indexes__, columns),
    )
    _check(where, contract)
    return contract


def _check_config(where: str, table: type[Table]) -> None:
    """Refuse what ``Config`` cannot mean: a name that is no text, and attributes that nobody knows."""
    config, unknown = (
        table.__config__,
        [name for name in table.__extras__ or () if not hasattr(pa.Check, name)],
    )
    name = getattr(config, "name", None)
    if name is not None and not isinstance(name, str):
        raise ContractError(
            f'{where}: Config.name={shown(name)} is not text: write "table" or "schema.table"'
        )
    for column, annotation in get_type_hints(table, include_extras=True).items():
        kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
        _check_parts(where, table, column, kinds or (annotation,))
        if len([kind for kind in kinds if kind is not type(None)]) > 1:
            raise ContractError(
                f"{where}: column {column!r} is {annotation}, but a column has one type: choose one, with `| None` if it "
                "may be left out"
            )
    if unknown:
        known = [name for name in dir(pa.DataFrameModel.Config) if not name.startswith("_")]
        near = difflib.get_close_matches(unknown[0], [*known, "indexes"], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "it is neither an option nor a registered check"
        raise ContractError(f"{where}: Config has no attribute {unknown[0]!r}: {hint}")


def _check_parts(where: str, table: type[Table], column: str, kinds: Sequence[Any]) -> None:
    """Refuse a dtype that lacks what it is made of: Polars cannot build it, or takes what nobody has said."""
    declared = table.__fields__.get(column)
    for bare in filter(None, map(_bare, kinds)):
        if not (declared and declared[1].dtype_kwargs):
            raise ContractError(
                f"{where}: column {column!r} has pl.{bare.__name__} alone, which does not say what it holds: write it as "
                f"in {_PARTS[bare]}"
            )


def _bare(dtype: Any) -> Any:
    """Find a dtype that stands alone and lacks what it is made of, also within another."""
    if isinstance(dtype, type):
        return next((bare for bare in _PARTS if dtype is bare), None)
    if isinstance(dtype, pl.Struct):
        return next(filter(None, (_bare(field.dtype) for field in dtype.fields)), None)
    return _bare(dtype.inner) if isinstance(dtype, pl.List | pl.Array) else None


def _column(where: str, name: str, column: Any, coerce: bool) -> Column:
    options = (column.metadata or {}).get(_METADATA, FieldOptions())
    if column.dtype is not None and _empty_struct(column.dtype.type):
        raise ContractError(
            f"{where}: column {name!r} is {column.dtype.type}, a struct without fields: give it one"
        )
    if column.dtype is None:
        raise ContractError(f"{where}: column {name!r} has no type: annotate it, as in `{name}: str`")
    dtype = column.dtype.type
    try:
        pl.Series([], dtype=dtype)
    except pl.exceptions.PolarsError as error:  # such as a time zone that there is not
        raise ContractError(f"{where}: column {name!r} is {dtype}: {str(error).splitlines()[0]}") from error
    return Column(
        name=name,
        dtype=dtype() if isinstance(dtype, type) else dtype,
        nullable=column.nullable,
        required=column.required,
        coerce=column.coerce or coerce,
        options=options,
    )


def _empty_struct(dtype: Any) -> bool:
    """Tell whether a dtype is, or holds, a struct without fields."""
    if isinstance(dtype, pl.Struct):
        return not dtype.fields or any(_empty_struct(field.dtype) for field in dtype.fields)
    return isinstance(dtype, pl.List | pl.Array) and _empty_struct(dtype.inner)


def _reference(where: str, column: Column) -> Reference:
    *table, target = split_name(column.options.references or "")
    if not 1 <= len(table) <= 2:
        raise ContractError(
            f"{where}: references={column.options.references!r} of column {column.name!r} is not understood: "
            'write "table.column" or "schema.table.column"'
        )
    return Reference((column.name,), TableName(table[-1], table[0] if len(table) == 2 else None), (target,))


def _enforced(column: Column) -> bool:
    """Tell whether a column has a reference that a foreign key can hold."""
    return bool(column.options.references) and not isinstance(column.dtype, pl.List)


def _checked(column: Column) -> bool:
    """Tell whether a column has a reference of which a foreign key holds nothing, or not all."""
    options = column.options
    return bool(options.references and (options.references_where or not _enforced(column)))


def _pointer(where: str, column: Column) -> Pointer:
    plain, each = _reference(where, column), isinstance(column.dtype, pl.List)
    if isinstance(column.dtype, pl.List) and column.dtype.inner.is_nested():
        raise ContractError(
            f"{where}: column {column.name!r} is {column.dtype}, whose elements are no single values, so they point at "
            "nothing: drop references="
        )
    return Pointer(
        plain.columns, plain.table, plain.targets, where=column.options.references_where, each=each
    )


def _unique_keys(where: str, schema: pa.DataFrameSchema) -> tuple[tuple[str, ...], ...]:
    """Collect ``Config.unique`` (one key, or a list of keys) and every field with ``unique=True``."""
    declared: Any = [schema.unique] if isinstance(schema.unique, str) else schema.unique or []
    if isinstance(declared, list | tuple) and all(isinstance(part, str) for part in declared):
        declared = [declared]
    if not isinstance(declared, list | tuple) or not all(
        isinstance(key, list | tuple) and all(isinstance(name, str) for name in key) for key in declared
    ):
        raise ContractError(
            f"{where}: Config.unique={shown(schema.unique)} is not understood: write one list of columns, or a list of "
            "such lists"
        )
    keys = [tuple(key) for key in declared]
    keys += [(name,) for name, column in schema.columns.items() if column.unique]
    return tuple(dict.fromkeys(tuple(dict.fromkeys(key)) for key in keys if key))


def _indexes(where: str, declared: Any, columns: Sequence[Column]) -> tuple[tuple[str, ...], ...]:
    """Collect ``Config.indexes``, and the columns that point at other rows."""
    names, found = {column.name for column in columns}, list[tuple[str, ...]]()
    if not isinstance(declared, list | tuple | None):
        raise ContractError(
            f"{where}: Config.indexes={declared!r} is not a list of columns and lists of columns"
        )
    for part in declared or ():
        index = (part,) if isinstance(part, str) else tuple(part) if isinstance(part, list | tuple) else ()
        if not index or not names.issuperset(name for name in index if isinstance(name, str)):
            raise ContractError(
                f"{where}: Config.indexes has {part!r}, where a column or a list of columns is meant: it has {sorted(names)}"
            )
        if not all(isinstance(name, str) for name in index) or len(set(index)) < len(index) or index in found:
            raise ContractError(
                f"{where}: Config.indexes has {part!r}: name each column once, and each index once"
            )
        found.append(index)
    points = [(c.name,) for c in columns if _enforced(c) and c.options.index is not False]
    return tuple(dict.fromkeys((*found, *points)))


def _check(where: str, contract: Contract) -> None:
    names = set(contract.column_names)
    if not contract.key:
        raise ContractError(
            f"{where} has no key: mark the columns that identify a row with cb.field(key=True)"
        )
    if unknown := [name for key in contract.unique for name in key if name not in names]:
        raise ContractError(f"{where}: Config.unique names {unknown[0]!r}, which is not a column of it")
    for column in contract.columns:
        quote(column.name)
        _check_column(where, column)
        _check_merge(where, column)
        _check_rules(where, column, contract.schema)
    if len(marks := [column for column in contract.columns if column.options.soft_delete]) > 1:
        raise ContractError(
            f"{where}: {marks[1].name!r} is a second soft_delete column: a row has one such mark"
        )
    for column in contract.columns:
        if column.options.default not in (None, "uuid", "now"):
            _check_default(where, column, contract.schema)
    combined = {c.name for c in contract.columns if c.options.merge in ("union", "append")}
    if shared := [name for key in contract.unique for name in key if name in combined]:
        raise ContractError(
            f"{where}: {shared[0]!r} is part of a unique key, so it cannot be merged by union or append"
        )


def _check_merge(where: str, column: Column) -> None:
    rule, dtype = column.options.merge, column.dtype
    _check_best(where, column)
    is_list = isinstance(dtype, pl.List) or (isinstance(dtype, pl.String) and column.options.json)
    if column.options.key and rule != "replace":
        raise ContractError(
            f"{where}: key column {column.name!r} cannot have merge={rule!r}: a key never changes"
        )
    if rule in ("union", "append") and not is_list:
        raise ContractError(
            f"{where}: merge={rule!r} needs a list or a JSON array, but {column.name!r} is {dtype}"
        )
    if rule == "add" and not (dtype.is_numeric() or isinstance(dtype, pl.Duration)):
        raise ContractError(
            f"{where}: merge='add' needs a number or a duration, but {column.name!r} is {dtype}"
        )
    if rule in ("max", "min") and (dtype.is_nested() or column.options.json):
        raise ContractError(
            f"{where}: merge={rule!r} needs values that have an order, but {column.name!r} is {dtype}"
        )
    if column.options.soft_delete and column.options.key:
        raise ContractError(
            f"{where}: key column {column.name!r} cannot be the soft_delete mark: a key never changes"
        )
    if column.options.soft_delete and not (
        isinstance(dtype, pl.Boolean) or (isinstance(dtype, pl.Datetime | pl.Date) and column.nullable)
    ):
        raise ContractError(
            f"{where}: soft_delete needs a Boolean, or a Datetime or Date that may be null, but {column.name!r} is {dtype}"
        )


def _check_best(where: str, column: Column) -> None:
    """Refuse to choose by a field that elements do not have; what a JSON array holds is not known before."""
    best, dtype = column.options.best, column.dtype
    if best is None or (isinstance(dtype, pl.String) and column.options.json):
        return
    inner = dtype.inner if isinstance(dtype, pl.List) else None
    fields = {f.name: f.dtype for f in inner.fields} if isinstance(inner, pl.Struct) else {}
    if best[1] not in fields or fields[best[1]].is_nested():
        raise ContractError(
            f"{where}: best={best!r} needs a list of structs with a field {best[1]!r} that has an order, but "
            f"{column.name!r} is {dtype}"
        )


def _check_column(where: str, column: Column) -> None:
    options, text = column.options, isinstance(column.dtype, pl.String)
    check_name(where, column.name)
    if options.key and column.nullable:
        raise ContractError(
            f"{where}: key column {column.name!r} cannot be nullable: a key identifies its row"
        )
    if options.uuid and not (text or column.dtype == pl.List(pl.String)):
        raise ContractError(
            f"{where}: uuid=True needs text or a list of text, but {column.name!r} is {column.dtype}"
        )
    if options.default == "uuid" and not text:
        raise ContractError(
            f"{where}: default='uuid' needs a text column, but {column.name!r} is {column.dtype}"
        )
    if options.json and not (text or isinstance(column.dtype, pl.Struct | pl.List)):
        raise ContractError(
            f"{where}: json=True needs text, a struct or a list, but {column.name!r} is {column.dtype}"
        )
    if options.default not in (None, "uuid", "now"):
        try:
            pl.Series([options.default], dtype=column.dtype)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise ContractError(
                f"{where}: default={options.default!r} of column {column.name!r} is no {column.dtype}: {error}"
            ) from error
    wants_now = options.on_update == "now" or options.default == "now"
    if wants_now and not isinstance(column.dtype, pl.Datetime | pl.Date):
        raise ContractError(
            f"{where}: 'now' needs a Date or Datetime column, but {column.name!r} is {column.dtype}"
        )


def _check_rules(where: str, column: Column, schema: pa.DataFrameSchema) -> None:
    """Refuse a rule that the column's values cannot be tested by, which would fail at the first write."""
    declared = schema.columns[column.name]
    empty = pl.DataFrame(schema={column.name: column.dtype})
    for check in declared.checks:
        option = _RULES.get(check.name or "")
        if option is None:
            continue
        value = ", ".join(f"{n}={shown(v)}" for n, v in check.statistics.items() if v is not None)
        about = f"{where}: column {column.name!r} is {column.dtype}, and its rule {option} ({value}) cannot be tested"
        if option.startswith("str_") and not isinstance(column.dtype, pl.String):
            raise ContractError(f"{about}: it is for text, so leave it out, or declare the column as text")
        if not all(map(_fits(column.dtype, option), _values(check.statistics))):
            raise ContractError(f"{about}: give it values that such a column can have")
        try:
            pa.DataFrameSchema({column.name: pa.Column(declared.dtype, checks=check)}).validate(empty)
        except SchemaError as error:
            if error.reason_code == SchemaErrorReason.CHECK_ERROR:
                raise ContractError(f"{about}: {_said(str(error.failure_cases))}") from error


def _said(words: str) -> str:
    """Take the one line that says what is wrong out of what Polars says, which ends in the query."""
    bad_pattern = re.search(r"^error: (.*)$", words, re.MULTILINE)
    return bad_pattern[1] if bad_pattern else words.partition("\n")[0].partition("(")[2].strip('"')


def _values(statistics: Mapping[str, Any]) -> list[Any]:
    """List the values that a rule compares with."""
    parts = [v for n, v in statistics.items() if not n.startswith("include_") and v is not None]
    return [
        v for part in parts for v in (part if isinstance(part, list | set | frozenset | tuple) else [part])
    ]


def _fits(dtype: pl.DataType, option: str) -> Callable[[Any], bool]:
    """Choose the test whether a value of a rule is of a column's kind; Polars compares some others, all the same."""
    if option == "str_length":
        return lambda value: type(value) is int
    if option.startswith("str_"):
        return lambda value: isinstance(value, str | re.Pattern)
    if isinstance(dtype, pl.Enum) and option not in _LISTS:
        return lambda value: value in dtype.categories
    if isinstance(dtype, pl.Boolean):
        return lambda value: value is None or isinstance(value, bool)
    if dtype.is_numeric():
        return lambda value: (
            value is None or not isinstance(value, bool | str | bytes | dt.date | dt.timedelta)
        )
    if dtype.is_temporal():
        return lambda value: not isinstance(value, Number | str | bytes)
    return lambda _: True


def _check_default(where: str, column: Column, schema: pa.DataFrameSchema) -> None:
    """Refuse a default that breaks a rule of its own column, so that no row could ever have it."""
    default, name = column.options.default, column.name
    about = f"{where}: default={shown(default)} of column {name!r}"
    value = pl.Series(name, [default], dtype=column.dtype)
    if isinstance(column.dtype, pl.Decimal) and Decimal(str(value[0])) != Decimal(str(default)):
        raise ContractError(f"{about} is no {column.dtype}: it would be rounded to {value[0]}")
    if column.options.uuid and isinstance(default, str) and not re.fullmatch(UUID, default):
        raise ContractError(f"{about} is no UUID in lower case, 8-4-4-4-12")
    if column.options.json and isinstance(default, str):
        try:
            json.loads(default)
        except ValueError as error:
            raise ContractError(f"{about} is not JSON: {error}") from error
    if column.dtype.is_nested() and not _same(default, value.to_list()[0]):
        raise ContractError(
            f"{about} is no {column.dtype}: it would be stored as {shown(value.to_list()[0])}"
        )
    declared = schema.columns[name]
    alone = pa.DataFrameSchema(
        {name: pa.Column(declared.dtype, checks=declared.checks, nullable=column.nullable)}
    )
    try:
        alone.validate(value.to_frame())
    except SchemaError as error:
        # A check that looks at other columns fails here for want of them; that is for the rows to show.
        if error.reason_code in (SchemaErrorReason.DATAFRAME_CHECK, SchemaErrorReason.SERIES_CONTAINS_NULLS):
            rule = getattr(error.check, "error", None) or getattr(error.check, "name", None) or error.check
            raise ContractError(f"{about} breaks a rule of the column itself: {rule}") from error


def _same(default: Any, stored: Any) -> bool:
    """Tell whether a list or a struct was taken over with all that it says; what a struct does not say is null."""
    if isinstance(default, Mapping) and isinstance(stored, Mapping):
        return all(_same(value, stored.get(name)) for name, value in default.items())
    if isinstance(default, list | tuple) and isinstance(stored, list):
        return len(default) == len(stored) and all(map(_same, default, stored))
    if isinstance(default, Number) and isinstance(stored, Number):
        return default == stored
    return (default is None) == (stored is None)


def check_name(where: str, name: str) -> None:
    """Refuse a column's name that a frame or a report cannot use.

    Args:
        where: the table, for the message.
        name: the column's name.

    Raises:
        ContractError: it cannot be used.

    Example:
        >>> check_name("table Foods", "food_id")
    """
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        raise ContractError(f"{where}: a column cannot be called {name!r}: Polars takes it for a pattern")
    if name.casefold() in _RESERVED:
        raise ContractError(f"{where}: a column cannot be called {name!r}: reports use that name themselves")

"""Validate: the whole contract over the whole frame, in one pass.

Pandera is the author of every rule and the judge of what a value must be: its own check functions are
applied here. What differs is the cost. ``validate(lazy=True)`` collects the frame about three times a
column; here every rule becomes one boolean column of a single collect. Rules *across* rows (unique
keys) are not judged here: they hold for what a batch leaves behind, after rows of one key are combined.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.backends.polars.register import register_polars_backends
from pandera.errors import SchemaWarning

from crave_bulk import failures
from crave_bulk.backends.codec import Codec, Step, inner_dtype, instance, json_form
from crave_bulk.engine import query
from crave_bulk.errors import ContractError
from crave_bulk.pipeline.intake import widens
from crave_bulk.scalar import as_utf8
from crave_bulk.table import Column, Contract

register_polars_backends()  # its check functions, which Pandera itself registers at the first validate()

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_LAX = r"NaN|Infinity|,\s*[\]}]"  # what DuckDB's parser lets pass and PostgreSQL's does not
_WIDEST = pl.Decimal(38, 18)
_OK = "ok"


@dataclass(frozen=True, slots=True)
class Validated:
    """A frame in the contract's dtypes, and the rules that its rows break."""

    frame: pl.DataFrame
    failures: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule: an expression, or a lazy frame of one column; a boolean a row, or one for all."""

    name: str
    column: str
    message: str
    verdict: pl.Expr | pl.LazyFrame
    nulls_pass: bool = True
    warns: bool = False


def validate(
    contract: Contract,
    codecs: dict[str, Codec],
    frame: pl.DataFrame,
    written: Collection[str] | None = None,
    *,
    whole: bool = True,
    matched: Collection[str] = (),
    later: Mapping[str, pl.Expr] | None = None,
) -> Validated:
    """Judge every row by every rule of the contract and by what the database can hold.

    Args:
        contract: the table.
        codecs: how each column travels, with what the database would refuse.
        frame: all columns of the contract.
        written: the columns that are judged, None for all: the others are not written.
        whole: the rows are whole, so that rules over several columns can be judged.
        matched: the columns that rows are matched by, so that a NULL there would find no row.
        later: what fills the nulls of columns once these are coerced.

    Returns:
        The frame, coerced where the contract says so, and one failure per broken rule.

    Raises:
        ContractError: a check itself failed, or returned something else than booleans.
    """
    columns = [c for c in contract.columns if written is None or c.name in written]
    coerced, uncoercible = _coerce(contract, columns, frame)
    for name, value in (later or {}).items():
        filled = pl.when(frame[name].is_null()).then(value).otherwise(pl.col(name))
        coerced = coerced.with_columns(filled.alias(name))
    lazy = coerced.lazy()
    rules = [
        *_column_rules(contract, columns, codecs, lazy, matched),
        *(_frame_rules(contract, lazy) if whole else ()),
    ]
    try:
        verdicts = _collect(lazy, [rule.verdict for rule in rules])
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise _check_failed(contract, error) from error
    found = [_judge(rule, verdict, coerced) for rule, verdict in zip(rules, verdicts, strict=True)]
    broken = [part for part in found if part is not None]
    exact = _fit_decimals(contract, coerced)
    if lost := [part.select("row", "column") for part in uncoercible if part.height]:
        # What could not be coerced is null now, and need not be called null as well.
        broken = [
            part.join(pl.concat(lost), on=["row", "column"], how="anti", maintain_order="left")
            for part in broken
        ]
    return Validated(exact, failures.gather([*uncoercible, *broken, *_invalid_json(columns, coerced)]))


def _collect(frame: pl.LazyFrame, verdicts: list[pl.Expr | pl.LazyFrame]) -> list[pl.Series]:
    """Evaluate all verdicts in one go: the expressions as one select, the rest beside it."""
    names = [str(number) for number in range(len(verdicts))]
    expressions = [v.alias(n) for n, v in zip(names, verdicts, strict=True) if isinstance(v, pl.Expr)]
    frames = [v for v in verdicts if isinstance(v, pl.LazyFrame)]
    together, *apart = pl.collect_all([frame.select(expressions), *frames])
    found = {series.name: series for series in together.iter_columns()}
    others = iter(apart)
    return [found[name] if name in found else next(others).to_series() for name in names]


def _coerce(
    contract: Contract, judged: list[Column], frame: pl.DataFrame
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Cast the columns with ``coerce=True``; a value that does not survive it is a failure of its row."""
    schema = frame.schema
    columns = [c for c in judged if c.coerce and schema[c.name] != c.dtype]
    if not columns:
        return frame, []
    found, cast = [], []
    # What only becomes wider changes no value, so all of it is cast in one go.
    wider = {c.name: c.dtype for c in columns if widens(schema[c.name], c.dtype)}
    frame = frame.cast(wider) if wider else frame  # type: ignore[arg-type]
    for column in (c for c in columns if c.name not in wider):
        before = frame[column.name]
        try:
            after = _cast(column, before)
            lost = before.is_not_null() & (after.is_null() | _changed(before, after))
        except pl.exceptions.PolarsError as error:
            hint = (
                "; declare a cb.Table with that type, or write it as JSON text"
                if before.dtype.is_nested()
                else ""
            )
            raise ContractError(
                f"column {column.name!r} of table {contract.name} cannot be coerced from {before.dtype}: "
                f"{str(error).splitlines()[0]}{hint}"
            ) from error
        rows = lost.arg_true()
        message = f"{column.name} cannot be coerced to {column.dtype} without a change"
        if isinstance(column.dtype, pl.Enum):
            message = f"{column.name} must be one of {', '.join(column.dtype.categories)}"
        found.append(failures.failures("validate", "coerce", column.name, rows, before.gather(rows), message))
        cast.append(after)
    return frame.with_columns(cast), found


def _cast(column: Column, before: pl.Series) -> pl.Series:
    """Cast, where that can be done without loss; null where a value does not fit."""
    if _is_json_of(column, before):
        return _as_json(column, before)
    parse = _parser(column.dtype)
    if isinstance(before.dtype, pl.String) and parse:
        return before.to_frame("t").select(parse(pl.col("t")).alias(column.name)).to_series()
    if isinstance(before.dtype, pl.List) and isinstance(column.dtype, pl.List):
        element = _parser(inner_dtype(column.dtype))
        if element and isinstance(inner_dtype(before.dtype), pl.String):
            return before.list.eval(element(pl.element()))
    if isinstance(before.dtype, pl.Binary) and isinstance(column.dtype, pl.String):
        return as_utf8(before)
    if not _alike(before.dtype, column.dtype):
        # Polars would write {1} for {"a": 1}, or make a struct of a number.
        raise pl.exceptions.InvalidOperationError(
            "values of the one have another shape than those of the other"
        )
    return before.cast(column.dtype, strict=False)


def _alike(have: pl.DataType, want: pl.DataType) -> bool:
    """Tell whether two types have lists and structs in the same places; of a struct, as far as it has the same fields."""
    if isinstance(have, pl.Struct) and isinstance(want, pl.Struct):
        fields = {field.name: instance(field.dtype) for field in want.fields}
        return all(_alike(instance(f.dtype), fields[f.name]) for f in have.fields if f.name in fields)
    if isinstance(have, pl.List | pl.Array) and isinstance(want, pl.List | pl.Array):
        return _alike(instance(have.inner), instance(want.inner))
    return isinstance(have, pl.Null) or not (have.is_nested() or want.is_nested())


def _parser(dtype: pl.DataType) -> Step | None:
    """Choose how text is read as a dtype, if a cast does not; what is no such text becomes null."""
    match dtype:
        case pl.Boolean():
            words = {"true": True, "false": False}
            return lambda text: (
                text.str.strip_chars()
                .str.to_lowercase()
                .replace_strict(words, default=None, return_dtype=pl.Boolean)
            )
        case pl.Date() | pl.Datetime() | pl.Time():
            return lambda text: _moments(text.str.strip_chars(), dtype)
        case pl.List() | pl.Struct() | pl.Array():
            return lambda text: pl.when(text.is_null()).then(pl.lit(None, dtype=dtype))  # no text is one
    return None


def _moments(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Read ISO text; a moment with a zone must say which."""
    if isinstance(dtype, pl.Date):
        return text.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(dtype, pl.Time):
        return text.str.to_time("%H:%M:%S%.f", strict=False)
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    offset = "%#z" if zone else ""
    forms = [f"%Y-%m-%d{mark}%H:%M:%S%.f{offset}" for mark in (" ", "T")] + ([] if zone else ["%Y-%m-%d"])
    read = [text.str.to_datetime(form, time_unit="us", strict=False) for form in forms]
    return pl.coalesce(read).cast(dtype)


def _is_json_of(column: Column, before: pl.Series) -> bool:
    return column.options.json and isinstance(column.dtype, pl.String) and before.dtype.is_nested()


def _as_json(column: Column, before: pl.Series) -> pl.Series:
    """Write lists and structs as the JSON text that the column holds."""
    text = json_form(before.dtype).encode(pl.col(column.name))
    return before.to_frame(column.name).select(text.alias(column.name)).to_series()


def _changed(before: pl.Series, after: pl.Series) -> pl.Series:
    """Tell which values a cast has rounded, cut off or wrapped."""
    if isinstance(before.dtype, pl.Array):
        before = before.arr.to_list()
    if isinstance(before.dtype, pl.List) and isinstance(after.dtype, pl.List):
        return _changed_lists(before, after)
    if isinstance(before.dtype, pl.Struct) and isinstance(after.dtype, pl.Struct):
        return _changed_structs(before, after)
    if isinstance(before.dtype, pl.String) and isinstance(after.dtype, pl.Decimal):
        exact = before.str.strip_chars().cast(_WIDEST, strict=False)
        return exact.is_null() | after.cast(_WIDEST, strict=False).ne_missing(exact)
    if isinstance(before.dtype, pl.String) and after.dtype.is_float():
        return after.is_infinite() & ~before.str.contains("(?i)inf")
    if not (before.dtype.is_numeric() or before.dtype.is_temporal()) or isinstance(after.dtype, pl.String):
        return pl.repeat(False, len(before), eager=True)
    return after.cast(before.dtype, strict=False).ne_missing(before)


def _changed_lists(before: pl.Series, after: pl.Series) -> pl.Series:
    """Tell which lists hold an element that a cast has changed, or made null."""
    lists = pl.DataFrame({"before": before, "after": after}).with_row_index("row")
    items = lists.filter(pl.col("before").list.len() > 0).explode("before", "after")
    lost = items["before"].is_not_null() & (
        items["after"].is_null() | _changed(items["before"], items["after"])
    )
    return lists["row"].is_in(items["row"].filter(lost).implode())


def _changed_structs(before: pl.Series, after: pl.Series) -> pl.Series:
    """Tell which structs have a field that a cast has changed, made null or dropped."""
    there = {field.name for field in after.dtype.fields} if isinstance(after.dtype, pl.Struct) else set()
    changed = pl.repeat(False, len(before), eager=True)
    for name in before.struct.fields:
        field = before.struct.field(name)
        if name in there:
            now = after.struct.field(name)
            lost = field.is_not_null() & (now.is_null() | _changed(field, now))
        else:
            lost = field.is_not_null()
        changed |= lost
    return changed


def _column_rules(
    contract: Contract,
    columns: list[Column],
    codecs: dict[str, Codec],
    frame: pl.LazyFrame,
    matched: Collection[str],
) -> Iterator[_Rule]:
    for column in columns:
        name = column.name
        value = pl.col(name)
        made_later = column.filled_by_trigger or (column.options.key and column.default_sql)
        if name in matched:
            message = f"{name} may not be null: rows are matched by it"
            yield _Rule("not_nullable", name, message, _present(column), nulls_pass=False)
        elif not column.nullable and not made_later:
            yield _Rule("not_nullable", name, f"{name} may not be null", _present(column), nulls_pass=False)
        if column.options.uuid:
            test = _uuid_test(column)
            message = f"{name} must be a UUID in lower case, 8-4-4-4-12"
            yield _Rule("uuid", name, message, test)
        for refusal in codecs[name].refusals:
            message = f"{name} {refusal.reason}"
            yield _Rule("exact", name, message, ~refusal.bad(value))
        for check in contract.schema.columns[name].checks:
            yield _check_rule(contract, check, frame, name)


def _frame_rules(contract: Contract, frame: pl.LazyFrame) -> Iterator[_Rule]:
    for check in contract.schema.checks:
        yield _check_rule(contract, check, frame, None)


def _present(column: Column) -> pl.Expr:
    """Test for a value; Pandera counts NaN as missing, and so does this."""
    value = pl.col(column.name)
    return value.is_not_null() & value.is_not_nan() if column.dtype.is_float() else value.is_not_null()


def _uuid_test(column: Column) -> pl.Expr:
    value = pl.col(column.name)
    if isinstance(column.dtype, pl.List):
        return value.list.eval(pl.element().str.contains(_UUID)).list.all()
    return value.str.contains(_UUID)


def _check_rule(contract: Contract, check: pa.Check, frame: pl.LazyFrame, column: str | None) -> _Rule:
    """Apply a Pandera check function, and keep what it returns as a lazy verdict."""
    name = check.name or "check"
    subject = column or ", ".join(contract.column_names)
    try:
        backend = check.get_backend(frame)(check)
        output: Any = backend.apply(PolarsData(frame, column or "*"))  # type: ignore[no-untyped-call]
    except Exception as error:  # a check is the user's code and may raise anything
        raise _check_failed(contract, error, name, column) from error
    verdict = pl.LazyFrame({_OK: [output]}) if isinstance(output, bool) else output
    if not isinstance(verdict, pl.LazyFrame) or verdict.collect_schema().dtypes() != [pl.Boolean]:
        raise _check_failed(contract, TypeError("it returns something else"), name, column)
    asks = check.error or name
    message = f"{column} must satisfy {asks}" if column else f"the row must satisfy {asks}"
    return _Rule(name, subject, message, verdict, check.ignore_na, check.raise_warning)


def _check_failed(
    contract: Contract, error: Exception, check: str = "", column: str | None = None
) -> ContractError:
    which = f"check {check!r} of column {column!r}" if column else f"check {check!r}" if check else "a check"
    return ContractError(
        f"{which} of table {contract.name} failed on this frame: {type(error).__name__}: {error}; "
        "a check must return one boolean a row, or one for all"
    )


def _judge(rule: _Rule, passed: pl.Series, frame: pl.DataFrame) -> pl.DataFrame | None:
    """Turn a verdict into failures; None where every row passes."""
    if passed.all() and (rule.nulls_pass or not passed.null_count()):
        return None
    passed = passed.fill_null(rule.nulls_pass)
    if rule.warns:
        warnings.warn(f"{(~passed).sum()} rows: {rule.message}", SchemaWarning, stacklevel=2)
        return None
    if len(passed) == 1 and frame.height != 1:
        passed = pl.repeat(False, frame.height, eager=True)  # one verdict for the frame is one for each row
    rows = (~passed).arg_true()
    values = frame[rule.column].gather(rows) if rule.column in frame.columns else _no_values(len(rows))
    return failures.failures("validate", rule.name, rule.column, rows, values, rule.message)


def _no_values(rows: int) -> pl.Series:
    return pl.repeat(None, rows, dtype=pl.String, eager=True)


def _invalid_json(columns: list[Column], frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Find text that is no JSON; DuckDB has the parser."""
    for column in columns:
        if not (column.options.json and isinstance(column.dtype, pl.String)) or not frame.height:
            continue
        texts = frame.select(t=pl.col(column.name))
        listed = column.options.merge in ("union", "append")
        test = "json_type(t) = 'ARRAY'" if listed else "json_valid(t)"
        found = query(
            f"SELECT CASE WHEN json_valid(t) THEN {test} ELSE t IS NULL END AS ok FROM texts", texts=texts
        )
        valid = found["ok"].fill_null(True)
        lax = (texts["t"].str.contains(_LAX) & valid).fill_null(False).arg_true()
        strict = pl.Series([_is_json(text) for text in texts["t"].gather(lax)], dtype=pl.Boolean)
        rows = (~valid.scatter(lax, strict)).arg_true()
        message = f"{column.name} must be {'a JSON array' if listed else 'valid JSON'}"
        yield failures.failures(
            "validate", "json", column.name, rows, frame[column.name].gather(rows), message
        )


def _is_json(text: str) -> bool:
    """Parse one text as RFC 8259 has it: without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def _fit_decimals(contract: Contract, frame: pl.DataFrame) -> pl.DataFrame:
    """Bring decimals of another width to the table's; what does not fit was refused by its row."""
    decimals = [c for c in contract.columns if isinstance(c.dtype, pl.Decimal)]
    dtypes = frame.schema
    casts = [pl.col(c.name).cast(c.dtype, strict=False) for c in decimals if dtypes[c.name] != c.dtype]
    return frame.with_columns(casts) if casts else frame

"""How the values of each column travel to PostgreSQL: declared ones, and those that were found there.

A declared column has the type that its dtype asks for. A column that was found has its own, and a codec
that loses nothing on the way to it: a cast to a length or a precision would cut off or round in silence,
so there is none, and what such a type does not keep is refused before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from crave_bulk import sql
from crave_bulk.backends.codec import (
    Codec,
    Refusal,
    Step,
    any_bad,
    decimal_refusals,
    inner_dtype,
    json_form,
    outside_years,
    sub_microsecond,
    text_form,
    unsupported,
)
from crave_bulk.table import Column

_LARGEST = 2**63 - 1
_LONGEST_NAME = 63  # bytes
_WIDEST = 38  # digits of a Decimal
_MICROSECONDS = 6  # digits of a second that PostgreSQL keeps at most

_INTEGERS: dict[type[pl.DataType], str] = {
    pl.Int8: "smallint",
    pl.Int16: "smallint",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.UInt8: "smallint",
    pl.UInt16: "integer",
    pl.UInt32: "bigint",
    pl.UInt64: "bigint",
}
_NATIVE: dict[type[pl.DataType], str] = {
    pl.Boolean: "boolean",
    pl.Float32: "real",
    pl.Float64: "double precision",
    pl.Binary: "bytea",
}
_WIRE: dict[str, pl.DataType] = {"smallint": pl.Int16(), "integer": pl.Int32(), "bigint": pl.Int64()}

# PostgreSQL's calendar ends and its text has no NUL; https://www.postgresql.org/docs/current/datatype-datetime.html
_NUL = Refusal(
    "holds a NUL character, which PostgreSQL's text cannot", lambda x: x.str.contains("\0", literal=True)
)


def codec(column: Column) -> Codec:
    """Choose the type of a column and how its values get there.

    Args:
        column: a column of a contract, declared or found in the database.

    Returns:
        Its codec.

    Raises:
        ContractError: there is no exact form for the dtype.
    """
    if column.sql_type is None:
        return _declared(column)
    return replace(_found(parse_type(column.sql_type), column.dtype), sql_type=column.sql_type)


def _declared(column: Column) -> Codec:
    dtype, options = column.dtype, column.options
    if isinstance(dtype, pl.String):
        if options.uuid:
            return Codec("uuid", dtype, stage="{}::uuid", read="{}::text")
        if options.json:
            return _json_column(Codec("json", dtype, refusals=(_NUL,)))
        return Codec("text", dtype, refusals=(_NUL,))
    if isinstance(dtype, pl.List):
        return _list_codec(column, inner_dtype(dtype))
    if isinstance(dtype, pl.Struct):
        return _json_column(json_form(dtype))
    return _scalar(dtype)


def _scalar(dtype: pl.DataType) -> Codec:
    if sql_type := _INTEGERS.get(type(dtype)):
        wire = _WIRE[sql_type]
        too_large = Refusal(f"is above {_LARGEST}, the largest bigint", lambda x: x > _LARGEST)
        refusals = (too_large,) if isinstance(dtype, pl.UInt64) else ()
        return Codec(sql_type, wire, lambda x: x.cast(wire), lambda x: x.cast(dtype), refusals=refusals)
    if sql_type := _NATIVE.get(type(dtype)):
        return Codec(sql_type, dtype)
    match dtype:
        case pl.Date():
            return Codec("date", dtype, refusals=outside_years(dtype))
        case pl.Time():
            return Codec("time", dtype, refusals=sub_microsecond(dtype))
        case pl.Datetime():
            return _moment(dtype)
        case pl.Duration():
            # Polars cannot read an interval back, so it is asked for as a number of microseconds.
            return Codec(
                "interval",
                pl.Duration("us"),
                lambda x: x.cast(pl.Duration("us")),
                lambda x: x.cast(dtype),
                read="(EXTRACT(EPOCH FROM {}) * 1000000)::bigint",
                refusals=sub_microsecond(dtype),
            )
        case pl.Decimal():
            return Codec(
                f"numeric({dtype.precision}, {dtype.scale})",
                pl.String(),
                lambda x: x.cast(pl.String),
                lambda x: x.cast(dtype),
                stage=f"{{}}::numeric({dtype.precision}, {dtype.scale})",
                read="{}::text",
                refusals=decimal_refusals(dtype),
            )
        case pl.Enum() | pl.Categorical():
            form = text_form(dtype) or Codec("text", dtype)
            return replace(form, sql_type="text", refusals=(_nul_category(),))
    raise unsupported(dtype)


def _nul_category() -> Refusal:
    return replace(_NUL, bad=lambda x: _NUL.bad(x.cast(pl.String)))


def _moment(dtype: pl.Datetime) -> Codec:
    zone = dtype.time_zone
    wire = pl.Datetime("us", "UTC" if zone else None)

    def encode(x: pl.Expr) -> pl.Expr:
        moment = x.cast(pl.Datetime("us", zone))
        return moment.dt.convert_time_zone("UTC") if zone else moment

    def decode(x: pl.Expr) -> pl.Expr:
        return (x.dt.convert_time_zone(zone) if zone else x).cast(dtype)

    sql_type = "timestamptz" if zone else "timestamp"
    return Codec(sql_type, wire, encode, decode, refusals=(*sub_microsecond(dtype), *outside_years(dtype)))


def _list_codec(column: Column, inner: pl.DataType) -> Codec:
    """Store a list as an array where its elements have an exact form in one, else as JSON."""
    if column.options.json or isinstance(inner, pl.List | pl.Struct | pl.Duration | pl.Array):
        return _json_column(json_form(column.dtype))
    element = Codec("uuid", inner) if column.options.uuid else _scalar_or_text(inner)
    encode, decode, dtype = element.encode, element.decode, element.wire
    read = "{}"
    if isinstance(inner, pl.Time | pl.Decimal) or column.options.uuid:
        form = text_form(inner)
        encode, decode, dtype = (form.encode, form.decode, form.wire) if form else (encode, decode, dtype)
        read = "{}::text[]"
    return Codec(
        f"{element.sql_type}[]",
        pl.List(dtype),
        lambda x: x.list.eval(encode(pl.element())),
        lambda x: x.list.eval(decode(pl.element())),
        stage="{}::" + f"{element.sql_type}[]",
        read=read,
        refusals=_in_elements(any_bad(element.refusals)),
    )


def _in_elements(bad: Step | None) -> tuple[Refusal, ...]:
    if bad is None:
        return ()
    return (
        Refusal(
            "holds an element that PostgreSQL cannot", lambda x: x.list.eval(bad(pl.element())).list.any()
        ),
    )


def _scalar_or_text(dtype: pl.DataType) -> Codec:
    return Codec("text", dtype, refusals=(_NUL,)) if isinstance(dtype, pl.String) else _scalar(dtype)


def _json_column(form: Codec) -> Codec:
    """Store JSON as ``json``: it keeps the text to the letter, which ``jsonb`` does not."""
    return replace(form, sql_type="json", stage="{}::json", read="{}::text", compare="{}::text")


# -- columns that were found in the database -----------------------------------------------------------

_DTYPES: dict[str, pl.DataType] = {
    "smallint": pl.Int16(),
    "integer": pl.Int32(),
    "bigint": pl.Int64(),
    "real": pl.Float32(),
    "double precision": pl.Float64(),
    "boolean": pl.Boolean(),
    "bytea": pl.Binary(),
    "date": pl.Date(),
    "time without time zone": pl.Time(),
    "timestamp without time zone": pl.Datetime("us"),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "interval": pl.Duration("us"),
}
_TEXT = ("text", "character varying", "character", "bpchar", "name", "uuid")
_TYPE = re.compile(r"(?P<start>[^(\[]+?)(?:\((?P<args>[-\d,]+)\))?(?P<end>[^(\[]*)(?P<array>\[\])?")


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type as the catalog writes it, in parts.

    Attributes:
        base: the name without length, precision and brackets.
        args: the length, or the precision and the scale.
        array: whether it is an array of the base type.
    """

    base: str
    args: tuple[int, ...] = ()
    array: bool = False

    @property
    def cast(self) -> str:
        """The type to cast to: without length or precision, as a cast would cut off or round."""
        # Without its length, a character is one character and a bit one bit; these two have none.
        base = {"character": "bpchar", "bit": '"bit"'}.get(self.base, self.base)
        if base.startswith("interval "):
            base = "interval"
        return f"{base}[]" if self.array else base


def parse_type(sql_type: str) -> SqlType:
    """Read a type as ``format_type`` writes it.

    Args:
        sql_type: such as ``numeric(10,2)`` or ``"public"."mood"[]``.

    Returns:
        Its parts.

    Example:
        >>> parse_type("timestamp(3) without time zone")
        SqlType(base='timestamp without time zone', args=(3,), array=False)
    """
    if sql_type.startswith('"'):
        return SqlType(sql_type.removesuffix("[]"), (), sql_type.endswith("[]"))
    match = _TYPE.fullmatch(sql_type)
    if match is None:
        return SqlType(sql_type)
    args = tuple(int(part) for part in (match["args"] or "").split(",") if part)
    return SqlType(match["start"] + match["end"], args, bool(match["array"]))


def dtype_of(kind: SqlType, labels: list[str] | None) -> pl.DataType:
    """Choose the dtype of a column that was found in the database.

    A ``numeric`` without a precision, or wider than a Decimal, becomes Decimal(38, 18): a value that
    does not fit is refused on the way in, and an error on the way out. Types that Polars does not know
    are text, as PostgreSQL writes them.

    Args:
        kind: the type.
        labels: of an enum, in order.

    Returns:
        The dtype.

    Example:
        >>> dtype_of(SqlType("numeric", (10, 2)), None), dtype_of(SqlType("inet"), None)
        (Decimal(precision=10, scale=2), String)
    """
    if labels is not None:
        scalar: pl.DataType = pl.Enum(labels)
    elif kind.base == "numeric":
        scalar = _decimal(kind.args)
    else:
        scalar = _DTYPES.get(kind.base, pl.String())
    if not kind.array:
        return scalar
    return pl.String() if isinstance(scalar, pl.Duration) else pl.List(scalar)


def same_as_wire(kind: SqlType, dtype: pl.DataType) -> bool:
    """Tell whether two values of a type are equal exactly where they are equal on the wire.

    Only such columns can be part of a key: an ``inet`` has several spellings, a ``citext`` several cases.

    Args:
        kind: the type.
        dtype: its dtype.

    Returns:
        Whether they are.
    """
    if isinstance(dtype, pl.List):
        inner = inner_dtype(dtype)
        return not isinstance(inner, pl.Decimal) and same_as_wire(replace(kind, array=False), inner)
    return kind.base in _TEXT if isinstance(dtype, pl.String) else True


def _decimal(args: tuple[int, ...]) -> pl.Decimal:
    precision, scale = (*args, 0)[:2] if args else (_WIDEST + 1, 18)
    if scale < 0:
        return pl.Decimal(_WIDEST, 0)  # rounded to tens, hundreds, …: see _coarse
    precision = max(precision, scale)
    return pl.Decimal(precision, scale) if precision <= _WIDEST else pl.Decimal(_WIDEST, min(scale, 18))


def _found(kind: SqlType, dtype: pl.DataType) -> Codec:
    if isinstance(dtype, pl.List):
        return _found_list(kind, dtype)
    if isinstance(dtype, pl.String):
        return _found_text(kind)
    if isinstance(dtype, pl.Enum):
        return replace(_scalar(dtype), stage=_to(kind), read="{}::text", order="{}", refusals=())
    if isinstance(dtype, pl.Decimal):
        return _found_decimal(kind, dtype)
    return _found_moment(kind, _scalar(dtype))


def _to(kind: SqlType) -> str:
    return "{}::" + kind.cast.replace("{", "{{").replace("}", "}}")


def _found_text(kind: SqlType) -> Codec:
    base, dtype = kind.base, pl.String()
    text = Codec("", dtype, stage=_to(kind), read="{}::text", refusals=(_NUL,))
    if not kind.array:
        if base in ("text", "character varying"):
            return Codec("", dtype, refusals=(_NUL,))
        if base in ("character", "bpchar"):
            padded = Refusal(
                "ends in a blank, which the type character does not keep", lambda x: x.str.ends_with(" ")
            )
            return replace(text, refusals=(_NUL, padded))
        if base == "name":
            long = Refusal(
                f"is longer than {_LONGEST_NAME} bytes", lambda x: x.str.len_bytes() > _LONGEST_NAME
            )
            return replace(text, refusals=(_NUL, long))
        if base == "uuid":
            return replace(text, refusals=())
        if base.endswith('."citext"'):
            return replace(text, compare="{}::text")
        if base == "jsonb":
            return replace(text, fallible=True)
        if base == "inet":  # whose cast to text adds /32, which it does not show otherwise
            return replace(text, read="abbrev({})", fallible=True)
    # As text, any two values can be told apart; not every type has an equality, or an order.
    return replace(text, compare="{}::text", order="{}::text" if base == "json" else "{}", fallible=True)


def _found_decimal(kind: SqlType, dtype: pl.Decimal) -> Codec:
    """Read a numeric where it fits the dtype: not NaN, not infinite, not longer."""
    precision, scale = dtype.precision or _WIDEST, dtype.scale
    fits = f"abs({{0}}) < 1e{precision - scale} AND {{0}} = round({{0}}, {scale})"
    read = _checked(f"{{0}}::numeric({precision}, {scale})::text", fits, "text", f" does not fit {dtype}")
    return replace(
        _scalar(dtype), stage="{}::numeric", read=read, refusals=(*decimal_refusals(dtype), *_coarse(kind))
    )


def _coarse(kind: SqlType) -> tuple[Refusal, ...]:
    if len(kind.args) < 2 or kind.args[1] >= 0:
        return ()
    step = 10 ** -kind.args[1]
    return (
        Refusal(f"is no multiple of {step}, to which numeric{kind.args} rounds", lambda x: x % step != 0),
    )


def _found_moment(kind: SqlType, form: Codec) -> Codec:
    """Refuse what is finer than the type keeps, and never take infinity for a date."""
    dtype, refusals = form.wire, form.refusals
    digits = kind.args[0] if kind.args else _MICROSECONDS
    if digits < _MICROSECONDS and dtype.is_temporal():
        step = 10 ** ((9 if isinstance(dtype, pl.Time) else _MICROSECONDS) - digits)
        reason = f"is finer than the {digits} digits of a second that {kind.base}({digits}) keeps"
        refusals = (*refusals, Refusal(reason, lambda x: x.to_physical() % step != 0))
    read = form.read
    if isinstance(dtype, pl.Date | pl.Datetime):
        read = _checked("{0}", "isfinite({0})", kind.base, " is no moment that a frame can hold")
    elif isinstance(dtype, pl.Duration):
        fixed = "EXTRACT(YEAR FROM {0}) = 0 AND EXTRACT(MONTH FROM {0}) = 0"
        read = _checked(read.replace("{}", "{0}"), fixed, "bigint", " has months, which have no fixed length")
    return replace(form, read=read, refusals=refusals)


def _checked(value: str, passes: str, sql_type: str, otherwise: str) -> str:
    """Write an expression that is an error, with the value and the reason in it, where a test fails."""
    error = f"CAST({{0}}::text || {sql.literal(otherwise)} AS bigint)::text::{sql_type}"
    return f"CASE WHEN {passes} THEN {value} ELSE {error} END"


def _found_list(kind: SqlType, dtype: pl.List) -> Codec:
    inner = inner_dtype(dtype)
    element = _found(replace(kind, array=False), inner)
    native = not isinstance(inner, pl.String | pl.Enum | pl.Decimal | pl.Time)
    form = element if native else text_form(inner) or Codec("", pl.String())
    flat = "coalesce(array_ndims({0}), 1) = 1"
    value = "{0}" if native else "{0}::text[]"
    return Codec(
        "",
        pl.List(form.wire),
        lambda x: x.list.eval(form.encode(pl.element())),
        lambda x: x.list.eval(form.decode(pl.element())),
        stage=_to(kind),
        read=_checked(value, flat, kind.cast if native else "text[]", " has more than one dimension"),
        compare=_to(kind) if element.compare == "{}" else "{}::text[]",  # there may be domains inside
        refusals=_in_elements(any_bad(element.refusals)),
        fallible=element.fallible,
    )

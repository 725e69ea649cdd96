"""Bring one Python value, or one text, to a column's dtype exactly, or say why it cannot be."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import polars as pl

from crave_bulk.backends.codec import inner_dtype, instance

_EPOCH = dt.datetime(1970, 1, 1)
_LEAST_UNIT = {"ms": 1_000, "us": 1, "ns": 1}  # microseconds that a value must be a multiple of
_WIDEST = dt.timedelta(microseconds=2**63 // 1_000)  # what nanoseconds in 64 bits can count


def to_series(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    """Put one value into a series of a dtype, unchanged.

    Args:
        name: the name of the series.
        value: a Python scalar; a list for a List, a mapping for a Struct; None for a null. Text is
            taken for dates, times and decimals, and a moment without a zone is in the column's own.
        dtype: what it must become.

    Returns:
        A series of one row.

    Raises:
        ValueError: the value is no such dtype, or would not survive the change; the text says why.

    Example:
        >>> import polars as pl
        >>> to_series("price", "9.5", pl.Decimal(8, 2)).item()
        Decimal('9.50')
        >>> to_series("price", "9.505", pl.Decimal(8, 2))
        Traceback (most recent call last):
        ValueError: it needs more than 2 digits after the point
    """
    plain = to_scalar(value, dtype)
    try:
        return pl.Series(name, [plain], dtype=dtype, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def to_scalar(value: Any, dtype: pl.DataType) -> Any:
    """Bring a value to the plain Python form of a dtype.

    Args:
        value: as for `to_series`.
        dtype: what it must become.

    Returns:
        What Polars takes for the dtype as it is.

    Raises:
        ValueError: the value is no such dtype, or would not survive the change.

    Example:
        >>> import polars as pl
        >>> to_scalar("2024-05-01T12:00:00Z", pl.Datetime("us", "UTC")).isoformat()
        '2024-05-01T12:00:00+00:00'
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return None
    if dtype.is_numeric():
        return _number(value, dtype)
    if isinstance(dtype, pl.List):
        return [to_scalar(item, inner_dtype(dtype)) for item in many(value)]
    read = _READERS.get(type(dtype))
    if read is None:
        raise ValueError("values of this type cannot be given here")
    return read(value, dtype)


def kind_of(value: Any) -> pl.DataType | None:
    """Choose the dtype of a value that is to stand in a column without a type.

    Args:
        value: any value.

    Returns:
        The dtype; None for text, and for what is no number, boolean or bytes.

    Example:
        >>> kind_of(5), kind_of(True), kind_of("5")
        (Int64, Boolean, None)
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    kinds = ((bool, pl.Boolean()), (int, pl.Int64()), ((float, Decimal), pl.Float64()), (bytes, pl.Binary()))
    return next((dtype for kind, dtype in kinds if isinstance(value, kind)), None)


def to_scalars(values: Sequence[Any], dtype: pl.DataType) -> Sequence[Any]:
    """Bring many values to the plain Python form of a dtype.

    Args:
        values: each as for `to_scalar`.
        dtype: what they must become.

    Returns:
        What Polars takes for the dtype as it is.

    Raises:
        ValueError: a value is no such dtype, or would not survive the change.

    Example:
        >>> import polars as pl
        >>> to_scalars([1, 2.0, None], pl.Int64())
        [1, 2, None]
    """
    if dtype.is_integer() and set(map(type, values)) == {int}:
        low, high = _limits(dtype)
        if low <= min(values) and max(values) <= high:
            return values
    return [to_scalar(value, dtype) for value in values]


def uuid_text(value: Any) -> str:
    """Write a UUID as the databases keep it: in small letters, with hyphens.

    Args:
        value: a `uuid.UUID`, or its text in any usual form.

    Returns:
        36 characters.

    Raises:
        ValueError: it is none.

    Example:
        >>> uuid_text("{0190A0A0-0000-7000-8000-00000000000A}")
        '0190a0a0-0000-7000-8000-00000000000a'
    """
    try:
        return str(UUID(value if isinstance(value, str) else str(value)))
    except ValueError:
        raise ValueError("it is no UUID") from None


def json_text(value: Any) -> Any:
    """Check that a text is JSON, as both databases would.

    Args:
        value: a text; another value is not judged.

    Returns:
        The same.

    Raises:
        ValueError: it is none.

    Example:
        >>> json_text('{"a": 1}')
        '{"a": 1}'
    """
    if isinstance(value, str):
        try:
            json.loads(value, parse_constant=_no_json)
        except ValueError:
            raise ValueError("it is no JSON") from None
    return value


def _no_json(word: str) -> None:
    raise ValueError(word)


def settled(value: Any) -> Any:
    """Take a collection whose values can be read again and again, and be told one by one.

    Args:
        value: anything.

    Returns:
        A list, if it is a series, an array, or what can be read only once, such as a generator; else the same.

    Example:
        >>> settled(map(int, "12")), settled(pl.Series([1, 2])), settled({1}), settled("12")
        ([1, 2], [1, 2], {1}, '12')
    """
    if isinstance(value, pl.Series):
        return value.to_list()
    if isinstance(value, str | bytes | bytearray | Mapping | pl.DataFrame | list | tuple | set | frozenset):
        return value
    if hasattr(value, "tolist"):  # of NumPy and pandas
        return value.tolist()
    return list(value) if isinstance(value, Iterable) else value


def many(value: Any) -> list[Any]:
    """Read a collection of values.

    Args:
        value: a list, a tuple, a set, a series or any other iterable that is neither text nor a mapping.

    Returns:
        Its values.

    Raises:
        ValueError: it is no collection.

    Example:
        >>> many((1, 2)), many(range(2))
        ([1, 2], [0, 1])
    """
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | Mapping | pl.DataFrame):
        raise ValueError("a list of values is needed")
    return list(value)


def _only(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"it is of type {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    text = str.__str__(_only(str, value))  # of an enum the value, not its name
    if not is_utf8(text):
        raise ValueError("it holds half of a surrogate pair, which is no character")
    return text


def is_utf8(text: str) -> bool:
    """Tell whether a text can be written as UTF-8, which half of a surrogate pair cannot.

    Args:
        text: any text.

    Returns:
        Whether it can.

    Example:
        >>> is_utf8("é"), is_utf8(chr(0xD800))
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _category(value: Any, dtype: pl.Enum) -> str:
    text = _text(value)
    if text not in dtype.categories:
        raise ValueError(f"the categories are {dtype.categories.to_list()}")
    return text


def _number(value: Any, dtype: pl.DataType) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"it is of type {type(value).__name__}")
    if isinstance(value, str) and not isinstance(dtype, pl.Decimal):
        raise ValueError("it is text")
    if dtype.is_float():
        return _float(value, dtype)
    try:
        exact = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError("it is not a number") from None
    if not exact.is_finite():
        raise ValueError("it is not a finite number")
    return _decimal(exact, dtype) if isinstance(dtype, pl.Decimal) else _integer(exact, dtype)


def _float(value: Any, dtype: pl.DataType) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    largest = 3.4028234663852886e38 if isinstance(dtype, pl.Float32) else math.inf
    if math.isinf(number) != (isinstance(value, float) and math.isinf(value)) or (
        math.isfinite(number) and abs(number) > largest
    ):
        raise ValueError("it is too large")
    if isinstance(value, int) and pl.Series([number], dtype=dtype).item() != value:
        raise ValueError("no such number has so many digits")
    return number


def _integer(value: Decimal, dtype: pl.DataType) -> int:
    if value.adjusted() > 40:
        raise ValueError("it is too large")
    if value != value.to_integral_value():
        raise ValueError("it is not a whole number")
    low, high = _limits(dtype)
    if not low <= value <= high:
        raise ValueError(f"it is outside {low} to {high}")
    return int(value)


@cache
def _limits(dtype: pl.DataType) -> tuple[int, int]:
    low, high = pl.select(low=dtype.min(), high=dtype.max()).row(0)  # type: ignore[attr-defined]
    return low, high


def _decimal(value: Decimal, dtype: pl.Decimal) -> Decimal:
    sign, digits, exponent = value.as_tuple()
    scale, precision = dtype.scale, dtype.precision or 38
    spare = -int(exponent) - scale
    if value and spare > 0 and any(digits[-spare:]):
        raise ValueError(f"it needs more than {scale} digits after the point")
    if value and value.adjusted() >= precision - scale:
        raise ValueError(f"it needs more than {precision - scale} digits before the point")
    kept = (*digits, *[0] * -spare) if spare < 0 else digits[: len(digits) - spare]
    return Decimal((sign, kept or (0,), -scale)) if value else Decimal((0, (0,), -scale))


def _date(value: Any) -> dt.date:
    if isinstance(value, str):
        value = _iso(dt.datetime, value)
    if isinstance(value, dt.datetime):
        if value.tzinfo or value.time() != dt.time():
            raise ValueError("it has a time of day")
        return value.date()
    day: dt.date = _only(dt.date, value)
    return day


def _time(value: Any) -> dt.time:
    time: dt.time = _iso(dt.time, value) if isinstance(value, str) else _only(dt.time, value)
    if time.tzinfo:
        raise ValueError("it has a time zone")
    return time


def _moment(value: Any, dtype: pl.Datetime) -> dt.datetime:
    if isinstance(value, str):
        value = _iso(dt.datetime, value)
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(_only(dt.date, value), dt.time())
    if value.tzinfo and not dtype.time_zone:
        raise ValueError("it has a time zone, and the column has none")
    if dtype.time_zone:
        value = _in_zone(value, dtype.time_zone)
    _check_unit(value.replace(tzinfo=None) - _EPOCH, dtype.time_unit)
    moment: dt.datetime = value
    return moment


def _in_zone(value: dt.datetime, zone: str) -> dt.datetime:
    try:
        return (value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))).astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("it is outside the years 1 to 9999") from None


def _duration(value: Any, dtype: pl.Duration) -> dt.timedelta:
    if not isinstance(value, dt.timedelta):
        raise ValueError("a datetime.timedelta is needed")
    _check_unit(value, dtype.time_unit)
    return value


def _check_unit(span: dt.timedelta, unit: str) -> None:
    if span.microseconds % _LEAST_UNIT[unit]:
        raise ValueError("it is finer than a millisecond")
    if unit == "ns" and abs(span) > _WIDEST:
        raise ValueError("it is further away than 64 bits can count nanoseconds")


def _iso(kind: Any, text: str) -> Any:
    try:
        return kind.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("it is not in the ISO form, such as 2024-05-01T12:00:00Z") from None


def _struct(value: Any, dtype: pl.Struct) -> dict[str, Any]:
    fields = {f.name: instance(f.dtype) for f in dtype.fields}
    if not isinstance(value, Mapping) or not set(value) <= set(fields):
        raise ValueError(f"a mapping with the fields {list(fields)} is needed")
    return {name: to_scalar(value.get(name), inner) for name, inner in fields.items()}


_READERS: dict[type[pl.DataType], Callable[[Any, Any], Any]] = {
    pl.Boolean: lambda value, _: _only(bool, value),
    pl.String: lambda value, _: _text(value),
    pl.Categorical: lambda value, _: _text(value),
    pl.Enum: _category,
    pl.Binary: lambda value, _: bytes(_only((bytes, bytearray, memoryview), value)),
    pl.Date: lambda value, _: _date(value),
    pl.Time: lambda value, _: _time(value),
    pl.Datetime: _moment,
    pl.Duration: _duration,
    pl.Struct: _struct,
}


def as_utf8(written: pl.Series, otherwise: Literal["null", "replace"] = "null") -> pl.Series:
    r"""Read bytes as UTF-8; a cast fails as a whole if a value is none (polars 2.1).

    Args:
        written: bytes.
        otherwise: a value that is not UTF-8 becomes null, or is shown with replacement characters.

    Returns:
        As many texts.

    Example:
        >>> as_utf8(pl.Series([b"a", b"\xff", None])).to_list()
        ['a', None, None]
    """
    try:
        return written.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [None if value is None else value.decode(errors="replace") for value in written]
        read = pl.Series(written.name, texts, pl.String)
        return read if otherwise == "replace" else read.set(read.cast(pl.Binary) != written, None)

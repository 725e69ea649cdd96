"""The one way that names and literals enter SQL text.

Every builder of SQL in crave_bulk is a pure function that returns text; it is executed elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from crave_bulk.errors import ContractError


def quote(name: str) -> str:
    """Quote an identifier, whatever it holds.

    Args:
        name: the name of a table, a column or a constraint.

    Returns:
        The name in double quotes, its own double quotes doubled (SQL:2016 5.2, delimited identifier).

    Raises:
        ContractError: the name is empty or holds a NUL, which no database can take.

    Example:
        >>> print(quote('12" pipe'))
        "12"" pipe"
    """
    if not name or "\0" in name:
        raise ContractError(
            f"{name!r} cannot be a name in a database: give it at least one character and no NUL"
        )
    return '"' + name.replace('"', '""') + '"'


def quote_all(names: Iterable[str], prefix: str = "") -> str:
    """Quote several identifiers, for a column list.

    Args:
        names: the names, in order.
        prefix: what stands before each, such as ``t.``.

    Returns:
        The quoted names, separated by commas.

    Example:
        >>> print(quote_all(["id", "order"], prefix="t."))
        t."id", t."order"
    """
    return ", ".join(prefix + quote(name) for name in names)


def literal(text: str) -> str:
    """Write a string literal.

    Args:
        text: the string.

    Returns:
        The text in single quotes, its own single quotes doubled.

    Example:
        >>> print(literal("it's"))
        'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def split_name(name: str) -> tuple[str, ...]:
    """Split a dotted name into its parts; a part in double quotes may itself hold dots.

    Args:
        name: such as ``entities``, ``sales.orders`` or ``sales."a.b"``.

    Returns:
        The parts, unquoted.

    Example:
        >>> split_name("sales.orders"), split_name('sales."a.b"'), split_name('5" pipes')
        (('sales', 'orders'), ('sales', 'a.b'), ('5" pipes',))
    """
    parts, rest = [], name
    while rest:
        if rest.startswith('"') and (end := _closing_quote(rest)):
            parts.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 2 :]
        else:
            part, dot, rest = rest.partition(".")
            parts.append(part)
            if dot and not rest:
                parts.append("")  # a dot at the end: a part that is missing
    return tuple(parts)


def _closing_quote(text: str) -> int:
    """Find the quote that ends a quoted part at the start of the text, 0 where there is none."""
    at = 1
    while (at := text.find('"', at)) > 0:
        if text[at + 1 : at + 2] != '"':
            return at if text[at + 1 : at + 2] in ("", ".") else 0
        at += 2
    return 0

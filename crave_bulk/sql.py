"""The one way that names and literals enter SQL text.

Every builder of SQL in crave_bulk is a pure function that returns text; it is executed elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crave_bulk.errors import ContractError

_IN_A_ROW = 100  # tests; SQLite's depth of an expression is 1,000


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

    Raises:
        ContractError: the text holds a NUL, at which a statement would end.

    Example:
        >>> print(literal("it's"))
        'it''s'
    """
    if "\0" in text:
        raise ContractError(f"{text!r} holds a NUL, which no statement can: take it out")
    return "'" + text.replace("'", "''") + "'"


def chain(tests: Sequence[str], operator: str) -> str:
    """Join tests by AND or OR, in groups of groups where there are many: SQLite takes no 1,000 in a row.

    Args:
        tests: expressions, at least one.
        operator: ``AND`` or ``OR``.

    Returns:
        One expression.

    Example:
        >>> chain(["a", "b", "c"], "OR")
        'a OR b OR c'
        >>> chain([f"t{n}" for n in range(1000)], "AND").count("(")
        10
    """
    while len(tests) > _IN_A_ROW:
        groups = [tests[start : start + _IN_A_ROW] for start in range(0, len(tests), _IN_A_ROW)]
        tests = [f"({f' {operator} '.join(group)})" for group in groups]
    return f" {operator} ".join(tests)


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


def name_part(part: str) -> str:
    """Write one part of a dotted name so that `split_name` reads it again, as plainly as that can be.

    Args:
        part: the name of a schema, a table or a column, unquoted.

    Returns:
        The part, in double quotes only if it holds a dot or begins with a double quote.

    Example:
        >>> print(name_part("orders"), name_part("sales.orders"), name_part('5" pipes'))
        orders "sales.orders" 5" pipes
    """
    return quote(part) if "." in part or part.startswith('"') else part


def _closing_quote(text: str) -> int:
    """Find the quote that ends a quoted part at the start of the text, 0 where there is none."""
    at = 1
    while (at := text.find('"', at)) > 0:
        if text[at + 1 : at + 2] != '"':
            return at if text[at + 1 : at + 2] in ("", ".") else 0
        at += 2
    return 0


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a database's own operators and functions are written, so that none of the same name is taken for them.

    PostgreSQL looks for both along the search path, and prefers one whose argument types match better to its own:
    whoever may create a function in a schema of the path could have others run it.

    Attributes:
        operator: an operator, ``{}``.
        function: a function, ``{}``.
        temporary: a temporary table, ``{}``.
        compares_null: ``IS DISTINCT FROM``, ``IN`` and ``BETWEEN`` look for no operator.
    """

    operator: str = "{}"
    function: str = "{}"
    temporary: str = "{}"
    compares_null: bool = True

    def op(self, operator: str) -> str:
        """Write an operator."""
        return self.operator.format(operator)

    def fn(self, name: str) -> str:
        """Write the name of a function."""
        return self.function.format(name)

    def temp(self, table: str) -> str:
        """Write the name of a temporary table."""
        return self.temporary.format(table)

    def compare(self, left: str, operator: str, right: str) -> str:
        """Write a comparison.

        Example:
            >>> Spelling().compare("a", "IS DISTINCT FROM", "b")
            'a IS DISTINCT FROM b'
            >>> Spelling("OPERATOR(pg_catalog.{})", compares_null=False).compare("a", "IS DISTINCT FROM", "b")
            '((a OPERATOR(pg_catalog.=) b) IS NOT TRUE AND (a IS NOT NULL OR b IS NOT NULL))'
        """
        if self.compares_null or not operator.startswith("IS "):
            return f"{left} {self.op(operator)} {right}"
        differs = (
            f"(({left} {self.op('=')} {right}) IS NOT TRUE AND ({left} IS NOT NULL OR {right} IS NOT NULL))"
        )
        return differs if operator == "IS DISTINCT FROM" else f"(NOT {differs})"

    def equal(self, left: str, right: str) -> str:
        """Write that two values are equal."""
        return self.compare(left, "=", right)

    def differs(self, left: str, right: str) -> str:
        """Write that two values differ, NULL counting as one."""
        return self.compare(left, "IS DISTINCT FROM", right)

    def among(self, value: str, query: str) -> str:
        """Write that a value is one of those that a query gives.

        Example:
            >>> Spelling("OPERATOR(pg_catalog.{})", compares_null=False).among("(a, b)", "SELECT 1, 2")
            '(a, b) OPERATOR(pg_catalog.=) ANY (SELECT 1, 2)'
        """
        return f"{value} IN ({query})" if self.compares_null else f"{value} {self.op('=')} ANY ({query})"

    def listed(self, value: str, items: Iterable[str]) -> str:
        """Write that a value is one of several; there must be one."""
        listed = ", ".join(items)
        return (
            f"{value} IN ({listed})"
            if self.compares_null
            else f"{value} {self.op('=')} ANY (ARRAY[{listed}])"
        )


# SQLite takes the words true and false for columns of that name, where a table has such.
TRUE, FALSE = "(1 IS NOT NULL)", "(1 IS NULL)"
PLAIN = Spelling()  # of a database in which nobody can make another function or operator


def pinned(text: str) -> str:
    """Write each operator in square brackets as PostgreSQL's own.

    Example:
        >>> pinned("a [=] b [||] 'x'")
        "a OPERATOR(pg_catalog.=) b OPERATOR(pg_catalog.||) 'x'"
    """
    return re.sub(r"\[([-+*/<>=~!&|@]+)\]", r"OPERATOR(pg_catalog.\1)", text)

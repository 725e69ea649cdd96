"""Find what a statement for PostgreSQL leaves to the search path."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | \$\$ | \$\d+ | \d+(?:\.\d+)?(?:e\d+)? | :: | OPERATOR\(pg_catalog\.[^)]+\)
    | [A-Za-z_]\w* | [-+*/<>=~!@\#%^&|`?]+ | \S""",
    re.VERBOSE | re.IGNORECASE,
)
# What may stand before a bracket that is no function of the search path: words of the grammar.
_WORDS = """
    ADD ALL AND ANY ARRAY AS BY CAST COALESCE CONFLICT ELSE END EXISTS EXTRACT FROM INSERT INTO JOIN KEY LATERAL LIMIT
    MERGE_ACTION NOT NUMERIC OF ON OR ORDER OVER PERFORM REFERENCES RETURNING ROW SELECT SET THEN TRIM UNION UNIQUE
    USING VALUES WHEN WHERE WITH CHECK DEFAULT IF INDEX TABLE VARCHAR CHARACTER VARYING TIME TIMESTAMP
"""
_GRAMMAR = set(_WORDS.split())
# Words that look for an operator by its name.
_LOOKING = {"BETWEEN", "IN", "LIKE", "ILIKE", "SIMILAR", "NULLIF", "NATURAL"}


def unqualified(statement: str) -> list[str]:
    """List the functions and operators of a statement that need not be those of pg_catalog.

    Example:
        >>> unqualified("SELECT count(*) FROM t WHERE a = 1 AND pg_catalog.lower(b) OPERATOR(pg_catalog.=) 'lower(x)'")
        ['count(', '=']
        >>> unqualified("UPDATE t SET a = -1, b = 2 WHERE a IS DISTINCT FROM b OR a IN (1, 2)")
        ['IS DISTINCT FROM', 'IN']
    """
    tokens = _TOKEN.findall(re.sub(r"^--.*", "", statement, flags=re.MULTILINE))
    words = [token.upper() for token in tokens]
    return [found for at in range(len(tokens)) if (found := _left_open(tokens, words, at))]


def _left_open(tokens: list[str], words: list[str], at: int) -> str | None:
    word, before = words[at], words[at - 1] if at else ""
    after = words[at + 1] if at + 1 < len(words) else ""
    if re.fullmatch(r"[A-Z_]\w*", word) and after == "(" and word not in _GRAMMAR | _LOOKING:
        column_list = (
            before in ("AS", "TABLE", "INTO", "ON", "DO", "REFERENCES") or "WITH" in words[at - 3 : at]
        )
        own = before == "." and words[at - 2] in ("PG_CATALOG", "PG_TEMP")
        return None if own or column_list else f"{tokens[at]}("
    if word in _LOOKING:
        return word
    if word == "FROM" and before == "DISTINCT":
        return "IS DISTINCT FROM"
    if word == "CASE" and after != "WHEN":
        return "CASE …"
    if word in ("ANY", "ALL") and after == "(" and not before.startswith("OPERATOR(") and before != "UNION":
        return word
    if re.fullmatch(r"[-+*/<>=~!@#%^&|`?]+", word):
        star = word == "*" and before in ("SELECT", "(", ",", ".")
        sign = (word == "-" and re.match(r"\d", after) and not re.match(r"[\w)'\"]", before[-1:])) or (
            word == "-" and before in ("THEN", "ELSE", "SELECT")
        )
        assigns = word == "=" and (words[at - 2] in ("SET", ",", "LOCAL") or words[at - 3] == "SET")
        return None if star or sign or assigns else word
    return None

"""Characters: refuse by its row a text that a database in another encoding than UTF-8 cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from crave_bulk import failures
from crave_bulk.errors import DatabaseError
from crave_bulk.pipeline.bisect import bisect
from crave_bulk.pipeline.reasons import value_text
from crave_bulk.pipeline.stage import Wire
from crave_bulk.session import Session

_NOT_ASCII = r"[^\x00-\x7F]"  # every encoding of a database has ASCII


def refused(session: Session, wire: Wire, frame: pl.DataFrame, accepted: pl.Series) -> Iterator[pl.DataFrame]:
    """Find the texts with a character that the encoding of the database lacks; the database is asked for each once.

    Args:
        session: the connection, in a transaction.
        wire: the table on its database.
        frame: the validated frame.
        accepted: which of its rows have not been refused.

    Yields:
        A frame of failures per column.
    """
    encoding = session.backend.encoding
    if encoding is None:
        return
    rows = wire.encode(frame, accepted)
    texts = {name: text for name in frame.columns if (text := _text(rows[wire.short[name]])) is not None}
    found = {
        char for text in texts.values() for char in text.str.extract_all(_NOT_ASCII).explode().drop_nulls()
    }
    _ask(session, sorted(found - encoding.known.keys()))
    lacking = "".join(sorted(char for char in found if not encoding.known[char]))
    for name, text in texts.items():
        char = text.str.extract(f"([{lacking}])") if lacking else text.clear()
        numbers = rows["_row"].filter(char.is_not_null()) if lacking else rows["_row"].clear()
        if not len(numbers):
            continue
        values = value_text(frame, [name], numbers.to_list())
        broken = failures.failures("validate", "encoding", name, numbers, values, "")
        said = (
            f"{name} holds the character '"
            + char.drop_nulls()
            + f"', which {encoding.name}, the encoding of the database, lacks"
        )
        yield broken.with_columns(said.alias("message"))


def _text(column: pl.Series) -> pl.Series | None:
    """Give the text of a column on the wire; of a list of texts all of them as one."""
    if isinstance(column.dtype, pl.String):
        return column
    if column.dtype == pl.List(pl.String):
        return column.list.eval(pl.element().fill_null("")).list.join("")
    return None


def _ask(session: Session, characters: list[str]) -> None:
    """Ask the database which characters it has; it says no more than that there is one that it lacks."""
    encoding = session.backend.encoding
    if encoding is None or not characters:
        return

    def attempt(numbers: Sequence[int]) -> None:
        text = "".join(characters[number] for number in numbers)
        session.fetch(encoding.has.format(f"'\\x{text.encode().hex()}'"))

    def refuse(number: int, _: DatabaseError) -> None:
        encoding.known[characters[number]] = False

    bisect(session, range(len(characters)), attempt, refuse)
    for character in characters:
        encoding.known.setdefault(character, True)

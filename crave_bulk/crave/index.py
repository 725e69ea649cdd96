"""Index: entities, prepared once to look names up in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from crave_bulk.crave.blocking import Side
from crave_bulk.crave.sides import checked, side, typed, untyped
from crave_bulk.errors import ContractError

_NONE = pl.DataFrame(schema={"entity_id": pl.String, "name": pl.String})


class Index:
    """Entities, prepared once for any number of look-ups.

    `resolve` prepares a frame on every call, which for a large one takes longer than looking up some thousands of
    names. An index does not change; make a new one where there are new entities.

    Attributes:
        side: the entities in the form in which they compare, which keeps what serves again.
        known: ``right`` (the number of an entity within `side`), ``entity_id`` and ``entity_name``.

    Args:
        entities: a frame with ``entity_id`` and ``name`` and, where known, ``type``, ``aliases`` (lists), ``address``, ``city``,
            ``phone``, ``google_place_id``, ``latitude`` and ``longitude``; None for no entities.
        keep: False where it is used only once: what serves again is then worked out as far as it is needed, and dropped.

    Raises:
        ContractError: a column is missing or of the wrong type, or an entity has no id.

    Example:
        >>> index = Index(pl.DataFrame({"entity_id": [7], "name": ["The Palm"], "aliases": [["Palm Steaks"]]}))
        >>> index
        Index(1 entity)
        >>> from crave_bulk.crave import resolve
        >>> resolve(["palm", "palm steaks"], index)["decision"].to_list()
        ['exact', 'alias']
    """

    __slots__ = ("_untyped", "known", "side")

    def __init__(self, entities: Any = None, *, keep: bool = True) -> None:
        every = _NONE if entities is None else _entities(entities)
        # Numbered by their ids, so that the order of the rows plays no part, and an entity that is there twice is one.
        numbers = every["entity_id"].rank("dense") - 1
        self.side = replace(side(every, numbers), kept={} if keep else None)
        self._untyped: Side | None = None
        numbered = every.select("entity_id", right=numbers.cast(pl.UInt32), entity_name="name")
        self.known = numbered.unique("right", keep="first", maintain_order=True)

    @property
    def untyped(self) -> Side:
        """The same without their types, for names of which none is known."""
        if self._untyped is None:
            self._untyped = untyped(self.side) if typed(self.side) else self.side
        return self._untyped

    def __len__(self) -> int:
        return self.known.height

    def __repr__(self) -> str:
        return f"Index({len(self):,} {'entity' if len(self) == 1 else 'entities'})"


def _entities(frame: Any) -> pl.DataFrame:
    """Check the entities."""
    columns: dict[str, pl.DataType | None] = {"entity_id": None, "name": pl.String()}
    entities = checked(frame, "the entities", columns, {"aliases": pl.List(pl.String)})
    if entities["entity_id"].null_count():
        raise ContractError(f"{entities['entity_id'].null_count():,} of the entities have no entity_id")
    return entities

"""Fate: what became of a batch that was written within a transaction, which is known only when that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["pending", "committed", "rolled back"]


@dataclass(slots=True)
class Fate:
    """What became of a batch; its report, and the transaction that decides it, share it."""

    batch_id: str
    state: State = "pending"

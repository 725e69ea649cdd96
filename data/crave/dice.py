"""Random draws that are the same on every machine: only raw bits and uniform doubles of PCG64 are used."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Dice:
    """A stream of draws, `size` at a time, that depends on a seed and a label alone.

    Example:
        >>> Dice(7, "dice", 3).below(6).tolist()
        [5, 1, 3]
        >>> Dice(7, "dice", 3).below(6).tolist()
        [5, 1, 3]
    """

    def __init__(self, seed: int, label: str, size: int) -> None:
        self.seed, self.label, self.size = seed, label, size
        entropy = np.random.SeedSequence([seed, zlib.crc32(label.encode())])
        self._generator = np.random.Generator(np.random.PCG64(entropy))

    def sub(self, label: str, size: int | None = None) -> Dice:
        """Make other dice, so that one more draw here changes nothing there.

        Args:
            label: What they are for.
            size: Draws at a time; as many as here if not given.

        Returns:
            The other dice.
        """
        return Dice(self.seed, f"{self.label}/{label}", self.size if size is None else size)

    def uniform(self) -> Floats:
        """Draw numbers from 0 to below 1.

        Returns:
            One per row.
        """
        return self._generator.random(self.size)

    def bell(self) -> Floats:
        """Draw numbers around 0, nearly normal with a deviation of 1.

        Returns:
            One per row.
        """
        # A sum of uniforms needs no logarithm, whose last bit may differ between machines.
        total: Floats = self.uniform() + self.uniform() + self.uniform() + self.uniform() - 2.0
        scaled: Floats = total * 1.7320508075688772
        return scaled

    def below(self, limit: int | Ints) -> Ints:
        """Draw whole numbers from 0 to below a limit.

        Args:
            limit: The limit, or one per row.

        Returns:
            One per row.
        """
        return np.floor(self.uniform() * limit).astype(np.int64)

    def hits(self, rate: float) -> Bools:
        """Say for each row whether something happens.

        Args:
            rate: How often it does.

        Returns:
            One answer per row.
        """
        return self.uniform() < rate

    def weighted(self, weights: Sequence[float] | Floats) -> Ints:
        """Draw positions, each as often as its weight says.

        Args:
            weights: One weight per position.

        Returns:
            One position per row.
        """
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        found = np.searchsorted(edges, self.uniform() * edges[-1], side="right")
        last: Ints = np.minimum(found, len(edges) - 1).astype(np.int64)
        return last

    def pick(self, pool: Sequence[str] | pl.Series) -> pl.Series:
        """Draw words, each as often as any other.

        Args:
            pool: The words.

        Returns:
            One per row.
        """
        return pl.Series("pick", pool, dtype=pl.String)[self.below(len(pool))]

    def order(self) -> Ints:
        """Shuffle the rows.

        Returns:
            Their positions in another order.
        """
        return np.argsort(self.uniform(), kind="stable")

    def bits(self) -> NDArray[np.uint64]:
        """Draw 64 bits.

        Returns:
            One number per row.
        """
        return self._generator.bit_generator.random_raw(self.size)


_HEX = pl.Series([f"{number:04x}" for number in range(1 << 16)])


def _words(bits: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Cut 64 bits into four times 16.

    Args:
        bits: The bits of each row.

    Returns:
        Four arrays.
    """
    return [((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64) for shift in (48, 32, 16, 0)]


def uuids(dice: Dice) -> pl.Series:
    """Draw random UUIDs of version 4 as text.

    Args:
        dice: The draws.

    Returns:
        One text of 36 characters per row.

    Example:
        >>> uuids(Dice(7, "ids", 1)).to_list()
        ['ed39c7ec-5c30-4e43-bb29-ae1a1eb8802a']
    """
    words = _words(dice.bits()) + _words(dice.bits())
    words[3] = words[3] & 0x0FFF | 0x4000
    words[4] = words[4] & 0x3FFF | 0x8000
    texts = [pl.lit(_HEX[word]) for word in words]
    parts = [texts[0] + texts[1], *texts[2:5], texts[5] + texts[6] + texts[7]]
    return pl.select(pl.concat_str(parts, separator="-").alias("uuid")).to_series()

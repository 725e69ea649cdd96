"""A TCP proxy in front of a PostgreSQL server that cuts connections: at once, or in place of an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: to close is to send RST and drop what is unsent


class CuttingProxy:
    """Listens on 127.0.0.1 and forwards each connection to a server until it is told to cut it.

    An event loop in a thread of its own has the sockets; the methods may be called from any thread.
    """

    def __init__(self, url: str) -> None:
        """Take the libpq URL of a server: a TCP address, or the folder of a Unix socket as ``host=``."""
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        self._host = options.get("host", [parts.hostname or "127.0.0.1"])[0]
        self._host_port = int(options.get("port", [parts.port or 5432])[0])
        self._login = parts.netloc.rpartition("@")[0]
        self._database = parts.path.strip("/")
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._loses: bytes | None = None
        self._refuses = False

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutting-proxy", daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._listener = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._listener.close)
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, database: str | None = None) -> str:
        """Give the URL of a database through the proxy; unencrypted, as the proxy has to read the answers."""
        address, port = self._listener.sockets[0].getsockname()
        place = f"{self._login}@{address}:{port}/{database or self._database}"
        return f"postgresql://{place}?sslmode=disable&gssencmode=disable"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    @property
    def armed(self) -> bool:
        """Whether `cut_after_request` still waits for its command."""
        return self._loses is not None

    def cut(self) -> None:
        """Reset every open connection on both sides; all are closed when this returns."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def cut_after_request(self, command: str = "") -> None:
        """Lose the answer to the next command that the server carries out, and cut that connection.

        By then the command is done, and committed if it was its own transaction. Answers that only prepare
        or describe a statement still pass: ADBC asks for these first, and a cut there would be one before
        the statement runs.

        Args:
            command: how the server reports the command, or the beginning of that, such as ``COMMIT``,
                ``INSERT 0 3``, or ``COPY`` for all that gives rows through ADBC; by default any command.
        """
        self._loses = command.encode()

    def refuse(self, refusing: bool) -> None:
        """Reset new connections at once, or serve them again."""
        self._refuses = refusing

    async def _cut(self) -> None:
        for link in self._links.values():
            link.cut()
        if self._links:
            await asyncio.wait(list(self._links))

    def _accept(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        link = _Link(client)
        task = self._loop.create_task(self._serve(link, requests))
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    async def _serve(self, link: _Link, requests: asyncio.StreamReader) -> None:
        try:
            if self._refuses:
                raise ConnectionRefusedError
            answers, server = await self._connect()
        except OSError:
            link.cut()
        else:
            link.ends.append(server)
            pumps = [
                self._loop.create_task(_forward(requests, server)),
                self._loop.create_task(self._answer(answers, link)),
            ]
            # Whichever side leaves first, the other is told.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
        await link.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._host_port}")
        return await asyncio.open_connection(self._host, self._host_port)

    async def _answer(self, answers: asyncio.StreamReader, link: _Link) -> None:
        """Forward what the server says, up to the answer that is to be lost."""
        client, messages, losing = link.ends[0], _Messages(), False
        with suppress(OSError):
            while chunk := await answers.read(_CHUNK):
                for kind, text in messages.take(chunk):
                    if kind == b"C" and self._loses is not None and text.startswith(self._loses):
                        self._loses, losing = None, True
                    if (
                        losing and kind == b"Z"
                    ):  # ready for the next query: a transaction of its own has ended
                        link.cut()
                        return
                if not losing:
                    client.write(chunk)
                    await client.drain()


class _Link:
    """A client's connection, and that to the server which stands for it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.ends = [client]

    def cut(self) -> None:
        """Reset both connections."""
        for end in self.ends:
            with suppress(OSError):  # it may be closed by now
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()

    async def close(self) -> None:
        """Close both connections once what was said has been delivered; if they were cut, wait until they are."""
        for end in self.ends:
            end.close()
        for end in self.ends:
            with suppress(OSError):
                await end.wait_closed()


class _Messages:
    """Finds the messages in what a server sends: a letter, four bytes of length, and text."""

    def __init__(self) -> None:
        self._begun = b""

    def take(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        said, start = self._begun + chunk, 0
        while len(said) > start + 4:
            end = start + 1 + int.from_bytes(said[start + 1 : start + 5], "big")
            if end > len(said):
                break
            yield said[start : start + 1], said[start + 5 : end]
            start = end
        self._begun = said[start:]


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(_CHUNK):
            sink.write(chunk)
            await sink.drain()

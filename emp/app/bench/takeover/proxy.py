"""A wire that can be cut: a relay of TCP connections between one engine and one service, in a thread of its own."""

import asyncio
import contextlib
import threading


class Wire:
    """Relays from a port of its own to a service. Cut, it takes no connection and passes nothing on, in either way, and
    closes nothing: as a network that drops packets. What was on its way then is lost, with its connection, when it is
    joined again.
    """

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._cut = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(30)

    def cut(self) -> None:
        """Let nothing through."""
        self._cut.set()

    def join(self) -> None:
        """Let it through again; connections of before are gone."""
        self._loop.call_soon_threadsafe(self._drop)
        self._cut.clear()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _drop(self) -> None:
        for one in tuple(self._writers):
            with contextlib.suppress(OSError, RuntimeError):
                one.transport.abort()
        self._writers.clear()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def serve() -> None:
            server = await asyncio.start_server(self._take, "127.0.0.1", 0)
            self.port = int(server.sockets[0].getsockname()[1])
            ready.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with contextlib.suppress(RuntimeError):
            self._loop.run_until_complete(asyncio.sleep(0.05))
        self._drop()
        self._loop.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._cut.is_set():  # it was taken by the system, and nobody answers
            return
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(outer)
        await asyncio.gather(self._pass(reader, outer), self._pass(inner, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(1 << 16):
                if self._cut.is_set():
                    return  # until it is joined, the connection hangs
                writer.write(data)
                await writer.drain()
        if not self._cut.is_set():
            with contextlib.suppress(OSError, RuntimeError):
                writer.transport.abort()

"""A wire that can be cut: a relay of TCP connections between a process and a service, in a thread of its own.

A wire of a network of its own loses packets instead: what was sent before the cut comes late, when it is joined.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import threading

from emp.core.errors import UsageError

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""

_TABLE = """
table inet drill {
  set cut { type inet_service; }
  chain input {
    type filter hook input priority filter;
    tcp dport @cut drop
    tcp sport @cut drop
  }
}
"""


def own_network() -> None:
    """Move this thread, and all that it starts from now on, into a network that has loopback alone, where wires lose
    packets; UsageError where that is refused.
    """
    if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ip") is None:
        raise UsageError("a network of its own needs root, nft and ip (apt install nftables iproute2)")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        raise UsageError(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", "-f", "-"], input=_TABLE, text=True, check=True)


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

        async def serve() -> asyncio.Server:
            server = await asyncio.start_server(self._take, "127.0.0.1", 0)
            self.port = int(server.sockets[0].getsockname()[1])
            ready.set()
            return server

        server = self._loop.run_until_complete(serve())
        self._loop.run_forever()
        server.close()
        self._drop()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with contextlib.suppress(RuntimeError):
            self._loop.run_until_complete(asyncio.sleep(0.05))
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


class LossyWire(Wire):
    """Cut, it loses every packet in either way, also those that open a connection; the ends are told nothing and send
    again. What was on its way comes after it is joined, if an end still waits for it. Only in `own_network`.
    """

    def cut(self) -> None:
        """Let nothing through."""
        self._change("add")

    def join(self) -> None:
        """Let it through again, also what was sent meanwhile."""
        self._change("delete")

    def _change(self, how: str) -> None:
        element = f"{how} element inet drill cut {{ {self.port} }}"
        subprocess.run(["nft", element], check=True)

"""Byte streams in virtual time: with a latency, and with what befalls them on their way.

A stream is reliable and ordered, as TCP is: what can happen to it is that it ends, at a clean place or in the middle of
a message, stands still, is damaged (a bit that no checksum of the network noticed), that nobody listens, or that one
end is gone and the other has not been told.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

Address = tuple[str, int | str]

LATENCY_NS = 2_000_000


class Peer(Protocol):
    """A process, as far as the network knows one."""

    dead: bool
    came_ns: int
    transports: "list[Transport]"


class Driver(Protocol):
    """The loop, as far as the network knows it."""

    @property
    def now_ns(self) -> int:
        """Virtual time."""

    def schedule(self, process: Any, when_ns: int, callback: Callable[..., object], *args: Any) -> Any:
        """Call back in a process at a time."""

    def create_future(self) -> "asyncio.Future[Any]":
        """A future."""


class Transport(asyncio.Transport):
    """One end of a stream."""

    def __init__(self, network: "Network", process: Peer, here: Address, there: Address) -> None:
        super().__init__({"sockname": here, "peername": there})
        self._network, self.process = network, process
        self.peer: Transport
        self.protocol: Any
        self.closing = False
        self.lost = False
        self._arrives_ns = 0
        self._paused: list[bytes] | None = None
        process.transports.append(self)

    # --- what a protocol asks

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Put bytes on their way."""
        if not self.closing and not self.lost and not self.process.dead and data:
            self._network.carry(self, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """The same for several."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Let what was written arrive, then end."""
        if self.closing or self.lost:
            return
        self.closing = True
        self._network.end(self, None)

    def abort(self) -> None:
        """End at once."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self.closing or self.lost

    def get_write_buffer_size(self) -> int:
        """Everything has left."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no limit."""

    def can_write_eof(self) -> bool:
        """No."""
        return False

    def is_reading(self) -> bool:
        """Whether what arrives is handed over."""
        return self._paused is None

    def pause_reading(self) -> None:
        """Keep what arrives."""
        self._paused = self._paused or []

    def resume_reading(self) -> None:
        """Hand over what was kept."""
        kept, self._paused = self._paused or [], None
        for data in kept:
            self.protocol.data_received(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol takes over."""
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        return self.protocol

    # --- what the network does

    def due(self, latency_ns: int) -> int:
        """When what leaves now arrives: never before what left earlier."""
        self._arrives_ns = max(self._arrives_ns, self._network.loop.now_ns + latency_ns)
        return self._arrives_ns

    def arrive(self, data: bytes, came_ns: int) -> None:
        """Bytes are read, which the host has had since `came_ns`."""
        if self.lost or self.closing:
            return
        if self._paused is not None:
            self._paused.append(data)
            return
        self.process.came_ns = came_ns
        try:
            self.protocol.data_received(data)
        finally:
            self.process.came_ns = 0

    def lose(self, error: Exception | None) -> None:
        """The stream is over for this end."""
        if not self.lost:
            self.lost = True
            if self in self.process.transports:
                self.process.transports.remove(self)
            self.protocol.connection_lost(error)

    def process_died(self, host_gone: bool) -> None:
        """Whoever had this end is dead."""
        self.lost = self.closing = True
        if host_gone:
            self._network.orphans.append(self)
        else:
            self._network.reset(self)


class _Socket:
    def __init__(self, address: Address) -> None:
        self._address = address

    def getsockname(self) -> Address:
        return self._address


class VirtualServer:
    """Somebody listens."""

    def __init__(
        self, network: "Network", process: Peer, factory: Callable[[], Any], address: Address
    ) -> None:
        self.process, self.factory = process, factory
        self.address = address
        self.sockets = [_Socket(address)]
        self._network = network

    def close(self) -> None:
        """Nobody listens any more."""
        if self._network.servers.get(self.address) is self:
            del self._network.servers[self.address]

    def is_serving(self) -> bool:
        """Whether anybody can come."""
        return self._network.servers.get(self.address) is self

    def get_loop(self) -> Any:
        """The loop."""
        return self._network.loop

    async def start_serving(self) -> None:
        """It does already."""

    async def wait_closed(self) -> None:
        """It is."""


class Network:
    """All streams of a world. What befalls them is set from outside: see `emp.sim.chaos.plan`."""

    def __init__(self, loop: Driver) -> None:
        self.loop = loop
        self.servers: dict[Address, VirtualServer] = {}
        self.latency_ns = LATENCY_NS
        self.jitter: Callable[[], int] = lambda: 0  # ns that a chunk takes longer
        self.stands_until_ns = 0  # nothing arrives before
        self.refuses_until_ns = 0  # nobody is let in before
        self.one_way_until_ns = 0  # what clients send is lost before, and so is what they are sent
        self.deaf: set[Transport] = set()  # ends whose bytes vanish
        self.next_cut: tuple[bool, float] | None = None  # of what a server sends?, at which part of the chunk
        self.next_flip: tuple[bool, float] | None = None
        self.sealed = False  # streams from outside are under TLS, whose end finds that a bit has flipped
        self.streams: list[Transport] = []  # the dialling ends
        self.orphans: list[Transport] = []  # ends of a host that is gone, of which nobody was told
        self._ports = 40_000

    def listen(self, process: Peer, factory: Callable[[], Any], host: str, port: int | str) -> VirtualServer:
        """Let somebody listen; OSError where the address is taken."""
        if port == 0:
            self._ports += 1
            port = self._ports
        address: Address = (host, port)
        held = self.servers.get(address)
        if held is not None and not held.process.dead:
            raise OSError(98, "Address already in use")
        self.servers[address] = VirtualServer(self, process, factory, address)
        return self.servers[address]

    async def connect(
        self, process: Peer, factory: Callable[[], Any], address: Address
    ) -> tuple[Transport, Any]:
        """A stream from a process to a listener, after a round trip."""
        done = self.loop.create_future()
        self.loop.schedule(
            process, self.loop.now_ns + 2 * self.latency_ns, self._accept, done, process, address
        )
        there: Transport = await done
        here = there.peer
        here.protocol = factory()
        here.protocol.connection_made(here)
        return here, here.protocol

    def _accept(self, done: "asyncio.Future[Any]", process: Peer, address: Address) -> None:
        if done.cancelled():
            return
        server = self.servers.get(address)
        outside = address[0] != "unix"
        if server is None or server.process.dead or (outside and self.loop.now_ns < self.refuses_until_ns):
            done.set_exception(ConnectionRefusedError(111, "Connection refused"))
            return
        self._ports += 1
        here = Transport(self, process, ("client", self._ports), address)
        there = Transport(self, server.process, address, ("client", self._ports))
        here.peer, there.peer = there, here
        if outside:
            self.streams = [one for one in self.streams if not one.lost] + [here]
        there.protocol = server.factory()
        self.loop.schedule(server.process, self.loop.now_ns, there.protocol.connection_made, there)
        self.loop.schedule(process, self.loop.now_ns, _give, done, there)

    def carry(self, end: Transport, data: bytes) -> None:
        """Take bytes to the other end."""
        now = self.loop.now_ns
        from_server = end not in self.streams
        outside = not from_server or end.peer in self.streams
        if end in self.deaf or (outside and now < self.one_way_until_ns):
            return
        if outside and self.next_cut is not None and self.next_cut[0] == from_server:
            part, self.next_cut = self.next_cut[1], None
            data = data[: max(1, int(len(data) * part))]
            self._deliver(end, data)
            self.cut(end)
            return
        if outside and self.next_flip is not None and self.next_flip[0] == from_server:
            at, self.next_flip = int(len(data) * self.next_flip[1]), None
            if self.sealed:
                self.cut(end)
                return
            data = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        self._deliver(end, data)

    def _deliver(self, end: Transport, data: bytes) -> None:
        when = max(end.due(self.latency_ns + self.jitter()), self.stands_until_ns)
        end.due(when - self.loop.now_ns)
        self.loop.schedule(end.peer.process, when, end.peer.arrive, data, when)

    def end(self, end: Transport, error: Exception | None) -> None:
        """An end was closed: the other hears of it behind what was sent."""
        self.loop.schedule(end.process, self.loop.now_ns, end.lose, error)
        if end not in self.deaf:
            self.loop.schedule(end.peer.process, end.due(self.latency_ns), end.peer.lose, None)

    def reset(self, end: Transport) -> None:
        """The other end hears that nobody is there any more."""
        error = ConnectionResetError(104, "Connection reset by peer")
        self.loop.schedule(end.peer.process, end.due(self.latency_ns), end.peer.lose, error)

    def host_is_back(self) -> None:
        """A host that was gone answers again: what it knows nothing of is reset."""
        orphans, self.orphans = self.orphans, []
        for end in orphans:
            self.reset(end)

    def cut(self, end: Transport) -> None:
        """Both ends lose the stream."""
        end.closing = True
        error = ConnectionResetError(104, "Connection reset by peer")
        for one in (end, end.peer):
            when = end.due(self.latency_ns) if one is end.peer else self.loop.now_ns
            self.loop.schedule(one.process, when, one.lose, error)

    def half_open(self, stream: Transport) -> None:
        """Let nothing pass any more on a stream, either way, and tell nobody."""
        self.deaf |= {stream, stream.peer}


def _give(done: "asyncio.Future[Any]", there: Transport) -> None:
    if not done.cancelled():
        done.set_result(there)

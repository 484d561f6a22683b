"""Virtual time, processes that are stopped and killed, and streams of bytes that break."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from emp.sim.chaos.beside import VirtualClock, VirtualThreads
from emp.sim.chaos.loop import START_NS, Process, VirtualLoop, WorldError

S = 1_000_000_000


def run(loop: VirtualLoop, main: Callable[[], Coroutine[Any, Any, Any]], seconds: float = 3_600.0) -> Any:
    return loop.run(main(), START_NS + int(seconds * S))


def new_loop() -> VirtualLoop:
    return VirtualLoop()


def test_time_jumps_to_the_next_timer_and_nothing_waits() -> None:
    loop, seen = new_loop(), []

    async def late(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, loop.time()))

    async def main() -> None:
        await asyncio.gather(late(1_800.0), late(0.5), late(30.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.Event().wait()

    run(loop, main)
    assert [seconds for seconds, _ in seen] == [0.5, 30.0, 1_800.0]
    assert seen[-1][1] == pytest.approx(1_801.0)
    assert loop.time() == pytest.approx(1_806.0)


def test_a_world_that_never_ends_ends() -> None:
    async def for_ever() -> None:
        while True:
            await asyncio.sleep(1.0)

    with pytest.raises(WorldError, match="not over after"):
        run(new_loop(), for_ever, 10.0)

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(WorldError, match="nothing will ever happen"):
        run(new_loop(), never)


def test_a_busy_process_waits_and_the_others_go_on() -> None:
    loop, ticks = new_loop(), {"busy": [], "free": []}

    async def tick(name: str) -> None:
        while True:
            ticks[name].append(loop.time())
            await asyncio.sleep(0.1)

    async def main() -> None:
        processes = {name: Process(name) for name in ticks}
        for name, process in processes.items():
            with loop.inside(process):
                loop.create_task(tick(name))
        await asyncio.sleep(1.05)
        loop.stop_process(processes["busy"], 2 * S)
        await asyncio.sleep(3.0)

    run(loop, main)
    gaps = [b - a for a, b in zip(ticks["busy"], ticks["busy"][1:], strict=False)]
    assert max(gaps) == pytest.approx(2.05, abs=0.06)
    assert max(b - a for a, b in zip(ticks["free"], ticks["free"][1:], strict=False)) < 0.11


def test_time_that_a_call_takes_passes_for_its_process_at_once() -> None:
    loop = new_loop()
    clock = VirtualClock(loop, 5 * S)
    seen: list[int] = []

    async def slow() -> None:
        before = clock.monotonic_ns()
        loop.take_time(S)
        seen.append(clock.monotonic_ns() - before)

    async def main() -> None:
        with loop.inside(Process("slow")):
            loop.create_task(slow())
        await asyncio.sleep(0.5)
        seen.append(loop.now_ns - START_NS)

    run(loop, main)
    assert seen == [S, S // 2]
    clock.step(-3_600 * S)
    assert clock.now_ns() < 0 < clock.monotonic_ns()


def test_the_dead_do_nothing_more() -> None:
    loop, done = new_loop(), []
    process = Process("mortal")

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
            done.append("worked")
        finally:
            transport.write(b"last words")
            done.append("cleaned up")

    class Hears(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard = b""
            self.lost = False

        def data_received(self, data: bytes) -> None:
            self.heard += data

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    here, there = Hears(), Hears()
    transport: Any = None

    async def main() -> None:
        nonlocal transport
        await loop.create_server(lambda: there, "host", 1)
        with loop.inside(process):
            opened = loop.create_task(loop.create_connection(lambda: here, "host", 1))
        await asyncio.sleep(0.1)
        transport = opened.result()[0]
        with loop.inside(process):
            loop.create_task(work())
        await asyncio.sleep(0.5)
        loop.kill(process)
        loop.bury(process)
        await asyncio.sleep(2.0)

    run(loop, main)
    assert done == ["cleaned up"], "its finally blocks run when it is buried"
    assert there.heard == b"", "and reach nobody"
    assert there.lost
    assert loop.failures == []


@pytest.mark.parametrize("buried", [True, False])
def test_what_the_dead_begin_is_let_go_of_without_a_word(buried: bool) -> None:
    loop, process, begun = new_loop(), Process("mortal"), []

    async def close() -> None:
        begun.append("ran")

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            await asyncio.gather(close(), close())

    async def main() -> None:
        with loop.inside(process):
            loop.create_task(work())
            await asyncio.sleep(0.5)
            loop.kill(process)  # as a disk does beneath a start, which goes on to its end
            if not buried:
                loop.create_task(work())
        loop.bury(process)
        await asyncio.sleep(2.0)
        gc.collect()

    run(loop, main)
    assert begun == []
    assert loop.failures == []


def test_threads_are_steps_and_the_last_one_is_done_at_the_end() -> None:
    loop, steps = new_loop(), []

    async def main() -> None:
        repeated = VirtualThreads(loop).every(0.25, lambda last: bool(steps.append(last) or True), "some")
        repeated.start()
        await asyncio.sleep(1.1)
        repeated.stop()
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(lambda: 7) == 7

    run(loop, main)
    assert steps == [False] * 4 + [True]


class Ends:
    """Two ends of a stream that say what they heard."""

    def __init__(self) -> None:
        self.loop = new_loop()
        self.heard: dict[str, bytes] = {"client": b"", "server": b""}
        self.lost: list[str] = []
        self.server: Any = None

    def protocol(self, name: str) -> asyncio.Protocol:
        ends = self

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                if name == "server":
                    ends.server = transport

            def data_received(self, data: bytes) -> None:
                ends.heard[name] += data

            def connection_lost(self, exc: Exception | None) -> None:
                ends.lost.append(name)

        return Protocol()

    def play(self, script: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await self.loop.create_server(lambda: self.protocol("server"), "host", 1)
            client, _ = await self.loop.create_connection(lambda: self.protocol("client"), "host", 1)
            await script(client)
            await asyncio.sleep(1.0)

        run(self.loop, main)


def test_bytes_arrive_in_order_with_a_latency() -> None:
    ends = Ends()
    draws = iter([5_000_000, 0, 2_000_000])
    ends.loop.network.jitter = lambda: next(draws)

    async def script(client: Any) -> None:
        for part in (b"one ", b"two ", b"three"):
            client.write(part)
        assert ends.heard["server"] == b""

    ends.play(script)
    assert ends.heard["server"] == b"one two three"


@pytest.mark.parametrize("from_server", [True, False])
def test_a_connection_breaks_in_the_middle_of_a_message(from_server: bool) -> None:
    ends = Ends()

    async def script(client: Any) -> None:
        ends.loop.network.next_cut = (from_server, 0.5)
        (ends.server if from_server else client).write(b"12345678")

    ends.play(script)
    assert ends.heard["client" if from_server else "server"] == b"1234"
    assert sorted(ends.lost) == ["client", "server"]


def test_a_bit_flips() -> None:
    ends = Ends()

    async def script(client: Any) -> None:
        ends.loop.network.next_flip = (False, 0.5)
        client.write(b"aaaa")
        client.write(b"aaaa")

    ends.play(script)
    assert ends.heard["server"] == b"aaeaaaaa"


def test_a_half_open_stream_takes_everything_and_says_nothing() -> None:
    ends = Ends()

    async def script(client: Any) -> None:
        ends.loop.network.half_open(client)
        client.write(b"is anybody there?")
        ends.server.write(b"no")
        await asyncio.sleep(60.0)

    ends.play(script)
    assert ends.heard == {"client": b"", "server": b""}
    assert ends.lost == []


def test_a_stream_that_stands_still_goes_on() -> None:
    ends = Ends()

    async def script(client: Any) -> None:
        ends.loop.network.stands_until_ns = ends.loop.now_ns + 5 * S
        client.write(b"late")
        await asyncio.sleep(4.9)
        assert ends.heard["server"] == b""
        await asyncio.sleep(0.2)

    ends.play(script)
    assert ends.heard["server"] == b"late"


def test_nobody_listens() -> None:
    loop = new_loop()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("host", 1)
        reader_of: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader_of.append(await reader.readline())
            writer.write(b"yes\n")
            await writer.drain()
            writer.close()

        await asyncio.start_server(serve, "host", 1)
        reader, writer = await asyncio.open_connection("host", 1)
        writer.write(b"are you there?\n")
        assert await reader.readline() == b"yes\n"
        assert reader_of == [b"are you there?\n"]
        loop.network.refuses_until_ns = loop.now_ns + S
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("host", 1)

    run(loop, main)

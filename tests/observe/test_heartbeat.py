"""A heartbeat is heard while the engine reports, cannot be forged, and its silence is acted on once."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.watching import until_silent
from emp.app.wiring.alerts import TakingBack, telling_of_silence, watch_file
from emp.core.clock import LiveClock, SimClock
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError, UsageError
from emp.observe.board import SILENT_AFTER_MS, Board, InstrumentView, View
from emp.observe.heartbeat import LONGEST, Beat, Heart, Watch, address, beat_of, opened, sealed
from emp.observe.receivers import Webhook
from tests.kit.receiving import hook

KEY = Secret("sixteen characters")
S = 1_000_000_000


def view(position: int = 5) -> View:
    one = InstrumentView(name="GC", tick=0.1, position=position)
    return View(mode="live", run="R", model="", now_ns=0, started_ns=0, instruments=(one,))


class Ear:
    """A socket of this machine, and what has come to it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.0)
        self.at = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def heard(self) -> list[Beat | None]:
        """What lies here; the kernel hands loopback datagrams over before `sendto` returns."""
        found = []
        while True:
            try:
                found.append(opened(self.socket.recv(LONGEST), KEY))
            except BlockingIOError:
                return found


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.socket.close()


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_beat_that_was_changed_is_none(at: int) -> None:
    beat = beat_of(view(), 7)
    assert beat.held == {"GC": 5}
    datagram = bytearray(sealed(beat, KEY))
    assert opened(bytes(datagram), KEY) == beat
    datagram[at] ^= 1
    assert opened(bytes(datagram), KEY) is None


def test_who_does_not_know_the_key_makes_none() -> None:
    assert opened(sealed(beat_of(view(), 7), Secret("another key of sixteen")), KEY) is None
    assert opened(b"", KEY) is None


def test_it_beats_while_the_engine_reports_and_no_longer(ear: Ear) -> None:
    clock = SimClock(10 * S)
    board = Board(clock)
    heart = Heart(board, clock, ear.at, KEY)
    heart._beat(False)
    assert ear.heard() == [], "there is no engine yet"
    for k in range(3):
        board.publish(view(k))
        heart._beat(False)
        clock.advance(S // 2)
    beats = [one for one in ear.heard() if one is not None]
    assert [one.held for one in beats] == [{}, {"GC": 1}, {"GC": 2}]
    assert [one.n for one in beats] == sorted({one.n for one in beats})
    clock.advance(int(SILENT_AFTER_MS * 1e6))
    heart._beat(False)
    assert ear.heard() == [], "the loop hangs"
    heart._socket.close()


@pytest.mark.parametrize("over", [True, False])
def test_an_orderly_end_is_said_and_no_other(ear: Ear, over: bool) -> None:
    clock = SimClock(10 * S)
    board = Board(clock)
    board.publish(view(0))
    heart = Heart(board, clock, ear.at, KEY)
    heart.start()
    heart.stop(over=over)
    assert [one.over for one in ear.heard() if one is not None and one.over] == [True] * over


def test_a_wall_clock_that_steps_back_is_no_silence(ear: Ear) -> None:
    clock = SimClock(10 * S)
    board, watch = Board(clock), Watch(KEY, 5.0, clock.monotonic_ns)
    heart = Heart(board, clock, ear.at, KEY)
    for wall in (100 * S, 10 * S, 11 * S):
        clock._wall = wall
        board.publish(view())
        heart._beat(False)
        assert watch.take(ear.socket.recv(LONGEST)) is not None
    heart._socket.close()


def test_silence_counts_from_the_newest_beat_and_not_before_the_first() -> None:
    clock = SimClock()
    watch = Watch(KEY, 5.0, clock.monotonic_ns)
    clock.advance(100 * S)
    assert not watch.silent
    first, second = (sealed(beat_of(view(), n), KEY) for n in (1, 2))
    assert watch.take(first) is not None
    clock.advance(4 * S)
    assert watch.take(second) is not None
    clock.advance(4 * S)
    assert not watch.silent
    assert watch.take(first) is None, "it was overheard, and is told again"
    assert watch.take(b"noise") is None
    assert watch.refused == 2
    clock.advance(S)
    assert watch.silent


def test_after_an_orderly_end_nothing_is_silent() -> None:
    clock = SimClock()
    watch = Watch(KEY, 5.0, clock.monotonic_ns)
    watch.take(sealed(beat_of(view(0), 1, over=True), KEY))
    clock.advance(100 * S)
    assert not watch.silent
    watch.take(sealed(beat_of(view(), 2), KEY))
    clock.advance(5 * S)
    assert watch.silent, "the next run has died"


def test_an_engine_that_is_heard_again_takes_back_what_the_watch_before_has_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emp.observe.alert_log.CLEAR_S", 0.0)
    monkeypatch.setenv("EMP_STATE", str(tmp_path))
    beat, clock, path = Beat(run="R", n=1, held={"GC": 5}, orders=0), LiveClock(), watch_file(4711)
    with hook() as owner:
        told = [Webhook(f"{owner.url}/watch")]
        with telling_of_silence(beat, 15.0, told, clock, path):
            pass
        firing = ("position_without_engine", "firing")
        assert owner.named() == [firing]
        again = TakingBack(15.0, told, clock, path)
        again.end()
        assert owner.named() == [firing], "nothing is known before the first beat"
        for n in (2, 3):
            again.heard(Beat(run="R", n=n, held={"GC": 5}, orders=0))
        end = time.monotonic() + 60
        while len(owner.posts) < 2:
            assert time.monotonic() < end, "it was not taken back"
            time.sleep(0.05)
        again.end()
        assert owner.named() == [firing, ("position_without_engine", "resolved")]
        with telling_of_silence(beat, 15.0, told, clock, path):
            pass
        assert owner.named()[2:] == [firing], "another silence is told again"


def test_a_silence_is_told_whatever_an_earlier_watch_told(tmp_path: Path) -> None:
    """An engine that was heard too shortly for the first silence to be taken back leaves other lots behind."""
    clock, path = LiveClock(), tmp_path / "4711.jsonl"
    first, second, flat = (
        Beat(run=run, n=n, held=held, orders=0)
        for n, (run, held) in enumerate((("A", {"GC": 5}), ("B", {"GC": -2}), ("C", {})))
    )
    with telling_of_silence(first, 15.0, [Webhook("http://127.0.0.1:9/nobody")], clock, path):
        pass
    with hook() as owner:
        told = [Webhook(f"{owner.url}/watch")]
        for beat in (second, flat):
            earlier = TakingBack(15.0, told, clock, path)
            earlier.heard(beat)
            earlier.end()
            with telling_of_silence(beat, 15.0, told, clock, path):
                pass
        assert owner.named() == [
            ("position_without_engine", "firing"),
            ("position_without_engine", "resolved"),
            ("engine_gone", "firing"),
        ]
        assert "run B has been silent for 15 s; when it last spoke it held GC -2 lots" in str(owner.posts[0])


@pytest.mark.parametrize("told", ["", "host", "host:", ":1", "host:0", "host:70000", "host:x"])
def test_an_address_that_is_none_ends_in_one_line(told: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        address(told)


def test_a_name_that_nobody_knows_ends_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"heartbeat\.to"):
        Heart(Board(SimClock()), SimClock(), "no.such.host.invalid:9", KEY)


def test_an_address_that_is_taken_ends_in_one_line(ear: Ear) -> None:
    host, port = address(ear.at)
    with pytest.raises(UsageError, match="in use"):
        until_silent(Watch(KEY, 5.0, lambda: 0), (host, port), lambda _: None, lambda _: None)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(("position", "acts"), [(5, True), (0, False)])
def test_the_command_acts_on_silence_where_something_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int, acts: bool
) -> None:
    monkeypatch.setenv("EMP_HEARTBEAT_KEY", KEY.reveal())
    port, done = free_port(), tmp_path / "done"
    over = threading.Event()

    def beat() -> None:
        """The engine lives until it is heard: while nobody listens, the kernel refuses what follows a datagram."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect(("127.0.0.1", port))
            n = heard = 0
            while heard < 3 and not over.wait(0.1):
                n += 1
                try:
                    out.send(sealed(beat_of(view(position), n), KEY))
                    heard += 1
                except ConnectionRefusedError:
                    heard = 0

    sender = threading.Thread(target=beat)
    sender.start()
    act = f'{sys.executable} -c "open({str(done)!r}, chr(119)).close(); raise SystemExit(4)"'
    asked = ["watch", "--listen", f"127.0.0.1:{port}", "--silent-after", "2", "--then", act, "--json"]
    result = CliRunner().invoke(app, asked)
    over.set()
    sender.join()
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["acted"], told["held"]) == (acts, {"GC": 5} if position else {})
    assert result.exit_code == told["exit_code"] == (4 if acts else 10)
    assert done.exists() == acts


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_HEARTBEAT_KEY", "short")
    result = CliRunner().invoke(app, ["watch", "--listen", "127.0.0.1:1"])
    assert isinstance(result.exception, ConfigError)
    assert "EMP_HEARTBEAT_KEY" in str(result.exception)


def test_a_beat_fits_a_datagram() -> None:
    many = msgspec.structs.replace(
        view(), instruments=tuple(InstrumentView(name=f"N{k}", tick=0.1, position=k + 1) for k in range(100))
    )
    assert len(sealed(beat_of(many, 1 << 62), KEY)) <= LONGEST

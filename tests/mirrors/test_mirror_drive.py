"""What drives mirrors: begins again after every failure, doubles nothing, tells how far it is."""

import signal
from pathlib import Path

import numpy as np
import pytest

from emp.app.bench.mirrored.writer import Writer
from emp.app.cli import main
from emp.app.wiring.mirrors import Driven
from emp.core.clock import LiveClock, SimClock
from emp.core.mirror_status import MirrorStatus, read_status, write_status
from emp.journal.mirror.drive import Carried, Followed, Mirror
from emp.journal.mirror.follow import NOWHERE, STREAMS, Batch
from emp.journal.mirror.sink import MirrorError
from emp.observe.board import Board, View
from emp.observe.metrics import exposition, registry
from tests.mirrors.growing import grow


class Service:
    """A service that fails at random: before it takes a batch, or after, so that nobody knows."""

    def __init__(self, seed: int, failures: float) -> None:
        self.rng, self.failures = np.random.default_rng(seed), failures
        self.at = dict(NOWHERE)
        self.taken: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        self.open = 0

    def connect(self, *_: object) -> "Service":
        if self.rng.random() < self.failures:
            raise MirrorError("down")
        self.open += 1
        return self

    def positions(self) -> dict[str, int]:
        return dict(self.at)

    def write(self, batch: Batch) -> None:
        fate = self.rng.random()
        if fate < self.failures:
            raise MirrorError("lost before")
        assert batch.after == self.at, "a batch that does not follow"
        self.at = batch.until
        for stream in STREAMS:
            self.taken[stream] += batch.numbers(stream)
        if fate > 1 - self.failures:
            raise MirrorError("lost after")

    def close(self) -> None:
        self.open -= 1


@pytest.mark.parametrize("seed", range(5))
def test_each_record_is_carried_once_however_often_the_service_fails(tmp_path: Path, seed: int) -> None:
    writer, service, clock = Writer(tmp_path / "R"), Service(seed, 0.3), SimClock()
    carried = Carried("redis", "x", service.connect, Followed(tmp_path / "R"), clock)
    for _ in range(20):
        grow(writer, 2)
        carried.step()
        clock.advance(700_000_000)
    writer.end()
    for _ in range(200):
        carried.step()
        clock.advance(2_000_000_000)
    assert carried.done
    ends = Followed(tmp_path / "R").ends()
    assert ends == service.at
    assert service.taken == {stream: list(range(1, ends[stream] + 1)) for stream in STREAMS}
    assert service.open == 0


def test_a_service_that_is_down_is_left_alone_for_a_while(tmp_path: Path) -> None:
    clock, calls = SimClock(), []

    def connect(*_: object) -> Service:
        calls.append(clock.monotonic_ns())
        raise MirrorError("kafka: nobody answers")

    writer = Writer(tmp_path / "R")
    carried = Carried("kafka", "x", connect, Followed(tmp_path / "R"), clock)
    for _ in range(100):
        carried.step()
        clock.advance(50_000_000)
    assert [round(at / 1e9, 2) for at in calls] == [0.0, 0.25, 0.75, 1.75, 3.75]
    assert (carried.status.up, carried.status.error) == (False, "kafka: nobody answers")
    writer.end()


def test_a_fault_of_our_own_is_told_and_tried_again(tmp_path: Path) -> None:
    writer, service, clock = Writer(tmp_path / "R"), Service(0, 0.0), SimClock()
    grow(writer, 1)
    carried = Carried("redis", "x", service.connect, Followed(tmp_path / "R"), clock)
    service.write = lambda _: {}["lots"]  # type: ignore[assignment]
    assert not carried.step()
    assert carried.status.error == "redis: KeyError: 'lots'"
    del service.write
    clock.advance(300_000_000)
    assert carried.step()
    assert carried.status.error == ""
    writer.end()


def test_one_service_that_hangs_holds_no_other_up(tmp_path: Path) -> None:
    import threading

    writer, good, hangs = Writer(tmp_path / "R"), Service(0, 0.0), threading.Event()
    grow(writer, 3)
    writer.end()

    class Hanging(Service):
        def write(self, batch: Batch) -> None:
            hangs.wait(60)

    bad = Hanging(0, 0.0)
    mirrors = [
        Mirror("kafka", "x", bad.connect, LiveClock()),
        Mirror("redis", "x", good.connect, LiveClock()),
    ]
    driven = Driven(mirrors, lambda: [tmp_path / "R"])
    with pytest.raises(
        MirrorError, match=r"not everything was carried within 2 s: R in kafka: \d+ records behind"
    ):
        driven.run(2.0, lambda *_: None)
    assert good.at == Followed(tmp_path / "R").ends()
    status = {one.name: one for one in read_status(tmp_path / "R")}
    assert status["redis"].done
    assert status["kafka"].behind["market"] > 0
    hangs.set()


def test_a_run_that_a_service_has_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    writer, service = Writer(tmp_path / "R"), Service(0, 0.0)
    grow(writer, 3)
    writer.end()
    for _ in range(2):
        found = Driven([Mirror("redis", "x", service.connect, LiveClock())], lambda: [tmp_path / "R"]).run(
            60.0, lambda *_: None
        )
        assert [one["done"] for one in found] == [True]
    again = Carried("redis", "another", service.connect, Followed(tmp_path / "R"), SimClock())
    assert not again.done


def test_metrics_tell_how_far_a_mirror_is_behind_even_where_it_is_dead(tmp_path: Path) -> None:
    clock = SimClock(100_000_000_000)
    board = Board(clock)
    board.folder = tmp_path
    board.publish(View(mode="mock", run="R", model="m", now_ns=0, started_ns=90_000_000_000, instruments=()))
    assert b"mirror_" not in exposition(registry(board))
    one = MirrorStatus(name="kafka", address="x", up=False, behind={"ledger": 7}, caught_up_ns=95_000_000_000)
    write_status(tmp_path, [one, MirrorStatus(name="redis", address="y", up=True)])
    said = exposition(registry(board)).decode()
    assert 'mirror_up{mirror="kafka"} 0.0' in said
    assert 'mirror_behind_seconds{mirror="kafka"} 5.0' in said
    assert (
        'mirror_behind_seconds{mirror="redis"} 10.0' in said
    )  # it never had everything: since the run began
    assert 'mirror_behind_records{mirror="kafka",stream="ledger"} 7.0' in said
    clock.advance(1_000_000_000)
    assert 'mirror_behind_seconds{mirror="kafka"} 6.0' in exposition(registry(board)).decode()
    (tmp_path / "mirrors.json").write_bytes(b"{")
    assert b"mirror_" not in exposition(registry(board))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a mirror: --kafka, --timescale, --redis"),
        (["--redis", "redis://:secret@host:1/0"], "mirrors.redis: a password has no place in an address"),
        (
            ["--timescale", "host=h password = 'secret'"],
            "mirrors.timescale: a password has no place in an address",
        ),
        (["--redis", "redis://127.0.0.1:1/0", "--run", "nothing"], "no run nothing"),
        (
            ["--redis", "redis://127.0.0.1:1/0", "--run", "R", "--once", "--wait", "1"],
            "not everything was carried",
        ),
        (["--timescale", "host=127.0.0.1 port=1", "--run", "R", "--once", "--wait", "1"], "R in timescale: "),
    ],
)
def test_a_mistake_ends_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Writer(tmp_path / "runs/R").end()
    heard = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as ended:
        main(["mirror", *words])
    assert ended.value.code in (2, 5)
    assert heard == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("emp: ")
    assert said in line
    assert "secret" not in line

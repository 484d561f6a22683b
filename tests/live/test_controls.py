"""Controls of a running engine: through one socket, its owner's alone, recorded, found by the run's name."""

import asyncio
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emp.app.cli import main
from emp.app.wiring.run_list import UNREADABLE, known_runs
from emp.app.wiring.running import running
from emp.core.contracts import Control, NewOrder
from emp.core.errors import JournalError, UsageError
from emp.engine.control_socket import ask
from emp.journal.find import find_run
from emp.journal.run import RunFolder
from tests.live.test_live import invested
from tests.live.world import World, play

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, socket=True)


async def asked(world: World, action: str, **more: str) -> str:
    return await asyncio.to_thread(ask, world.ledger_path.parent, {"do": action, **more})


def test_a_run_is_found_from_a_folder_that_is_gone(world: World, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    program = (
        "import os, sys; from pathlib import Path; from emp.engine.control_socket import ask;"
        "os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); print(ask(Path(sys.argv[2]), {'do': 'kill'}))"
    )

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        words = [sys.executable, "-c", program, str(nowhere), str(world.ledger_path.parent)]
        found = await asyncio.to_thread(
            subprocess.run, words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert found.stdout.startswith("kill: "), found.stderr

    play(world, script)


def recorded(world: World) -> list[tuple[str, str]]:
    reader = world.recorded()
    found = [(e.body.action, e.body.reason) for e in reader.events() if isinstance(e.body, Control)]
    reader.close()
    return found


def test_halt_keeps_the_position_and_resume_trades_again(world: World) -> None:
    async def script(world: World) -> None:
        await invested(world)
        path = world.ledger_path.parent / "control.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "BTCUSDT +4" in await asked(world, "halt", reason="lunch")
        world.venue.position -= 2  # room for more, were it not halted
        world.engine.desk.account["position"][0] = 2
        world.engine.desk.account["cash"][0] /= (
            2  # at what they cost: else it would be a loss beyond the limit
        )
        sent = len(world.venue.commands)
        world.venue.tick(20)
        await asyncio.sleep(0.2)
        assert len(world.venue.commands) == sent, "traded although halted"
        assert "risk halted: halted" in world.board.unhealthy()
        assert "trading again" in await asked(world, "resume")
        await bought_more(world, sent)

    play(world, script)
    assert ("halt", "lunch") in recorded(world)
    assert ("resume", "operator") in recorded(world)


@pytest.mark.parametrize("beside", [False, True], ids=["the run's", "of all runs"])
def test_a_file_pulls_the_kill_switch_and_bars_resuming_until_it_is_gone(
    tmp_path: Path, beside: bool
) -> None:
    (tmp_path / "run").mkdir()
    world = World(tmp_path / "run", socket=True)
    file = (tmp_path if beside else tmp_path / "run") / "KILL"

    async def script(world: World) -> None:
        await invested(world)
        file.touch()
        await world.until(lambda: "risk halted: kill_switch" in world.board.unhealthy(), 10)
        await world.until(lambda: world.venue.position == 0, 10)
        with pytest.raises(UsageError, match="resume: a file KILL lies in the run's folder"):
            await asked(world, "resume")
        file.unlink()
        await asyncio.sleep(0.2)
        assert "trading again" in await asked(world, "resume")
        await world.until(lambda: "risk halted: kill_switch" not in world.board.unhealthy(), 10)
        file.symlink_to("nowhere")
        await world.until(lambda: "risk halted: kill_switch" in world.board.unhealthy(), 10)
        file.unlink()

    play(world, script)
    assert [one for one in recorded(world) if one[0] == "kill"] == [("kill", "file")] * 2


def test_a_file_that_is_there_when_it_starts_lets_nothing_be_opened(world: World) -> None:
    (world.ledger_path.parent / "KILL").touch()

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.tick(200)
        await asyncio.sleep(0.3)
        assert "risk halted: kill_switch" in world.board.unhealthy()

    play(world, script)
    assert not [c for c in world.venue.commands if isinstance(c, NewOrder)]
    assert ("kill", "file") in recorded(world)


def test_how_it_stands_is_told_and_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "mock-TEST0001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    world = World(folder, socket=True)
    told: list[Any] = []

    def said(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["status", "--runs", str(folder.parent), *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    async def script(world: World) -> None:
        world.board.address = "http://127.0.0.1:1/#token=T"
        await invested(world)
        await world.until(
            lambda: world.board.view is not None and world.board.view.instruments[0].position == 4, 30
        )
        told.append(await asyncio.to_thread(running, folder.parent))
        told.append(await asyncio.to_thread(said))
        await asked(world, "halt")
        await world.until(lambda: bool(world.board.view and world.board.view.halted), 30)
        told.append(await asyncio.to_thread(said, "--json"))

    play(world, script)
    ([one], (code, shown), (halted_code, last)) = told
    assert (one["folder"], one["mode"], one["run"]) == (
        str(folder),
        world.board.view.mode,
        world.board.view.run,
    )
    (btc,) = one["instruments"]
    assert (btc["name"], btc["position"], btc["fills"], btc["stale_s"]) == ("BTCUSDT", 4, 4, None)
    assert btc["pnl_money"] == pytest.approx(
        btc["pnl_ticks"] * world.board.view.instruments[0].money_per_tick
    )
    assert "BTCUSDT: position +4, PnL " in shown
    assert "page: http://127.0.0.1:1/#token=T" in shown
    assert (code, one["healthy"]) == (0, True)
    assert halted_code == 1
    assert "risk halted: halted" in " ".join(json.loads(last.splitlines()[-1])["running"][0]["reasons"])
    assert [action for action, _ in recorded(world) if action == "status"] == []
    assert "a control request was not understood" not in shown + last + capsys.readouterr().out
    code, shown = said()
    assert code == 1
    assert shown.startswith(f"nothing runs in {folder.parent}: `emp run` starts a run")


async def bought_more(world: World, sent: int) -> None:
    for _ in range(300):
        world.venue.tick()
        await asyncio.sleep(0.01)
        if any(isinstance(c, NewOrder) for c in world.venue.commands[sent:]):
            return
    raise AssertionError("nothing was sent after resume")


def test_flatten_kill_and_stop(world: World) -> None:
    async def script(world: World) -> None:
        await invested(world)
        await asked(world, "kill", reason="drill")
        await world.until(lambda: world.venue.position == 0 and world.position == 0)
        await world.until(lambda: any("drill" in line for line in world.board.view.breaches))
        await asked(world, "resume")
        await bought_more(world, len(world.venue.commands))
        await asked(world, "flatten", instrument="BTCUSDT")
        await world.until(lambda: world.venue.position == 0 and world.position == 0)
        assert "stop" in await asked(world, "stop")
        await world.until(lambda: world.venue.closed)

    play(world, script)
    actions = [action for action, _ in recorded(world)]
    assert [a for a in actions if a in ("kill", "resume", "flatten", "stop")][:4] == [
        "kill",
        "resume",
        "flatten",
        "stop",
    ]
    assert not (world.ledger_path.parent / "control.sock").exists()


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ({"do": "explode"}, "unknown control 'explode'"),
        ({"do": "halt", "instrument": "GOOG"}, "does not trade GOOG: it trades BTCUSDT"),
        ({"do": "stop", "instrument": "BTCUSDT"}, "stop is for the whole run, not for BTCUSDT"),
        ({"do": "reload", "instrument": "BTCUSDT"}, "reload is for the whole run"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(world: World, request_: dict[str, str], line: str) -> None:
    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        with pytest.raises(UsageError, match=line):
            await asyncio.to_thread(ask, world.ledger_path.parent, request_)

    play(world, script)


def test_a_reason_that_is_no_text_is_recorded_as_far_as_it_is(world: World) -> None:
    """As from a terminal of another encoding; it must not look like a ledger that cannot be written."""

    async def script(world: World) -> None:
        await world.until(world.live.connected.is_set, 120)
        assert "nothing" in await asked(world, "halt", reason="caf\udce9")
        with pytest.raises(UsageError, match="one line of JSON"):
            await asyncio.to_thread(raw, world.ledger_path.parent / "control.sock", b"[" * 4_000)

    play(world, script)
    assert ("halt", "caf?") in recorded(world)


def raw(path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(line + b"\n")
        answer = json.loads(sock.makefile("rb").readline() or b"{}")
    raise UsageError(answer.get("text", "no answer"))


def test_a_reason_is_one_short_line_whatever_was_given(world: World) -> None:
    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await asked(world, "halt", reason="\x1b[2Jgone\r\nsecond \u202eline" + "x" * 3_000)

    play(world, script)
    ((action, reason),) = [one for one in recorded(world) if one[0] == "halt"]
    assert (action, reason) == ("halt", ("[2Jgone  second  line" + "x" * 3_000)[: len(reason)])
    assert 100 < len(reason) <= 200


def test_a_request_that_comes_too_late_is_refused(world: World) -> None:
    async def script(world: World) -> None:
        await world.until(world.live.connected.is_set, 120)

    play(world, script)
    with pytest.raises(UsageError, match="kill comes too late"):
        world.live.owner.ask("kill", "operator", "")


def test_what_is_not_on_record_is_not_acknowledged(world: World) -> None:
    """The disk fails as a halt is recorded: it holds here, and the next start knows nothing of it."""
    answers: list[str] = []

    def full(_: object) -> int:
        raise JournalError("the ledger cannot be written")

    async def script(world: World) -> None:
        await invested(world)
        world.ledger.record_control = full  # type: ignore[method-assign]
        try:
            world.live.owner.ask("halt", "operator", "")
        except UsageError as error:
            answers.append(str(error))
        assert world.engine.halted

    with pytest.raises(JournalError, match="cannot be written"):
        play(world, script)
    assert answers == ["halt holds until this run ends, which has failed: ask again after the next start"]


def test_halted_is_halted_over_a_restart(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await invested(world)
        await asked(world, "kill")
        await world.until(lambda: world.venue.position == 0 and world.position == 0)

    first = World(tmp_path, socket=True)
    play(first, script)
    first.unseal()
    again = World(tmp_path, actions="later")

    async def look(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 60)
        world.venue.tick(20)
        await asyncio.sleep(0.2)
        assert world.engine.halted
        assert world.venue.commands == []

    play(again, look)


def test_a_run_is_found_by_what_a_person_calls_it(tmp_path: Path) -> None:
    for name in ("mock-AAAA1111", "mock-AABB2222", "live-CCCC3333"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    assert find_run("CCCC", tmp_path).name == "live-CCCC3333"
    assert find_run("mock-AAAA1111", tmp_path).name == "mock-AAAA1111"
    assert find_run(str(tmp_path / "mock-AABB2222"), tmp_path).name == "mock-AABB2222"
    with pytest.raises(UsageError, match="the beginning of several runs"):
        find_run("AA", tmp_path)
    with pytest.raises(UsageError, match="no run nothing"):
        find_run("nothing", tmp_path)


def test_the_command_says_that_nothing_runs_there(tmp_path: Path) -> None:
    (tmp_path / "mock-AAAA1111").mkdir()
    (tmp_path / "mock-AAAA1111" / "manifest.json").write_text(json.dumps({}))
    command = [sys.executable, "-m", "emp", "halt", "AAAA", "--runs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no engine runs there" in done.stderr
    assert "Traceback" not in done.stderr


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "emp", *words], capture_output=True, text=True, env=env)


def test_the_one_run_that_goes_on_needs_no_name(tmp_path: Path) -> None:
    """It is found beside runs that have ended; where several go on, or none does, that is said."""
    mine = tmp_path / "paper-MINE0000"
    for name in (mine.name, "paper-OLD11111", "paper-OTHER222"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    world = World(mine, socket=True)
    words = ("kill", "--runs", str(mine.parent))

    async def script(world: World) -> None:
        await invested(world)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.bind(str(mine.parent / "paper-OTHER222" / "control.sock"))
            door.listen()
            two = await asyncio.to_thread(command, *words)
        assert f"several runs go on in {mine.parent}: name one of" in two.stderr
        assert "paper-OTHER222" in two.stderr
        assert world.position != 0, "it was closed although nobody knows which was meant"
        found = await asyncio.to_thread(command, *words)
        assert found.stdout.startswith(f"{mine.name}: kill: "), found.stderr
        await world.until(lambda: world.venue.position == 0 and world.position == 0)

    play(world, script)
    assert command(*words).stderr == f"emp: no run goes on in {mine.parent}\n"


def test_a_folder_that_cannot_be_looked_into_hides_no_run_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mock-AAAA1111", "replay-ROOT2222"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(
            '{"run": "AAAA1111", "mode": "mock", "instruments": ["GOOG"]}'
        )
    look = Path.stat

    def refused(self: Path, **options: bool) -> os.stat_result:
        if "replay-ROOT2222" in self.parts and self.name != "replay-ROOT2222":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return look(self, **options)

    def opened(path: Path) -> RunFolder:
        path.joinpath("manifest.json").stat()  # root, who runs tests, may read everything
        return RunFolder(path)

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr("emp.app.wiring.run_list.RunFolder", opened)
    assert find_run("AAAA", tmp_path).name == "mock-AAAA1111"
    assert find_run("ROOT2222", tmp_path).name == "replay-ROOT2222", "and whoever opens it is told why"
    shown = {Path(one["folder"]).name: one for one in known_runs(tmp_path)}
    assert set(shown) == {"mock-AAAA1111", "replay-ROOT2222"}
    assert shown["replay-ROOT2222"]["state"] == UNREADABLE
    assert "Permission denied" in shown["replay-ROOT2222"]["reason"]

"""A live run that is cut, refused, logged on again, refused an order and halted: log, health and metrics tell it."""

import asyncio
import contextlib
import itertools
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emp.access.fix.client import FixAccess, FixSettings
from emp.app.wiring.live import assemble_live, open_log
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.engine.succession import Models
from emp.observe import logs
from emp.observe.board import Board
from emp.observe.http import HttpServer, create_app
from tests.fix.desk import EURUSD
from tests.fix.scripted import FAST, ScriptedVenue
from tests.live.world import buyer

pytestmark = pytest.mark.usefixtures("compiled_engine")

PASSWORD = "s3cret-word"


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def sample(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, f"{name} is not in\n{metrics}"
    return float(found[1])


class Broker(ScriptedVenue):
    """A scripted venue that knows no orders, holds nothing, and refuses every order."""

    def __init__(self) -> None:
        super().__init__()
        self.on = {
            "V": lambda m: self.book() if m[263] == "1" else None,
            "AF": lambda m: self.say("j", f"45={m[34]}|372=AF|379={m[584]}|380=1|58=none|"),
            "AN": lambda m: self.say("AP", f"721=p|710={m[710]}|727=0|728=2|"),
            "D": self._refuse_order,
        }

    def _refuse_order(self, order: dict[int, str]) -> None:
        self.say(
            "8",
            f"37=X|11={order[11]}|17=e{order[34]}|150=8|39=8|55=EURUSD|54={order[54]}|38={order[38]}|14=0|151=0|6=0"
            f"|58=no money on the account of {PASSWORD}|",
        )


async def told(folder: Path, script: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Run live at the broker, do what the script says, and return the lines of the log."""
    clock, venue = LiveClock(), Broker()
    settings = FixSettings(
        host="127.0.0.1", port=await venue.start(), sender="ME", target="VENUE", dialect=FAST, tls=False,
        timeout_s=2.0, username=Secret("trader"), password=Secret(PASSWORD),
    )  # fmt: skip
    config = SystemConfig(
        mode="live", run_dir=folder, warm_up_events=0, cool_down_events=0, context={"enabled": False},
        instruments={"names": ["EURUSD"]}, access={"connection_protocol": "fix"},
        risk={"depth_share": 1.0, "max_daily_loss_ticks": 1e9, "max_drawdown_ticks": 1e9},
    )  # fmt: skip
    board = Board(clock)
    server = HttpServer(create_app(board), "127.0.0.1", 0)
    server.start()
    running = assemble_live(config, [EURUSD], Models(buyer()), FixAccess(settings, clock), board, clock)
    with open_log(running.folder) as stream:
        log = logs.configure(stream, clock)
        run = asyncio.create_task(running.live.run())
        try:
            await asyncio.wait_for(running.live.connected.wait(), 20)
            await script(Scene(venue, running, server.url))
        finally:
            running.live.owner.stop()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(run, 20)
            log.close()
            server.stop()
            await venue.close()
    return [json.loads(line) for line in (running.folder.path / "log.jsonl").read_text().splitlines()]


class Scene:
    """What a script can look at and do."""

    def __init__(self, venue: Broker, running: Any, url: str) -> None:
        self.venue, self.live, self.url = venue, running.live, url

    async def health(self) -> dict[str, Any]:
        return dict(json.loads(await asyncio.to_thread(get, f"{self.url}/health")))

    async def metrics(self) -> str:
        return await asyncio.to_thread(get, f"{self.url}/metrics")

    async def until(
        self, holds: Callable[[dict[str, Any], str], bool], what: str
    ) -> tuple[dict[str, Any], str]:
        """Wait until health and metrics say so; both as they were then."""
        for _ in range(150):
            health, metrics = await self.health(), await self.metrics()
            if "links" in health and holds(health, metrics):
                return health, metrics
            await asyncio.sleep(0.05)
        raise AssertionError(f"{what} never showed: {health}")


def test_cut_refused_logged_on_again_and_halted(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        venue = scene.venue
        health, metrics = await scene.until(lambda h, _: h["links"]["trade"]["up"], "up")
        assert (health["mode"], health["links"]["market"]["up"]) == ("live", True)
        assert sample(metrics, 'link_losses_total{cause="lost",channel="trade"}') == 0

        for n in range(400):
            venue.book(108_755 + n * 7919 % 5)
            await asyncio.sleep(0.002)
        _, metrics = await scene.until(
            lambda _, m: sample(m, 'orders_refused_total{instrument="EURUSD"}') > 0, "a refused order"
        )

        venue.refuse = f"maintenance, {PASSWORD} must wait"
        venue.cut()
        health, metrics = await scene.until(
            lambda h, m: (
                sample(m, 'logon_refusals_total{channel="trade"}') >= 2
                and h["links"]["trade"]["cause"] == "refused"  # they are two answers, one after the other
                and h["links"]["trade"]["attempt"] >= 2
            ),
            "refused logons",
        )
        trade = health["links"]["trade"]
        assert (trade["up"], trade["cause"]) == (False, "refused")
        assert trade["reason"] == "the peer refused the logon: maintenance, *** must wait"
        assert trade["attempt"] >= 2
        assert health["status"] == "unhealthy"
        said = [one for one in health["reasons"] if one.startswith("trade link down (refused, attempt ")]
        assert said, health["reasons"]
        assert said[0].endswith(": the peer refused the logon: maintenance, *** must wait")
        assert sample(metrics, 'link_up{channel="trade"}') == 0

        venue.refuse = ""
        health, metrics = await scene.until(lambda h, _: h["links"]["trade"]["up"], "up again")
        assert sample(metrics, 'link_losses_total{cause="lost",channel="trade"}') == 1
        assert sample(metrics, 'link_losses_total{cause="lost",channel="market"}') == 1
        assert sample(metrics, 'link_retries_total{channel="trade"}') >= 3
        assert sample(metrics, 'link_losses_total{cause="refused",channel="trade"}') == 0, (
            "it was down already"
        )

        scene.live.owner.control("halt", "lunch")
        await scene.until(
            lambda h, m: (
                sample(m, "risk_halted") == 1 and any(r.startswith("risk halted") for r in h["reasons"])
            ),
            "halted",  # health and metrics are two answers, one after the other
        )

    lines = asyncio.run(told(tmp_path, script))
    story = [
        (one["event"], one.get("cause", one.get("action", "")))
        for one in lines
        if one["event"] in ("link up", "link down", "connection lost", "connected", "control input")
        and one.get("channel", "trade") == "trade"
    ]
    kinds = list(dict.fromkeys(story))
    assert kinds == [
        ("link up", ""),
        ("connected", ""),
        ("connection lost", "lost"),
        ("link down", "lost"),
        ("connection lost", "refused"),
        ("link down", "refused"),
        ("control input", "halt"),
        ("control input", "stop"),
    ]
    assert story.index(("control input", "halt")) > max(i for i, s in enumerate(story) if s[0] == "link up")
    attempts = [one["attempt"] for one in lines if one["event"] == "connection lost"]
    assert attempts == list(range(1, len(attempts) + 1))
    assert all(b["ts"] >= a["ts"] for a, b in itertools.pairwise(lines))
    text = json.dumps(lines)
    assert PASSWORD not in text
    assert "maintenance, *** must wait" in text
    refused = [one for one in lines if one["event"] == "order refused"]
    assert refused, "what the venue says of a refused order stands in the log"
    assert refused[0]["reason"] == "no money on the account of ***"
    assert refused[0]["instrument"] == "EURUSD"


def test_what_is_refused_for_good_ends_the_run_in_the_peers_words(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.venue.refuse = f"your account is locked since {PASSWORD}|1409=6"
        scene.venue.cut()
        for _ in range(400):
            if scene.live._failure is not None:
                break
            await asyncio.sleep(0.02)
        assert "account is locked since ***" in str(scene.live._failure)

    lines = asyncio.run(told(tmp_path, script))
    [given_up] = [one for one in lines if one["event"] == "given up"]
    assert given_up["cause"] == "refused"
    assert "account is locked since ***" in given_up["reason"]
    assert PASSWORD not in json.dumps(lines)

"""`mode: observe`: a broker's market recorded over lost connections and midnights, with no way to an order."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.outbox import Outbox
from emp.access.ctrader.settings import Credentials, Settings
from emp.access.feed import Feed
from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import CTRADER, MOCK
from emp.access.fix.schedule import Backoff
from emp.access.port import Reach
from emp.access.recordings import open_recording
from emp.app.wiring.assembly import assemble_replay
from emp.app.wiring.observe import Observing, assemble_observer, observed
from emp.core.clock import LiveClock, SimClock
from emp.core.codes import EventFlag
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument, find
from emp.core.records import Array, fieldwise_bytes
from emp.core.sessions import DAY_NS
from emp.engine.choose import load_model
from emp.engine.limits import EngineLimits
from emp.engine.observe_taps import DayJournal
from emp.engine.tap import Batch
from emp.observe.board import Board
from emp.sim.venues.ctrader.venue import CTraderVenue
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from emp.train.data.data import load_dataset, parse_series
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.kit.events import random_events
from tests.kit.handmarket import Moving
from tests.kit.hosted import hosting
from tests.kit.orders import cancel_order, cleared, new_order, replace_order
from tests.kit.tls import client_tls, server_tls

QUICK = Backoff(first_s=0.02, longest_s=0.1)


async def until(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, "it never came true"
        await asyncio.sleep(0.01)


class Seen:
    """A feed that keeps a copy of what its sink is told."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.rows: list[Array] = []

    async def connect(self, instruments: Any, sink: Any) -> None:
        events = sink.events

        def spied(rows: Array) -> None:
            self.rows.append(rows.copy())
            events(rows)

        sink.events = spied
        await self.feed.connect(instruments, sink)

    async def close(self) -> None:
        await self.feed.close()


@asynccontextmanager
async def watching(folder: Path, feed: Any, instrument: Instrument) -> AsyncIterator[tuple[Observing, Board]]:
    config = SystemConfig(
        mode="observe", run_dir=folder, instruments={"names": [instrument.name]},
        access={"connection_protocol": "fix"}, journal={"flush_seconds": 0.2},
    )  # fmt: skip
    clock = LiveClock()
    board = Board(clock)
    running = assemble_observer(config, [instrument], feed, board, clock)
    run = asyncio.create_task(running.observer.run())
    await asyncio.wait(
        [run, asyncio.create_task(running.observer.connected.wait())], return_when="FIRST_COMPLETED"
    )
    try:
        yield running, board
    finally:
        running.observer.stop()
        await run


def is_what_was_seen(running: Observing, seen: list[Array], instrument: Instrument, folder: Path) -> None:
    """The recording holds exactly the events that the sink was told, and replays."""
    told = np.concatenate(seen)
    kept = np.concatenate(list(open_recording([running.folder.path], instrument).batches()))
    assert len(told) == len(kept) == running.journal.events > 100
    assert fieldwise_bytes(told, ()) == fieldwise_bytes(kept, ())
    assert (kept["flags"] & int(EventFlag.GAP)).any(), "the cut shows"
    path = folder / "catalogue.yaml"
    facts = msgspec.to_builtins(instrument)
    facts |= {"venue": instrument.venue.name.lower(), "asset_class": instrument.asset_class.name.lower()}
    path.write_text(yaml.safe_dump({"instruments": {facts.pop("name"): facts}}))
    backtest, _ = assemble_replay(
        {instrument.name: [running.folder.market]},
        path,
        load_model("linear"),
        EngineLimits(),
        folder / "replays",
    )
    assert backtest.run(lambda *_: None)["events"] == len(told)


def test_over_fix_the_recording_is_what_was_seen(tmp_path: Path) -> None:
    async def run() -> tuple[Observing, list[Array]]:
        toy = Toy([EURUSD])
        venue = FixVenue(toy, [EURUSD], VenueSettings(password=Secret("secret")))
        dialect = msgspec.structs.replace(MOCK, backoff=QUICK)
        settings = FixSettings(
            host="127.0.0.1", port=await venue.start(), sender="EMP", target="EMPVENUE", dialect=dialect,
            tls=False, username=Secret("EMP"), password=Secret("secret"), reach=Reach.MARKET,
        )  # fmt: skip
        feed = Seen(Feed(FixAccess(settings)))
        async with watching(tmp_path, feed, EURUSD) as (running, board):
            await until(lambda: len(feed.rows) > 60)
            venue.clients[0].drop()
            await until(
                lambda: board.view is not None and board.view.links["market"].losses.get("lost", 0) == 1
            )
            await until(lambda: board.view is not None and board.view.links["market"].up)
            before = len(feed.rows)
            await until(lambda: len(feed.rows) > before + 60)
            view = board.view
            assert view is not None
            assert (view.mode, view.model, view.instruments[0].name) == ("observe", "", "EURUSD")
            assert view.instruments[0].events > 100
            assert set(view.links) == {"market"}
            assert board.unhealthy() == []
            with pytest.raises(UsageError, match="observes"):
                running.observer.ask("flatten", "", "")
        await venue.close()
        assert toy.orders == {}
        summary = observed(running)
        assert summary["events"] == sum(len(rows) for rows in feed.rows) == summary["received"]
        return running, feed.rows

    running, seen = asyncio.run(run())
    is_what_was_seen(running, seen, EURUSD, tmp_path)
    assert not (running.folder.path / "ledger.sqlite").exists()


def test_what_was_observed_can_be_trained_on(tmp_path: Path) -> None:
    events = random_events(6_000, 3)
    events["ts"] = events["ts_recv"] = 1_795_000_000_000_000_000 + np.arange(len(events)) * 43_200_000_000
    events["instrument"] = 0
    journal = DayJournal(tmp_path / "market", [find("BTCUSDT")], SimClock(0), 60.0)
    for at in range(0, len(events), 500):
        journal.on_batch(batch(events[at : at + 500]))
    journal.close()
    assert len(journal.days) > 2
    dataset = load_dataset(parse_series(f"BTCUSDT={tmp_path / 'market'}"), 0.5, lambda *_: None)
    assert len(dataset.part("train")) > 100


def test_over_the_open_api_the_recording_is_what_was_seen(tmp_path: Path, pem: Path) -> None:
    async def run() -> tuple[Observing, list[Array]]:
        market = Moving([EURUSD], LiveClock())
        venue = CTraderVenue(market, account=12_345)
        await venue.start(server_tls(pem))
        moving = asyncio.create_task(market.move())
        secrets = Credentials(Secret("app"), Secret("app-secret"), Secret("access-1"), Secret("refresh-1"))
        settings = Settings(account=12_345, backoff_first_ns=20_000_000, reach=Reach.MARKET)
        access = CTraderAccess(
            settings,
            secrets,
            host="127.0.0.1",
            port=venue.port,
            tls=client_tls(pem),
            keep_tokens=lambda _: None,
        )
        feed = Seen(Feed(access))
        async with watching(tmp_path, feed, EURUSD) as (_running, board):
            await until(lambda: len(feed.rows) > 60)
            await venue.restart()
            await until(lambda: board.view is not None and board.view.links["market"].retries > 0)
            await until(lambda: board.view is not None and board.view.links["market"].up)
            before = len(feed.rows)
            await until(lambda: len(feed.rows) > before + 60)
            assert set(board.view.links) == {"market"}  # type: ignore[union-attr]
        moving.cancel()
        await venue.stop()
        assert market.orders == []
        return _running, feed.rows

    running, seen = asyncio.run(run())
    is_what_was_seen(running, seen, EURUSD, tmp_path)


def batch(events: Array) -> Batch:
    none = events[:0]
    return Batch(0, events, none, 0, none, np.zeros((0, 3), np.int32))


def test_each_day_is_a_folder_of_its_own_and_the_running_one_is_on_disk(tmp_path: Path) -> None:
    clock = SimClock(0)
    journal = DayJournal(tmp_path / "market", [EURUSD], clock, 60.0)
    events = random_events(3_000, 5)
    events["instrument"] = 0
    midnight = 20_000 * DAY_NS
    events["ts"] = events["ts_recv"] = midnight - 1_000_000_000_000 + np.arange(3_000) * 1_000_000_000
    journal.on_batch(batch(events[:1_500]))  # midnight lies in it, after 1,000
    assert journal.days == ["2024-10-03", "2024-10-04"]
    first = tmp_path / "market" / "2024-10-03"
    assert [p.name for p in first.iterdir()] == ["part-00000.parquet"], "yesterday is closed and whole"
    assert sum(map(len, open_recording([first], EURUSD).batches())) == 1_000
    clock.advance(60_000_000_000)
    journal.on_tick(0)
    journal._journal._writer.wait()  # type: ignore[union-attr]
    assert sum(map(len, open_recording([tmp_path / "market"], EURUSD).batches())) == 1_500, (
        "though it grows on"
    )
    journal.on_batch(batch(events[1_500:]))
    late = events[:1].copy()  # an event of yesterday that comes late stays in its place in the order
    journal.on_batch(batch(late))
    journal.close()
    kept = np.concatenate(list(open_recording([tmp_path / "market"], EURUSD).batches()))
    assert fieldwise_bytes(kept, ()) == fieldwise_bytes(np.concatenate([events, late]), ())
    assert journal.events == 3_001
    assert [p.name for p in (tmp_path / "market" / "2024-10-04").iterdir()] == ["part-00000.parquet"]


def test_what_has_arrived_when_it_is_stopped_is_kept(tmp_path: Path) -> None:
    class Burst:
        """A feed that says much at once, while it is being closed."""

        async def connect(self, instruments: Any, sink: Any) -> None:
            self.sink = sink

        async def close(self) -> None:
            self.sink.events(events)

    events = random_events(1_000, 9)
    events["instrument"] = 0
    events["ts"] = events["ts_recv"] = LiveClock().now_ns() + np.arange(1_000)

    async def run() -> Observing:
        async with watching(tmp_path, Burst(), EURUSD) as (running, _):
            pass
        return running

    running = asyncio.run(run())
    assert running.journal.events == 1_000
    assert sum(map(len, open_recording([running.folder.path], EURUSD).batches())) == 1_000


def test_no_order_leaves_however_it_is_tried(tmp_path: Path) -> None:
    async def run() -> None:
        split = msgspec.structs.replace(CTRADER, hours=None, backoff=QUICK)
        venue = FixVenue(Toy([EURUSD]), [EURUSD], VenueSettings(dialect=split, symbols={"EURUSD": "1"}))
        settings = FixSettings(
            host="127.0.0.1", port=await venue.start(), sender="EMP", target="EMPVENUE", dialect=split,
            tls=False, reach=Reach.MARKET,
        )  # fmt: skip
        access = FixAccess(settings)
        feed = Feed(access)
        assert not hasattr(feed, "send")
        async with watching(tmp_path, feed, EURUSD) as (running, _):
            assert [client.sub for client in venue.clients if client.active] == ["QUOTE"], "no trade session"
            for command in (
                new_order("o", 1, 1, 1),
                cancel_order("c", "o"),
                replace_order("r", "o", 1, 1, 1),
            ):
                with pytest.raises(VenueError, match="without orders"):
                    access.send(cleared(command))
            assert running.observer.connected.is_set()
        await venue.close()

    asyncio.run(run())
    outbox = Outbox(Settings(account=1, reach=Reach.MARKET), LiveClock())
    with pytest.raises(VenueError, match="without orders"):
        outbox.put_command(new_order("o", 1, 1, 1))
    assert Outbox(Settings(account=1), LiveClock()).put_command(new_order("o", 1, 1, 1)) is None


def test_a_refused_password_ends_it_in_one_line(tmp_path: Path) -> None:
    async def run() -> None:
        venue = FixVenue(Toy([EURUSD]), [EURUSD], VenueSettings(password=Secret("secret")))
        settings = FixSettings(
            host="127.0.0.1", port=await venue.start(), sender="EMP", target="EMPVENUE", dialect=MOCK,
            tls=False, password=Secret("wrong"), reach=Reach.MARKET,
        )  # fmt: skip
        with pytest.raises(VenueError, match="invalid credentials"):
            async with watching(tmp_path, Feed(FixAccess(settings)), EURUSD):
                pass
        await venue.close()

    asyncio.run(run())


def test_the_command_records_says_so_and_stops_when_asked(tmp_path: Path) -> None:
    with hosting() as host:

        async def start() -> tuple[FixVenue, int]:
            venue = FixVenue(Toy([EURUSD]), [EURUSD], VenueSettings(password=Secret("secret")))
            return venue, await venue.start()

        venue, port = host.do(start())
        config = {
            "mode": "observe",
            "run_dir": str(tmp_path / "runs"),
            "instruments": {"names": ["EURUSD"]},
            "access": {
                "connection_protocol": "fix", "host": "127.0.0.1", "port": port, "tls": False,
                "dialect": "mock", "sender_comp_id": "EMP", "target_comp_id": "EMPVENUE",
            },
            "http": {"port": 0},
        }  # fmt: skip
        (tmp_path / "emp.yaml").write_text(yaml.safe_dump(config))
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("EMP_") or k in ("EMP_DATA", "EMP_CACHE", "EMP_STATE")
        }
        kept |= {"EMP_FIX_USERNAME": "EMP", "EMP_FIX_PASSWORD": "secret"}

        def emp(*arguments: str) -> dict[str, Any]:
            done = subprocess.run(
                [sys.executable, "-m", "emp", *arguments, "--json"],
                cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return dict(json.loads(done.stdout.splitlines()[-1]))

        begun = emp("run", "--config", "emp.yaml", "--detach")
        mode = None
        for _ in range(1_200):  # it is told of before it has anything to tell
            with urllib.request.urlopen(f"{begun['url']}/snapshot", timeout=5) as answer:
                mode = json.loads(answer.read()).get("mode")
            if mode is not None:
                break
            asyncio.run(asyncio.sleep(0.05))
        assert mode == "observe"
        with urllib.request.urlopen(f"{begun['url']}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        assert 'mode="observe"' in metrics
        assert "model_info{" not in metrics
        assert "nothing is traded" in str(emp_fails(tmp_path, kept, "halt", begun["run"]))
        emp("stop", begun["run"])
        summary = Path(begun["run_folder"]) / "summary.json"
        for _ in range(200):
            if summary.exists():
                break
            asyncio.run(asyncio.sleep(0.05))
        assert json.loads(summary.read_text())["events"] > 0
        again = emp("replay", begun["run_folder"], "--instrument", "EURUSD", "--model", "linear")
        assert again["events"] == json.loads(summary.read_text())["events"]
        host.do(venue.close())


def emp_fails(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "emp", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stderr

"""A drill: FIX sessions over a wire that lies, against QuickFIX in a process of its own.

    python -m tests.fix.proxy --seed 3 --seconds 60              # both ways round
    python -m tests.fix.proxy --seed 3 --seconds 60 --side engine
    python -m tests.fix.proxy --seed 1 --seeds 20 --seconds 10 --keep FOLDER

As an initiator the engine trades with a QuickFIX acceptor that also takes trades back, corrects them, refuses orders
in bad ways, shows huge books and loses its numbers; as an acceptor our venue serves a QuickFIX initiator. In between
stands `tests.fix.faulty`. At the end the faults stop, and positions, cash and book must be the peer's own.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import structlog

from emp.access.fix.client import FixAccess
from emp.access.fix.terms import Phase
from emp.app.wiring.live import Running, assemble_live
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import Command
from emp.core.ids import generator
from emp.engine.succession import Models
from emp.observe.board import Board
from emp.sim.venues.fix.feed import CODES
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.desk import EURUSD
from tests.fix.faulty import FaultyWire, Plan, value
from tests.fix.markets import Toy
from tests.fix.test_quickfix import QUICK, Peer, fix_settings, free_port
from tests.kit.models import eager_model
from tests.kit.orders import cancel_order, cleared, new_order, replace_order

CLOCK = LiveClock()
MID = 108_755
DEEDS = (
    "bust", "bust", "bare bust", "correction", "correction", "bare correction", "refuse by j", "refuse by 3", "huge",
)  # fmt: skip
LOOSE = {
    "max_orders_per_minute": 1_000_000,
    "depth_share": 1.0,
    "max_position_lots": 100_000,
    "max_daily_loss_ticks": 1e9,
    "max_drawdown_ticks": 1e9,
}


def engine_on(access: FixAccess, folder: Path) -> Running:
    """The engine on a market, as `emp run` has it."""
    config = SystemConfig(
        mode="paper",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": [EURUSD.name]},
        access={"connection_protocol": "fix"},
        risk=LOOSE,
        journal={"flush_seconds": 0.5},
    )
    models = Models(eager_model(folder / "model"))
    return assemble_live(config, [EURUSD], models, access, Board(CLOCK), CLOCK)


class Trader:
    """Sends the engine's orders, at random: immediate ones, resting ones, replacements, cancels."""

    def __init__(self, running: Running, seed: int) -> None:
        self.engine, self.driver = running.engine, running.live._driver
        self.sent = 0
        self._rng = generator(seed, "trader")

    def _draw(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high))

    def act(self) -> None:
        draw, now = self._rng.random(), CLOCK.now_ns()
        resting = [o for o in self.engine.orders.open_orders() if not o.command.immediate]
        command: Command
        if draw < 0.5 or len(resting) < 2:
            side = 1 if self._rng.random() < 0.5 else -1
            command = new_order(
                self.engine.next_id(), side, self._draw(1, 12), MID + self._draw(-20, 20),
                immediate=bool(self._rng.random() < 0.6), ts=now, reason=Reason.CROSS_EDGE,
            )  # fmt: skip
        else:
            order = resting[self._draw(0, len(resting))]
            if order.replacement is not None:
                return
            name, about = self.engine.next_id(), order.command
            if draw < 0.7:
                qty, px = max(1, about.qty + self._draw(-3, 4)), about.px + self._draw(-3, 4)
                command = replace_order(name, about.cl_ord_id, about.side, qty, px, ts=now)
            else:
                command = cancel_order(name, about.cl_ord_id, ts=now)
        self.driver.send([cleared(command)])
        self.sent += 1

    def withdraw(self) -> None:
        """Cancel what works."""
        for order in self.engine.orders.open_orders():
            if order.cancel is None:
                cancel = cancel_order(self.engine.next_id(), order.command.cl_ord_id, ts=CLOCK.now_ns())
                self.driver.send([cancel])

    @property
    def stand(self) -> tuple[int, int, float]:
        """Lots held, orders open, and cash in ticks times lots."""
        account = self.engine.desk.account[0]
        return int(account["position"]), len(self.engine.orders.open_orders()), float(account["cash"])


async def engine_side(
    plan: Plan, seed: int, seconds: float, folder: Path, keep: Path | None = None
) -> dict[str, Any]:
    """The engine as initiator; returns what was seen, `wrong` names what does not agree."""
    port = free_port()
    rng = generator(seed, "drill")
    wire = FaultyWire(port, plan, dialler_told=True)
    async with Peer.running("accept", port, "QF", "ME", "0.01", *logs(keep)) as venue:
        settings = fix_settings(await wire.start(), folder)
        dialect = msgspec.structs.replace(settings.dialect, heartbeat_s=1)
        access = FixAccess(msgspec.structs.replace(settings, dialect=dialect, reset_on_loss=True))
        running = engine_on(access, folder)
        plan.on = False
        run = asyncio.create_task(running.live.run())
        connected = asyncio.create_task(running.live.connected.wait())
        await asyncio.wait([run, connected], return_when="FIRST_COMPLETED")
        session = access.links[0].session
        wire.may_reset = lambda: session.phase is Phase.ACTIVE and not session._state.gap.awaited
        plan.on = True
        trader = Trader(running, seed)
        deeds: Counter[str] = Counter()
        end = CLOCK.monotonic_ns() + int(seconds * 1e9)
        while CLOCK.monotonic_ns() < end and not run.done():
            trader.act()
            if rng.random() < 0.04:
                deed = DEEDS[int(rng.integers(len(DEEDS)))] if rng.random() < 0.97 else "wipe"
                deeds[deed] += 1
                await venue.ask(do=deed)
            await asyncio.sleep(float(rng.uniform(0.005, 0.03)))
        plan.on = False
        facts = await settled(venue, access, trader, run)
        position, working, cash = trader.stand
        book, truth = our_book(access), facts["book"]
        how = "Yj3"[seed % 3]
        told = await refused_for_good(venue, wire, run, how)
        running.live.owner.stop()
        problem = (await asyncio.gather(run, return_exceptions=True))[0]
        last = await venue.ask()
    await wire.close()
    write_down(wire, keep)
    lots = EURUSD.lot
    close = 0.01 * facts["fills"] * lots  # the venue's averages have seven decimals: a hundredth of a tick
    wrong = {
        "run": "" if told and "the venue is in a bad mood" in str(problem) else f"35={how}: {problem!r}",
        "position": "" if position * lots == facts["position"] else f"{position} lots, venue {facts['position']}",
        "cash": "" if agrees(cash * lots - facts["cash"], close, wire, facts["corrected"])
        else f"{cash * lots}, venue {facts['cash']}",
        "orders": f"{working} still open" if working else "",
        "fills": told_otherwise(running, access, facts["orders"]),
        "book": "" if book == truth else f"{book}, venue {truth}",
        # a run that fails closes what it holds, where it still can
        "end": "" if last["position"] in (0, facts["position"]) else "something filled after the end",
        "quarantine": repr(running.engine.orders.quarantined[:2]) if running.engine.orders.quarantined else "",
    }  # fmt: skip
    return {
        "side": "engine", "seed": seed, "orders": trader.sent, "fills": facts["fills"], "lots": position,
        "cash": cash, "faults": dict(sorted(plan.counts.items())), "deeds": dict(sorted(deeds.items())),
        "connections": wire.connections, "losses": access.links[0].losses, "refused": session.refused,
        "wrong": {k: v for k, v in wrong.items() if v},
    }  # fmt: skip


def agrees(over: float, close: float, wire: FaultyWire, corrected: dict[str, int]) -> bool:
    """Whether cash that is `over` the venue's is right, but for corrections of a price that never reached us.

    What the venue said while nobody was connected, and forgot with its numbers, nothing tells: no position shows it,
    and an ended order is asked for only where one does.
    """
    told = {
        value(data, 17).decode() for _, what, data in wire.trace if what == "down told" and b"150=G" in data
    }
    unheard = [change for name, change in corrected.items() if name not in told]
    sums = {0}
    for change in unheard[:10]:
        sums |= {total - change for total in sums}
    return any(abs(over - total) <= close for total in sums)


def told_otherwise(running: Running, access: FixAccess, venue: dict[str, list[Any]]) -> str:
    """The orders of which the engine thinks otherwise than the venue does: what filled, and at what cost."""
    odd = []
    for name, (_, cum, cost) in venue.items():
        order, known = running.engine.orders.order(name), access.orders._known.get(name)
        if order is None or known is None:
            continue
        ours = order.filled * EURUSD.lot, known.filled * known.average * EURUSD.lot
        if ours[0] != cum or abs(ours[1] - cost) > 0.011 * cum:
            odd.append(f"{name}: {ours[0]:g} for {ours[1]:g}, venue {cum} for {cost}")
    return f"{odd[:9]} of {len(venue)}" if odd else ""


async def refused_for_good(venue: Peer, wire: FaultyWire, run: "asyncio.Task[None]", how: str) -> bool:
    """At the end the venue refuses the market (35=Y, j or 3): whether the run ends by itself, and in time."""
    if run.done():
        return False
    await venue.ask(do=f"refuse the market by {how}")
    wire.cut()
    return bool((await asyncio.wait([run], timeout=20))[0])


async def settled(
    venue: Peer, access: FixAccess, trader: Trader, run: "asyncio.Task[None]"
) -> dict[str, Any]:
    """Wait until nothing is in doubt any more: no order open, the book whole and the venue's; the venue's facts."""
    await venue.ask(do="freeze")
    facts: dict[str, Any] = {}
    for _ in range(240):
        await asyncio.sleep(0.25)
        if access.links[0].session.phase is Phase.ACTIVE:
            trader.withdraw()
        facts = await venue.ask()
        lots, working, _ = trader.stand
        same = our_book(access) == facts["book"] and lots * EURUSD.lot == facts["position"]
        if run.done() or (same and not working):
            break
    return facts


def our_book(access: FixAccess) -> list[list[Any]]:
    """Our book as the venue keeps its own: side, ticks, units."""
    [book] = access.market.books
    per_unit = EURUSD.lot / int(book["sz_step"])
    return sorted(
        [str(int(book["side"][i])), int(book["px"][i]), round(int(book["size"][i]) * per_unit)]
        for i in range(int(book["n"]))
    )


class Client:
    """Orders of a QuickFIX initiator, at random."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.peer = peer
        self.named: list[str] = []
        self._rng = generator(seed, "client")

    async def act(self) -> None:
        draw, rng = self._rng.random(), self._rng
        name = f"q{len(self.named)}"
        fields = {
            "11": name, "55": EURUSD.name, "54": str(1 + len(self.named) % 2), "40": "2",
            "38": f"{int(rng.integers(1, 9))}000", "44": f"1.{MID - 100_000 + int(rng.integers(-30, 30)):05d}",
        }  # fmt: skip
        orig = (
            self.named[int(rng.integers(max(0, len(self.named) - 12), len(self.named)))] if self.named else ""
        )
        self.named.append(name)
        if draw < 0.6 or not orig:
            how = ("3", "0", "1")[int(rng.integers(3))]
            await self.peer.ask(send="D", brief=1, fields=fields | {"59": how})
        elif draw < 0.7:
            await self.peer.ask(send="H", brief=1, fields={"11": orig, "55": EURUSD.name, "54": "1"})
        else:
            side = str(1 + int(orig[1:]) % 2)
            await self.peer.ask(
                send="F" if draw < 0.85 else "G", brief=1, fields=fields | {"54": side, "41": orig}
            )


async def venue_side(
    plan: Plan, seed: int, seconds: float, folder: Path, keep: Path | None = None
) -> dict[str, Any]:
    """Our venue as acceptor, a QuickFIX initiator as its client."""
    dialect = msgspec.structs.replace(QUICK, heartbeat_s=1)
    toy = Toy([EURUSD])
    venue = FixVenue(
        toy, [EURUSD], VenueSettings(sender="EMPVENUE", target="QF", dialect=dialect, strict=True)
    )
    wire = FaultyWire(await venue.start(), plan, dialler_told=False)
    plan.on = False
    async with Peer.running("initiate", await wire.start(), "QF", "EMPVENUE", "1", *logs(keep)) as peer:
        await peer.line("logon")
        client, rng = Client(peer, seed), generator(seed, "drill")
        subscribe = {"262": "r1", "263": "1", "264": "0", "265": "0"}
        await peer.ask(send="V", brief=1, fields=subscribe)
        kept = venue._kept
        assert kept is not None
        wire.may_reset = lambda: kept.phase is Phase.ACTIVE and not kept._state.gap.awaited
        plan.on = True
        end = CLOCK.monotonic_ns() + int(seconds * 1e9)
        while CLOCK.monotonic_ns() < end:
            await client.act()
            await asyncio.sleep(float(rng.uniform(0.01, 0.05)))
        plan.on = False
        wrong = await told_right(peer, toy, subscribe, plan.counts["reset"] > 0)
        facts = await peer.ask()
        if keep is not None:
            (keep / "facts.json").write_text(json.dumps(facts))
    await wire.close()
    write_down(wire, keep)
    failure = (await asyncio.gather(venue.close(), return_exceptions=True))[0]
    wrong["venue"] = repr(failure) if failure is not None else ""
    wrong["refused by QuickFIX"] = " ".join(facts["rejects_sent"])
    return {
        "side": "venue", "seed": seed, "orders": len(toy.orders), "asked": len(client.named), "lots": toy.held,
        "reports": len(facts["reports"]), "faults": dict(sorted(plan.counts.items())),
        "connections": wire.connections, "wrong": {k: v for k, v in wrong.items() if v},
    }  # fmt: skip


async def told_right(peer: Peer, toy: Toy, subscribe: dict[str, str], reset: bool) -> dict[str, str]:
    """Stop the market and ask the venue for every order: what it says is what the market says.

    Where the numbers began anew inside a session (`reset`), reports that were on their way are lost by design.
    """
    await toy.pump.stop()
    left: dict[str, str] = {}
    for turn in range(180):  # without heartbeats a request that was lost is made again after half a minute
        await asyncio.sleep(0.25)
        facts = await peer.ask()
        last = {r["11"]: (r["39"], r["14"]) for r in facts["reports"] if r.get("150") == "I"}
        left = {
            name: f"{last.get(name)}, market {(code(toy, name), str(filled * 1000))}"
            for name, filled in toy.filled.items()
            if last.get(name) != (code(toy, name), str(filled * 1000))
        }
        if not left:
            break
        for name in list(left)[:50] if turn % 8 == 0 else ():
            await peer.ask(send="H", brief=1, fields={"11": name, "55": EURUSD.name, "54": "1"})
    await peer.ask(send="V", brief=1, fields=subscribe | {"262": "r2"})
    request = {"710": "p", "724": "0", "1": "QF", "581": "1", "715": "20240101"}
    await peer.ask(send="AN", brief=1, fields=request)
    await asyncio.sleep(0.5)
    facts = await peer.ask()
    fills = {r["17"]: r for r in facts["reports"] if r.get("150") == "F"}
    bought = sum(int(r["32"]) * (1 if r["54"] == "1" else -1) for r in fills.values())
    held = toy.held[EURUSD.name] * 1000
    side = f"70{4 if held > 0 else 5}={abs(held)}" if held else "728=2"
    row = toy.shown[-1]
    tops = [round(float(px) * 100_000) for px in facts["top"]]
    return {
        "orders": str(left) if left else "",
        "position": "" if side in " ".join(facts["answers"]) else f"{facts['answers'][-2:]}, market {side}",
        "fills": f"{bought} by the reports, market {held}" if bought != held and not reset else "",
        "book": "" if tops == [row["bid_px"][0, 0], row["ask_px"][0, 0]] else str(tops),
    }


def code(toy: Toy, name: str) -> str:
    """OrdStatus of an order of the market."""
    return CODES[toy.status[name]][1]


def logs(keep: Path | None) -> list[str]:
    """The argument that has QuickFIX write down what it sees, where that is wanted."""
    return [str(keep / "quickfix")] if keep is not None else []


def write_down(wire: FaultyWire, keep: Path | None) -> None:
    """Everything that came to the wire and that it told, one line each."""
    if keep is None or not wire.trace:
        return
    begun = wire.trace[0][0]
    with (keep / "wire.txt").open("w") as file:
        for at, what, data in wire.trace:
            text = data.decode("latin-1").replace("\x01", "|")
            file.write(f"{(at - begun) / 1e9:9.4f} {what}: {text[:400]}\n")


def drill(side: str, plan: Plan, seed: int, seconds: float, keep: Path | None = None) -> dict[str, Any]:
    """One drill, its log beside it; in the folder `keep` every message, as the wire and as QuickFIX saw it."""
    with tempfile.TemporaryDirectory() as name, structlog.testing.capture_logs() as log:
        found = asyncio.run(SIDES[side](plan, seed, seconds, Path(name), keep))
    found["log"] = dict(Counter(entry["event"] for entry in log))
    if found["wrong"]:
        found["last"] = [str(entry) for entry in log[-30:]]
    if keep is not None:
        (keep / "log.txt").write_text("\n".join(str(entry) for entry in log))
    return found


SIDES = {"engine": engine_side, "venue": venue_side}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--side", choices=[*SIDES, "both"], default="both")
    parser.add_argument("--chance", type=float, default=0.02, help="of a fault per message")
    parser.add_argument("--only", default="", help="these faults alone, comma between")
    parser.add_argument("--keep", type=Path, help="a folder for every message of the drills that end wrong")
    parser.add_argument("--seeds", type=int, default=1, help="so many, one after the other")
    asked = parser.parse_args()
    only = tuple(asked.only.split(",")) if asked.only else ()
    wrong = 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        for side in SIDES if asked.side == "both" else [asked.side]:
            keep = asked.keep / f"{side}-{seed}" if asked.keep else None
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
            found = drill(side, Plan(seed, asked.chance, only), seed, asked.seconds, keep)
            print(json.dumps(found, indent=1), flush=True)
            wrong += bool(found["wrong"])
            if keep is not None and not found["wrong"]:
                shutil.rmtree(keep)
    print(f"{wrong} of {asked.seeds * (2 if asked.side == 'both' else 1)} drills ended wrong", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

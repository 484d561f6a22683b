"""A day of our venue under a strict client: QuickFIX with its dictionary on must find nothing to refuse.

    python -m tests.fix.strict_run --seconds 3600

The client sends all that an ordinary one does: every type of order and time in force, replacements, cancels, questions
about orders, positions, symbols and sessions, subscriptions, and types that no venue of ours serves; its connection is
lost again and again, so that it is told again what it has missed. Nothing is refused by 35=3 on either side, and every
order, replacement and cancel is answered.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from typing import Any

import msgspec

from emp.core.clock import LiveClock
from emp.core.ids import generator
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.fix.test_quickfix import IN_FULL, QUICK, Peer, Proxy

CLOCK = LiveClock()
DAY = "20240605"
QUESTIONS: dict[str, dict[str, str]] = {
    "AF": {"584": "{}", "585": "7"},
    "AN": {"710": "{}", "724": "0", "1": "QF", "581": "1", "715": DAY},
    "g": {"335": "{}", "263": "0"},
    "x": {"320": "{}", "559": "4"},
    "e": {"324": "{}", "55": EURUSD.name, "263": "0"},
    "c": {"320": "{}", "321": "3"},
    "q": {"11": "{}", "530": "7"},
    "BE": {"923": "{}", "924": "4", "553": "someone"},
    "H": {"11": "{}", "55": EURUSD.name, "54": "1"},
}
"""Requests and their fields, `{}` for an id of its own."""

SUBSCRIPTIONS: tuple[dict[str, str], ...] = (
    {"263": "1", "264": "0", "265": "0"},
    {"263": "1", "264": "1", "265": "1"},
    {"263": "0", "264": "0"},
    {"263": "2", "264": "0"},
)


class Client:
    """An ordinary client, at random."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.sent: Counter[str] = Counter()
        self.orders: list[str] = []  # also ids of replacements
        self.changes: list[str] = []
        self._peer = peer
        self._count = 0
        self._rng = generator(seed, "strict client")

    def _one_of(self, *choices: str) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    async def _send(self, kind: str, fields: dict[str, str]) -> None:
        self.sent[kind] += 1
        await self._peer.ask(send=kind, brief=1, fields=fields)

    def _order(self, name: str) -> dict[str, str]:
        """An order of any type; what our venue does not take it must refuse by 35=8."""
        kind = self._one_of("2", "2", "2", "2", "2", "1", "3", "4")
        fields = {
            "11": name, "55": EURUSD.name, "54": self._one_of("1", "2"), "40": kind, "1": "ACCOUNT",
            "38": f"{int(self._rng.integers(1, 9))}000", "59": self._one_of("0", "1", "3", "3", "4"),
        }  # fmt: skip
        if kind in "24":
            fields["44"] = f"1.{8_755 + int(self._rng.integers(-4, 5)):05d}"
        if kind in "34":
            fields["99"] = "1.08800"
        if self._rng.random() < 0.2:
            fields["18"] = "6"
        return fields

    async def act(self) -> None:
        self._count += 1
        name, draw = f"q{self._count}", self._rng.random()
        if draw < 0.35 or not self.orders:
            self.orders.append(name)
            await self._send("D", self._order(name))
        elif draw < 0.6:
            self.changes.append(name)
            recent = self.orders[-12:]
            about = recent[int(self._rng.integers(len(recent)))]
            kind = self._one_of("F", "G")
            fields = self._order(name) | {"41": about, "40": "2"}
            fields.setdefault("44", "1.08755")
            if kind == "F":
                fields = {tag: fields[tag] for tag in ("11", "41", "55", "54", "38")}
            await self._send(kind, fields)
        elif draw < 0.7:
            await self._send("V", {"262": name} | SUBSCRIPTIONS[int(self._rng.integers(len(SUBSCRIPTIONS)))])
        else:
            kind = self._one_of(*QUESTIONS)
            asked = self._one_of(*self.orders[-12:]) if kind == "H" else name
            await self._send(kind, {tag: text.format(asked) for tag, text in QUESTIONS[kind].items()})


async def strict_day(seconds: float, seed: int, cut_s: float) -> dict[str, Any]:
    """So long a day; returns what was seen, `wrong` names what must not be."""
    dialect = msgspec.structs.replace(IN_FULL if seed % 2 else QUICK, heartbeat_s=1)
    toy = Toy([EURUSD], pause_s=0.01, in_full=bool(seed % 2))
    settings = VenueSettings(sender="EMPVENUE", target="QF", dialect=dialect, strict=True)
    venue = FixVenue(toy, [EURUSD], settings)
    proxy = Proxy(await venue.start())
    rng = generator(seed, "strict day")
    async with Peer.running("initiate", await proxy.start(), "QF", "EMPVENUE", "1") as peer:
        await peer.line("logon")
        client = Client(peer, seed)
        end = CLOCK.monotonic_ns() + int(seconds * 1e9)
        cut = CLOCK.monotonic_ns() + int(cut_s * 1e9)
        while CLOCK.monotonic_ns() < end:
            await client.act()
            await asyncio.sleep(float(rng.uniform(0.002, 0.03)))
            if CLOCK.monotonic_ns() >= cut:
                proxy.cut()
                cut += int(cut_s * float(rng.uniform(0.5, 1.5)) * 1e9)
        facts: dict[str, Any] = {}
        unanswered: list[str] = []
        for _ in range(40):
            await asyncio.sleep(0.25)
            facts = await peer.ask()
            answered = {r.get("11") for r in facts["reports"]}
            unanswered = [name for name in (*client.orders, *client.changes) if name not in answered]
            if not unanswered:
                break
    failure = (await asyncio.gather(venue.close(), return_exceptions=True))[0]
    await proxy.close()
    refused = Counter(r.get("58", "") for r in facts["reports"] if r.get("150") == "8")
    wrong = {
        "venue": repr(failure) if failure is not None else "",
        "rejects": f"{facts['rejects']}: {facts['rejects_sent'][:3]}" if facts["rejects"] else "",
        "unanswered": str(unanswered[:9]) if unanswered else "",
    }
    return {
        "seed": seed, "seconds": seconds, "cuts": proxy.cuts, "logons": facts["logons"],
        "sent": dict(sorted(client.sent.items())), "reports": len(facts["reports"]),
        "books": facts["snapshots"], "orders refused": sum(refused.values()),
        "wrong": {name: text for name, text in wrong.items() if text},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cut-every", type=float, default=20.0, help="seconds, on average")
    asked = parser.parse_args()
    found = asyncio.run(strict_day(asked.seconds, asked.seed, asked.cut_every))
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()

"""One instrument of a replay: its recording, venue and ordering guard, and the compiled loop of engine and venue."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from emp.access.paper.venue import COUNTERFACTUAL, PaperVenue
from emp.access.port import Source
from emp.bus.order import GUARD, admit
from emp.core.codes import Quarantine
from emp.core.records import EVENT, Array, empty_events
from emp.engine.engine import Engine
from emp.engine.spans import add_stretch, new_sum, new_sums, seen_spans, span_at
from emp.engine.trading import Trading
from emp.engine.value import value_summary
from emp.engine.view_parts import halted_by, money_of


class Count(msgspec.Struct):
    """What has been counted of an instrument so far; part of every checkpoint."""

    actions: int = 0  # commands decided on
    out_of_order: dict[str, int] = {}
    spans: dict[str, dict[str, Any]] = msgspec.field(default_factory=new_sums)
    parted: tuple[float, int, int] = (0.0, 0, 0)  # PnL, fills and quarantined events when the last part ended


class Leg:
    """Instrument number `place` of an engine.

    Attributes:
        guard: GUARD[1].
        before: EVENT[1], the newest event that venue and engine have had.
    """

    def __init__(
        self, engine: Engine, source: Source, venue: PaperVenue, place: int, guard: Array, before: Array
    ) -> None:
        self.place, self.name = place, engine.instruments[place].name
        self.source, self.venue = source, venue
        self.guard, self.before = guard, before
        self._engine = engine
        market = venue.market(empty_events(0), before)
        self.trading = Trading(engine, market, lambda row: venue.told(row, engine.run), place)

    def admit(self, events: Array, count: Count) -> Array:
        """Pass EVENT rows [n] of this instrument through the ordering guard; the Quarantine reason of each, 0 where it
        is admitted: int8[n].
        """
        reasons = np.zeros(len(events), np.int8)
        if admit(self.guard[0], events, reasons) < len(events):
            for reason, n in Counter(reasons[reasons != 0].tolist()).items():
                name = Quarantine(reason).name.lower()
                count.out_of_order[name] = count.out_of_order.get(name, 0) + n
        return reasons

    def span(self, ts_ns: int) -> tuple[str, int]:
        """What the serving model did at a time (`engine.spans`), and until when."""
        return span_at(seen_spans(self._engine.model.artifact.manifest, self.name), ts_ns)

    def add_to(self, span: str, events: Array, count: Count) -> None:
        """Add what these events, all of one span, have brought."""
        if not len(events):
            return
        account = self._engine.desk.account[self.place]
        refused = int(self._engine.desk.quarantined[self.place].sum())
        pnl, fills, refused_before = count.parted
        count.parted = float(account["pnl"]), int(account["fills"]), refused
        sums = count.spans.setdefault(span, new_sum())
        sums["events"] += len(events) - (refused - refused_before)
        sums["pnl_ticks"] += count.parted[0] - pnl
        sums["fills"] += count.parted[1] - fills
        add_stretch(count.spans, span, int(events["ts"][0]), int(events["ts"][-1]))

    def summary(self, count: Count) -> dict[str, Any]:
        """What became of the rows of its recording, and what was traded there (keys of `emp replay`)."""
        desk, counts = self._engine.desk, self.source.counts
        quarantined = Counter({reason.name.lower(): n for reason, n in counts.quarantined.items()})
        quarantined.update(count.out_of_order)
        quarantined.update(self._engine.quarantined(self.place))
        account = desk.account[self.place]
        return {
            "rows": counts.rows,
            "events": counts.rows - counts.merged - sum(quarantined.values()),
            "merged": counts.merged,
            "quarantined": dict(sorted(quarantined.items())),
            "losses": counts.losses(),
            "gaps": counts.gaps,
            "read_as": counts.formats,
            "venue_round_trip_ms": int(self.venue.venue["entry_ns"][0]) / 1e6,
            "states": int(desk.perception["events"][self.place]),
            "actions": count.actions,
            "fills": int(account["fills"]),
            "final_position": int(account["position"]),
            "pnl_ticks": float(account["pnl"]),
            "fees": float(account["fees"]),
            "financing": float(account["financing"]),
            "traded_lots": int(account["traded"]),
            "paper_lots": self.venue.lots,
            "counterfactual_share": self._counterfactual(),
            "overnight_pnl_ticks": float(account["overnight"]),
            "spans": count.spans,
            **value_summary(desk, self.place),
            "halted": bool(desk.risk["halted"][self.place]),
            "halted_by": halted_by(desk.risk[self.place]),
        }

    def _counterfactual(self) -> float:
        """Share of the lots filled at rest that came from flow which did something else in the recording."""
        lots = self.venue.lots
        rested = sum(n for how, n in lots.items() if how != "taken")
        return sum(lots[how] for how in COUNTERFACTUAL) / rested if rested else 0.0


def legs_of(engine: Engine, sources: tuple[Source, ...], venues: tuple[PaperVenue, ...]) -> list[Leg]:
    """One for each instrument of an engine; guards and last events of all lie in two arrays, for checkpoints."""
    guards, before = np.zeros(len(sources), GUARD), np.zeros(len(sources), EVENT)
    return [
        Leg(engine, source, venue, i, guards[i : i + 1], before[i : i + 1])
        for i, (source, venue) in enumerate(zip(sources, venues, strict=True))
    ]


def state_of(legs: list[Leg]) -> dict[str, Array]:
    """The arrays of a checkpoint that are theirs; views, to be filled to go on from there."""
    first = legs[0]
    if len(legs) == 1:
        venue = {f"venue_{name}": array for name, array in first.venue.state().items()}
        return {**venue, "guard": first.guard, "before": first.before}
    found: dict[str, Array] = {}
    for leg in legs:
        found |= {f"venue{leg.place}_{name}": array for name, array in leg.venue.state().items()}
        found |= {f"guard{leg.place}": leg.guard, f"before{leg.place}": leg.before}
    return found


def together(engine: Engine, legs: list[Leg], counts: list[Count]) -> dict[str, Any]:
    """The summary of a replay: of one instrument its own, of several what adds up, and each one's own."""
    own = {leg.name: leg.summary(count) for leg, count in zip(legs, counts, strict=True)}
    if len(own) == 1:
        return own[legs[0].name]
    quarantined: Counter[str] = Counter()
    for one in own.values():
        quarantined.update(one["quarantined"])
    halted = [name for name, one in own.items() if one["halted"]]
    return {
        **{name: sum(one[name] for one in own.values()) for name in ("rows", "events", "merged")},
        "quarantined": dict(sorted(quarantined.items())),
        **{name: sum(one[name] for one in own.values()) for name in ("states", "actions", "fills")},
        "account": _account(engine),
        "instruments": own,
        "halted": bool(halted),
        "halted_by": ", ".join(f"{name} by {own[name]['halted_by']}" for name in halted),
    }


def _account(engine: Engine) -> dict[str, Any]:
    """What all instruments came to: by the currency of their prices, and where limits name the account's, in that."""
    sums: dict[str, dict[str, float]] = {"pnl_money": {}, "fees_money": {}}
    for one, account in zip(engine.instruments, engine.desk.account, strict=True):
        tick, currency = money_of(one)
        if not currency:  # of one nobody knows, so of all
            return {"pnl_money": None, "fees_money": None}
        for name, ticks in (("pnl_money", account["pnl"]), ("fees_money", account["fees"])):
            sums[name][currency] = sums[name].get(currency, 0.0) + tick * float(ticks)
    found: dict[str, Any] = dict(sums)
    if engine.limits.account.any:
        folio = engine.desk.portfolio[0]
        found["currency"] = engine.limits.account.currency
        found |= {name: float(folio[name]) for name in ("pnl", "day_pnl", "gross", "net")}
    return found

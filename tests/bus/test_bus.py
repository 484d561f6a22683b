"""Whatever the interleaving: order holds, nothing is lost uncounted, the bound holds, control comes first."""

import asyncio
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.bus.bus import SAMPLES, EventBus
from emp.bus.queue import merge
from emp.core.clock import SimClock
from emp.core.codes import EventFlag, OrderStatus, Quarantine
from emp.core.contracts import DegradedMode, OrderUpdate, RiskBreach
from emp.core.records import EVENT

BOUND = 8
MS = 1_000_000


def make_bus(n: int = 1, bound: int = BOUND, contiguous: bool = False) -> tuple[EventBus, SimClock]:
    clock = SimClock(10**18)
    names = [f"I{i}" for i in range(n)]
    return EventBus(names, queue_bound=bound, max_age_ms=100, clock=clock, contiguous=contiguous), clock


def event(seq: int, instrument: int = 0, trade: int = 0, ts: int | None = None, flags: int = 1) -> np.ndarray:
    row = np.zeros(1, EVENT)
    row["seq"], row["ts"], row["instrument"] = seq, seq * 10 if ts is None else ts, instrument
    row["trade_qty"], row["trade_qty_last"], row["trade_px"] = trade, abs(trade), 1_000 + seq
    row["flags"] = flags | (EventFlag.TRADE if trade else 0)
    row["n_bid"], row["n_ask"] = 1, 1
    row["bid_px"][0, 0], row["ask_px"][0, 0] = 1_000 + seq, 1_001 + seq
    return row


def report(i: int) -> OrderUpdate:
    return OrderUpdate(clOrdID="a", execID=str(i), status=OrderStatus.NEW, filled=0, price=1, ts=i)


def control(bus: EventBus) -> list:
    return list(iter(bus.next_control, None))


def drain(bus: EventBus, limit: int = 64) -> list[np.ndarray]:
    rows = []
    while (next_up := bus.peek(limit)) is not None:
        instrument, view = next_up
        rows.extend(view[i : i + 1].copy() for i in range(len(view)))
        bus.release(instrument, len(view))
    return rows


step = st.one_of(
    st.tuples(
        st.just("market"), st.integers(0, 1), st.integers(-2, 3), st.integers(-3, 3), st.integers(1, 12)
    ),
    st.tuples(st.just("report")),
    st.tuples(st.just("take"), st.integers(1, 9), st.integers(0, 9)),
    st.tuples(st.just("time"), st.integers(1, 90)),
)


@given(st.lists(step, max_size=80), st.booleans())
def test_every_interleaving_keeps_order_counts_and_bound(steps, contiguous: bool) -> None:
    bus, clock = make_bus(2, contiguous=contiguous)
    seq, sent, out = [0, 0], [0, 0], {0: [], 1: []}
    reports, got = 0, []
    volume_in, volume_out = [0, 0], [0, 0]
    for what, *values in steps:
        if what == "market":
            instrument, jump, trade, n = values
            batch = np.concatenate(
                [event(max(0, seq[instrument] + i + jump), instrument, trade) for i in range(n)]
            )
            seq[instrument] += n
            sent[instrument] += n
            before = sum(bus.counts(instrument).quarantined.values())
            bus.publish(batch)
            fine = n - (sum(bus.counts(instrument).quarantined.values()) - before)
            volume_in[instrument] += fine * trade
        elif what == "report":
            bus.publish(report(reports))
            reports += 1
        elif what == "time":
            clock.advance(values[0] * MS)
            bus.check()
        else:
            got += control(bus)
            if (next_up := bus.peek(values[0])) is not None:
                instrument, view = next_up
                assert len(view) <= values[0]
                taken = min(values[1], len(view))
                out[instrument] += [(int(e["ts"]), int(e["seq"])) for e in view[:taken]]
                volume_out[instrument] += int(view["trade_qty"][:taken].sum())
                bus.release(instrument, taken)
        assert all(bus.depth(i) <= BOUND for i in (0, 1))
    got += control(bus)
    for row in drain(bus):
        instrument = int(row["instrument"][0])
        out[instrument].append((int(row["ts"][0]), int(row["seq"][0])))
        volume_out[instrument] += int(row["trade_qty"][0])
    for i in (0, 1):
        counts = bus.counts(i)
        assert counts.received == sent[i]
        assert counts.received == counts.delivered + counts.conflated + sum(counts.quarantined.values())
        assert counts.delivered == len(out[i])
        assert all(a[0] <= b[0] and a[1] < b[1] for a, b in pairwise(out[i]))
        assert volume_out[i] == volume_in[i]
        assert counts.high_water <= BOUND
    assert [m.execID for m in got if isinstance(m, OrderUpdate)] == [str(i) for i in range(reports)]
    for name in ("I0", "I1"):
        switches = [m.active for m in got if isinstance(m, DegradedMode) and m.instrument == name]
        assert all(a != b for a, b in pairwise(switches))
        assert switches[:1] in ([], [True])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=120))
def test_conflation_keeps_the_volume_of_each_side_or_counts_it(trades: list[int]) -> None:
    bus, _ = make_bus()
    for seq, trade in enumerate(trades):
        bus.publish(event(seq, trade=trade))
    rows = drain(bus)
    gross = sum(abs(int(r["trade_qty"][0])) for r in rows)
    assert gross + bus.counts(0).netted_lots == sum(map(abs, trades))
    assert int(rows[-1]["seq"][0]) == len(trades) - 1
    assert int(rows[-1]["bid_px"][0, 0]) == 1_000 + len(trades) - 1


def test_one_sided_trades_are_never_netted_and_nothing_merges_below_the_bound() -> None:
    bus, _ = make_bus()
    for seq in range(BOUND):
        bus.publish(event(seq, trade=2))
    assert bus.counts(0).conflated == 0
    for seq in range(BOUND, 50):
        bus.publish(event(seq, trade=2))
    assert bus.counts(0).conflated > 0
    assert bus.counts(0).netted_lots == 0


def test_merged_events_keep_what_must_not_disappear() -> None:
    gap = event(1, trade=3, flags=EventFlag.VISIBLE | EventFlag.GAP | EventFlag.HALT | EventFlag.NO_DEPTH)
    resumed = event(2, flags=int(EventFlag.RESUME))
    assert merge(gap[0], resumed[0]) == 0
    assert EventFlag(int(resumed["flags"][0])) == (
        EventFlag.VISIBLE | EventFlag.GAP | EventFlag.RESUME | EventFlag.TRADE
    )
    assert (resumed["trade_qty"][0], resumed["trade_px"][0], resumed["trade_qty_last"][0]) == (3, 1_001, 3)
    assert (resumed["bid_px"][0, 0], resumed["seq"][0]) == (1_002, 2)


def test_refused_events_are_counted_by_reason_and_the_first_are_kept() -> None:
    bus, _ = make_bus()
    bus.publish(event(100))
    for _ in range(SAMPLES + 10):
        bus.publish(event(100))
    bus.publish(np.concatenate([event(7), event(101), event(8)]))
    assert Counter(bus.counts(0).quarantined) == {Quarantine.DUPLICATE: SAMPLES + 10, Quarantine.BACKWARDS: 2}
    assert len(bus.samples(0, Quarantine.DUPLICATE)) == SAMPLES
    assert [int(s["seq"][0]) for s in bus.samples(0, Quarantine.BACKWARDS)] == [7, 8]


def test_a_full_queue_degrades_and_recovers_only_when_half_empty_young_and_rested() -> None:
    bus, clock = make_bus()
    for seq in range(BOUND + 1):
        bus.publish(event(seq))
    (message,) = control(bus)
    assert (message.reason, message.active, message.queue_depth) == ("queue_bound", True, BOUND)
    assert bus.degraded(0)
    clock.advance(40 * MS)
    bus.check()
    drain(bus)
    bus.check()
    assert control(bus) == [], "recovered although no rest has passed"
    clock.advance(60 * MS)
    for seq in range(100, 100 + BOUND // 2 + 1):
        bus.publish(event(seq))
    bus.check()
    assert control(bus) == [], "recovered although more than half full"
    instrument, _ = bus.peek(1)
    bus.release(instrument, 1)
    bus.check()
    (message,) = control(bus)
    assert (message.active, message.queue_depth) == (False, BOUND // 2)
    assert not bus.degraded(0)


def test_an_old_event_degrades_and_age_has_hysteresis() -> None:
    bus, clock = make_bus()
    bus.publish(event(1))
    clock.advance(100 * MS)
    bus.check()
    assert control(bus) == []
    clock.advance(1)
    bus.check()
    (message,) = control(bus)
    assert message.reason == "max_age"
    assert message.lag_ms == pytest.approx(100, abs=0.01)
    drain(bus)
    clock.advance(60 * MS)
    bus.publish(event(2))
    clock.advance(60 * MS)
    bus.check()
    assert control(bus) == [], "recovered although the oldest event is above half the limit"
    drain(bus)
    bus.check()
    assert [m.active for m in control(bus)] == [False]


def test_who_is_to_decide_on_an_old_event_hears_of_it_first_and_once() -> None:
    bus, clock = make_bus()
    assert not bus.overdue(0), "none waits"
    bus.publish(event(1))
    clock.advance(100 * MS)
    assert not bus.overdue(0)
    clock.advance(1)
    assert bus.overdue(0)
    (message,) = control(bus)
    assert (message.reason, message.active) == ("max_age", True)
    assert bus.degraded(0)
    assert not bus.overdue(0), "told twice"
    assert control(bus) == []


def test_control_is_first_lossless_and_in_order_under_any_load() -> None:
    bus, _ = make_bus()
    expected = []
    for i in range(500):
        bus.publish(np.concatenate([event(i * 3 + k) for k in range(3)]))
        message = [
            report(i),
            RiskBreach(reason="r", metric="m", value=1, limit=0, ts=i),
            DegradedMode(reason="other", queue_depth=i, lag_ms=0.0, instrument="I0", ts=i),
        ][i % 3]
        expected.append(message)
        bus.publish(message)
    got = control(bus)
    assert [m for m in got if not isinstance(m, DegradedMode) or m.reason == "other"] == expected
    assert any(isinstance(m, DegradedMode) and m.reason != "other" for m in got)
    assert bus.depth(0) <= BOUND


def test_subscribers_see_deliveries_and_cannot_break_them(caplog: pytest.LogCaptureFixture) -> None:
    bus, _ = make_bus()
    seen: list = []

    def broken(_: object) -> None:
        raise RuntimeError("observer")

    bus.subscribe("order_update", broken)
    stop = bus.subscribe("order_update", seen.append)
    bus.subscribe("market_data_update", seen.append)
    bus.publish(report(1))
    bus.publish(event(5))
    assert seen == []
    assert bus.next_control() == report(1)
    assert seen == [report(1)]
    assert "a subscriber of order_update failed" in caplog.text
    drain(bus)
    assert (seen[1].instrument, seen[1].bid, seen[1].ask, seen[1].seq) == ("I0", 1_005, 1_006, 5)
    assert seen[1].depth == ((1_005, 0, 1_006, 0),)
    stop()
    bus.publish(report(2))
    bus.next_control()
    assert len(seen) == 2


def test_instruments_take_turns() -> None:
    bus, _ = make_bus(3)
    for instrument in range(3):
        bus.publish(np.concatenate([event(s, instrument) for s in range(4)]))
    order = []
    while (next_up := bus.peek(2)) is not None:
        order.append(next_up[0])
        bus.release(next_up[0], len(next_up[1]))
    assert order == [0, 1, 2, 0, 1, 2]


def test_emit_forwards_and_warns_and_wakes_the_consumer() -> None:
    async def scenario() -> None:
        bus, _ = make_bus()
        waiting = asyncio.create_task(bus.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        with pytest.warns(DeprecationWarning, match="publish_async"):
            await bus.emit(report(1))
        await asyncio.wait_for(waiting, 1)
        assert bus.next_control() == report(1)
        await bus.publish_async(event(1))
        assert bus.depth(0) == 1

    asyncio.run(scenario())


def test_misuse_is_refused() -> None:
    bus, _ = make_bus()
    with pytest.raises(ValueError, match="instrument index"):
        bus.publish(event(1, instrument=1))
    with pytest.raises(ValueError, match="cannot release"):
        bus.release(0, 1)


def test_merging_does_not_make_a_queue_young() -> None:
    bus, clock = make_bus()
    for seq in range(BOUND + 1):
        bus.publish(event(seq))
        clock.advance(10 * MS)
    assert bus.lag_ms(0) == 10 * (BOUND + 1)
    for oldest_part in (2, 4, 6, 8):
        bus.release(0, 1)
        assert bus.lag_ms(0) == 10 * (BOUND + 1 - oldest_part)

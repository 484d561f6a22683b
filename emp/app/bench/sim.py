"""Events per second of the market simulator, beside hftbacktest on the same stream in the same run."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()

EVERY = 10
FEED_NS = 100_000


@app.command()
def sim(
    events: Annotated[
        int, typer.Option(min=50_000, help="Messages of the stream, events per run.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    recording: Annotated[
        Path | None, typer.Option(help="Calibrate Hawkes and queue-reactive flow on this recording.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Replay, three flows and the full stack, interleaved with hftbacktest where it is installed.

    Every figure is events per second of thread CPU time, the best of the rounds: the machine may be shared.
    Replay: recorded messages into the book. Full stack: queue-reactive flow, our two-sided quotes, five
    latency legs and an observation every 10 events; hftbacktest's counterpart replays the stream with the
    same two-sided quoting every 10 messages, no market reaction and constant latency.
    """
    from emp.app.terminal.console import make_console
    from emp.core.extras import missing_extra

    jobs, messages = _ours(events, recording)
    peers = _peer(messages)
    times = _interleave({**jobs, **peers}, rounds)
    rate = {name: round(n / best) for name, (n, best) in times.items()}
    result: dict[str, Any] = {f"{name}_events_per_s": rate[name] for name in jobs}
    result["clock"] = "thread CPU time"
    result["messages"] = len(messages.msgs)
    result["peers"] = {}
    if peers:
        result["peers"]["hftbacktest"] = {
            "events_per_s": rate["hftbacktest"],
            "ratio": round(rate["replay"] / rate["hftbacktest"], 3),
            "maker_events_per_s": rate["hftbacktest_maker"],
            "full_stack_ratio": round(rate["full_stack"] / rate["hftbacktest_maker"], 3),
        }
    console = make_console()
    for name, value in rate.items():
        console.print(f"{name:<18} {value:>12,} events/s", highlight=False)
    if not peers:
        console.print(missing_extra("hftbacktest"))
    if as_json:
        print(json.dumps(result))


Job = Callable[[], tuple[int, float]]


def _interleave(jobs: dict[str, Job], rounds: int) -> dict[str, tuple[int, float]]:
    """Best seconds per job, after one unmeasured round that compiles."""
    best: dict[str, tuple[int, float]] = {}
    for i in range(rounds + 1):
        for name, job in jobs.items():
            n, seconds = job()
            if i > 0 and (name not in best or seconds / n < best[name][1] / best[name][0]):
                best[name] = (n, seconds)
    return best


def _ours(events: int, recording: Path | None) -> tuple[dict[str, Job], Any]:
    from emp.sim.book.book import new_fills
    from emp.sim.facts.study import study
    from emp.sim.fit.calibrate import calibrate
    from emp.sim.flow.zi import zi_params
    from emp.sim.measure.maker import naive_maker
    from emp.sim.measure.observe_market import observe_market
    from emp.sim.tape.replay import replay_all
    from emp.sim.world.latency import LatencyConfig
    from emp.sim.world.market import Market
    from emp.sim.world.stream import message_stream

    zi = zi_params()
    stream = message_stream(Market(zi, 1, 100_000), events)
    obs = study(recording).tape.obs if recording else observe_market(Market(zi, 2, 100_000), 60_000, "zi").obs
    start = max(10_000, int(obs["bid"][0]))
    markets = {
        name: Market(p, 1, start)
        for name, p in (("zi", zi), ("hawkes", calibrate(obs, "hawkes")), ("qr", calibrate(obs, "qr")))
    }
    stacked = Market(markets["qr"].flow.params, 3, start)

    def replay() -> tuple[int, float]:
        book, fills = stream.new_book(), new_fills(8)
        began = time.thread_time()
        replay_all(book, fills, stream.msgs)
        return len(stream.msgs), time.thread_time() - began

    def flow(name: str) -> Job:
        def run() -> tuple[int, float]:
            began = time.thread_time()
            n = markets[name].run(2**62, events)
            return n, time.thread_time() - began

        return run

    def full_stack() -> tuple[int, float]:
        began = time.thread_time()
        n = naive_maker(stacked, 1, LatencyConfig(), 0.0, 0.0, events // EVERY, EVERY).events
        return n, time.thread_time() - began

    jobs = {
        "replay": replay,
        "zi": flow("zi"),
        "hawkes": flow("hawkes"),
        "qr": flow("qr"),
        "full_stack": full_stack,
    }
    return jobs, stream


def _peer(stream: Any) -> dict[str, Job]:
    try:
        import hftbacktest as hb
    except ImportError:
        return {}
    data = _feed(hb, stream)
    n = len(stream.msgs)
    low, high = float(data["px"].min()), float(data["px"].max())

    def asset() -> Any:
        made = hb.BacktestAsset().data([data]).linear_asset(1.0)
        made = made.constant_order_latency(FEED_NS, FEED_NS).log_prob_queue_model2()
        made = made.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
        made = made.tick_size(1.0).lot_size(1.0).roi_lb(low).roi_ub(high).last_trades_capacity(0)
        return hb.ROIVectorMarketDepthBacktest([made])

    def engine() -> tuple[int, float]:
        world = asset()
        began = time.thread_time()
        while world.elapse(10**15) == 0:
            pass
        seconds = time.thread_time() - began
        world.close()
        return n, seconds

    quote = _peer_maker(hb)
    step = int((data["exch_ts"][-1] - data["exch_ts"][0]) / (n / EVERY))

    def maker() -> tuple[int, float]:
        world = asset()
        began = time.thread_time()
        quote(world, step)
        seconds = time.thread_time() - began
        world.close()
        return n, seconds

    return {"hftbacktest": engine, "hftbacktest_maker": maker}


def _feed(hb: Any, stream: Any) -> Any:
    """The stream as level-2 feed: the level after every message, and a trade where there was one."""
    import numpy as np

    from emp.sim.world.stream import depth_feed

    feed = depth_feed(stream)
    traded = feed[:, 4] > 0
    data = np.zeros(len(feed) + int(traded.sum()), hb.event_dtype)
    at = np.arange(len(feed)) + np.cumsum(traded)
    both = hb.EXCH_EVENT | hb.LOCAL_EVENT
    side = np.where(feed[:, 1] == 0, hb.BUY_EVENT, hb.SELL_EVENT).astype(np.uint64)
    data["ev"][at] = np.uint64(both | hb.DEPTH_EVENT) | side
    data["px"][at], data["qty"][at] = feed[:, 2], feed[:, 3]
    data["exch_ts"][at] = feed[:, 0]
    before = at[traded] - 1
    taker = np.where(feed[traded, 1] == 0, hb.SELL_EVENT, hb.BUY_EVENT).astype(np.uint64)
    data["ev"][before] = np.uint64(both | hb.TRADE_EVENT) | taker
    data["px"][before], data["qty"][before] = feed[traded, 2], feed[traded, 4]
    data["exch_ts"][before] = feed[traded, 0]
    data["local_ts"] = data["exch_ts"] + FEED_NS
    return data


def _peer_maker(hb: Any) -> Any:
    """Two-sided quoting at the best prices in the peer's own compiled style."""
    import numba

    buy, gtx, limit, cancellable = hb.BUY, hb.GTX, hb.LIMIT, hb.NEW

    @numba.njit
    def run(world: Any, step: int) -> int:
        number, decisions = 1, 0
        while world.elapse(step) == 0:
            decisions += 1
            depth = world.depth(0)
            bid, ask = depth.best_bid_tick, depth.best_ask_tick
            world.clear_inactive_orders(0)
            orders = world.orders(0)
            values = orders.values()
            has_bid, has_ask = False, False
            while values.has_next():
                order = values.get()
                if order.side == buy:
                    has_bid = True
                else:
                    has_ask = True
                want = bid if order.side == buy else ask
                if order.price_tick != want and order.status == cancellable and order.cancellable:
                    world.cancel(0, order.order_id, False)
            position = world.position(0)
            if not has_bid and position < 10:
                world.submit_buy_order(0, number, float(bid), 1.0, gtx, limit, False)
                number += 1
            if not has_ask and position > -10:
                world.submit_sell_order(0, number, float(ask), 1.0, gtx, limit, False)
                number += 1
        return decisions

    return run

"""Events per second of the market simulator, beside hftbacktest on the same stream in the same run."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.bench.stopwatch import PEERS_HELP, Stopwatch
from emp.app.bench.world import TradingJobs

app = typer.Typer()

EVERY = 10
"""Events between two decisions of a maker."""
LIMIT = 10
"""Lots that a maker may hold."""
TAPE_SHARE = 0.95
"""Part of a stream that is played to a maker: events also pass while its orders are on their way."""
STREAM = "zi"
"""Name of the stream of zero-intelligence flow in the peers' files."""


@app.command()
def sim(
    events: Annotated[
        int, typer.Option(min=50_000, help="Messages of the stream, events per run.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    recording: Annotated[
        Path | None, typer.Option(help="Calibrate Hawkes and queue-reactive flow on this recording.")
    ] = None,
    peers: Annotated[Path | None, typer.Option(help=PEERS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Replay, three flows and the full stack, interleaved with hftbacktest where it is installed.

    Every figure is events per second of thread CPU time, the best of the rounds: the machine may be shared.
    Replay: recorded messages into the book. Full stack: queue-reactive flow, our two-sided quotes, five
    latency legs and an observation every 10 events; hftbacktest's counterpart replays the stream with the
    same two-sided quoting every 10 messages, no market reaction and constant latency. Tape: the same maker, or an
    idle one, on the stream that hftbacktest replays, with its latency. With `--peers` (or EMP_PEERS) the native
    programs run in turn with ours, on the same stream. Engine: the engine that trades live, with the linear model,
    every stage on every event, its orders in the queue-reactive flow. Paper: the same engine over such a market's
    recording, its orders at the paper venue.
    """
    from emp.app.bench.native.programs import peers_folder
    from emp.app.bench.native.table import show_table
    from emp.app.terminal.console import make_console
    from emp.core.extras import missing_extra

    rates, native, messages, trading = measure(events, rounds, recording, peers_folder(peers))
    rate = {name: round(max(r.per_cpu_s)) for name, r in rates.items()}
    ours = [name for name in rates if not name.startswith("hftbacktest")]
    result: dict[str, Any] = {f"{name}_events_per_s": rate[name] for name in ours}
    result["clock"] = "thread CPU time"
    result["messages"] = messages
    result |= trading.orders(rate)
    result["peers"] = {}
    if "hftbacktest" in rate:
        result["peers"]["hftbacktest"] = {
            "events_per_s": rate["hftbacktest"],
            "ratio": round(rate["tape_idle"] / rate["hftbacktest"], 3),
            "maker_events_per_s": rate["hftbacktest_maker"],
            "maker_ratio": round(rate["tape_maker"] / rate["hftbacktest_maker"], 3),
            "engine_ratio": round(rate["engine"] / rate["hftbacktest_maker"], 3),
            "full_stack_ratio": round(rate["full_stack"] / rate["hftbacktest_maker"], 3),
        }
    result["native"] = native
    console = make_console()
    for name, value in rate.items():
        console.print(f"{name:<18} {value:>12,} events/s", highlight=False)
    console.print(
        f"engine: {result['messages_per_event']} order messages an event; moving its order whenever it can"
        f" {result['restless_messages_per_event']}, {result['message_us']} us each",
        highlight=False,
    )
    if "hftbacktest" not in rate:
        console.print(missing_extra("hftbacktest"))
    if native:
        show_table(native, lambda line: console.print(line, highlight=False))
    if as_json:
        print(json.dumps(result))


Job = Callable[[], tuple[int, Stopwatch]]


def measure(
    events: int, rounds: int, recording: Path | None, peers: Path | None
) -> tuple[dict[str, Any], list[dict[str, Any]], int, TradingJobs]:
    """(rates of our cases and of hftbacktest's, rows of the native table, messages of the stream, the traders).

    An unmeasured round that compiles goes before the others.
    """
    from emp.app.bench.native.table import Rates

    ours, stream, trading = _ours(events, recording)
    jobs = {**ours, **_peer(stream)}
    rates = {name: Rates() for name in jobs}
    with tempfile.TemporaryDirectory(prefix="emp-bench-") as scratch:
        natives = _natives(peers, Path(scratch), stream) if peers else None
        for i in range(rounds + 1):
            for name, job in jobs.items():
                n, watch = job()
                if i > 0:
                    rates[name].add(n / watch.wall_s, n / watch.cpu_s)
            if natives and i > 0:
                natives.round()
    return rates, natives.compare(rates) if natives else [], len(stream.msgs), trading


def _natives(peers: Path, data: Path, stream: Any) -> Any:
    from emp.app.bench.native.layout import write_quotes, write_stream
    from emp.app.bench.native.like import SIM
    from emp.app.bench.native.table import Natives
    from emp.core.records import empty_events
    from emp.sim.book.book import BEST
    from emp.sim.tape.replay import replay_book

    write_stream(data, STREAM, stream)
    write_quotes(data, empty_events(0))
    book, _ = replay_book(stream)
    touch = [float(book[BEST]), float(book[BEST + 1])]
    return Natives(peers, data, SIM, STREAM, {"touch": touch})


def _ours(events: int, recording: Path | None) -> tuple[dict[str, Job], Any, TradingJobs]:
    from emp.app.bench.native.layout import FEED_NS
    from emp.sim.book.book import new_fills
    from emp.sim.facts.study import study
    from emp.sim.fit.calibrate import calibrate
    from emp.sim.flow.zi import zi_params
    from emp.sim.measure.maker import naive_maker
    from emp.sim.measure.observe_market import observe_market
    from emp.sim.tape.replay import replay_all
    from emp.sim.world.latency import LatencyConfig, Leg
    from emp.sim.world.market import Market
    from emp.sim.world.stream import message_stream
    from emp.sim.world.tape import TapeMarket

    zi = zi_params()
    stream = message_stream(Market(zi, 1, 100_000), events)
    obs = study(recording).tape.obs if recording else observe_market(Market(zi, 2, 100_000), 60_000, "zi").obs
    start = max(10_000, int(obs["bid"][0]))
    markets = {
        name: Market(p, 1, start)
        for name, p in (("zi", zi), ("hawkes", calibrate(obs, "hawkes")), ("qr", calibrate(obs, "qr")))
    }
    stacked = Market(markets["qr"].flow.params, 3, start)

    idle = Market(markets["qr"].flow.params, 3, start)

    constant = Leg(FEED_NS / 1e3, 0.0, 0.0)
    like_peers = LatencyConfig(constant, constant, constant, constant, constant, compute_us=0.0)
    decisions = int(TAPE_SHARE * len(stream.msgs) / EVERY)

    def tape(limit: int) -> Job:
        def run() -> tuple[int, Stopwatch]:
            market = TapeMarket(stream)
            with Stopwatch() as watch:
                n = naive_maker(market, 1, like_peers, 0.0, 0.0, decisions, EVERY, limit=limit).events
            return n, watch

        return run

    def replay() -> tuple[int, Stopwatch]:
        book, fills = stream.new_book(), new_fills(8)
        with Stopwatch() as watch:
            replay_all(book, fills, stream.msgs)
        return len(stream.msgs), watch

    def flow(name: str) -> Job:
        def run() -> tuple[int, Stopwatch]:
            with Stopwatch() as watch:
                n = markets[name].run(2**62, events)
            return n, watch

        return run

    def world(market: Market, limit: int) -> Job:
        def run() -> tuple[int, Stopwatch]:
            with Stopwatch() as watch:
                n = naive_maker(
                    market, 1, LatencyConfig(), 0.0, 0.0, events // EVERY, EVERY, limit=limit
                ).events
            return n, watch

        return run

    trading = TradingJobs(markets["qr"].flow.params, start, events)
    jobs = {
        "replay": replay,
        "zi": flow("zi"),
        "hawkes": flow("hawkes"),
        "qr": flow("qr"),
        "tape_idle": tape(0),
        "tape_maker": tape(LIMIT),
        "idle_world": world(idle, 0),
        "full_stack": world(stacked, LIMIT),
        **trading.jobs(),
    }
    return jobs, stream, trading


def _peer(stream: Any) -> dict[str, Job]:
    try:
        import hftbacktest as hb
    except ImportError:
        return {}
    from emp.app.bench.native.layout import FEED_NS, level_rows
    from emp.sim.tape.feed import feed_of

    data = level_rows(feed_of(stream)).astype(hb.event_dtype)
    n = len(stream.msgs)
    low, high = float(data["px"].min()), float(data["px"].max())

    def asset() -> Any:
        made = hb.BacktestAsset().data([data]).linear_asset(1.0)
        made = made.constant_order_latency(FEED_NS, FEED_NS).log_prob_queue_model2()
        made = made.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
        made = made.tick_size(1.0).lot_size(1.0).roi_lb(low).roi_ub(high).last_trades_capacity(0)
        return hb.ROIVectorMarketDepthBacktest([made])

    def engine() -> tuple[int, Stopwatch]:
        world = asset()
        with Stopwatch() as watch:
            while world.elapse(10**15) == 0:
                pass
        world.close()
        return n, watch

    quote = _peer_maker(hb)
    step = int((data["exch_ts"][-1] - data["exch_ts"][0]) / (n / EVERY))

    def maker() -> tuple[int, Stopwatch]:
        world = asset()
        with Stopwatch() as watch:
            quote(world, step)
        world.close()
        return n, watch

    return {"hftbacktest": engine, "hftbacktest_maker": maker}


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

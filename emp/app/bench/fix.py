"""FIX: read a snapshot of ten entries into an event row, build a new order; beside simplefix and QuickFIX."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.bench.native.codec import decode_job
from emp.app.bench.native.like import FIX
from emp.app.bench.native.programs import peers_folder
from emp.app.bench.native.table import Natives, Rates, show_table
from emp.app.bench.stopwatch import PEERS_HELP
from emp.app.terminal.console import make_console
from emp.core.recorded import recordings_folder

app = typer.Typer()

ENTRIES = 10
LIMIT_US = 3.0
NATIVE_ROUNDS, NATIVE_MESSAGES, RUNS = 5, 20_000, 4
"""Rounds beside the native codecs, messages of a run, runs of a round: the last two as theirs."""
NO_DICTIONARY = "<fix><components><component name='MDFullGrp'></component></components></fix>"
"""Stands where there is no dictionary: the codec that needs one then says so, the others run."""


@app.command()
def fix(
    messages: int = typer.Option(
        200, min=50, help="messages per run: few, so that a run fits into a time slice"
    ),
    rounds: int = typer.Option(200, min=3, help="runs of each, interleaved; the best counts"),
    peers_at: Annotated[Path | None, typer.Option("--peers", help=PEERS_HELP)] = None,
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Time parsing (length and checksum verified, into ticks and lots) and building beside the peers.

    `parse` is the whole way of a session's framer, from bytes to an event row, called from Python; `decode` the
    compiled scan alone, from bytes to ten entries of a book in ticks and lots. With `--peers` (or EMP_PEERS) native
    codecs run in turn with it, on the same message.
    """
    folder = peers_folder(peers_at)
    message = _snapshot()
    ours = {"parse": _our_parse(message), **_our_build()}
    peers = {"simplefix": _simplefix(message), "quickfix": _quickfix(message)}
    present = {name: cases for name, cases in peers.items() if cases}
    cases = {("ours", what): case for what, case in ours.items()}
    cases |= {(name, what): case for name, found in present.items() for what, case in found.items()}
    decoded, native = measure(NATIVE_ROUNDS, folder)
    wall, cpu = _timed(cases, messages, rounds)
    from emp.app.bench.pieces import LIMIT_MS, longest_hold_ms

    parse = wall["ours", "parse"]
    result: dict[str, Any] = {
        "parse_w10_us": parse,
        "parse_w10_cpu_us": cpu["ours", "parse"],
        "parse_limit_us": LIMIT_US,
        "decode_w10_us": round(1e6 / max(decoded.per_s), 3),
        "decode_w10_cpu_us": round(1e6 / max(decoded.per_cpu_s), 3),
        "longest_piece_cpu_ms": round(longest_hold_ms(_instrument(), _framed), 3),
        "longest_piece_limit_ms": LIMIT_MS,
        "message_bytes": len(message),
        "build_order_us": wall["ours", "build"],
        "send_order_us": wall["ours", "send"],
        "peers": {
            name: {
                "parse_us": wall[name, "parse"],
                "ratio": round(wall[name, "parse"] / parse, 1),
                "build_us": wall[name, "build"],
                "build_ratio": round(wall[name, "build"] / wall["ours", "build"], 1),
            }
            for name in present
        },
    }
    result["native"] = native
    _show(result, [name for name in peers if name not in present])
    if as_json:
        print(json.dumps(result))


def _show(result: dict[str, Any], absent: list[str]) -> None:
    console = make_console()
    console.print(
        f"W with {ENTRIES} entries, {result['message_bytes']} bytes, to an event row; new order to bytes"
    )
    console.print(
        f"ours       parse {result['parse_w10_us']:8.2f} us (limit {LIMIT_US:g})   build "
        f"{result['build_order_us']:8.2f} us   numbered, stamped and queued {result['send_order_us']:.2f} us"
    )
    for name, peer in result["peers"].items():
        console.print(
            f"{name:10} parse {peer['parse_us']:8.2f} us ({peer['ratio']:g} times ours)   build "
            f"{peer['build_us']:8.2f} us ({peer['build_ratio']:g} times)"
        )
    for name in absent:
        console.print(f"{name:10} is not installed")
    console.print(f"ours       decode alone, compiled {result['decode_w10_cpu_us']:.2f} us of CPU time")
    console.print(
        f"ours       longest one read of 64 KiB holds the loop {result['longest_piece_cpu_ms']:.2f} ms of CPU time "
        f"(limit {result['longest_piece_limit_ms']:g})"
    )
    if result["native"]:
        show_table(result["native"], lambda line: console.print(line, highlight=False))


def measure(rounds: int, peers: Path | None) -> tuple[Rates, list[dict[str, Any]]]:
    """Our decoding alone, in turn with the native codecs where there is a folder of peers: (rates, rows)."""
    message, ours = _snapshot(), Rates()
    job = decode_job(_market(), message, NATIVE_MESSAGES)
    with tempfile.TemporaryDirectory(prefix="emp-bench-") as scratch:
        natives = _natives(peers, Path(scratch), message) if peers else None
        for _ in range(rounds):
            watches = [job() for _ in range(RUNS)]
            ours.add(
                NATIVE_MESSAGES / min(w.wall_s for w in watches),
                NATIVE_MESSAGES / min(w.cpu_s for w in watches),
            )
            if natives:
                natives.round()
    return ours, natives.compare({"decode": ours}) if natives else []


def _natives(peers: Path, data: Path, message: bytes) -> Natives:
    (data / "w10.fix").write_bytes(message)
    dictionary = _dictionary()
    (data / "FIX44.xml").write_text(dictionary.read_text() if dictionary else NO_DICTIONARY)
    return Natives(peers, data, FIX, "", {})


def _dictionary() -> Path | None:
    """QuickFIX's own dictionary of FIX 4.4: with the data, else where its Python package keeps it."""
    places = (
        recordings_folder() / "fix" / "FIX44.xml",
        Path(sys.prefix) / "share" / "quickfix" / "FIX44.xml",
    )
    return next((place for place in places if place.exists()), None)


Case = Callable[[], object]


def _timed(
    cases: dict[tuple[str, str], Case], messages: int, rounds: int
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Best wall and thread-CPU time per call in us, runs interleaved; slow cases run fewer times per run."""
    wall = dict.fromkeys(cases, float("inf"))
    cpu = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for key, case in cases.items():
            count = messages if key[0] == "ours" else messages // 20
            begin, begin_cpu = time.perf_counter_ns(), time.thread_time_ns()
            for _ in range(count):
                case()
            cpu[key] = min(cpu[key], (time.thread_time_ns() - begin_cpu) / count / 1e3)
            wall[key] = min(wall[key], (time.perf_counter_ns() - begin) / count / 1e3)
    return (
        {key: round(us, 3) for key, us in wall.items()},
        {key: round(us, 3) for key, us in cpu.items()},
    )


# --- the message, and what it says -----------------------------------------------------------------------------

ROWS = [
    (i % 2, 108_750 + i * (1 if i % 2 else -1), 1_000 * (i + 1), 2_291_666_392 + i) for i in range(ENTRIES)
]
"""Side, price in ticks, size in lots, id."""


def _framed(body: str) -> bytes:
    inner = body.replace("|", "\x01").encode()
    data = b"8=FIX.4.4\x019=%d\x01%s" % (len(inner), inner)
    return data + b"10=%03d\x01" % (sum(data) % 256)


def _snapshot() -> bytes:
    entries = "".join(f"269={s}|270={px / 1e5:.5f}|271={lots * 1000}|278={i}|" for s, px, lots, i in ROWS)
    head = "35=W|34=2|49=VENUE|52=20240605-12:00:00.123|56=CLIENT|55=1|"
    return _framed(f"{head}268={ENTRIES}|{entries}")


def _expected() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    bids = sorted(((px, lots) for s, px, lots, _ in ROWS if s == 0), reverse=True)
    return bids, sorted((px, lots) for s, px, lots, _ in ROWS if s == 1)


def _agree(name: str, found: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
    """A timing counts only where the right book came out."""
    if found != _expected():
        raise RuntimeError(f"{name} read another book: {found}")


# --- ours ------------------------------------------------------------------------------------------------------


def _instrument() -> Any:
    from emp.core.codes import AssetClass, Venue
    from emp.core.instrument import Instrument, SessionSpan

    return Instrument(
        name="EURUSD",
        tick=0.00001,
        lot=1000.0,
        venue=Venue.SPOT_AGG,
        asset_class=AssetClass.FX_SPOT,
        taker_fee=0.0,
        maker_fee=0.0,
        fee_source="benchmark",
        sessions=(SessionSpan(session="asia", start="00:00", end="00:00"),),
    )


def _market() -> Any:
    from emp.access.fix.dialect import CTRADER
    from emp.access.fix.market import Market

    return Market([_instrument()], ["1"], CTRADER)


def _our_parse(message: bytes) -> Case:
    from emp.access.fix.frame import Framer

    market = _market()
    framer = Framer(b"FIX.4.4", b"VENUE", b"CLIENT", market=market)

    def parse() -> object:
        framer.write(message)
        return framer.next(2, 1)

    parse()
    row = market.rows[0]
    sides = [("bid_px", "bid_sz", "n_bid"), ("ask_px", "ask_sz", "n_ask")]
    bids, asks = (
        [(int(row[px][i]), int(row[size][i])) for i in range(row[count])] for px, size, count in sides
    )
    _agree("emp", (bids, asks))
    return parse


def _our_build() -> dict[str, Case]:
    from emp.access.fix.dialect import PLAIN
    from emp.access.fix.message import Composer
    from emp.access.fix.orders import Orders
    from emp.access.fix.session import Session
    from emp.access.fix.store import MemoryStore
    from emp.access.fix.terms import SessionConfig
    from emp.access.fix.text import Scale
    from emp.core.clock import LiveClock
    from emp.core.codes import Reason
    from emp.core.contracts import NewOrder

    orders = Orders({"EURUSD": Scale(_instrument())}, {"EURUSD": "1"}, PLAIN)
    clock = LiveClock()
    order = NewOrder(
        cl_ord_id="RUN00001-00000007",
        instrument="EURUSD",
        side=1,
        qty=3,
        px=108_755,
        immediate=True,
        ts=clock.now_ns(),
        reason=Reason.CROSS_EDGE,
        decision_seq=1,
    )
    composer = Composer("FIX.4.4", "CLIENT", "VENUE", "", "")
    session = Session(
        SessionConfig(sender="CLIENT", target="VENUE"),
        MemoryStore(),
        clock,
        Any,  # type: ignore[arg-type]
    )

    def build() -> object:
        kind, body = orders.body(order)
        return composer.frame(kind, 7, b"20240605-12:00:00.123", body)

    def send() -> object:
        kind, body = orders.body(order)
        session.send(kind, body)
        return session.drain()

    return {"build": build, "send": send}


# --- peers -----------------------------------------------------------------------------------------------------


def _simplefix(message: bytes) -> dict[str, Case]:
    try:
        import simplefix
    except ImportError:
        return {}

    def parse() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        parser = simplefix.FixParser()
        parser.append_buffer(message)
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        side, px = 0, 0
        for tag, value in parser.get_message().pairs:
            if tag == b"269":
                side = int(value)
            elif tag == b"270":
                px = round(float(value) * 100_000)
            elif tag == b"271":
                sides[side].append((px, int(value) // 1000))
        return sorted(sides[0], reverse=True), sorted(sides[1])

    def build() -> object:
        order = simplefix.FixMessage()
        for tag, value in _ORDER:
            order.append_pair(tag, value)
        return order.encode()

    _agree("simplefix", parse())
    return {"parse": parse, "build": build}


_ORDER: list[tuple[int, object]] = [
    (8, "FIX.4.4"), (35, "D"), (49, "CLIENT"), (56, "VENUE"), (34, 7), (52, "20240605-12:00:00.123"),
    (11, "RUN00001-00000007"), (55, "1"), (54, 1), (60, "20240605-12:00:00.123"), (38, 3000), (40, 2),
    (44, "1.08755"), (59, 3),
]  # fmt: skip


def _quickfix(message: bytes) -> dict[str, Case]:
    try:
        import quickfix
    except ImportError:
        return {}
    stock = _dictionary()
    if stock is None:
        return {}
    head, tail = stock.read_text().split("<component name='MDFullGrp'>", 1)
    entry = "<field name='MDEntryType' required='Y' />"
    tail = tail.replace(entry, entry + "<field name='MDEntryID' required='N' />", 1)
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(f"{head}<component name='MDFullGrp'>{tail}")
        file.flush()
        dictionary = quickfix.DataDictionary(file.name)
    text = message.decode("latin-1")

    def parse() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        found = quickfix.Message(text, dictionary, True)
        sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        group = quickfix.Group(268, 269)
        for i in range(1, int(found.getField(268)) + 1):
            found.getGroup(i, group)
            px = round(float(group.getField(270)) * 100_000)
            sides[int(group.getField(269))].append((px, int(group.getField(271)) // 1000))
        return sorted(sides[0], reverse=True), sorted(sides[1])

    def build() -> object:
        order = quickfix.Message()
        header = order.getHeader()
        for tag, value in _ORDER:
            (header if tag in (8, 35, 49, 56, 34, 52) else order).setField(tag, str(value))
        return order.toString()

    _agree("quickfix", parse())
    return {"parse": parse, "build": build}

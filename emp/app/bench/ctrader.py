"""cTrader Open API: microseconds per spot event, depth event and order, beside Google's protobuf and the JSON form."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from emp.app.terminal.console import make_console
from emp.app.terminal.table import print_table

if TYPE_CHECKING:
    from emp.access.ctrader.feed import Feed
    from emp.access.ctrader.wire import Message

app = typer.Typer()

ACCOUNT, LOT, RUN = 12_345_678, 100_000, 500

Case = Callable[[], object]


@app.command()
def ctrader(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Bytes to EVENT row (ours, with the book kept) beside bytes to fields alone (peers); and an order's bytes."""
    cases = {**_ours(), **_json_form(), **_google()}
    best = dict.fromkeys(cases, float("inf"))
    with make_console().status("measuring"):
        for _ in range(rounds):
            for name, run in cases.items():
                start = time.thread_time()
                for _ in range(RUN):
                    run()
                best[name] = min(best[name], (time.thread_time() - start) / RUN * 1e6)
    result = _result(best)
    table = Table("CPU us", "spot", "depth 5+5", "build order", "frame bytes, depth")
    sizes = {"emp": len(_depth_frames()[0]), "json": len(_json_depth()), "protobuf": len(_depth_frames()[0])}
    for who in ("emp", "json", "protobuf"):
        if f"{who}/depth" in best:
            shown = [f"{best[f'{who}/{what}']:.2f}" for what in ("spot", "depth", "order")]
            table.add_row(who, *shown, str(sizes[who]))
    print_table(make_console(), table)
    make_console().print(f"depth in batches of 64: {result['depth_batch_us']:.2f} us per event")
    if as_json:
        print(json.dumps(result))


def _result(best: dict[str, float]) -> dict[str, Any]:
    peers = {}
    for who in ("json", "protobuf"):
        if f"{who}/depth" in best:
            peers[who] = {
                f"{what}_us": round(best[f"{who}/{what}"], 3) for what in ("spot", "depth", "order")
            } | {"ratio": round(best[f"{who}/depth"] / best["emp/depth"], 2)}
    return {
        "spot_us": round(best["emp/spot"], 3),
        "depth_us": round(best["emp/depth"], 3),
        "depth_batch_us": round(best["emp/batch"] / 64, 3),
        "build_order_us": round(best["emp/order"], 3),
        "peers": peers,
    }


def _depth_messages() -> "list[Message]":
    """Two events that undo each other: five quotes come and five go."""
    from emp.access.ctrader.messages import ProtoOADepthEvent
    from emp.access.ctrader.parts import ProtoOADepthQuote

    def event(first: int, gone: int, size: int) -> ProtoOADepthEvent:
        quotes = tuple(
            ProtoOADepthQuote(id=first + i, size=size * LOT * (i + 1), bid=110_000 - i) for i in range(5)
        )
        return ProtoOADepthEvent(
            ctid_trader_account_id=ACCOUNT,
            symbol_id=1,
            new_quotes=quotes,
            deleted_quotes=tuple(range(gone, gone + 5)),
        )

    return [event(900_000, 800_000, 2), event(800_000, 900_000, 3)]


def _depth_frames() -> list[bytes]:
    from emp.access.ctrader.outbox import frame

    return [frame(message, None) for message in _depth_messages()]


def _spot_message(bid: int) -> "Message":
    from emp.access.ctrader.messages import ProtoOASpotEvent

    return ProtoOASpotEvent(
        ctid_trader_account_id=ACCOUNT, symbol_id=1, bid=bid, ask=110_010, timestamp=1_700_000_000_000
    )


def _order_message() -> "Message":
    from emp.access.ctrader.enums import OrderType, TimeInForce, TradeSide
    from emp.access.ctrader.messages import ProtoOANewOrderReq

    return ProtoOANewOrderReq(
        ctid_trader_account_id=ACCOUNT,
        symbol_id=1,
        order_type=OrderType.MARKET_RANGE,
        trade_side=TradeSide.BUY,
        volume=LOT,
        time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
        base_slippage_price=1.10001,
        slippage_in_points=1,
        client_order_id="ABCDEFGH-00000001",
    )


def _feed(depth: bool) -> "Feed":
    """A feed of one symbol; with depth, a book of 15 quotes a side."""
    from emp.access.ctrader.feed import Feed
    from emp.access.ctrader.messages import ProtoOADepthEvent
    from emp.access.ctrader.outbox import frame
    from emp.access.ctrader.parts import ProtoOADepthQuote, ProtoOALightSymbol, ProtoOASymbol
    from emp.access.ctrader.symbols import make_terms
    from emp.core.instrument import find

    feed = Feed(ACCOUNT, depth)
    light = ProtoOALightSymbol(symbol_id=1, symbol_name="EURUSD")
    feed.set_terms(
        [make_terms(0, find("EURUSD"), light, ProtoOASymbol(symbol_id=1, digits=5, pip_position=4))]
    )
    bids = tuple(ProtoOADepthQuote(id=1 + i, size=LOT, bid=109_999 - i) for i in range(15))
    asks = tuple(ProtoOADepthQuote(id=101 + i, size=LOT, ask=110_010 + i) for i in range(15))
    event = ProtoOADepthEvent(ctid_trader_account_id=ACCOUNT, symbol_id=1, new_quotes=bids + asks)
    list(feed.receive(frame(event, None), 1))
    return feed


def _ours() -> dict[str, Case]:
    from emp.access.ctrader.outbox import frame

    deep, flat = _feed(True), _feed(False)
    depths = _depth_frames()
    many = b"".join(depths * 32)
    spots = [frame(_spot_message(110_000 + i), None) for i in range(2)]
    turn = [0]

    def next_of(frames: list[bytes]) -> bytes:
        turn[0] ^= 1
        return frames[turn[0]]

    list(flat.receive(spots[0], 1))
    if sum(len(rows) for rows in deep.receive(many, 1)) != 64:
        raise RuntimeError("a depth event was lost")
    return {
        "emp/spot": lambda: list(flat.receive(next_of(spots), 1)),
        "emp/depth": lambda: list(deep.receive(next_of(depths), 1)),
        "emp/batch": lambda: list(deep.receive(many, 1)),
        "emp/order": lambda: frame(_order_message(), "ABCDEFGH-00000001"),
    }


def _json_text(message: "Message") -> bytes:
    import msgspec

    return msgspec.json.encode(
        {"clientMsgId": "x", "payloadType": message.PAYLOAD, "payload": _present(message)}
    )


def _present(message: "Message") -> dict[str, Any]:
    """Fields that are set, as the JSON form carries them."""
    import msgspec

    from emp.access.ctrader.wire import plan

    values = {item.wire_name: getattr(message, item.name) for item in plan(type(message)).fields}
    made: dict[str, Any] = msgspec.to_builtins({k: v for k, v in values.items() if v is not None})
    return made


def _json_depth() -> bytes:
    return _json_text(_depth_messages()[0])


def _json_form() -> dict[str, Case]:
    """The JSON form, decoded into the same typed messages by msgspec."""
    import msgspec

    from emp.access.ctrader.messages import ProtoOADepthEvent, ProtoOASpotEvent

    class Envelope(msgspec.Struct, rename="camel"):
        payload_type: int
        payload: msgspec.Raw

    outer = msgspec.json.Decoder(Envelope)
    spot, depth = msgspec.json.Decoder(ProtoOASpotEvent), msgspec.json.Decoder(ProtoOADepthEvent)
    spot_text, depth_text = _json_text(_spot_message(110_000)), _json_depth()
    return {
        "json/spot": lambda: spot.decode(outer.decode(spot_text).payload),
        "json/depth": lambda: depth.decode(outer.decode(depth_text).payload),
        "json/order": lambda: _json_text(_order_message()),
    }


def _google() -> dict[str, Case]:
    """Google's runtime on the same bytes; the fields it decoded are read, as any use of them would."""
    try:
        from google.protobuf import (  # type: ignore[import-untyped]  # its stubs are no dependency
            descriptor_pb2,
            descriptor_pool,
            message_factory,
        )
    except ImportError:
        return {}
    from emp.access.ctrader.messages import ProtoOADepthEvent, ProtoOANewOrderReq, ProtoOASpotEvent
    from emp.access.ctrader.outbox import frame
    from emp.access.ctrader.parts import ProtoMessage, ProtoOADepthQuote
    from emp.access.ctrader.wire import plan

    kinds = {
        "int64": 3,
        "uint64": 4,
        "int32": 5,
        "bool": 8,
        "string": 9,
        "bytes": 12,
        "uint32": 13,
        "double": 1,
    }
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="b", syntax="proto2")
    for cls in (ProtoMessage, ProtoOASpotEvent, ProtoOADepthQuote, ProtoOADepthEvent, ProtoOANewOrderReq):
        described = file.message_type.add(name=cls.__name__)
        for item in plan(cls).fields:
            field = described.field.add(
                name=item.wire_name, number=item.number, label=3 if item.repeated else 1
            )
            field.type = 11 if item.message else kinds.get(item.kind, 5)
            if item.message:
                field.type_name = f".b.{item.message.__name__}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def peer(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"b.{name}"))

    outer, spot, depth = peer("ProtoMessage"), peer("ProtoOASpotEvent"), peer("ProtoOADepthEvent")
    new_order = peer("ProtoOANewOrderReq")
    spot_bytes, depth_bytes = frame(_spot_message(110_000), None)[4:], _depth_frames()[0][4:]
    order = _present(_order_message())

    def read_spot() -> tuple[int, int]:
        event = spot.FromString(outer.FromString(spot_bytes).payload)
        return event.bid, event.ask

    def read_depth() -> tuple[list[tuple[int, int, int, int]], list[int]]:
        event = depth.FromString(outer.FromString(depth_bytes).payload)
        return [(q.id, q.size, q.bid, q.ask) for q in event.newQuotes], list(event.deletedQuotes)

    def build() -> bytes:
        payload = new_order(**order).SerializeToString()
        raw: bytes = outer(payloadType=2106, payload=payload, clientMsgId="x").SerializeToString()
        return len(raw).to_bytes(4, "big") + raw

    return {"protobuf/spot": read_spot, "protobuf/depth": read_depth, "protobuf/order": build}

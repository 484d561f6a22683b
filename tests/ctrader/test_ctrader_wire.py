"""The wire format on its own: bounds, unknown fields, secrets."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.access.ctrader.enums import AccountType, ExecutionType, TradeSide
from emp.access.ctrader.messages import (
    BY_PAYLOAD,
    ProtoOAAccountAuthReq,
    ProtoOAApplicationAuthReq,
    ProtoOAExecutionEvent,
    ProtoOAReconcileRes,
    ProtoOARefreshTokenRes,
    ProtoOASymbolByIdReq,
)
from emp.access.ctrader.parts import ProtoMessage, ProtoOATradeData, ProtoOATrader
from emp.access.ctrader.wire import WireError, decode, encode, get_varint, put_varint


@given(st.integers(-(2**63), 2**64 - 1))
def test_varint_round_trip(value: int) -> None:
    out = bytearray()
    put_varint(out, value)
    assert get_varint(bytes(out), 0, len(out)) == (value % 2**64, len(out))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\xff" * 11])
def test_broken_varint_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        get_varint(raw, 0, len(raw))


def test_unknown_fields_are_skipped() -> None:
    known = encode(ProtoOATradeData(symbol_id=1, volume=2, trade_side=TradeSide.BUY))
    extra = b"\xd8\x04\x07" + b"\xe2\x04\x02hi" + b"\xe9\x04" + bytes(8) + b"\xf5\x04" + bytes(4)
    assert decode(ProtoOATradeData, extra + known) == decode(ProtoOATradeData, known)


def test_packed_and_unpacked_repeated_fields_read_alike() -> None:
    packed = b"\x10\x05\x1a\x03\x01\x02\x03"
    assert decode(ProtoOASymbolByIdReq, packed).symbol_id == (1, 2, 3)
    unpacked = encode(ProtoOASymbolByIdReq(ctid_trader_account_id=5, symbol_id=(1, 2, 3)))
    assert decode(ProtoOASymbolByIdReq, unpacked).symbol_id == (1, 2, 3)


def test_missing_required_field_is_named() -> None:
    with pytest.raises(WireError, match="ProtoOATradeData lacks symbol_id, trade_side"):
        decode(ProtoOATradeData, b"\x10\x05")


def test_unknown_enum_value_stays_a_number() -> None:
    event = ProtoOAExecutionEvent(ctid_trader_account_id=1, execution_type=ExecutionType.SWAP)
    raw = encode(event).replace(b"\x18\x09", b"\x18\x63")
    assert decode(ProtoOAExecutionEvent, raw).execution_type == 99


def test_negative_numbers_keep_their_sign() -> None:
    trader = ProtoOATrader(
        ctid_trader_account_id=1, balance=-12345, deposit_asset_id=3, account_type=AccountType.NETTED
    )
    assert decode(ProtoOATrader, encode(trader)) == trader


@pytest.mark.parametrize(
    "message",
    [
        ProtoOAApplicationAuthReq(client_id="app", client_secret="hunter2"),
        ProtoOAAccountAuthReq(ctid_trader_account_id=1, access_token="hunter2"),
        ProtoOARefreshTokenRes(
            access_token="hunter2", token_type="bearer", expires_in=1, refresh_token="hunter2"
        ),
        ProtoMessage(payload_type=2100, payload=b"hunter2"),
    ],
)
def test_secrets_never_show(message: object) -> None:
    for shown in (repr(message), str(message), f"{message}", f"{[message]}"):
        assert "hunter2" not in shown
        assert "***" in shown


@given(st.binary(max_size=300), st.sampled_from(sorted(BY_PAYLOAD)))
def test_any_bytes_decode_or_raise_wire_error(raw: bytes, kind: int) -> None:
    with suppress(WireError):
        decode(BY_PAYLOAD[kind], raw)


@given(st.data())
def test_mutated_messages_decode_or_raise_wire_error(data: st.DataObject) -> None:
    part = ProtoOATradeData(symbol_id=1, volume=2, trade_side=TradeSide.BUY, label="x")
    raw = bytearray(encode(part) * 3)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for cls in (ProtoOATradeData, ProtoOAReconcileRes, ProtoOAExecutionEvent):
        with suppress(WireError):
            decode(cls, bytes(raw))

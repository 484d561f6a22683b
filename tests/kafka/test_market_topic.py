"""Market data on the topic: what a mirror writes is what is read, and everything else is refused with a reason."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.book import quotes_only
from emp.core.codes import EventFlag
from emp.core.errors import DataError
from emp.core.market_topic import (
    Counted,
    Cursor,
    MarketRecord,
    decode_cursor,
    decode_market,
    encode_cursor,
    encode_market,
    partition_of,
    put_book,
)
from emp.core.records import Array, empty_events, fieldwise_bytes
from tests.kit.events import random_events


def read_back(value: bytes) -> Array:
    record = decode_market(value)
    row = empty_events(1)
    for name in ("ts", "seq", "ts_recv", "flags", "trade_px", "trade_qty", "trade_qty_last"):
        row[name] = getattr(record, name)
    put_book(record, row[0])
    return row


@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 10),
    shift=st.sampled_from([0, -9_990, -10_000, -10_001, -20_000, 2**40]),
    unsized=st.booleans(),
    fewer=st.integers(0, 9),
)
def test_what_a_mirror_writes_is_what_is_read(
    seed: int, levels: int, shift: int, unsized: bool, fewer: int
) -> None:
    events = random_events(20, seed, levels=levels)
    for row in events:
        row["bid_px"][: row["n_bid"]] += shift
        row["ask_px"][: row["n_ask"]] += shift
        shown = max(1, int(row["n_ask"]) - fewer)
        row["ask_px"][shown:], row["ask_sz"][shown:], row["n_ask"] = 0, 0, shown
        if unsized:
            quotes_only(row)
            row["flags"] |= np.uint32(EventFlag.NO_SIZE)
    found = [read_back(value) for _, value in encode_market("0RUN", ("A",), range(1, 21), events)]
    assert fieldwise_bytes(np.concatenate(found)) == fieldwise_bytes(events)


def value_of(**changed: object) -> bytes:
    [(_, value)] = encode_market("0RUN", ("A",), [1], random_events(1, 1))
    return json.dumps({**json.loads(value), **changed}).encode()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"run": ""}, "run"),
        ({"ts": 2**63}, "ts"),
        ({"ts": "now"}, "ts"),
        ({"ts": -1}, "ts"),
        ({"ts_recv": -(2**63)}, "ts_recv"),
        ({"ts_recv": 2**62 + 1}, "ts_recv"),
        ({"seq": 0}, "seq"),
        ({"seq": 2**62 + 1}, "seq"),
        ({"instrument": "\ud800"}, "surrogate"),
        ({"flags": -1}, "flags"),
        ({"flags": 2**32}, "flags"),
        ({"depth": []}, "no level"),
        ({"depth": [[1, 2, 3]]}, "depth"),
        ({"depth": [[1, 2, 3, 4]] * 11}, "depth"),
        ({"bid": 7}, "best prices"),
    ],
)
def test_what_no_mirror_writes_is_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        decode_market(value_of(**changed))


@given(st.binary(max_size=200))
def test_bytes_are_a_record_or_refused_in_one_line(value: bytes) -> None:
    try:
        found: object = decode_market(value)
    except DataError as error:
        found = error
    assert isinstance(found, MarketRecord) or "\n" not in str(found)


@given(st.data())
def test_a_record_cut_or_spoilt_anywhere_is_a_record_or_refused(data: st.DataObject) -> None:
    value = bytearray(value_of())
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] = data.draw(st.integers(0, 255))
    for one in (bytes(value), bytes(value[:at])):
        try:
            decode_market(one)
        except DataError:
            continue


def test_a_field_of_a_later_release_is_left_out() -> None:
    assert decode_market(value_of(more=1)).n == 1


@pytest.mark.parametrize(
    ("key", "hashed"),  # of Apache Kafka's own test, UtilsTest.testMurmur2
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_a_key_has_the_partition_that_kafkas_clients_give_it(key: str, hashed: int) -> None:
    for partitions in (1, 7, 16, 1 << 31):
        assert partition_of(key.encode(), partitions) == (hashed & 0x7FFF_FFFF) % partitions


def test_what_is_nested_too_deep_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(DataError, match="nested"):
        decode_market(value_of()[:-1] + b',"more":' + deep + b"}")
    with pytest.raises(DataError, match="nested"):
        decode_cursor(b'{"more":' + deep + b"}")


def test_a_cursor_is_read_back_and_one_of_an_earlier_release_has_no_origin() -> None:
    cursor = Cursor(
        run="0RUN",
        positions={"market": 7},
        instruments=[Counted("A", 0.5, 1.0)],
        mode="observe",
        protocol="fix",
        host="h",
    )
    assert decode_cursor(encode_cursor(cursor)) == cursor
    assert cursor.origin.recorder
    assert cursor.grids == {"A": (0.5, 1.0)}
    earlier = decode_cursor(b'{"run":"0RUN","positions":{},"instruments":[{"name":"A","tick":1,"lot":1}]}')
    assert not earlier.origin.recorder


@pytest.mark.parametrize(
    "value",
    [
        b'{"run":"x","positions":{}}',
        b'{"instruments":[{"name":"GC"}]}',
        b"[1]",
        b'{"run":"x","positions":{},"instruments":null}',
        b'{"run":"x","positions":{},"instruments":[{"name":"GC","tick":"0.1","lot":1}]}',
        b'{"run":"x","positions":{},"instruments":[{"name":"GC","tick":0,"lot":1}]}',
    ],
)
def test_a_cursor_that_no_mirror_writes_is_refused_in_one_line(value: bytes) -> None:
    with pytest.raises(DataError) as error:
        decode_cursor(value)
    assert "\n" not in str(error.value)

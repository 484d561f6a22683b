"""Our typed messages against the protocol's published tables, and our bytes against Google's runtime."""

import inspect
from enum import IntEnum
from pathlib import Path
from typing import Any

import ctrader_tables as tables
import numpy as np
import pytest

from emp.access.ctrader import enums as our_enums
from emp.access.ctrader import messages as our_messages
from emp.access.ctrader import parts as our_parts
from emp.access.ctrader.wire import Item, Message, decode, encode, plan

pytestmark = pytest.mark.real_data

TYPES = sorted(
    {
        cls
        for module in (our_messages, our_parts)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Message) and cls is not Message
    },
    key=lambda cls: cls.__name__,
)

ENUM_NAMES = {
    "PayloadType": ("ProtoPayloadType", "ProtoOAPayloadType"),
    "VenueOrderStatus": ("ProtoOAOrderStatus",),
}


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)
def test_fields_equal_the_table(cls: type[Message], data_dir: Path) -> None:
    table = tables.messages(data_dir)[cls.__name__]
    for item in plan(cls).fields:
        row = table[item.wire_name]
        assert item.number == int(row["number"])
        assert item.kind == row["type"]
        assert item.repeated == (row["label"] == "repeated")
        assert item.required or row["label"] != "required"
        if item.required and not item.repeated:
            assert row["label"] == "required"
    ours = {item.wire_name for item in plan(cls).fields}
    needed = {name for name, row in table.items() if row["label"] == "required"}
    assert needed <= ours, f"a required field is left out: {needed - ours}"


@pytest.mark.parametrize("cls", [c for c in TYPES if c.PAYLOAD], ids=lambda cls: cls.__name__)
def test_payload_type_equals_the_table(cls: type[Message], data_dir: Path) -> None:
    named = tables.messages(data_dir)[cls.__name__]["payloadType"]["default"]
    known = tables.enums(data_dir)
    assert {**known["ProtoPayloadType"], **known["ProtoOAPayloadType"]}[named] == cls.PAYLOAD
    assert our_enums.PayloadType(cls.PAYLOAD).name == named


def test_enum_values_equal_the_table(data_dir: Path) -> None:
    known = tables.enums(data_dir)
    checked = 0
    for name, cls in vars(our_enums).items():
        if not (inspect.isclass(cls) and issubclass(cls, IntEnum)) or cls is IntEnum:
            continue
        table: dict[str, int] = {}
        for source in ENUM_NAMES.get(name, (f"ProtoOA{name}",)):
            table |= known[source]
        for member in cls:
            assert table[member.name] == member.value, member
            checked += 1
    assert checked > 80
    codes = known["ProtoErrorCode"].keys() | known["ProtoOAErrorCode"].keys()
    assert {code.value for code in our_enums.ErrorCode} <= codes


def test_enum_fields_use_the_enum_of_the_table(data_dir: Path) -> None:
    for cls in TYPES:
        for item in plan(cls).fields:
            if item.enum is not None:
                sources = ENUM_NAMES.get(item.enum.__name__, (f"ProtoOA{item.enum.__name__}",))
                assert item.kind in sources


def _random(item: Item, rng: np.random.Generator) -> Any:
    if item.message is not None:
        return _instance(item.message, rng)
    if item.enum is not None:
        return list(item.enum)[rng.integers(len(item.enum))]
    span = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1)}
    if item.kind in span:
        return int(rng.integers(*span[item.kind], endpoint=True))
    if item.kind == "uint64":
        return int(rng.integers(0, 2**64 - 1, dtype=np.uint64, endpoint=True))
    if item.kind == "bool":
        return bool(rng.integers(2))
    if item.kind == "double":
        return float(rng.normal())
    text = "".join(chr(c) for c in rng.integers(32, 0x2FF, rng.integers(0, 200)))
    return text.encode() if item.kind == "bytes" else text


def _instance(cls: type[Message], rng: np.random.Generator) -> Message:
    values: dict[str, Any] = {}
    for item in plan(cls).fields:
        if item.repeated:
            values[item.name] = tuple(_random(item, rng) for _ in range(rng.integers(0, 5)))
        elif item.required or rng.integers(4):
            values[item.name] = _random(item, rng)
    return cls(**values)


def _compare(ours: Message, theirs: Any) -> None:
    for item in plan(type(ours)).fields:
        value = getattr(ours, item.name)
        if item.repeated:
            pairs = list(zip(value, getattr(theirs, item.wire_name), strict=True))
        elif value is None:
            assert not theirs.HasField(item.wire_name)
            continue
        else:
            assert theirs.HasField(item.wire_name)
            pairs = [(value, getattr(theirs, item.wire_name))]
        for mine, other in pairs:
            if item.message is not None:
                _compare(mine, other)
            else:
                assert mine == other


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)
def test_bytes_agree_with_an_independent_codec(cls: type[Message], data_dir: Path) -> None:
    """Both ways: what we write Google's runtime reads alike, and what it writes we read back."""
    rng = np.random.default_rng(7)
    peer = tables.peer(data_dir)[cls.__name__]
    for _ in range(20):
        ours = _instance(cls, rng)
        theirs = peer.FromString(encode(ours))
        _compare(ours, theirs)
        if "payloadType" in tables.messages(data_dir)[cls.__name__] and cls is not our_parts.ProtoMessage:
            theirs.payloadType = cls.PAYLOAD
        assert decode(cls, theirs.SerializeToString()) == ours

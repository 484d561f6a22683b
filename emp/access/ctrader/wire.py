"""The protobuf wire format, driven by types: frozen structs whose fields carry their number and kind.

Source of the format: the Protocol Buffers encoding guide (varints, tags, length-delimited fields). Only what
the Open API uses is here: varints, doubles, strings, bytes, nested messages and repeated fields, packed or
not. A field of an unknown number is skipped, as the format asks of every reader.
"""

import math
import struct
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

MASK64 = (1 << 64) - 1
MASKED = "***"

SIGNED = frozenset({"int32", "int64"})
UNSIGNED = frozenset({"uint32", "uint64"})


class WireError(ValueError):
    """Bytes that are no message of the expected type; the text never quotes them."""


class Field(NamedTuple):
    """Number and kind of a field, as the protocol's tables give them; a secret is masked when shown."""

    number: int
    kind: str  # int32 int64 uint32 uint64 bool double string bytes, or the name of an enum or a message
    secret: bool = False


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all messages: shows itself with secrets masked and absent fields left out."""

    PAYLOAD: ClassVar[int] = 0  # its payload type; 0 for a part of other messages

    def __repr__(self) -> str:
        shown = []
        for item in plan(type(self)).fields:
            value = getattr(self, item.name)
            if value is not None and value != ():
                shown.append(f"{item.wire_name}={MASKED if item.secret else repr(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


M = TypeVar("M", bound=Message)


class Item(NamedTuple):
    """What encoding and decoding need of one field."""

    name: str
    wire_name: str
    number: int
    kind: str
    repeated: bool
    required: bool
    secret: bool
    enum: type[IntEnum] | None
    message: type[Message] | None
    tag: bytes
    wire_type: int


class Plan(NamedTuple):
    """A message type, ready for the wire."""

    fields: tuple[Item, ...]  # in order of their numbers
    by_number: dict[int, Item]
    required: frozenset[str]


def _bare(hint: Any) -> Any:
    """The type inside `X | None` or `tuple[X, ...]`, and X itself otherwise."""
    inner = [part for part in get_args(hint) if part is not type(None) and part is not Ellipsis]
    return inner[0] if inner else hint


def _item(cls: type[Message], name: str, wire_name: str, hint: Any, required: bool) -> Item:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{cls.__name__}.{name} has no field number")
    value_type, field = get_args(hint)[0], get_args(hint)[1]
    bare = _bare(value_type)
    is_enum = isinstance(bare, type) and issubclass(bare, IntEnum)
    is_message = isinstance(bare, type) and issubclass(bare, Message)
    if field.kind == "double":
        wire_type = FIXED64
    elif is_message or field.kind in ("string", "bytes"):
        wire_type = LENGTH
    else:
        wire_type = VARINT
    tag = bytearray()
    put_varint(tag, field.number << 3 | wire_type)
    return Item(
        name=name,
        wire_name=wire_name,
        number=field.number,
        kind=field.kind,
        repeated=get_origin(value_type) is tuple,
        required=required,
        secret=field.secret,
        enum=bare if is_enum else None,
        message=bare if is_message else None,
        tag=bytes(tag),
        wire_type=wire_type,
    )


@cache
def plan(cls: type[Message]) -> Plan:
    """Work out once how a message type lies on the wire."""
    hints = get_type_hints(cls, include_extras=True)
    items = [
        _item(cls, field.name, field.encode_name, hints[field.name], field.required)
        for field in msgspec.structs.fields(cls)
    ]
    items.sort(key=lambda item: item.number)
    return Plan(
        tuple(items),
        {item.number: item for item in items},
        frozenset(item.name for item in items if item.required),
    )


def put_varint(out: bytearray, value: int) -> None:
    """Append a varint; a negative number goes as its 64-bit two's complement."""
    value &= MASK64
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def get_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned varint of at most ten bytes; return it and the position after it."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & MASK64, at
        shift += 7
    raise WireError("a varint is cut off or too long")


Writer = Callable[[bytearray, Any], None]


def _put_double(out: bytearray, value: float) -> None:
    out += struct.pack("<d", value)


def _put_string(out: bytearray, value: str) -> None:
    raw = value.encode()
    put_varint(out, len(raw))
    out += raw


def _put_bytes(out: bytearray, value: bytes) -> None:
    put_varint(out, len(value))
    out += value


def _put_message(out: bytearray, value: Message) -> None:
    raw = encode(value)
    put_varint(out, len(raw))
    out += raw


def _writer(item: Item) -> Writer:
    if item.message is not None:
        return _put_message
    by_kind: dict[str, Writer] = {"double": _put_double, "string": _put_string, "bytes": _put_bytes}
    return by_kind.get(item.kind, put_varint)


@cache
def _writers(cls: type[Message]) -> tuple[tuple[str, bytes, bool, Writer], ...]:
    return tuple((item.name, item.tag, item.repeated, _writer(item)) for item in plan(cls).fields)


def encode(message: Message) -> bytes:
    """The message as bytes; absent fields take none."""
    out = bytearray()
    for name, tag, repeated, put in _writers(type(message)):
        value = getattr(message, name)
        if value is None:
            continue
        if repeated:
            for element in value:
                out += tag
                put(out, element)
        else:
            out += tag
            put(out, value)
    return bytes(out)


def _number(item: Item, value: int) -> Any:
    """A varint as the field's type; an enum value we do not know stays a plain number."""
    if item.kind == "bool":
        return value != 0
    if item.kind in UNSIGNED:
        return value
    signed = value - (1 << 64) if value >> 63 else value
    if item.enum is not None:
        return item.enum._value2member_map_.get(signed, signed)
    return signed


def _slice_end(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Start and end of a length-delimited value."""
    size, at = get_varint(data, at, end)
    if size > end - at:
        raise WireError("a length reaches beyond its message")
    return at, at + size


def _skip(data: bytes, wire_type: int, at: int, end: int) -> int:
    """Position after a value that we do not read."""
    if wire_type == VARINT:
        return get_varint(data, at, end)[1]
    if wire_type == LENGTH:
        return _slice_end(data, at, end)[1]
    if wire_type in (FIXED64, FIXED32):
        at += 8 if wire_type == FIXED64 else 4
        if at > end:
            raise WireError("a fixed-size value is cut off")
        return at
    raise WireError(f"wire type {wire_type} is not in use")


def _value(item: Item, data: bytes, at: int, end: int) -> tuple[Any, int]:
    if item.wire_type == VARINT:
        number, at = get_varint(data, at, end)
        return _number(item, number), at
    if item.wire_type == FIXED64:
        if at + 8 > end:
            raise WireError("a double is cut off")
        double = struct.unpack_from("<d", data, at)[0]
        if not math.isfinite(double):
            raise WireError("a double is not finite")
        return double, at + 8
    at, stop = _slice_end(data, at, end)
    if item.message is not None:
        return decode(item.message, data, at, stop), stop
    raw = data[at:stop]
    return (raw if item.kind == "bytes" else raw.decode("utf-8", "replace")), stop


def _packed(item: Item, data: bytes, at: int, end: int) -> tuple[list[Any], int]:
    """The elements of a packed repeated field."""
    at, stop = _slice_end(data, at, end)
    values = []
    while at < stop:
        value, at = _value(item, data, at, stop)
        values.append(value)
    return values, stop


def decode(cls: type[M], data: bytes, at: int = 0, end: int | None = None) -> M:
    """Read a message from `data[at:end]`; raise WireError where the bytes are no such message."""
    end = len(data) if end is None else end
    known = plan(cls)
    found: dict[str, Any] = {}
    while at < end:
        tag, at = get_varint(data, at, end)
        item = known.by_number.get(tag >> 3)
        wire_type = tag & 7
        if item is None:
            if tag >> 3 == 0:
                raise WireError("field number 0")
            at = _skip(data, wire_type, at, end)
        elif wire_type == item.wire_type:
            value, at = _value(item, data, at, end)
            if item.repeated:
                found.setdefault(item.name, []).append(value)
            else:
                found[item.name] = value
        elif item.repeated and wire_type == LENGTH:
            values, at = _packed(item, data, at, end)
            found.setdefault(item.name, []).extend(values)
        else:
            at = _skip(data, wire_type, at, end)
    missing = known.required - found.keys()
    if missing:
        raise WireError(f"{cls.__name__} lacks {', '.join(sorted(missing))}")
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in found.items()})

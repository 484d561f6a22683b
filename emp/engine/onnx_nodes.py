"""What an ONNX file computes with, read from its bytes: the runtime does not tell, and `onnx` need not be installed.

A file is protocol buffers: of a message, its fields by number. Those that are followed are named as in `onnx.proto`.
"""

from collections.abc import Iterator
from typing import NamedTuple

RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "Sampling",
    }
)
"""Operators that draw: asked twice, they say two things."""

_GRAPH, _FUNCTIONS = 7, 25  # ModelProto
_NODE, _INITIALIZER, _FUNCTION_NODE = 1, 5, 7  # GraphProto, FunctionProto
_INPUT, _OUTPUT, _OP, _ATTRIBUTE = 1, 2, 4, 5  # NodeProto
_TENSOR, _SUBGRAPH, _SUBGRAPHS = 5, 6, 11  # AttributeProto
_INT32, _TENSOR_NAME, _RAW = 5, 8, 9  # TensorProto

Fields = dict[int, list[bytes]]


class _Node(NamedTuple):
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[Fields]


def draws(content: bytes) -> str:
    """The first operator of a file that draws at random, by name; "" where none does.

    Args:
        content: of a file that the runtime has read.

    Raises:
        IndexError, UnicodeDecodeError: it is no protocol buffer.
    """
    for nodes, held in _graphs(content):
        for node in nodes:
            if node.op in RANDOM or (node.op.endswith("Dropout") and node.op != "Dropout"):
                return node.op
            training = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else ""
            if training and held.get(training, True):
                return "Dropout in training mode"
    return ""


def _graphs(content: bytes) -> Iterator[tuple[list[_Node], dict[str, bool]]]:
    """The nodes of each graph and function, with whether a constant known by name there is anything but zero."""
    model = _fields(content)
    waiting: list[tuple[Fields, int, dict[str, bool]]] = [
        (_fields(one), place, {})
        for of, place in ((_GRAPH, _NODE), (_FUNCTIONS, _FUNCTION_NODE))
        for one in model.get(of, [])
    ]
    while waiting:
        graph, place, known = waiting.pop()
        nodes = [_node(one) for one in graph.get(place, [])]
        held = known | dict(_constants(graph.get(_INITIALIZER, []) if place == _NODE else [], nodes))
        yield nodes, held
        for node in nodes:
            for one in node.attributes:
                inner = one.get(_SUBGRAPH, []) + one.get(_SUBGRAPHS, [])
                waiting += [(_fields(raw), _NODE, held) for raw in inner]


def _node(raw: bytes) -> _Node:
    node = _fields(raw)
    inputs, outputs = ([one.decode() for one in node.get(k, [])] for k in (_INPUT, _OUTPUT))
    return _Node(
        b"".join(node.get(_OP, [])).decode(),
        inputs,
        outputs,
        [_fields(one) for one in node.get(_ATTRIBUTE, [])],
    )


def _constants(initializers: list[bytes], nodes: list[_Node]) -> Iterator[tuple[str, bool]]:
    for raw in initializers:
        tensor = _fields(raw)
        yield b"".join(tensor.get(_TENSOR_NAME, [])).decode(), _is_anything(tensor)
    for node in nodes:
        if node.op == "Constant":
            for raw in (raw for one in node.attributes for raw in one.get(_TENSOR, [])):
                yield node.outputs[0], _is_anything(_fields(raw))


def _is_anything(tensor: Fields) -> bool:
    return any(any(one) for one in tensor.get(_RAW, []) + tensor.get(_INT32, []))


def _fields(raw: bytes) -> Fields:
    """The fields of a message by number: of a number its bytes, of the rest what stands there."""
    found: Fields = {}
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
            part = value.to_bytes((value.bit_length() + 7) // 8 or 1, "little")
        else:
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = _varint(raw, at)
            part, at = raw[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(part)
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at

"""The networks of learned surrogates as compiled arithmetic, for many worlds at once.

The formulas are those of `emp.train.net.surrogate`. What is the same for several nodes is worked out once: what the
global node and our order say to the five prices of a side is one product, to which each price adds its own. Rows are
sixteen float32 wide (`core.numba.simd`), and sums add in an order that does not depend on the processor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.simd import load, splat, store
from emp.core.records import Array
from emp.train.data.leaps import (
    AT_LEVEL,
    AT_LOCATION,
    AT_OWN,
    GLOBALS,
    INPUTS,
    KINDS,
    LEVEL,
    LEVELS,
    NODES,
    OUTPUTS,
    OWN,
    QTY,
)

LANES = 16
LINEAR, FLAT, GRAPH = range(3)
WIDE = 96
NODE, GLOBAL, READ, HEADS = 16, 32, 64, 96
ROUNDS = 2
BOUND = np.float32(5.0)
_ZERO = np.float32(0.0)


class Network(NamedTuple):
    """Weights, padded; those of the other kinds are empty. [inputs, outputs], starts [1, outputs]."""

    kind: int
    centre: Array  # float32[INPUTS]
    inverse: Array  # float32[INPUTS], 1 / spread
    first: Array  # of linear, and of the flat network
    first_start: Array
    second: Array
    second_start: Array
    out: Array
    out_start: Array
    level: Array  # [16, NODE]
    level_start: Array
    own: Array
    own_start: Array
    world: Array
    world_start: Array
    near: Array  # [ROUNDS, 2 NODE, NODE]: a price's own state, and its neighbours'
    side: Array  # [ROUNDS, NODE + GLOBAL, NODE]: our order of its side, and the global node
    side_start: Array  # [ROUNDS, 1, NODE]
    owns: Array  # [ROUNDS, 3 NODE + GLOBAL, NODE]
    owns_start: Array
    worlds: Array  # [ROUNDS, 4 NODE + GLOBAL, GLOBAL]
    worlds_start: Array
    read: Array
    read_start: Array
    heads: Array
    heads_start: Array
    node: Array  # [NODE, 16]
    node_world: Array  # [GLOBAL, 16]
    node_start: Array


class Room(NamedTuple):
    """Scratch of a batch."""

    x: Array  # float32[batch, INPUTS], the input
    z: Array  # the same, standardised
    wide: Array  # [batch, WIDE]
    wide2: Array
    y: Array  # float32[batch, OUTPUTS], the output
    levels: Array  # [batch NODES, 16]
    near: Array  # [batch NODES, 2 NODE]
    heard: Array  # [batch NODES, NODE]
    owns: Array  # [batch 2, 16]
    told: Array  # [batch 2, 3 NODE + GLOBAL]
    side: Array  # [batch 2, NODE + GLOBAL]
    said: Array  # [batch 2, NODE]
    heard_own: Array
    world: Array  # [batch, GLOBAL]
    summed: Array  # [batch, 4 NODE + GLOBAL]
    heard_world: Array
    read: Array
    heads: Array
    node_start: Array  # [batch, 16]
    nodes: Array  # [batch NODES, 16]


def new_room(batch: int) -> Room:
    """Scratch for `batch` worlds."""

    def of(rows: int, width: int) -> Array:
        return np.zeros((rows, width), np.float32)

    n, levels, owns = batch, batch * NODES, batch * 2
    return Room(
        of(n, INPUTS),
        of(n, INPUTS),
        of(n, WIDE),
        of(n, WIDE),
        of(n, OUTPUTS),
        of(levels, LANES),
        of(levels, 2 * NODE),
        of(levels, NODE),
        of(owns, LANES),
        of(owns, 3 * NODE + GLOBAL),
        of(owns, NODE + GLOBAL),
        of(owns, NODE),
        of(owns, NODE),
        of(n, GLOBAL),
        of(n, 4 * NODE + GLOBAL),
        of(n, GLOBAL),
        of(n, READ),
        of(n, HEADS),
        of(n, LANES),
        of(levels, LANES),
    )


def _padded(x: Array, rows: int, columns: int) -> Array:
    out = np.zeros((rows, columns), np.float32)
    out[: x.shape[0], : x.shape[1]] = x
    return out


def _start(x: Array, columns: int) -> Array:
    return _padded(x[None], 1, columns)


_NONE = np.zeros((1, LANES), np.float32)
_NONES = np.zeros((1, 1, LANES), np.float32)
_BY_ROUND = ("near", "side", "side_start", "owns", "owns_start", "worlds", "worlds_start")


def pack_network(kind: str, weights: Mapping[str, Array], centre: Array, spread: Array) -> Network:
    """Pad weights by the names of `emp.train.net.surrogate.SurrogateNet.weights`."""
    parts: dict[str, Any] = {name: _NONES if name in _BY_ROUND else _NONE for name in Network._fields}
    parts |= {"kind": KINDS.index(kind), "centre": centre, "inverse": (1.0 / spread).astype(np.float32)}
    if kind == "graph":
        parts |= _graph(weights)
    else:
        parts["out"], parts["out_start"] = weights["out.weight"], weights["out.bias"][None]
    if kind == "mlp":
        for name in ("first", "second"):
            parts[name], parts[f"{name}_start"] = weights[f"{name}.weight"], weights[f"{name}.bias"][None]
    made: dict[str, Any] = {k: v if isinstance(v, int) else np.ascontiguousarray(v) for k, v in parts.items()}
    return Network(**made)


def _graph(w: Mapping[str, Array]) -> dict[str, Array]:
    heard = [w[f"levels.{k}.weight"] for k in range(ROUNDS)]
    rounds = range(ROUNDS)
    return {
        "level": _padded(w["level.weight"], LANES, NODE),
        "level_start": _start(w["level.bias"], NODE),
        "own": _padded(w["own.weight"], LANES, NODE),
        "own_start": _start(w["own.bias"], NODE),
        "world": _padded(w["world.weight"], LANES, GLOBAL),
        "world_start": _start(w["world.bias"], GLOBAL),
        "near": np.stack([x[: 2 * NODE] for x in heard]),
        "side": np.stack([x[2 * NODE :] for x in heard]),
        "side_start": np.stack([w[f"levels.{k}.bias"][None] for k in rounds]),
        "owns": np.stack([w[f"owns.{k}.weight"] for k in rounds]),
        "owns_start": np.stack([w[f"owns.{k}.bias"][None] for k in rounds]),
        "worlds": np.stack([w[f"worlds.{k}.weight"] for k in rounds]),
        "worlds_start": np.stack([w[f"worlds.{k}.bias"][None] for k in rounds]),
        "read": w["read.weight"],
        "read_start": w["read.bias"][None],
        "heads": _padded(w["heads.weight"], READ, HEADS),
        "heads_start": _start(w["heads.bias"], HEADS),
        "node": _padded(w["node.weight"][:NODE], NODE, LANES),
        "node_world": _padded(w["node.weight"][NODE:], GLOBAL, LANES),
        "node_start": _start(w["node.bias"], LANES),
    }


@kernel
def layer(x: Any, n: int, weight: Any, start: Any, per: int, out: Any) -> None:
    """out[i] = start[i // per] + x[i] @ weight for n rows, four at a time; all float32 and contiguous."""
    inputs, outputs = weight.shape
    for i in range(0, n, 4):
        last = n - 1
        i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        r0, r1, r2, r3 = i // per * outputs, i1 // per * outputs, i2 // per * outputs, i3 // per * outputs
        for at in range(0, outputs, LANES):
            s0, s1 = load(start, r0 + at), load(start, r1 + at)
            s2, s3 = load(start, r2 + at), load(start, r3 + at)
            for j in range(inputs):
                w = load(weight, j * outputs + at)
                s0 = s0 + splat(x[i, j]) * w
                s1 = s1 + splat(x[i1, j]) * w
                s2 = s2 + splat(x[i2, j]) * w
                s3 = s3 + splat(x[i3, j]) * w
            store(out, i * outputs + at, s0)
            store(out, i1 * outputs + at, s1)
            store(out, i2 * outputs + at, s2)
            store(out, i3 * outputs + at, s3)


@kernel
def rectify(x: Any, n: int) -> None:
    """x = relu(x), the first n rows."""
    for i in range(n):
        for k in range(x.shape[1]):
            x[i, k] = x[i, k] if x[i, k] > _ZERO else _ZERO


@kernel
def add_rectified(x: Any, more: Any, n: int) -> None:
    """x += relu(more), the first n rows."""
    for i in range(n):
        for k in range(more.shape[1]):
            x[i, k] += more[i, k] if more[i, k] > _ZERO else _ZERO


@kernel
def copy_row(x: Any, i: int, width: int, out: Any, row: int, at: int) -> None:
    """out[row, at : at + width] = x[i, :width]; width a multiple of 16."""
    for k in range(0, width, LANES):
        store(out, row * out.shape[1] + at + k, load(x, i * x.shape[1] + k))


@kernel
def standardise(net: Any, room: Any, n: int) -> None:
    """room.z from room.x."""
    for i in range(n):
        for k in range(INPUTS):
            z = (room.x[i, k] - net.centre[k]) * net.inverse[k]
            room.z[i, k] = min(BOUND, max(-BOUND, z))


@kernel
def _encode(net: Any, room: Any, n: int) -> None:
    """The first states of all nodes; `heard`, `said` and `summed` serve as rows of padded inputs."""
    z = room.z
    for i in range(n):
        for node in range(NODES):
            for k in range(LEVEL):
                room.nodes[i * NODES + node, k] = z[i, AT_LEVEL + LEVEL * node + k]
            for k in range(LEVEL, LANES):
                room.nodes[i * NODES + node, k] = _ZERO
        for side in range(2):
            for k in range(OWN):
                room.said[2 * i + side, k] = z[i, AT_OWN + OWN * side + k]
            for k in range(OWN, LANES):
                room.said[2 * i + side, k] = _ZERO
        for k in range(GLOBALS):
            room.node_start[i, k] = z[i, k]
    layer(room.nodes, n * NODES, net.level, net.level_start, n * NODES, room.levels)
    layer(room.said, n * 2, net.own, net.own_start, n * 2, room.owns)
    layer(room.node_start, n, net.world, net.world_start, n, room.world)
    rectify(room.levels, n * NODES)
    rectify(room.owns, n * 2)
    rectify(room.world, n)


@kernel
def _gather_levels(room: Any, n: int) -> None:
    """Inputs of the prices: their own states beside the sums of their neighbours'."""
    for i in range(n):
        for node in range(NODES):
            row = i * NODES + node
            copy_row(room.levels, row, NODE, room.near, row, 0)
            beside = splat(_ZERO)
            if node > 0:
                beside = beside + load(room.levels, (row - 1) * NODE)
            if node < NODES - 1:
                beside = beside + load(room.levels, (row + 1) * NODE)
            store(room.near, row * 2 * NODE + NODE, beside)


@kernel
def _gather_owns(room: Any, n: int) -> None:
    """Inputs of our orders, and of what they and the global node say to the prices of their side."""
    for i in range(n):
        for side in range(2):
            row = 2 * i + side
            copy_row(room.owns, row, NODE, room.told, row, 0)
            copy_row(room.levels, i * NODES + LEVELS - 1 + side, NODE, room.told, row, NODE)
            copy_row(room.owns, 2 * i + 1 - side, NODE, room.told, row, 2 * NODE)
            copy_row(room.world, i, GLOBAL, room.told, row, 3 * NODE)
            copy_row(room.owns, row, NODE, room.side, row, 0)
            copy_row(room.world, i, GLOBAL, room.side, row, NODE)


@kernel
def _gather_world(room: Any, n: int) -> None:
    """Inputs of the global node: itself, the mean of each side's prices, our orders."""
    share = splat(np.float32(1.0 / LEVELS))
    for i in range(n):
        copy_row(room.world, i, GLOBAL, room.summed, i, 0)
        for side in range(2):
            mean = splat(_ZERO)
            for k in range(LEVELS):
                mean = mean + load(room.levels, (i * NODES + LEVELS * side + k) * NODE)
            store(room.summed, i * room.summed.shape[1] + GLOBAL + NODE * side, mean * share)
            copy_row(room.owns, 2 * i + side, NODE, room.summed, i, GLOBAL + NODE * (2 + side))


@kernel
def _hear(net: Any, room: Any, n: int, k: int) -> None:
    """One round: see `SurrogateNet`'s graph."""
    _gather_levels(room, n)
    _gather_owns(room, n)
    _gather_world(room, n)
    layer(room.side, 2 * n, net.side[k], net.side_start[k], 2 * n, room.said)
    layer(room.near, NODES * n, net.near[k], room.said, LEVELS, room.heard)
    layer(room.told, 2 * n, net.owns[k], net.owns_start[k], 2 * n, room.heard_own)
    layer(room.summed, n, net.worlds[k], net.worlds_start[k], n, room.heard_world)
    add_rectified(room.levels, room.heard, NODES * n)
    add_rectified(room.owns, room.heard_own, 2 * n)
    add_rectified(room.world, room.heard_world, n)


@kernel
def _read(net: Any, room: Any, n: int) -> None:
    """The output from the states of the nodes."""
    for i in range(n):
        copy_row(room.world, i, GLOBAL, room.summed, i, 0)
        for side in range(2):
            copy_row(room.owns, 2 * i + side, NODE, room.summed, i, GLOBAL + NODE * side)
            copy_row(
                room.levels, i * NODES + LEVELS - 1 + side, NODE, room.summed, i, GLOBAL + NODE * (2 + side)
            )
    layer(room.summed, n, net.read, net.read_start, n, room.read)
    rectify(room.read, n)
    layer(room.read, n, net.heads, net.heads_start, n, room.heads)
    layer(room.world, n, net.node_world, net.node_start, n, room.node_start)
    layer(room.levels, NODES * n, net.node, room.node_start, NODES, room.nodes)
    for i in range(n):
        _assemble(room, i)


@kernel
def _assemble(room: Any, i: int) -> None:
    """One row of the output from heads and nodes."""
    y, heads = room.y[i], room.heads[i]
    y[:AT_LOCATION] = heads[:AT_LOCATION]
    for k in range(2):
        start, at = AT_LOCATION + k * (QTY + 2), AT_LOCATION + k * (QTY + 2 * NODES + 2)
        y[at : at + QTY] = heads[start : start + QTY]
        for node in range(NODES):
            y[at + QTY + node] = room.nodes[i * NODES + node, 2 * k]
            y[at + QTY + NODES + node] = room.nodes[i * NODES + node, 2 * k + 1]
        y[at + QTY + 2 * NODES] = heads[start + QTY]
        y[at + QTY + 2 * NODES + 1] = heads[start + QTY + 1]


@kernel
def forward(net: Any, room: Any, n: int) -> None:
    """room.y of room.x, the first n rows."""
    standardise(net, room, n)
    if net.kind == LINEAR:
        layer(room.z, n, net.out, net.out_start, n, room.y)
    elif net.kind == FLAT:
        layer(room.z, n, net.first, net.first_start, n, room.wide)
        rectify(room.wide, n)
        layer(room.wide, n, net.second, net.second_start, n, room.wide2)
        rectify(room.wide2, n)
        layer(room.wide2, n, net.out, net.out_start, n, room.y)
    else:
        _encode(net, room, n)
        for k in range(ROUNDS):
            _hear(net, room, n, k)
        _read(net, room, n)

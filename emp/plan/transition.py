"""A learned transition model as compiled arithmetic: a state and an action give a few weighted outcomes.

The state is a vector z of S numbers. An action a leads to an afterstate, and that by chance to one of C outcomes
(Antonoglou et al., "Planning in Stochastic Environments with a Learned Model", ICLR 2022):

    u        = z W1 + b1                         one product for all actions and for the value
    h_a      = relu(u + b_a)                     the afterstate
    p_c, r_c = softmax, linear heads of h_a      chance and reward of outcome c
    z'_c     = clip(z + linear head of h_a)      the state that follows
    v(z)     = relu(u + b_v) w_v + c_v           value of what comes after
    pi(z)    = relu(u + b_v) W_p + c_p           log-odds of the actions, for a search that is led by them

Arrays are padded to rows of 16 float32 (`core.numba.simd`), and products add in an order that does not depend on the
processor, so a search gives the same bits wherever it runs.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.fastmath import exp32
from emp.core.numba.jit import kernel
from emp.core.numba.simd import clip, load, splat, store
from emp.core.records import Array

LANES = 16
"""Float32 numbers that are worked at together."""

BOUND = np.float32(8.0)
"""No coordinate of a state passes this: essentials are standardised."""

_ZERO = np.float32(0.0)


class TransitionModel(NamedTuple):
    """Weights, padded. S states and H hidden units are multiples of 16; A actions, C outcomes."""

    w1: Array  # float32[S, H]
    b1: Array  # float32[H]
    action: Array  # float32[A, H]
    w2: Array  # float32[H, C * S + T]: state changes of each outcome, then log-odds and rewards, T = 2 C padded
    b2: Array  # float32[C * S + T]
    value_hidden: Array  # float32[1, H]
    value: Array  # float32[H, 16]: column 0 the value, columns 1 to A the policy
    value_bias: Array  # float32[16]
    outcomes: int
    discount: float


def padded(n: int) -> int:
    """The next multiple of 16."""
    return -(-n // LANES) * LANES


def pack(  # noqa: PLR0913
    *,
    w1: Array,
    b1: Array,
    action: Array,
    change: Array,
    change_bias: Array,
    logits: Array,
    logits_bias: Array,
    rewards: Array,
    rewards_bias: Array,
    value_hidden: Array,
    value: Array,
    value_bias: float,
    policy: Array,
    policy_bias: Array,
    discount: float = 1.0,
) -> TransitionModel:
    """Pad weights of any size s, h into a model.

    Args:
        w1: [s, h]; b1: [h]; action: [A, h].
        change: [C, h, s] with change_bias [C, s]; logits, rewards: [h, C] with biases [C].
        value_hidden: [h]; value: [h]; policy: [h, A] with policy_bias [A].

    Raises:
        ValueError: more than 15 actions, or no outcome.
    """
    s, h = w1.shape
    actions, outcomes = len(action), len(change)
    if not 1 <= actions < LANES or outcomes < 1:
        raise ValueError(f"{actions} actions and {outcomes} outcomes: 1 to {LANES - 1} and at least 1")
    wide, deep, tail = padded(s), padded(h), padded(2 * outcomes)

    def room(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    first, bias, by_action = room(wide, deep), room(deep), room(actions, deep)
    first[:s, :h], bias[:h], by_action[:, :h] = w1, b1, action
    width = outcomes * wide + tail
    second, second_bias = room(deep, width), room(width)
    for c in range(outcomes):
        second[:h, c * wide : c * wide + s] = change[c]
        second_bias[c * wide : c * wide + s] = change_bias[c]
    odds, pay = outcomes * wide, outcomes * wide + outcomes
    second[:h, odds:pay], second[:h, pay : pay + outcomes] = logits, rewards
    second_bias[odds:pay], second_bias[pay : pay + outcomes] = logits_bias, rewards_bias
    valued, heads, heads_bias = room(1, deep), room(deep, LANES), room(LANES)
    valued[0, :h], heads[:h, 0], heads[:h, 1 : 1 + actions] = value_hidden, value, policy
    heads_bias[0], heads_bias[1 : 1 + actions] = value_bias, policy_bias
    return TransitionModel(
        first, bias, by_action, second, second_bias, valued, heads, heads_bias, outcomes, discount
    )


@kernel
def products(x: Any, x_at: int, n: int, weight: Any, bias: Any, out: Any, out_at: int) -> None:
    """out[out_at + i] = x[x_at + i] @ weight + bias for n rows, four rows at a time, inputs in their order.

    x float32[., inputs], weight float32[inputs, outputs], out float32[., outputs], all contiguous.
    """
    inputs, outputs = weight.shape
    for first in range(0, n, 4):
        i = x_at + first
        rows = min(4, n - first)
        # the last rows are worked at four times over where there are fewer: the same numbers, no second loop
        i1, i2, i3 = i + min(1, rows - 1), i + min(2, rows - 1), i + rows - 1
        o = out_at - x_at
        for at in range(0, outputs, LANES):
            start = load(bias, at)
            s0, s1, s2, s3 = start, start, start, start
            for j in range(inputs):
                w = load(weight, j * outputs + at)
                s0 = s0 + splat(x[i, j]) * w
                s1 = s1 + splat(x[i1, j]) * w
                s2 = s2 + splat(x[i2, j]) * w
                s3 = s3 + splat(x[i3, j]) * w
            store(out, (o + i) * outputs + at, s0)
            store(out, (o + i1) * outputs + at, s1)
            store(out, (o + i2) * outputs + at, s2)
            store(out, (o + i3) * outputs + at, s3)


@kernel
def rectified(u: Any, row: int, bias: Any, bias_row: int, out: Any, out_row: int) -> None:
    """out[out_row] = relu(u[row] + bias[bias_row])."""
    for k in range(u.shape[1]):
        x = u[row, k] + bias[bias_row, k]
        out[out_row, k] = x if x > _ZERO else _ZERO


@kernel
def heads_of(model: Any, u: Any, at: int, n: int, scratch: Any, heads: Any) -> None:
    """heads[at : at + n] float32[., 16] of hidden rows u[at : at + n]: value, then the actions' log-odds."""
    for i in range(n):
        rectified(u, at + i, model.value_hidden, 0, scratch, i)
    products(scratch, 0, n, model.value, model.value_bias, heads, at)


@kernel
def outcome_rows(
    model: Any, after: Any, row: int, states: Any, parent: int, child: int, prob: Any, reward: Any
) -> None:
    """Write the C outcomes of one row of products into the rows `child` to child + C - 1.

    Args:
        after: float32[., C * S + T], rows of h_a @ w2 + b2.
        states: float32[., S]; `parent` is the row that the action was taken in.
        prob, reward: float32[.] of the children.
    """
    c_n, wide = model.outcomes, states.shape[1]
    odds = c_n * wide
    most = after[row, odds]
    for c in range(1, c_n):
        most = max(most, after[row, odds + c])
    total = _ZERO
    for c in range(c_n):
        p = exp32(after[row, odds + c] - most)
        prob[child + c] = p
        total += p
        reward[child + c] = after[row, odds + c_n + c]
    width = after.shape[1]
    for c in range(c_n):
        prob[child + c] /= total
        for k in range(0, wide, LANES):
            moved = load(states, parent * wide + k) + load(after, row * width + c * wide + k)
            store(states, (child + c) * wide + k, clip(moved, BOUND))

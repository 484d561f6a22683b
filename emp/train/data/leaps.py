"""What a surrogate of the simulator sees of a market at a decision, and what it says of the next one.

The input is one row of float32: the global node, a node for our first order of each side, and a node for each of the
best `LEVELS` prices of a side, so that a graph and a flat network learn from the same numbers. The output is one row
too: log-odds and, for real numbers, location and log scale. Nothing here needs torch.

    input    GLOBALS | 2 x OWN | NODES x LEVEL: bids from the deepest to the best, asks from the best to the deepest
    output   FILL log-odds | MID log-odds of the mid's move | more of them where our bid, our ask is filled | REALS
             locations | REALS log scales
"""

import numpy as np

GLOBALS = 16
OWN = 6
LEVELS = 5
LEVEL = 4
NODES = 2 * LEVELS
AT_OWN = GLOBALS
AT_LEVEL = AT_OWN + 2 * OWN
INPUTS = 80
"""Numbers of an input, the last ones 0: AT_LEVEL + NODES * LEVEL in rows of 16."""

NONE, FULL, PART = 0, 1, 2
"""What became of an order of ours."""
FILL = 5
"""Log-odds of full and of part against none, for the bid, then the ask; what a filled bid adds to those of the ask."""
MOVES = 20
"""Classes of the mid's move, as frequent as each other as far as whole ticks allow."""

SPREAD, DURATION, LIVE, BURST, PACE, SPLIT = range(6)
SIGNS = 6
DISPLACED = SIGNS + 3
QTY = DISPLACED + 2
GAP = QTY + NODES
AHEAD = GAP + NODES
REALS = AHEAD + 2
"""Real numbers: log spread, log duration, log orders, share of market orders, log gap, the long order at work, three
averages of trade signs, the mid less two of its averages; of each node log quantity and log distance to the node
before; the share that is left before each order of ours that was not filled."""

AT_MOVE = FILL
AT_LOCATION = AT_MOVE + 3 * MOVES
AT_SCALE = AT_LOCATION + REALS
OUTPUTS = 144
"""Numbers of an output: AT_SCALE + REALS in rows of 16."""

PARTS = 64
"""Quantiles of the moves of a class, and of residuals times 4."""

LEAP = np.dtype(
    [
        ("x", "f4", (INPUTS,)),
        ("fill", "i8", (2,)),  # NONE, FULL or PART; -1 where none of ours rested
        ("move", "f4"),  # of the mid, in usual spreads
        ("real", "f4", (REALS,)),  # nan where it is not defined
    ],
    align=True,
)
"""One leap of the simulator, as it is learned from."""

KINDS = ("linear", "mlp", "graph")

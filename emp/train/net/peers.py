"""Published networks over windows of raw books that our models are judged beside, by name.

All take x [B, WINDOW, 4 * levels] of `emp.train.data.books` to class logits [B, HORIZONS, CLASSES].
"""

from collections.abc import Callable

from torch import nn

from emp.train.net.binlob import BiNLOB
from emp.train.net.deeplob import DeepLOB
from emp.train.net.tlob import TLOB

PEERS: dict[str, Callable[[int], nn.Module]] = {"deeplob": DeepLOB, "tlob": TLOB, "binlob": BiNLOB}
"""Networks by name, made from the number of price levels a side."""

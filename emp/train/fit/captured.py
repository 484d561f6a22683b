"""Training on a GPU without waiting for the host: fused kernels, and a step's launches replayed as one graph.

A window of the default network is thousands of small kernels, which the host launches more slowly than the device runs
them. Blocks and losses are compiled, so that there are fewer, and what is left is captured once (a CUDA graph) and
replayed for every window: same shapes, same addresses, other numbers.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from emp.train.fit.windows import Window
from emp.train.net.network import Network

Gradients = Callable[[Window, Tensor], tuple[Tensor, Tensor]]
Function = TypeVar("Function", bound=Callable[..., object])

WORTH_FUSING = 200_000_000
"""Events of a training from which on compiling pays: it takes 45 s and halves the time, and as many events take twice
that without it (docs/training.md has the figures)."""

WARM = 3
"""Runs before the capture: kernels are compiled and libraries choose theirs."""


def fuse(network: Network, losses: Function) -> Function:
    """Have the blocks of a network compiled at their first use, and the losses: the layers share one compilation."""
    for block in (*network.backbone.layers, network.backbone.attention):
        block.compile(dynamic=False)
    return cast(Function, torch.compile(losses, dynamic=False))


def plain() -> AbstractContextManager[object]:
    """Nothing is compiled within: for shapes that are met once."""
    return torch.compiler.set_stance("force_eager")


class Captured:
    """What computes the gradients of a window, as a graph of one shape."""

    def __init__(self, gradients: Gradients, optimizer: torch.optim.Optimizer) -> None:
        self.gradients, self.optimizer = gradients, optimizer
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, window: Window, state: Tensor) -> tuple[Tensor, Tensor]:
        """Values and state after a window; the gradients lie where the capture left them."""
        if self.graph is None:
            self.graph = self._capture(window, state)
        for mine, given in zip((*self.window.tensors(), self.state), (*window.tensors(), state), strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.values.clone(), self.after

    def _capture(self, window: Window, state: Tensor) -> torch.cuda.CUDAGraph:
        self.window = window.copy()
        self.state = state.clone()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self._warm()
        torch.cuda.current_stream().wait_stream(beside)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.values, self.after = self.gradients(self.window, self.state)
        return graph

    def _warm(self) -> None:
        try:
            self.gradients(self.window, self.state)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            print(f"kernels are not fused, training is slower: {reason}", file=sys.stderr)
            torch.compiler.set_stance("force_eager")
        for _ in range(WARM):
            self.gradients(self.window, self.state)

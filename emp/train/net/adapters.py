"""Parts of a trained network that learn again: low-rank adapters, heads of new domains, all merged before it serves.

An adapted network is a `Network` whose linear maps are replaced by `LowRank` and whose heads may be `AffineHeads`;
`merged` gives a plain `Network` that computes the same function, so that serving knows nothing of adapters.
"""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from emp.model.ssm_heads import RAW
from emp.train.net.network import Heads, Network

FROZEN = (0.6, 0.8)
"""Share of the body's parameters that may be frozen from the bottom up: the roadmap's 60 to 80 %."""

Where = Literal["nowhere", "top", "everywhere"]


class LowRank(nn.Module):
    """W x + b + B A x beside a frozen linear map (Hu et al. 2021, arXiv 2106.09685), alpha = rank.

    A [rank, inputs] starts at random, B [outputs, rank] at zero: before the first step nothing has changed. Inputs
    that the map is blind to (columns of zeros) stay unseen.
    """

    def __init__(self, linear: nn.Linear, rank: int, rng: torch.Generator) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        outputs, inputs = linear.weight.shape
        seen = (linear.weight != 0.0).any(0).to(linear.weight.dtype)
        bound = 1.0 / math.sqrt(inputs)
        drawn = (2.0 * torch.rand(rank, inputs, generator=rng) - 1.0) * bound
        self.a = nn.Parameter(drawn.to(linear.weight) * seen)
        self.b = nn.Parameter(linear.weight.new_zeros(outputs, rank))
        _only(self.a, seen)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., inputs]."""
        y: Tensor = self.linear(x)
        return y + x @ self.a.T @ self.b.T

    @property
    def change(self) -> Tensor:
        """What is added to the weight, [outputs, inputs]."""
        return self.b @ self.a


class AffineHeads(nn.Module):
    """Heads of which the maps are frozen: a scale and an offset of every output per domain."""

    def __init__(self, inner: Heads) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        domains = len(inner.bias)
        self.scale = nn.Parameter(inner.bias.new_ones(domains, RAW))
        self.offset = nn.Parameter(inner.bias.new_zeros(domains, RAW))

    def forward(self, hidden: Tensor, features: Tensor, x: Tensor, domain: Tensor) -> Tensor:
        """Raw outputs [B, T, RAW], as of `Heads`."""
        raw: Tensor = self.inner(hidden, features, x, domain)
        return raw * self.scale[domain][:, None] + self.offset[domain][:, None]


class Block(NamedTuple):
    """A part of the body, from the bottom up."""

    name: str
    modules: tuple[nn.Module, ...]

    @property
    def size(self) -> int:
        """Parameters, adapters left out."""
        return sum(p.numel() for module in self.modules for p in module.parameters())


def body(network: Network) -> list[Block]:
    """Everything below the heads, in the order in which an event passes through it."""
    backbone = network.backbone
    layers = [Block(f"layer {k}", (layer,)) for k, layer in enumerate(backbone.layers)]
    layers.insert(network.config.attention_after, Block("attention", (backbone.attention,)))
    layers[-1] = Block(layers[-1].name, (*layers[-1].modules, backbone.norm))
    return [
        Block("features", (network.features,)),
        Block("stem", (network.stem, network.mixed)),
        *layers,
    ]


def top(network: Network) -> tuple[list[Block], float]:
    """Blocks above those that are frozen, and the share of the body's parameters that is: as near 70 % as blocks allow.

    Raises:
        ValueError: no cut between blocks leaves a share within FROZEN.
    """
    blocks = body(network)
    total = sum(block.size for block in blocks)
    below = [sum(block.size for block in blocks[:k]) / total for k in range(len(blocks))]
    k = min(range(len(blocks)), key=lambda i: abs(below[i] - sum(FROZEN) / 2))
    if not FROZEN[0] <= below[k] <= FROZEN[1]:
        raise ValueError(
            f"no cut between the blocks freezes 60 to 80 % of {total:,} parameters: the nearest {below[k]:.0%}"
        )
    return blocks[k:], below[k]


def with_heads(network: Network, names: Sequence[str]) -> Network:
    """A copy with a head more for each name, which starts as the head for all (head 0)."""
    wider = Network(network.config, network.inputs, (*network.domains, *names))
    state = network.state_dict()
    for name, own in wider.state_dict().items():
        if name.startswith("heads.") and len(own) > len(state[name]):
            state[name] = torch.cat([state[name], *[state[name][:1]] * len(names)])
    wider.load_state_dict(state)
    return wider


def leave_out(heads: Heads, at: int, value: Tensor, constant: Tensor) -> None:
    """Take inputs that never vary in a market out of its head, in place and for good.

    What they add there goes into the offset. A weight on such an input would be the base's, tested by nothing that
    was seen of the market, and would move the forecasts as soon as the input does: its session, for instance, ends.

    Args:
        heads: with a map of its own for each domain.
        at: the head.
        value: [inputs], what the inputs are.
        constant: bool[inputs], those that never vary.
    """
    with torch.no_grad():
        heads.bias[at] += value[constant] @ heads.direct[at, constant]
        heads.direct[at, constant] = 0.0
    heard = torch.ones_like(heads.direct[..., :1])
    heard[at, constant] = 0.0
    _only(heads.direct, heard)


def adapt(network: Network, low_rank: Where, rank: int, trained: Where, seed: int) -> None:
    """Freeze the body of a network in place but for a part of it; its heads stay as they are.

    Args:
        low_rank: which linear maps get an adapter.
        rank: of the adapters.
        trained: which blocks are trained as they are.
        seed: draws the adapters' first values.
    """
    blocks = body(network)
    upper = {
        "nowhere": [],
        "top": top(network)[0] if "top" in (low_rank, trained) else [],
        "everywhere": blocks,
    }
    for learning, some in ((False, blocks), (True, upper[trained])):
        for module in (module for block in some for module in block.modules):
            module.requires_grad_(learning)
    rng = torch.Generator().manual_seed(seed)
    for block in upper[low_rank]:
        for module in block.modules:
            _replace(network, module, rank, rng)


def _replace(network: Network, module: nn.Module, rank: int, rng: torch.Generator) -> None:
    inside = {id(m) for m in module.modules()}
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and id(child) in inside:
                setattr(parent, name, LowRank(child, rank, rng))


def train_heads(network: Network, heads: Sequence[int], affine: bool) -> None:
    """Train some heads of a network in place and no others, by their maps or by a scale and an offset of them alone.

    A network with one map for all domains has a scale and an offset of its own for each: they are trained.
    """
    if affine:
        scaled = AffineHeads(network.heads)
        network.heads = scaled  # type: ignore[assignment]
        tables = [scaled.scale, scaled.offset]
    else:
        network.heads.requires_grad_(True)
        tables = list(network.heads.parameters())
    for table in tables:
        if len(table) == len(network.domains):
            mine = table.new_zeros(len(table), *[1] * (table.dim() - 1))
            mine[list(heads)] = 1.0
            _only(table, mine)
        else:
            table.requires_grad_(False)


def _only(parameter: Tensor, mine: Tensor) -> RemovableHandle:
    """Let gradients through where `mine` is 1: without momentum and decay the rest keeps its bits."""

    def masked(gradient: Tensor) -> Tensor:
        return gradient * mine.to(gradient)

    hook: RemovableHandle = parameter.register_hook(masked)  # type: ignore[no-untyped-call]
    return hook


def adapters(network: nn.Module) -> Iterator[tuple[str, LowRank]]:
    """Every adapter by the name of the map that it stands beside."""
    for name, module in network.named_modules():
        if isinstance(module, LowRank):
            yield name, module


def merged(network: Network) -> Network:
    """A plain network of the same function, in the precision of the adapted one."""
    state = dict(network.state_dict())
    for name, adapter in adapters(network):
        own = {key: state.pop(key) for key in list(state) if key.startswith(f"{name}.")}
        state[f"{name}.weight"] = adapter.linear.weight.detach() + adapter.change.detach()
        if adapter.linear.bias is not None:
            state[f"{name}.bias"] = own[f"{name}.linear.bias"]
    if isinstance(network.heads, AffineHeads):
        state = _merged_heads(state, network.heads)
    plain = Network(network.config, network.inputs, network.domains).to(network.backbone.norm.weight)
    plain.load_state_dict(state)
    return plain


def _merged_heads(state: dict[str, Tensor], heads: AffineHeads) -> dict[str, Tensor]:
    scale, offset = state.pop("heads.scale"), state.pop("heads.offset")
    found = {key.replace("heads.inner.", "heads."): tensor for key, tensor in state.items()}
    found["heads.bias"] = found["heads.bias"] * scale + offset
    if heads.inner.shared:
        found["heads.scale"] = found["heads.scale"] * scale
    else:
        for name in ("hidden", "features", "direct"):
            found[f"heads.{name}"] = found[f"heads.{name}"] * scale[:, None]
    return found


@torch.no_grad()
def merge_difference(network: Network, x: Tensor, domain: int) -> float:
    """Largest difference of an adapted network and what is merged from it, over x [n, inputs] from the start, in double
    precision and relative to the largest output.
    """
    exact = deepcopy(network).double().eval()
    plain = merged(exact).eval()
    at = torch.tensor([domain])
    want = exact(x.double()[None], None, at).raw
    got = plain(x.double()[None], None, at).raw
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))

"""The mixers of the backbone: Mamba-2, Mamba-3 and local attention, each in the chunked form and as a step.

A mixer maps u [B, T, d_model] and its state, a dict of the parts that `emp.model.ssm_config.layout` names, to
its output and its state after the last event. T = 1 takes the step, longer inputs the chunked form; both
compute the same function, so any mixture of them gives the same numbers. Under autocast the projections alone are
narrow; what is carried from event to event keeps the precision of the state.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from emp.model.ssm_config import CONV, SSMConfig
from emp.train.net.scan import chunked_scan

Parts = dict[str, Tensor]

EPS = 1e-5
DECAY_FLOOR = 1e-4
"""Least rate of decay per unit of dt, so that no head keeps the past for ever."""
DT_FLOOR = 1e-4
DECAY_RANGE = (1.0, 16.0)
"""Mamba-2's rates of decay at initialisation."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., size]."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight


def dt_bias(config: SSMConfig) -> nn.Parameter:
    """Inverse softplus of step sizes spread log-evenly over [dt_min, dt_max], a draw per head and stratum."""
    heads = config.heads
    at = (torch.arange(heads) + torch.rand(heads)) / heads
    low, high = math.log(config.dt_min), math.log(config.dt_max)
    dt = torch.exp(low + at * (high - low)).clamp(min=DT_FLOOR)
    return nn.Parameter(dt + torch.log(-torch.expm1(-dt)))


def heavy_tail(u: Tensor) -> Tensor:
    """1 + u for u >= 0, else 1 / (1 - u): positive, smooth, and slow to vanish (Mamba-3's rate of decay)."""
    return torch.where(u >= 0, 1.0 + u, 1.0 / (1.0 - u.clamp(max=0.0)))


def rotate(x: Tensor, phi: Tensor) -> Tensor:
    """Turn the pairs (i, angles + i) of x [..., N] by phi [..., angles]; the rest stays."""
    angles = phi.shape[-1]
    u, v, rest = torch.split(x, [angles, angles, x.shape[-1] - 2 * angles], -1)
    cos, sin = phi.cos(), phi.sin()
    return torch.cat((u * cos - v * sin, u * sin + v * cos, rest), -1)


def carry_angle(phi: Tensor, by: Tensor) -> Tensor:
    """Angles after each token, modulo 2 pi: phi [B, H, A] carried by [B, T, H, A], summed in float64."""
    total = phi.double()[:, None] + by.double().cumsum(1)
    return torch.remainder(total, 2.0 * math.pi).to(by.dtype)


class Mamba3(nn.Module):
    """Mamba-3, single input and output per head (Lahoti et al. 2026, arXiv 2603.15569).

    h_t = alpha_t h_{t-1} + beta_t v_{t-1} k_{t-1}^T + gamma_t v_t k_t^T,  y_t = h_t q_t + D v_t, with
    alpha = exp(A dt), beta = (1 - lambda) dt alpha, gamma = lambda dt, and keys and queries rotated by the
    running sum of omega dt.
    """

    def __init__(self, config: SSMConfig) -> None:
        super().__init__()
        self.config = config
        heads, states = config.heads, config.d_state
        self.in_proj = nn.Linear(config.d_model, config.projected, bias=False)
        self.dt_bias = dt_bias(config)
        self.b_bias = nn.Parameter(torch.ones(heads, states))
        self.c_bias = nn.Parameter(torch.ones(heads, states))
        self.b_norm = RMSNorm(states)
        self.c_norm = RMSNorm(states)
        self.skip = nn.Parameter(torch.ones(heads))
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=False)

    def forward(self, u: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        """Mix u [B, T, d_model]."""
        c = self.config
        sizes = [c.d_inner, c.d_inner, c.d_state, c.d_state, c.heads, c.heads, c.heads, c.angles]
        z, x, b, q, dt, rate, trap, angle = torch.split(self.in_proj(u).to(state["h"].dtype), sizes, -1)
        v = x.reshape(*x.shape[:2], c.heads, c.headdim)
        dt = functional.softplus(dt + self.dt_bias)
        decay = -heavy_tail(rate).clamp(min=DECAY_FLOOR) * dt
        share = torch.sigmoid(trap)
        k = self.b_norm(b)[..., None, :] + self.b_bias
        q = self.c_norm(q)[..., None, :] + self.c_bias
        turn = math.pi * torch.tanh(angle)[..., None, :] * dt[..., None]
        if u.shape[1] == 1:
            phi = torch.remainder(state["phi"][:, None] + turn, 2.0 * math.pi)
        else:
            phi = carry_angle(state["phi"], turn)
        k, q = rotate(k, phi), rotate(q, phi)

        now, before = share * dt, (1.0 - share) * dt
        held = state["k"][..., None] * state["v"][..., None, :]  # [B, H, N, P]
        h = state["h"] + before[:, 0, :, None, None] * held
        if u.shape[1] == 1:
            h = decay[:, 0].exp()[..., None, None] * h
            h = h + now[:, 0, :, None, None] * k[:, 0, :, :, None] * v[:, 0, :, None, :]
            y = (q[:, 0, :, :, None] * h).sum(-2)[:, None]
        else:
            later = now + functional.pad(before[:, 1:], (0, 0, 0, 1))
            y, h = chunked_scan(decay, now, later, q, k, v, h)
        y = (y + self.skip[:, None] * v).flatten(-2) * functional.silu(z)
        return self.out_proj(y), {"phi": phi[:, -1], "k": k[:, -1], "v": v[:, -1], "h": h}


class Mamba2(nn.Module):
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): h_t = exp(A dt) h_{t-1} + dt x_t B_t^T, y = h C + D x."""

    def __init__(self, config: SSMConfig) -> None:
        super().__init__()
        self.config = config
        self.in_proj = nn.Linear(config.d_model, config.projected, bias=False)
        bound = 1.0 / math.sqrt(CONV)
        self.conv_weight = nn.Parameter(torch.empty(CONV, config.convolved).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(config.convolved).uniform_(-bound, bound))
        self.dt_bias = dt_bias(config)
        self.a_log = nn.Parameter(torch.empty(config.heads).uniform_(*DECAY_RANGE).log())
        self.skip = nn.Parameter(torch.ones(config.heads))
        self.norm = RMSNorm(config.d_inner)
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=False)

    def forward(self, u: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        """Mix u [B, T, d_model]."""
        c = self.config
        length = u.shape[1]
        z, xbc, dt = torch.split(self.in_proj(u).to(state["h"].dtype), [c.d_inner, c.convolved, c.heads], -1)
        seen = torch.cat((state["conv"], xbc), 1)
        xbc = sum((self.conv_weight[j] * seen[:, j : j + length] for j in range(CONV)), self.conv_bias)
        x, k, q = torch.split(functional.silu(xbc), [c.d_inner, c.d_state, c.d_state], -1)
        v = x.reshape(*x.shape[:2], c.heads, c.headdim)
        dt = functional.softplus(dt + self.dt_bias)
        decay = -self.a_log.exp() * dt
        if length == 1:
            new = dt[:, 0, :, None, None] * k[:, 0, None, :, None] * v[:, 0, :, None, :]
            h = decay[:, 0].exp()[..., None, None] * state["h"] + new
            y = (q[:, 0, None, :, None] * h).sum(-2)[:, None]
        else:
            y, h = chunked_scan(decay, dt, dt, q[:, :, None], k[:, :, None], v, state["h"])
        y = (y + self.skip[:, None] * v).flatten(-2)
        y = self.norm(y * functional.silu(z))
        return self.out_proj(y), {"conv": seen[:, length:], "h": h}


class LocalAttention(nn.Module):
    """Softmax attention over the last `window` events, with a learned bias per head and lag.

    The cache is a ring of keys and values. Slots before the first event hold zeros and take part with
    their bias alone, so an empty ring needs no mask: the mass they draw adds nothing to the output.
    """

    def __init__(self, config: SSMConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.attention_heads, config.window))
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, u: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        """Attend from u [B, T, d]; state: `at` [B, 1], `k` [B, d, window], `v` [B, window, d]."""
        q, k, v = self.qkv(u).to(state["k"].dtype).chunk(3, -1)
        q = q / math.sqrt(self.config.d_model // self.config.attention_heads)
        with torch.autocast(u.device.type, enabled=False):
            y, state = (self._step if u.shape[1] == 1 else self._banded)(q, k, v, state)
        return self.out_proj(y), state

    def _step(self, q: Tensor, k: Tensor, v: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        window, heads = self.config.window, self.config.attention_heads
        slots = torch.arange(window, device=q.device)
        at = state["at"].round().long()  # [B, 1]
        here = slots == at
        keys = torch.where(here[:, None, :], k.transpose(1, 2), state["k"])
        values = torch.where(here[:, :, None], v, state["v"])
        bias = self.bias[:, torch.remainder(at - slots, window)].transpose(0, 1)  # [B, heads, window]
        size = q.shape[-1] // heads
        logits = (q.reshape(-1, heads, 1, size) @ keys.reshape(-1, heads, size, window))[:, :, 0] + bias
        weights = logits.softmax(-1)
        y = weights[:, :, None, :] @ values.reshape(-1, window, heads, size).transpose(1, 2)
        after = torch.remainder(at + 1, window).to(q.dtype)
        return y.flatten(1)[:, None], {"at": after, "k": keys, "v": values}

    def _banded(self, q: Tensor, k: Tensor, v: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        window, heads, length = self.config.window, self.config.attention_heads, q.shape[1]
        at = state["at"].round().long()
        slots = torch.arange(window, device=q.device)
        oldest = torch.remainder(at + slots, window)  # [B, window]: slots in order of time
        k = torch.cat((_take(state["k"].transpose(1, 2), oldest)[:, 1:], k), 1)
        v = torch.cat((_take(state["v"], oldest)[:, 1:], v), 1)

        blocks = -(-length // window)
        rest = blocks * window - length
        q = functional.pad(q, (0, 0, 0, rest)).view(len(q), blocks, window, heads, -1)
        near_k, near_v = (
            functional.pad(t, (0, 0, 0, rest))
            .unfold(1, 2 * window - 1, window)
            .reshape(len(q), blocks, heads, -1, 2 * window - 1)
            for t in (k, v)
        )  # [B, blocks, heads, size, 2 window - 1]
        lag = slots[:, None] + window - 1 - torch.arange(2 * window - 1, device=q.device)
        seen = (lag >= 0) & (lag < window)
        bias = self.bias[:, lag.clamp(0, window - 1)].masked_fill(~seen, -torch.inf)
        weights = (q.transpose(2, 3) @ near_k + bias).softmax(-1)
        y = (weights @ near_v.transpose(-1, -2)).transpose(2, 3).flatten(3).flatten(1, 2)[:, :length]

        after = torch.remainder(at + length, window)
        newest = torch.remainder(slots - after, window)  # [B, window]: order of time of each slot
        ring_k, ring_v = _take(k[:, -window:], newest), _take(v[:, -window:], newest)
        return y, {"at": after.to(k.dtype), "k": ring_k.transpose(1, 2), "v": ring_v}


def _take(rows: Tensor, order: Tensor) -> Tensor:
    """Rows [B, n, d] in the order [B, n] of each batch entry."""
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1]))

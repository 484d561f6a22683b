"""The parallel form of the state-space recurrence, in chunks, from any state, with gradients through it."""

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 64


def chunked_scan(
    decay: Tensor, now: Tensor, later: Tensor, q: Tensor, k: Tensor, v: Tensor, h: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Run g_t = exp(decay_t) g_{t-1} + later_t k_t v_t^T; y_t = q_t (g_t - (later_t - now_t) k_t v_t^T).

    The structured state-space duality of Dao and Gu 2024 (arXiv 2405.21060): within a chunk a masked matrix
    product, between chunks the recurrence. `later` is the weight with which a token is seen by all later
    ones, `now` the weight with which it sees itself; the two differ for Mamba-3's trapezoidal rule, whose
    second term of a token arrives with the next one (arXiv 2603.15569).

    Args:
        decay: [B, T, H], log of the state's decay, <= 0.
        now, later: [B, T, H].
        q, k: [B, T, H or 1, N].
        v: [B, T, H, P].
        h: [B, H, N, P], the state before the first token.
        chunk: tokens per chunk.

    Returns:
        y [B, T, H, P] and the state after the last token [B, H, N, P], in the precision of `h`, whatever that of the
        projections is.
    """
    with torch.autocast(h.device.type, enabled=False):
        return _scan(decay, now, later, q, k, v, h, chunk)


def _scan(
    decay: Tensor, now: Tensor, later: Tensor, q: Tensor, k: Tensor, v: Tensor, h: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    decay, now, later, q, k, v = (t.to(h.dtype) for t in (decay, now, later, q, k, v))
    length = decay.shape[1]
    chunk = min(chunk, length)
    rest = -length % chunk
    if rest:
        decay, now, later = (functional.pad(t, (0, 0, 0, rest)) for t in (decay, now, later))
        q, k, v = (functional.pad(t, (0, 0, 0, 0, 0, rest)) for t in (q, k, v))
    decay, now, later = (_split(t, chunk) for t in (decay, now, later))
    q, k, v = (_split(t, chunk) for t in (q, k, v))

    total = decay.cumsum(-1)  # [B, C, H, Q], inclusive
    past = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril(-1)
    between = (total[..., :, None] - total[..., None, :]).masked_fill(~past, -torch.inf).exp()
    scores = q @ k.transpose(-1, -2)
    weights = scores * between * later[..., None, :]
    own = torch.diagonal(scores, dim1=-2, dim2=-1) * now
    y = weights @ v + own[..., None] * v

    to_end = (total[..., -1:] - total).exp() * later
    added = (k * to_end[..., None]).transpose(-1, -2) @ v  # [B, C, H, N, P]
    starts, h = _over_chunks(total[..., -1], added, h)
    y = y + total.exp()[..., None] * (q @ starts)
    batch, chunks, heads, _, width = y.shape
    y = y.transpose(2, 3).reshape(batch, chunks * chunk, heads, width)
    return y[:, :length], h


def _over_chunks(decay: Tensor, added: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence h_c = exp(decay_c) h_{c-1} + added_c as one product with a triangular matrix.

    Args:
        decay: [B, C, H], log of a whole chunk's decay, <= 0.
        added: [B, C, H, N, P].
        h: [B, H, N, P], the state before the first chunk.

    Returns:
        the state before every chunk [B, C, H, N, P], and after the last one [B, H, N, P].
    """
    chunks = decay.shape[1]
    edges = (
        functional.pad(decay, (0, 0, 1, 0)).cumsum(1).transpose(1, 2)
    )  # [B, H, C + 1]: before and after each
    terms = torch.cat((h[:, None], added), 1).transpose(1, 2).flatten(3)  # [B, H, C + 1, N P]
    past = torch.ones(chunks + 1, chunks + 1, dtype=torch.bool, device=decay.device).tril()
    reach = (edges[..., :, None] - edges[..., None, :]).masked_fill(~past, -torch.inf).exp()
    states = (reach @ terms).reshape(*terms.shape[:3], *h.shape[2:]).transpose(1, 2)
    return states[:, :-1], states[:, -1]


def _split(t: Tensor, chunk: int) -> Tensor:
    """[B, T, H, ...] to [B, chunks, H, chunk, ...]."""
    return t.reshape(len(t), -1, chunk, *t.shape[2:]).transpose(2, 3)

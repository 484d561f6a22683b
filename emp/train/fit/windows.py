"""Windows of training as tensors: built on the host where a CPU trains, gathered from resident rows on a GPU.

A GPU that waits for the host to copy rows together is idle most of the time. There all rows of all streams lie on the
device, and a window names the rows it wants. Its windows have one shape, filled up with rows that do not count, so that
one captured graph (`emp.train.fit.captured`) serves all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from emp.core.ids import generator
from emp.core.records import Array
from emp.perception.targets import CLASSES, NO_LABEL
from emp.train.data.auxiliary import MIRRORED_NEXT, MIRRORED_QUEUE, NONE
from emp.train.data.chunks import WINDOW, Batch, Stream, broader_head, spans, window_batch
from emp.train.data.chunks import Sequence as Stretch
from emp.train.data.mirror import mirror_matrix
from emp.train.fit.config import TrainConfig
from emp.train.fit.losses import Targets

ROOM = 0.25
"""Share of a device's free memory that resident rows may take."""


class Window(NamedTuple):
    """B sequences by T events on the device that trains."""

    x: Tensor  # float32[B, T, INPUTS]
    masked: Tensor  # bool[B, T]: the depth of this event is hidden from the model
    broader: Tensor  # int64[B]: head of wider use
    targets: Targets
    next_kind: Tensor  # int64[B, T]
    wait: Tensor  # float32[B, T]
    depletion: Tensor  # int64[B, T]

    def tensors(self) -> list[Tensor]:
        """All of it, in one order."""
        return [self.x, self.masked, self.broader, *self.targets, self.next_kind, self.wait, self.depletion]

    def copy(self) -> "Window":
        """The same in memory of its own."""
        x, masked, broader, *rest = (t.clone() for t in self.tensors())
        return Window(x, masked, broader, Targets(*rest[:-3]), *rest[-3:])


class Windows(Protocol):
    """Where windows come from."""

    def window(self, group: Sequence[Stretch], number: int, step: int) -> Window:
        """The `number`-th window of a group; `step` names the draw of what is masked."""
        ...

    def lanes(self, group: Sequence[Stretch]) -> int:
        """Sequences in a group's windows, those that only fill them up included."""
        ...


class Masks:
    """Which events hide their depth, by step; drawn on the host, so that every device sees the same."""

    def __init__(self, seed: int, share: float) -> None:
        self.seed, self.share = seed, share

    def draw(self, step: int, rows: Sequence[range], shape: tuple[int, int]) -> Array:
        """bool[shape], false where it only fills up a window of some rows."""
        lanes, size = len(rows), max(map(len, rows))
        masked = np.zeros(shape, bool)
        masked[:lanes, :size] = generator(self.seed, "mask", step).random((lanes, size)) < self.share
        return masked


class HostWindows:
    """Windows copied together by the host: of one shape, or each as long as the longest of its sequences."""

    def __init__(
        self, streams: Sequence[Stream], masks: Masks, device: torch.device, width: int | None = None
    ) -> None:
        self.streams, self.masks, self.device, self.width = streams, masks, device, width

    def window(self, group: Sequence[Stretch], number: int, step: int) -> Window:
        """See `Windows`."""
        shape = None if self.width is None else (self.width, WINDOW)
        batch = window_batch(self.streams, group, number, shape)
        masked = self.masks.draw(step, spans(group, number), batch.weight.shape)
        return to_window(batch, masked, self.device)

    def lanes(self, group: Sequence[Stretch]) -> int:
        """See `Windows`."""
        return self.width or len(group)


def to_window(batch: Batch, masked: Array, device: torch.device) -> Window:
    """A batch on a device."""

    def put(a: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(a)).to(device)

    fields = (batch.domain, batch.delta_hat, batch.labels, batch.pos_weight, batch.weight)
    targets = Targets(*(put(a) for a in fields))
    return Window(put(batch.x), put(masked), put(batch.broader), targets, *(put(a) for a in batch.auxiliary))


class ResidentWindows:
    """Windows of `lanes` sequences by WINDOW events, gathered from rows that lie on the device."""

    def __init__(self, streams: Sequence[Stream], masks: Masks, lanes: int, device: torch.device) -> None:
        self.streams, self.masks, self.width, self.device = streams, masks, lanes, device

        def together(columns: Sequence[Array]) -> Tensor:
            return torch.from_numpy(np.concatenate(columns)).to(device)

        self.x = together([s.x for s in streams])
        self.delta_hat = together([s.delta_hat for s in streams])
        self.labels = together([s.labels for s in streams])
        self.use = together([s.use for s in streams])
        self.next_kind, self.wait, self.depletion = (
            together(column) for column in zip(*(s.auxiliary for s in streams), strict=True)
        )
        self.pos_weight = together([s.pos_weight for s in streams])
        days = np.cumsum([0, *(len(s.pos_weight) for s in streams)])
        self.day = together([s.day + first for s, first in zip(streams, days, strict=False)])
        self.first = np.cumsum([0, *(len(s.x) for s in streams)])
        matrix = mirror_matrix()
        self.twin = torch.from_numpy(np.abs(matrix).argmax(axis=0)).to(device)
        self.sign = torch.from_numpy(matrix.sum(axis=0).astype(np.float32)).to(device)
        self.other_kind = torch.from_numpy(MIRRORED_NEXT).to(device)
        self.other_queue = torch.from_numpy(MIRRORED_QUEUE).to(device)
        self.ahead = torch.arange(WINDOW, device=device)

    @staticmethod
    def room_for(streams: Sequence[Stream], device: torch.device) -> bool:
        """Whether the rows of all streams have a place on a GPU."""
        rows = sum(
            a.nbytes for s in streams for a in (s.x, s.delta_hat, s.labels, s.use, s.day, *s.auxiliary)
        )
        return rows <= ROOM * torch.cuda.mem_get_info(device)[0]

    def window(self, group: Sequence[Stretch], number: int, step: int) -> Window:
        """See `Windows`."""
        rows = spans(group, number)
        lanes = np.zeros((5, self.width), np.int64)  # first row, rows, mirrored, domain, broader
        weight = np.zeros(self.width, np.float32)
        for lane, (sequence, span) in enumerate(zip(group, rows, strict=True)):
            stream = self.streams[sequence.stream]
            first = self.first[sequence.stream] + span.start
            broader = broader_head(stream, sequence)
            lanes[:, lane] = (first, len(span), sequence.mirror, stream.domain, broader)
            weight[lane] = stream.weight
        masked = self.masks.draw(step, rows, (self.width, WINDOW))
        told = torch.from_numpy(lanes).to(self.device)
        return self._gather(
            told, torch.from_numpy(weight).to(self.device), torch.from_numpy(masked).to(self.device)
        )

    def lanes(self, group: Sequence[Stretch]) -> int:
        """See `Windows`."""
        return self.width

    def _gather(self, lanes: Tensor, weight: Tensor, masked: Tensor) -> Window:
        first, length, mirrored, domain, broader = lanes
        there = self.ahead < length[:, None]
        rows = torch.where(there, first[:, None] + self.ahead, 0)
        turn = mirrored.bool()[:, None]
        use = self.use[rows] & there

        x = self.x[rows]
        x = torch.where(turn[..., None], x[..., self.twin] * self.sign, x)
        delta = torch.where(turn[..., None], -self.delta_hat[rows], self.delta_hat[rows])
        labels = self.labels[rows].long()
        labels = torch.where(turn[..., None] & (labels != NO_LABEL), CLASSES - 1 - labels, labels)
        tilt = self.pos_weight[self.day[rows]]
        tilt = torch.where(turn[..., None, None], tilt.flip(-1), tilt)
        kind, queue = self.next_kind[rows].long(), self.depletion[rows].long()
        kind = torch.where(turn, self.other_kind[kind], kind)
        queue = torch.where(turn, self.other_queue[queue], queue)
        return Window(
            x=torch.where(there[..., None], x, 0.0),
            masked=masked,
            broader=broader,
            targets=Targets(
                domain=domain,
                delta_hat=torch.where(use[..., None], delta, torch.nan),
                labels=torch.where(use[..., None], labels, NO_LABEL),
                pos_weight=torch.where(there[..., None, None], tilt, 1.0),
                weight=use * weight[:, None],
            ),
            next_kind=torch.where(there, kind, NONE),
            wait=torch.where(there, self.wait[rows], torch.nan),
            depletion=torch.where(there, queue, NONE),
        )


def windows_of(streams: Sequence[Stream], config: TrainConfig, device: torch.device) -> Windows:
    """Where the windows of a run come from on a device."""
    masks = Masks(config.seed, config.masked_share)
    if device.type == "cpu":
        return HostWindows(streams, masks, device)
    if ResidentWindows.room_for(streams, device):
        return ResidentWindows(streams, masks, config.lanes, device)
    return HostWindows(streams, masks, device, config.lanes)

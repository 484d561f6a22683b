"""What the owner asked of a run, and how long it took until it was flat."""

from collections import deque
from collections.abc import Callable
from typing import get_args

import msgspec

from emp.core.contracts import Control, OwnerAction
from emp.observe.trading_views import ControlView

CONTROLS_SHOWN = 16

_OWNERS = frozenset(get_args(OwnerAction))
_CLOSING = frozenset({"kill", "flatten"})


class ControlLog:
    """The newest control inputs of the owner."""

    def __init__(self, is_flat: Callable[[str], bool]) -> None:
        """`is_flat` says whether nothing of an instrument ("": of any) is held or may still fill."""
        self.controls: deque[ControlView] = deque(maxlen=CONTROLS_SHOWN)  # newest first
        self._is_flat = is_flat
        self._count = 0
        self._waiting: dict[int, tuple[ControlView, int]] = {}  # those that close, with their monotonic time

    def take(self, control: Control, now_ns: int, mono_ns: int) -> bool:
        """Take a control input; whether it was the owner's."""
        if control.action not in _OWNERS:
            return False
        self._count += 1
        view = ControlView(
            n=self._count,
            action=control.action,
            reason=control.reason,
            instrument=control.instrument,
            at_ns=now_ns,
        )
        self.controls.appendleft(view)
        if control.action in _CLOSING:
            self._waiting[view.n] = (view, mono_ns)
        elif control.action == "resume":
            self._waiting.clear()
        return True

    def look(self, mono_ns: int) -> bool:
        """Note what has become flat; whether anything has."""
        flat = [n for n, (view, _) in self._waiting.items() if self._is_flat(view.instrument)]
        for n in flat:
            view, since = self._waiting.pop(n)
            done = msgspec.structs.replace(view, flat_ms=(mono_ns - since) / 1e6)
            for i, one in enumerate(self.controls):
                if one.n == n:
                    self.controls[i] = done
        return bool(flat)

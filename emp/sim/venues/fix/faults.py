"""What can go wrong on the venue's side of a FIX connection, drawn from a seed."""

import msgspec

from emp.core.ids import generator

KINDS = ("cut", "delay", "reorder", "silence", "checksum", "reject")


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chances per message that leaves (`reject`: per order that arrives), and how long a pause lasts."""

    seed: int = 0
    cut: float = 0.0  # the connection drops in the middle of the message
    delay: float = 0.0  # the message and all behind it wait
    reorder: float = 0.0  # the message changes places with the next one
    silence: float = 0.0  # nothing leaves for a while, heartbeats included
    checksum: float = 0.0  # a byte is damaged on the way
    reject: float = 0.0  # a new order is refused
    delay_s: float = 0.05
    silence_s: float = 0.5


class FaultPlan:
    """The faults of one venue, one draw per message, and how many of each there were."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.counts = dict.fromkeys(KINDS, 0)
        self._out = generator(faults.seed, "fix-faults", "out")
        self._in = generator(faults.seed, "fix-faults", "in")

    def on_message(self, message: bytes) -> str:
        """The fault that befalls a message on its way out, empty for none."""
        draw = self._out.random()
        for kind in ("cut", "delay", "reorder", "silence", "checksum"):
            chance = float(getattr(self.faults, kind))
            if draw < chance:
                self.counts[kind] += 1
                return kind
            draw -= chance
        return ""

    def on_order(self) -> bool:
        """Whether the next new order is refused."""
        refused = self._in.random() < self.faults.reject
        self.counts["reject"] += refused
        return bool(refused)

    def damaged(self, message: bytes) -> bytes:
        """The message with one bit of one byte of its body flipped, and its ends as they were."""
        at = int(self._out.integers(len(message) // 2, len(message) - 8))
        return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]

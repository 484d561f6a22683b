"""The FIX venue of a world, with somebody who notes what arrives."""

from collections.abc import Callable

from emp.access.fix.message import Message
from emp.sim.venues.fix.client import Client
from emp.sim.venues.fix.venue import FixVenue


class WatchedVenue(FixVenue):
    """Tells of every order that arrives: its id, its fields as they were sent, whether it says that it is a repeat."""

    arrived: Callable[[str, str, bool], None] = staticmethod(lambda _name, _kind, _repeated: None)

    def order(self, client: Client, message: Message) -> None:
        """35=D."""
        self.arrived(message.text(11), "new", bool(message.poss_resend))
        super().order(client, message)

    def replace(self, client: Client, message: Message) -> None:
        """35=G."""
        self.arrived(message.text(11), "replace", bool(message.poss_resend))
        super().replace(client, message)

    def forget_numbers(self) -> None:
        """The venue's memory of its session's sequence numbers is gone; whoever is connected is cut off."""
        for client in tuple(self.clients):
            client.drop()
        self._store.reset(self._clock.now_ns())
        self._kept = None

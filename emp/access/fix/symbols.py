"""The venue's own names of instruments, asked for where it has numbers instead (SecurityList, 35=x and y)."""

import asyncio
from collections.abc import Sequence

from emp.access.fix.link import Link
from emp.access.fix.message import Message
from emp.access.fix.terms import Application
from emp.core.errors import VenueError


class Listing(Application):
    """The application of a short session that only reads the list."""

    link: Link

    def __init__(self) -> None:
        self._done: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def symbols(self, names: Sequence[str], timeout_s: float) -> dict[str, str]:
        """Symbol of each name; VenueError where the venue does not list it."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._done
        except TimeoutError:
            raise VenueError(f"{self.link.address}: no list of symbols within {timeout_s:g} s") from None
        missing = [name for name in names if plain_name(name) not in found]
        if missing:
            raise VenueError(
                f"{self.link.address}: the venue lists no {missing[0]}; give its symbol under access.symbols"
            )
        return {name: found[plain_name(name)] for name in names}

    def on_logon(self) -> None:
        """Ask for the list."""
        self.link.logged_on()
        self.link.session.send(b"x", b"320=list\x01559=4\x01")

    def on_logout(self, reason: str) -> None:
        """The list will not come any more."""
        self._fail(reason)

    def on_message(self, message: Message) -> None:
        """Read the list: 55 is the number, 1007 the name."""
        if message.kind == "j":
            self._fail(message.words(58, "refused"))
        if message.kind != "y" or self._done.done():
            return
        self._done.set_result(
            {
                plain_name(entry[1007].decode("latin-1")): entry[55].decode("latin-1")
                for entry in message.group(146)
                if 55 in entry and 1007 in entry
            }
        )

    def on_reject(self, message: Message) -> None:
        """The request was refused."""
        self._fail(message.words(58, "rejected"))

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(VenueError(f"{self.link.address}: no list of symbols: {why}"))
            self._done.exception()  # read here, so that nobody has to


def plain_name(name: str) -> str:
    """A name as venues write it in different ways: EUR/USD and EURUSD are one."""
    return name.replace("/", "").upper()

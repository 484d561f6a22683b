"""Plays the cases; see the package's text."""

import asyncio
import traceback

from tests.fix.acceptance import bodies, exchanges, logons
from tests.fix.acceptance.cases import CASES, Case
from tests.fix.acceptance.ends import Acceptor, Initiator, Side

__all__ = ["bodies", "exchanges", "logons"]  # imported for the cases that they define


def played(one: Case, side: type[Side]) -> str:
    """What came of a case at one of our ends: `passes`, why it does not apply, or how it fails."""
    if side.initiator and one.initiator:
        return one.initiator

    async def run() -> str:
        end = side()
        if isinstance(end, Acceptor):
            await end.venue.start()
            await asyncio.sleep(0)
        try:
            one.play(end)
        except Exception:
            return "FAILS: " + traceback.format_exc(limit=-1).replace("\n", " ").replace("|", "¦")
        finally:
            if isinstance(end, Acceptor):
                await end.venue.close()
        return "passes"

    return asyncio.run(run())


def table() -> list[str]:
    """The table of docs/fix.md, line by line."""
    lines = ["| definition | demands | our venue | our initiator |", "|---|---|---|---|"]
    for one in sorted(CASES, key=lambda c: c.name.lower()):
        lines.append(f"| {one.name} | {one.demands} | {played(one, Acceptor)} | {played(one, Initiator)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))

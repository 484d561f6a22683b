"""Write the days on which markets are closed or close early: emp/core/data/closures.yaml.

A development tool: it needs exchange_calendars (pip install exchange_calendars), which nothing else here does.

    python scripts/closures.py            # writes the file
    python scripts/closures.py --check    # says where the file differs

Calendars of exchange_calendars: XNYS for US stocks, CMES for CME Globex, XSHG for the mainland's stock and futures
exchanges, XSES for Singapore. CME's and Singapore's early closes are those of their equity products; other products of
the same day may trade longer.
"""

import argparse
import sys
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

FILE = Path(__file__).parent.parent / "emp" / "core" / "data" / "closures.yaml"
FIRST, LAST = "2010-01-01", "2027-12-31"
CALENDARS = {
    "us_equity": "XNYS",
    "globex": "CMES",
    "cn_equity": "XSHG",
    "szse_equity": "XSHG",
    "cffex": "XSHG",
    "sgx": "XSES",
}

HEAD = "# Written by scripts/closures.py from exchange_calendars; dates and times are the exchange's own.\n"


def closures(calendar: str) -> tuple[list[str], list[str]]:
    """Weekdays without a session, and "YYYY-MM-DD HH:MM" of sessions that end early."""
    import exchange_calendars

    known = exchange_calendars.get_calendar(calendar, start=FIRST)
    last = min(
        date.fromisoformat(LAST), known.bound_max().date() if known.bound_max() else date.fromisoformat(LAST)
    )
    known = exchange_calendars.get_calendar(calendar, start=FIRST, end=last.isoformat())
    sessions = {day.date() for day in known.sessions}
    day, closed = date.fromisoformat(FIRST), []
    while day <= last:
        if day.weekday() < 5 and day not in sessions:
            closed.append(day.isoformat())
        day += timedelta(days=1)
    early = [
        known.session_close(day).tz_convert(known.tz).strftime("%Y-%m-%d %H:%M") for day in known.early_closes
    ]
    return closed, early


def text() -> str:
    """The file's content."""
    lines = [HEAD]
    for name, calendar in CALENDARS.items():
        closed, early = closures(calendar)
        lines.append(f"{name}:\n")
        for field, entries, a_line in (("holidays", closed, 8), ("early_closes", early, 5)):
            lines.append(f"  {field}:\n    [\n" if entries else f"  {field}: []\n")
            lines += [f"      {', '.join(part)},\n" for part in _cut(entries, a_line)]
            if entries:
                lines.append("    ]\n")
    return "".join(lines)


def _cut(entries: list[str], size: int) -> Iterable[list[str]]:
    for i in range(0, len(entries), size):
        yield [f'"{one}"' for one in entries[i : i + size]]


def main() -> None:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say where the file differs, and fail")
    wanted = text()
    if parser.parse_args().check:
        sys.exit(0 if FILE.read_text() == wanted else f"{FILE} is not what exchange_calendars says")
    FILE.write_text(wanted)


if __name__ == "__main__":
    main()

"""Market data as an engine saw it, in Parquet: EVENT rows, and in the metadata the instruments they speak of.

A run writes such files (`emp.journal.market`), and they are a recording like any other (`emp.access.recordings`).
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from emp.core.columns import arrow_fields, from_table, readable, to_arrays
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array

MARKET_KEY = b"emp.market"
FORMAT = 1
ALWAYS = frozenset(EVENT.names or ())
"""Columns without which rows are no market data."""


def market_header(instruments: Sequence[Instrument]) -> bytes:
    """What the column `instrument` indexes, with the tick and lot that prices and sizes count."""
    facts = [msgspec.to_builtins(one) for one in instruments]
    return json.dumps({"format": FORMAT, "instruments": facts}, sort_keys=True).encode()


def header_facts(head: bytes) -> list[dict[str, Any]]:
    """The instruments of a header, as they were described when it was written."""
    return list(json.loads(head)["instruments"])


def market_schema(head: bytes) -> pa.Schema:
    """Parquet schema of EVENT rows under a header."""
    return pa.schema(arrow_fields(EVENT), {MARKET_KEY: head})


def is_market_data(found: pa.Schema) -> bool:
    """Whether a file's columns are market data, of this release or of an earlier one."""
    try:
        facts = json.loads((found.metadata or {})[MARKET_KEY])
    except (KeyError, ValueError):
        return False
    return facts.get("format") == FORMAT and readable(found, EVENT, ALWAYS)


def same_grid(head: bytes, before: bytes) -> bool:
    """Whether two headers speak of the same instruments, priced and sized alike; fees and hours may have changed."""
    grids = [
        [(one["name"], one["tick"], one["lot"]) for one in header_facts(which)] for which in (head, before)
    ]
    return grids[0] == grids[1]


def market_table(events: Array, head: bytes) -> pa.Table:
    """EVENT rows [n] as a table of `market_schema(head)`."""
    return pa.Table.from_arrays(to_arrays(events), schema=market_schema(head))


def market_events(table: pa.Table) -> Array:
    """The EVENT rows [n] of such a table."""
    return from_table(table, EVENT)

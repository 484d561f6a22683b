"""Tables of the PostgreSQL mirror; with TimescaleDB hypertables, compression, retention, continuous aggregates.

Every statement may be run again: an older mirror's tables gain the columns that a release has added.
"""

from collections.abc import Iterator

from emp.core.records import DECISION, EVENT
from emp.journal.mirror.binary_copy import NUMBER, TIME, Column, table_columns

SCHEMA = "emp"

TIMED = ("ledger", "market", "actions")
"""Tables that become hypertables, by `time`: the record's own, UTC, to the microsecond; `ts` has the nanoseconds."""

MARKET: list[Column] = [NUMBER, TIME, *table_columns(EVENT, frozenset({"instrument"}))]
ACTIONS: list[Column] = [NUMBER, TIME, *table_columns(DECISION, frozenset({"instrument", "model_id"}))]
TEXTS = {
    "market": ("run", "instrument"),
    "actions": ("run", "instrument", "model_hash", "action_name", "reason"),
}

CHUNK, COMPRESS_AFTER, KEEP = "1 day", "7 days", "2 years"
"""Of a hypertable: length of a chunk, age at which one is compressed, and at which it is dropped."""

AGGREGATES = {
    "market_1m": (
        "market",
        """run, instrument, {bucket} AS minute, {first} AS open, max(bid_px[1] + ask_px[1]) / 2.0 AS high,
        min(bid_px[1] + ask_px[1]) / 2.0 AS low, {last} AS close, sum(abs(trade_qty)) AS traded_lots,
        count(*) AS events""",
    ),
    "actions_1m": (
        "actions",
        """run, instrument, {bucket} AS minute, count(*) AS decisions,
        count(*) FILTER (WHERE action <> 0) AS acted, {pnl} AS pnl_ticks, {inventory} AS inventory,
        max(latency_ms) AS latency_ms_max""",
    ),
}
"""Views per minute for a console: the table they sum up, and their columns. Prices are mids in ticks."""


def plain_statements() -> Iterator[str]:
    """What any PostgreSQL needs."""
    yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
    yield f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.cursors (
        run text NOT NULL, stream text NOT NULL, position bigint NOT NULL, PRIMARY KEY (run, stream))"""
    yield f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.instruments (
        run text NOT NULL, instrument text NOT NULL, tick double precision NOT NULL, lot double precision NOT NULL,
        PRIMARY KEY (run, instrument))"""
    yield f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.ledger (
        run text NOT NULL, n bigint NOT NULL, time timestamptz NOT NULL, at bigint NOT NULL, kind text NOT NULL,
        instrument text NOT NULL, body json NOT NULL, PRIMARY KEY (run, n, time))"""
    yield f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.metrics (
        run text NOT NULL, kind text NOT NULL, n bigint NOT NULL, body json NOT NULL, PRIMARY KEY (run, kind, n))"""
    for table, columns in (("market", MARKET), ("actions", ACTIONS)):
        texts = ", ".join(f"{name} text NOT NULL" for name in TEXTS[table])
        body = ", ".join(column.sql for column in columns)
        yield f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{table} ({texts}, {body}, PRIMARY KEY (run, n, time))"
        for column in columns:
            gained = column.sql.removesuffix(" NOT NULL")
            yield f"ALTER TABLE {SCHEMA}.{table} ADD COLUMN IF NOT EXISTS {gained}"


def plain_views() -> Iterator[str]:
    """The views per minute where nothing keeps them up to date: they are computed when they are read."""
    terms = {
        "bucket": "date_trunc('minute', time)",
        "first": "(array_agg((bid_px[1] + ask_px[1]) / 2.0 ORDER BY n))[1]",
        "last": "(array_agg((bid_px[1] + ask_px[1]) / 2.0 ORDER BY n DESC))[1]",
        "pnl": "(array_agg(pnl_ticks ORDER BY n DESC))[1]",
        "inventory": "(array_agg(inventory ORDER BY n DESC))[1]",
    }
    for view, (table, columns) in AGGREGATES.items():
        chosen = columns.format(**terms)
        yield f"""CREATE OR REPLACE VIEW {SCHEMA}.{view} AS
            SELECT {chosen} FROM {SCHEMA}.{table} GROUP BY run, instrument, minute"""


def timescale_statements() -> Iterator[str]:
    """What TimescaleDB adds; `plain_statements` come before."""
    for table in TIMED:
        name = f"{SCHEMA}.{table}"
        yield f"""SELECT create_hypertable('{name}', by_range('time', INTERVAL '{CHUNK}'), if_not_exists => true)"""
        yield f"""DO $$ BEGIN
            IF NOT (SELECT compression_enabled FROM timescaledb_information.hypertables
                    WHERE hypertable_schema = '{SCHEMA}' AND hypertable_name = '{table}') THEN
                ALTER TABLE {name} SET (timescaledb.compress, timescaledb.compress_segmentby = 'run',
                    timescaledb.compress_orderby = 'n');
            END IF; END $$"""
        yield f"SELECT add_compression_policy('{name}', INTERVAL '{COMPRESS_AFTER}', if_not_exists => true)"
        yield f"SELECT add_retention_policy('{name}', INTERVAL '{KEEP}', if_not_exists => true)"
    terms = {
        "bucket": "time_bucket('1 minute', time)",
        "first": "first((bid_px[1] + ask_px[1]) / 2.0, n)",
        "last": "last((bid_px[1] + ask_px[1]) / 2.0, n)",
        "pnl": "last(pnl_ticks, n)",
        "inventory": "last(inventory, n)",
    }
    for view, (table, columns) in AGGREGATES.items():
        yield f"""CREATE MATERIALIZED VIEW IF NOT EXISTS {SCHEMA}.{view}
            WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
            SELECT {columns.format(**terms)} FROM {SCHEMA}.{table} GROUP BY run, instrument, minute WITH NO DATA"""
        yield f"""SELECT add_continuous_aggregate_policy('{SCHEMA}.{view}', start_offset => INTERVAL '3 days',
            end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute', if_not_exists => true)"""

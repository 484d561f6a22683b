"""Mirror in PostgreSQL, with TimescaleDB where it is there: a batch and its cursor in one transaction, binary COPY."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import psycopg

from emp.core.codes import Action, Reason
from emp.core.records import Array
from emp.journal.mirror.binary_copy import (
    SIGNATURE,
    TRAILER,
    Column,
    int8,
    micros,
    pack_objects,
    pack_rows,
    timestamptz,
)
from emp.journal.mirror.follow import NOWHERE, STREAMS, Batch, Instrument
from emp.journal.mirror.sink import MirrorError
from emp.journal.mirror.tables import (
    ACTIONS,
    MARKET,
    SCHEMA,
    TEXTS,
    plain_statements,
    plain_views,
    timescale_statements,
)

_ONE_AT_A_TIME = 0x656D70
"""Advisory lock under which tables are made: two mirrors may begin at once."""

_WAITS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "emp-mirror",
    "options": "-c idle_in_transaction_session_timeout=30000 -c lock_timeout=10000 -c timezone=UTC",
}


def make_tables(connection: Any) -> bool:
    """Make whatever is not there; True with TimescaleDB."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
        for statement in plain_statements():
            connection.execute(statement)
    available = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
    if connection.execute(available).fetchone() is None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
            for statement in plain_views():
                connection.execute(statement)
        return False
    connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    for statement in timescale_statements():  # a continuous aggregate is made outside a transaction
        connection.execute(statement)
    return True


class TimescaleSink:
    """One run in one database."""

    def __init__(
        self,
        address: str,
        run: str,
        instruments: Sequence[str],
        grids: Sequence[Instrument],
        _: object = None,
    ) -> None:
        """`address` as libpq has it: a URL, or `host=… dbname=…`; the password is PGPASSWORD or in PGPASSFILE."""
        self._run = run
        self._instruments = tuple(instruments)
        try:
            self._db = psycopg.connect(address, autocommit=True, **_WAITS)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise _failure(error) from None
        encoding = self._db.info.parameter_status("server_encoding")
        if encoding != "UTF8":  # text of any other comes back as bytes, or not at all
            self.close()
            raise MirrorError(
                f"timescale: the database is in {encoding}: make one in UTF8 (createdb -E UTF8)"
            )
        try:
            self._begin(grids)
        except psycopg.Error as error:
            self.close()
            raise _failure(error) from None

    def _begin(self, grids: Sequence[Instrument]) -> None:
        self._db.execute("SET client_min_messages TO error")
        self.timescale = make_tables(self._db)
        with self._db.transaction():
            for stream in STREAMS:
                self._db.execute(
                    f"INSERT INTO {SCHEMA}.cursors VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
                    (self._run, stream),
                )
            for one in grids:
                self._db.execute(
                    f"INSERT INTO {SCHEMA}.instruments VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    (self._run, *one),
                )

    def positions(self) -> dict[str, int]:
        """The cursors, committed with the rows."""
        try:
            return dict(NOWHERE) | self._cursors("")
        except psycopg.Error as error:
            raise _failure(error) from None

    def _cursors(self, lock: str) -> dict[str, int]:
        query = f"SELECT stream, position FROM {SCHEMA}.cursors WHERE run = %s ORDER BY stream {lock}"
        return {str(stream): int(position) for stream, position in self._db.execute(query, (self._run,))}

    def write(self, batch: Batch) -> None:
        """Commit a batch and its cursors, unless another mirror of the run has been here since."""
        try:
            with self._db.transaction():
                found = self._cursors("FOR UPDATE")
                if any(found[stream] != batch.after[stream] for stream in STREAMS):
                    raise MirrorError("timescale: another mirror of the run writes here too")
                self._copy(batch)
                for stream, position in batch.until.items():
                    self._db.execute(
                        f"UPDATE {SCHEMA}.cursors SET position = %s WHERE run = %s AND stream = %s",
                        (position, self._run, stream),
                    )
        except psycopg.Error as error:
            raise _failure(error) from None

    def _copy(self, batch: Batch) -> None:
        if batch.ledger:
            self._send(
                "ledger", "run, n, time, at, kind, instrument, body", pack_objects(self._ledger(batch), 7)
            )
        for table, columns in (("market", MARKET), ("actions", ACTIONS)):
            rows = getattr(batch, table)
            if len(rows):
                names = ", ".join((*TEXTS[table], *(f'"{column.name}"' for column in columns)))
                self._send(table, names, b"".join(self._rows(table, columns, rows, batch)))
        lines = [
            (self._run.encode(), stream.encode(), int8(line.n), line.text)
            for stream in ("monitor", "latency")
            for line in getattr(batch, stream)
        ]
        if lines:
            self._send("metrics", "run, kind, n, body", pack_objects(lines, 4))

    def _send(self, table: str, columns: str, data: bytes) -> None:
        statement = f"COPY {SCHEMA}.{table} ({columns}) FROM STDIN (FORMAT BINARY)"
        with self._db.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(SIGNATURE + data + TRAILER)

    def _ledger(self, batch: Batch) -> Iterator[Sequence[bytes]]:
        for event in batch.ledger:
            body = event.body
            instrument = str(getattr(body, "instrument", ""))
            yield (
                self._run.encode(),
                int8(event.seq),
                timestamptz(body.ts),
                int8(event.at),
                event.kind.encode(),
                instrument.encode(),
                event.payload,
            )

    def _rows(self, table: str, columns: list[Column], rows: Array, batch: Batch) -> Iterator[bytes]:
        """Binary rows, those with the same words together."""
        numbers = np.array(batch.numbers(table), np.int64)
        coded = ["instrument"] if table == "market" else ["instrument", "model_id", "action", "reason_code"]
        codes = np.stack([rows[name] for name in coded], axis=1)
        for code in np.unique(codes, axis=0):
            mine = np.flatnonzero((codes == code).all(axis=1))
            values = [numbers[mine], micros(rows["ts"][mine]), *(rows[c.name][mine] for c in columns[2:])]
            yield pack_rows(columns, values, self._words(code.tolist(), batch.models))

    def _words(self, code: list[int], models: tuple[str, ...]) -> list[str]:
        words = [self._run, self._instruments[code[0]]]
        if len(code) > 1:
            model = models[code[1]] if code[1] < len(models) else ""
            words += [model, Action(code[2]).name.lower(), Reason(code[3]).name.lower()]
        return words

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(psycopg.Error):
            self._db.close()


def _failure(error: psycopg.Error) -> MirrorError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return MirrorError(f"timescale: {lines[0]}")

"""Mirrors in real services: under kills, beside what breaks them on purpose, and TimescaleDB's own tables."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Producer

from emp.app.bench.mirrored.drill import TARGETS, Drill
from emp.app.bench.mirrored.processes import free_port
from emp.app.bench.mirrored.verify import in_kafka, in_postgres, in_redis
from emp.journal.mirror.sink import MirrorError
from emp.journal.mirror.tables import plain_statements, timescale_statements
from emp.journal.mirror.timescale import TimescaleSink, make_tables
from tests.kit.services import needed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    """A drill after one fault of each kind, its services still up."""
    postgres = shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    kafka = Path(os.environ.get("EMP_KAFKA", "nowhere")) / "kafka-server"
    needed(bool(shutil.which("redis-server")), "no redis-server: install it to try mirrors")
    needed(bool(postgres), "no postgres: install postgresql to try mirrors")
    needed(
        kafka.exists() and bool(shutil.which("java")),
        "no Kafka: set EMP_KAFKA to its folder, install Java 17",
    )
    with tempfile.TemporaryDirectory(prefix="emp-drill-") as folder:
        os.chmod(folder, 0o755)  # the database runs as another user where this is root
        made = Drill(Path(folder), 5)
        try:
            made.start()
            for target in TARGETS:
                made.befall(target)
            yield made
        finally:
            made.close()


@pytest.mark.service
def test_nothing_is_lost_or_doubled_and_the_check_would_see_it(drill: Drill) -> None:
    found = drill.finish()
    assert {name: one[1:] for name, one in found.items()} == dict.fromkeys(found, (0, 0, 0))
    assert all(one.records > 200 for one in found.values())

    producer = Producer({"bootstrap.servers": drill.addresses["kafka"], "partitioner": "murmur2_random"})
    broken = b'{"run":"DRILL","n":1000000000,"kind":"psi"}'
    for topic, value in (("metrics", broken), ("ledger", broken)):
        producer.produce(topic, value, b"DRILL")
    assert producer.flush(30) == 0
    assert in_kafka(drill.run, drill.addresses["kafka"])[1:] == (0, 0, 2)

    with psycopg.connect(drill.addresses["timescale"]) as db:
        db.execute("DELETE FROM emp.market WHERE n = 3")
        db.execute("UPDATE emp.actions SET p[1][2] = 0.123 WHERE n = 4")
        db.execute("INSERT INTO emp.ledger SELECT run, n, time + interval '1 s', at, kind, instrument, body"
                   " FROM emp.ledger WHERE n = 1")  # fmt: skip
    lost, doubled, different = in_postgres(drill.run, drill.addresses["timescale"])[1:]
    assert (lost, different) == (1, 1)
    assert doubled > 0

    with redis.Redis.from_url(drill.addresses["redis"]) as client:
        client.hincrby("emp:{DRILL}:counts", "market", 2)
        client.hset("emp:{DRILL}:instrument:GOOG", "inventory", 1000)
    assert in_redis(drill.run, drill.addresses["redis"])[1:] == (0, 2, 1)


@pytest.mark.service
def test_views_per_minute_tell_what_the_tables_hold(drill: Drill) -> None:
    with psycopg.connect(drill.addresses["timescale"]) as db:
        ((minutes, events),) = db.execute("SELECT count(*), sum(events) FROM emp.market_1m").fetchall()
        ((rows,),) = db.execute("SELECT count(*) FROM emp.market").fetchall()
        assert minutes
        assert events == rows
        query = """SELECT m.close, (t.bid_px[1] + t.ask_px[1]) / 2.0, t.n FROM emp.market_1m m, LATERAL (
            SELECT * FROM emp.market r WHERE r.instrument = m.instrument
            AND date_trunc('minute', r.time) = m.minute ORDER BY n DESC LIMIT 1) t"""
        assert all(close == last for close, last, _ in db.execute(query).fetchall())


@pytest.mark.service
def test_a_database_of_another_encoding_is_refused_in_one_line(drill: Drill) -> None:
    address = drill.addresses["timescale"]
    with psycopg.connect(address, autocommit=True) as db:
        db.execute("CREATE DATABASE bare TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        other = db.info.get_parameters() | {"dbname": "bare"}
    with pytest.raises(MirrorError, match="SQL_ASCII: make one in UTF8"):
        TimescaleSink(psycopg.conninfo.make_conninfo(**other), "DRILL", [], [])


@pytest.mark.service
def test_timescale_makes_hypertables_policies_and_aggregates_and_again_changes_nothing(
    tmp_path: Path,
) -> None:
    modules = os.environ.get("EMP_PGLITE", "")
    needed(bool(modules) and shutil.which("node") is not None, "EMP_PGLITE names no node_modules of PGlite")
    port = free_port()
    command = ["node", str(HERE / "pglite.mjs"), modules, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            said = []
            for line in server.stdout:
                said.append(line)
                if line == "ready\n":
                    break
            assert said[-1:] == ["ready\n"], "".join(said)[-2000:]
            _look_at_timescale(port)
        finally:
            server.kill()


def _look_at_timescale(port: int) -> None:
    address = f"host=127.0.0.1 port={port} user=postgres password=postgres dbname=postgres"
    with psycopg.connect(f"{address} sslmode=disable gssencmode=disable", autocommit=True) as db:
        db.prepare_threshold = None
        for _ in range(2):
            assert make_tables(db)
        tables = "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE compression_enabled"
        assert {name for (name,) in db.execute(tables).fetchall()} == {"ledger", "market", "actions"}
        jobs = "SELECT proc_name, count(*) FROM timescaledb_information.jobs GROUP BY 1"
        found = dict(db.execute(jobs).fetchall())
        assert found["policy_compression"] == found["policy_retention"] == 3
        assert found["policy_refresh_continuous_aggregate"] == 2
        db.execute("""INSERT INTO emp.ledger SELECT 'R', n, timestamptz '2026-01-05' + n * interval '1 h', 0, 'note',
            '', '{}' FROM generate_series(1, 50) n""")
        chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'ledger'"
        assert db.execute(chunks).fetchall() == [(3,)]
        db.execute("SELECT compress_chunk(c) FROM show_chunks('emp.ledger') c").fetchall()
        assert make_tables(db)  # also where chunks are compressed already
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.execute("INSERT INTO emp.ledger SELECT * FROM emp.ledger WHERE n = 7")


def test_every_statement_may_be_run_again() -> None:
    for statement in (*plain_statements(), *timescale_statements()):
        assert any(word in statement for word in ("IF NOT EXISTS", "if_not_exists", "IF NOT (SELECT")), (
            statement
        )

"""What mirrors hold, beside the journal that they carry: lost, doubled, different, out of order."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.journal.mirror.follow import NOWHERE, STREAMS, Batch, RunReader
from emp.journal.mirror.records import TOPICS, records_of


class Found(NamedTuple):
    """Of one mirror."""

    records: int  # that the journal has for it
    lost: int
    doubled: int
    different: int  # there, but not as they were journalled, or not in their order


def batches(path: Path) -> Iterator[Batch]:
    """A run's journal from its beginning to its end."""
    reader, after = RunReader(path), dict(NOWHERE)
    while len(batch := reader.read(after, 20_000)):
        yield batch
        after = batch.until


def in_kafka(path: Path, servers: str) -> Found:
    """Every committed record of the run's topics, value by value, and the order within each key."""
    reader = RunReader(path)
    wanted: Counter[tuple[str, bytes, bytes]] = Counter()
    for batch in batches(path):
        for one in records_of(reader.run, reader.instruments, batch):
            wanted[one.topic, one.key, one.value] += 1
    found: Counter[tuple[str, bytes, bytes]] = Counter()
    last: dict[tuple[str, bytes, str], int] = {}
    places: dict[tuple[str, bytes], int] = {}
    out_of_order = 0
    for topic, partition, key, value in _consumed(servers):
        told = msgspec.json.decode(value)
        if told["run"] != reader.run:
            continue
        found[topic, key, value] += 1
        stream = (topic, key, str(told.get("kind", "")) if topic == "metrics" else "")
        out_of_order += (
            last.get(stream, 0) >= told["n"] or places.setdefault((topic, key), partition) != partition
        )
        last[stream] = told["n"]
    lost, extra = wanted - found, found - wanted
    doubled = sum(n for record, n in extra.items() if record in wanted)
    return Found(wanted.total(), lost.total(), doubled, extra.total() - doubled + out_of_order)


def _consumed(servers: str) -> Iterator[tuple[Any, ...]]:
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    settings = {
        "bootstrap.servers": servers,
        "group.id": "verify",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings)
    try:
        topics = consumer.list_topics(timeout=30).topics
        left = {(name, p) for name in TOPICS for p in topics[name].partitions}
        consumer.assign([TopicPartition(name, p, 0) for name, p in sorted(left)])
        end = time.monotonic() + 300
        while left and time.monotonic() < end:
            for message in consumer.consume(1000, 0.5):
                error = message.error()
                if error is None:
                    yield message.topic(), message.partition(), message.key(), message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic(), message.partition()))
                else:
                    raise KafkaException(error)
        if left:
            raise TimeoutError(f"{len(left)} partitions did not come to their end")
    finally:
        consumer.close()


def in_postgres(path: Path, address: str) -> Found:
    """Every row, column by column."""
    import psycopg

    from emp.journal.mirror.tables import ACTIONS, MARKET

    run, totals = RunReader(path).run, [0, 0, 0, 0]
    with psycopg.connect(address) as db:
        for batch in batches(path):
            for stream in STREAMS:
                numbers = batch.numbers(stream)
                if not numbers:
                    continue
                rows = _rows(db, stream, run, numbers)
                counts = Counter(int(row[0]) for row in rows)
                totals[0] += len(numbers)
                totals[1] += sum(n not in counts for n in numbers)
                totals[2] += sum(counts.values()) - len(counts)
                at = [int(row[0]) - numbers[0] for row in rows]
                if stream in ("market", "actions"):
                    columns = (MARKET if stream == "market" else ACTIONS)[2:]
                    mine = getattr(batch, stream)[at]
                    wrong = np.zeros(len(rows), bool)
                    for k, column in enumerate(columns, 1):
                        there = np.array([row[k] for row in rows], mine[column.name].dtype)
                        unlike = there != mine[column.name]
                        wrong |= unlike.reshape(len(rows), -1).any(axis=1)
                    names = [RunReader(path).instruments[k] for k in mine["instrument"]]
                    wrong |= np.array([row[-1] for row in rows]) != np.array(names)
                    totals[3] += int(wrong.sum())
                else:
                    told = [one.payload if stream == "ledger" else one.text for one in getattr(batch, stream)]
                    totals[3] += sum(row[1].encode() != told[k] for row, k in zip(rows, at, strict=True))
        for stream in STREAMS:  # rows that no journal has
            table, kind = (stream, "") if stream in ("ledger", "market", "actions") else ("metrics", stream)
            query = f"SELECT count(*) FROM emp.{table} WHERE run = %s" + (
                f" AND kind = '{kind}'" if kind else ""
            )
            ((there,),) = db.execute(query, (run,)).fetchall()
            totals[2] += max(0, int(there) - RunReader(path).ends()[stream])
    return Found(*totals)


def _rows(db: Any, stream: str, run: str, numbers: range) -> list[tuple[Any, ...]]:
    from emp.journal.mirror.tables import ACTIONS, MARKET

    between = (run, numbers[0], numbers[-1])
    if stream == "ledger":
        query = "SELECT n, body::text FROM emp.ledger WHERE run = %s AND n BETWEEN %s AND %s"
    elif stream in ("market", "actions"):
        columns = ", ".join(f'"{one.name}"' for one in (MARKET if stream == "market" else ACTIONS)[2:])
        query = f"SELECT n, {columns}, instrument FROM emp.{stream} WHERE run = %s AND n BETWEEN %s AND %s"
    else:
        query = f"""SELECT n, body::text FROM emp.metrics
            WHERE kind = '{stream}' AND run = %s AND n BETWEEN %s AND %s"""
    return list(db.execute(query, between).fetchall())


def in_redis(path: Path, address: str) -> Found:
    """How many records it counted, and the state of each instrument."""
    import redis

    reader, ends = RunReader(path), RunReader(path).ends()
    with redis.Redis.from_url(address, decode_responses=True) as client:
        key = f"emp:{{{reader.run}}}"
        counts: Any = client.hgetall(f"{key}:counts")
        cursor: Any = client.hgetall(f"{key}:cursor")
        counted = {stream: int(counts.get(stream, 0)) for stream in STREAMS}
        different = sum(int(cursor.get(stream, 0)) != ends[stream] for stream in STREAMS)
        newest: dict[int, tuple[Any, Any]] = {}
        for batch in batches(path):
            for which in range(len(reader.instruments)):
                events = batch.market[batch.market["instrument"] == which]
                rows = batch.actions[batch.actions["instrument"] == which]
                before = newest.get(which, (None, None))
                newest[which] = (
                    events[-1] if len(events) else before[0],
                    rows[-1] if len(rows) else before[1],
                )
        for which, (event, row) in newest.items():
            state: Any = client.hgetall(f"{key}:instrument:{reader.instruments[which]}")
            if event is not None:
                best = [event["bid_px"][0], event["ask_sz"][0], event["ts"]]
                different += [int(state.get(name, -1)) for name in ("bid", "ask_sz", "ts")] != [
                    int(v) for v in best
                ]
            if row is not None:
                told = (int(state.get("inventory", 99)), float(state.get("pnl_ticks", "nan")))
                different += told != (int(row["inventory"]), float(row["pnl_ticks"]))
    lost = sum(max(0, ends[stream] - counted[stream]) for stream in STREAMS)
    doubled = sum(max(0, counted[stream] - ends[stream]) for stream in STREAMS)
    return Found(sum(ends.values()), lost, doubled, different)

"""A record in each service of the Compose drill, written as acknowledged and looked for after a kill."""

import shlex
from collections.abc import Callable
from typing import NamedTuple

Shell = Callable[[str], str | None]
"""Runs a line inside a service's container: what it printed, or None where it failed."""

WORD = "canary-of-the-drill"


class Canary(NamedTuple):
    """How a service is given a record and asked for it; both say so by printing the word."""

    writes: str
    reads: str

    def write(self, shell: Shell) -> bool:
        """Whether the record was acknowledged."""
        return shell(self.writes) is not None

    def read(self, shell: Shell) -> bool:
        """Whether the record is there."""
        return WORD in (shell(self.reads) or "")


_PSQL = "psql -h /var/run/postgresql -U emp -d emp -Atqc"
_REDIS = "REDISCLI_AUTH=$(cat /run/emp/secrets/redis.server) redis-cli"
_KAFKA = {"bootstrap.servers": "localhost:9092"}
_PRODUCES = f"""
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
made = AdminClient({_KAFKA}).create_topics([NewTopic("canary", 1, 1)])["canary"]
if made.exception(30) and "ALREADY_EXISTS" not in str(made.exception()):
    raise made.exception()
told = []
producer = Producer({_KAFKA | {"acks": "all"}})
producer.produce("canary", "{WORD}", on_delivery=lambda error, _: told.append(error))
producer.flush(30)
raise SystemExit(told != [None])
"""
_CONSUMES = f"""
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({_KAFKA | {"group.id": "canary"}})
consumer.assign([TopicPartition("canary", 0, 0)])
print(consumer.poll(30).value().decode())
consumer.close()
"""


_COUNTS = f"""
import json
from confluent_kafka import Consumer, TopicPartition
settled = {{"isolation.level": "read_committed", "enable.partition.eof": True}}
consumer = Consumer({_KAFKA | {"group.id": "canary"}} | settled)
parts = consumer.list_topics("ledger", 30).topics["ledger"].partitions
consumer.assign([TopicPartition("ledger", part, 0) for part in parts])
numbers, ended = [], 0
while ended < len(parts):
    message = consumer.poll(30)
    if message is None:
        raise SystemExit("Kafka does not answer")
    if message.error():
        ended += 1
    elif message.key() == b"RUN":
        numbers.append(json.loads(message.value())["n"])
consumer.close()
print(len(numbers), len(set(numbers)), max(numbers, default=0))
"""


def _python(program: str) -> str:
    return f"python3 -c {shlex.quote(program)}"


CANARIES = {
    "timescaledb": Canary(
        f"{_PSQL} \"CREATE TABLE IF NOT EXISTS canary (word text); INSERT INTO canary VALUES ('{WORD}')\"",
        f'{_PSQL} "SELECT word FROM canary"',
    ),
    "redis": Canary(f"{_REDIS} SET canary {WORD} | grep -q OK", f"{_REDIS} GET canary"),
    "kafka": Canary(_python(_PRODUCES), _python(_CONSUMES)),
}


def mirrored(shell: Shell, service: str, run: str) -> list[int] | None:
    """Of a run's ledger in a mirror: how many records, how many different ones, the last one's number."""
    counts = f"SELECT count(*), count(DISTINCT n), max(n) FROM emp.ledger WHERE run='{run}'"
    lines = {
        "timescaledb": f"{_PSQL} \"{counts}\" | tr '|' ' '",
        "kafka": _python(_COUNTS.replace("RUN", run)),
        "redis": f"{_REDIS} HMGET 'emp:{{{run}}}:cursor' ledger ledger ledger",  # its cursor is all it has of rows
    }
    said = shell(lines[service])
    try:
        return [int(word) for word in said.split()] if said else None
    except ValueError:
        return None

"""The scripts of Redis do what the store in memory does, step by step."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from emp.app.bench.mirrored.processes import Process, redis_server
from emp.core.clock import LiveClock
from emp.journal.lease.memory import MemoryStore
from emp.journal.lease.port import Mark, StoreError
from emp.journal.lease.redis_store import RedisStore
from tests.kit.services import needed

NAMES = ("A", "B")
TERM_US = 40_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str, Path]]:
    needed(bool(shutil.which("redis-server")), "no redis-server: install it to try leases in Redis")
    folder = tmp_path_factory.mktemp("lease")
    process, address = redis_server(folder)
    process.start()
    yield process, address, folder
    process.kill()


def views(store: MemoryStore | RedisStore) -> list[tuple[int, int, str, bool, bool, int, str]]:
    return [(r.token, r.beat, r.holder, r.doubt, r.free, r.term_us, r.state) for r in store.look(NAMES)]


def test_that_redis_answers_once_its_log_is_on_the_disk_as_the_deployed_one(
    served: tuple[Process, str, Path],
) -> None:
    with redis.Redis.from_url(served[1]) as client:
        set_here = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync")}
    assert set_here == {"appendonly": "yes", "appendfsync": "always"}
    deployed = (Path(__file__).resolve().parents[2] / "docker-compose.yml").read_text()
    assert all(f"--{name} {value}" in deployed for name, value in set_here.items())


@pytest.mark.parametrize("seed", range(6))
def test_redis_does_what_memory_does(served: tuple[Process, str, Path], seed: int) -> None:
    process, address, _ = served
    rng = np.random.default_rng(seed)
    ours = MemoryStore(lambda: LiveClock().now_ns() // 1_000)
    theirs = RedisStore(address, f"account-{seed}", 5.0)
    token = 0
    for _ in range(60):
        step = str(rng.choice(["take", "take", "renew", "renew", "back", "over", "restart", "forget"]))
        names = NAMES[: int(rng.integers(1, 3))]
        holder, sure, waited = f"h{rng.integers(2)}", bool(rng.integers(2)), bool(rng.integers(2))
        # terms are long over, or have only just begun: neither depends on how fast this machine is
        term = 1 if rng.integers(2) else 3_600_000_000
        claimed = max(0, token + int(rng.integers(-1, 2)))
        stale = bool(rng.random() < 0.2)
        states = [f"s{rng.integers(9)}" if rng.integers(2) else "" for _ in names]
        answers: list[object] = []
        for store in (ours, theirs):
            if step == "take":
                marks = [r.mark for r in store.look(names)]
                if stale:
                    marks = [Mark(m.token, m.beat + 1, m.server) for m in marks]
                answers.append(store.take(names, holder, term, marks, floor=claimed, waited=waited))
            elif step == "renew":
                answers.append(store.renew(names, holder, claimed, term, states, sure=sure))
            elif step == "back":
                answers.append(store.give_back(names, holder, claimed, states))
        if step == "take":
            token = max(token, int(str(answers[0])))
        if step == "restart":  # whole: nothing acknowledged is lost to a SIGKILL
            ours.restart(ours.snapshot())
            process.kill()
            process.start()
        elif step == "forget":
            with redis.Redis.from_url(address) as client:
                client.flushall()
            ours._entries.clear()
        assert len({str(one) for one in answers}) <= 1, (step, answers)
        assert views(ours) == views(theirs), step
    theirs.close()


def test_a_term_before_the_clock_was_set_back_counts_as_over(
    served: tuple[Process, str, Path],
) -> None:
    address = served[1]
    store = RedisStore(address, "set-back", 5.0)
    marks = [r.mark for r in store.look(("A",))]
    assert store.take(("A",), "one", 3_600_000_000, marks, floor=0, waited=True) == 1
    marks = [r.mark for r in store.look(("A",))]
    assert not store.take(("A",), "two", 1_000, marks, floor=0, waited=True)  # its term is not over
    with redis.Redis.from_url(address, decode_responses=True) as client:
        key = "emp:{lease:set-back}:A"
        client.hset(
            key, "until", int(client.hget(key, "until")) + 7_200_000_000
        )  # as of a clock two hours ahead
    assert store.take(("A",), "two", 1_000, marks, floor=40, waited=True) == 41
    store.close()


def test_a_redis_that_is_not_there_says_so_in_one_line() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", "x", 0.5)
    with pytest.raises(StoreError, match=r"^redis at redis://127.0.0.1:1/0: .*refused"):
        store.look(("A",))
    with pytest.raises(StoreError, match=r"^lease\.redis: "):
        RedisStore("nonsense", "x", 0.5)

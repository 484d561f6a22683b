"""Leases in Redis: a hash per instrument, one script for each step, by the clock of Redis.

Keys: `emp:{lease:ACCOUNT}:INSTRUMENT`, in one slot of a cluster. None expires by itself: a token must outlive its
holder. Each script first holds the server's `run_id` against that of the record: another one (a restart, a replica that
took over) may have lost what was written last, which the record then says (`doubt`) until a holder writes again.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import redis

from emp.core.config.secrets import REDIS_PASSWORD, load_secrets
from emp.journal.lease.port import Mark, Record, StoreError

_COMMON: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local records = {}
for i, key in ipairs(KEYS) do
  local was = redis.call('HMGET', key, 'token', 'beat', 'holder', 'until', 'term', 'server', 'doubt', 'state')
  local one = {token = tonumber(was[1] or '0'), beat = tonumber(was[2] or '0'), holder = was[3] or '',
    ends = tonumber(was[4] or '0'), term = tonumber(was[5] or '0'), doubt = was[7] or '1', state = was[8] or ''}
  if was[6] ~= server then
    redis.call('HSET', key, 'server', server, 'doubt', '1')
    one.doubt = '1'
  end
  records[i] = one
end
local function write(i, holder, token, term)
  redis.call('HSET', KEYS[i], 'holder', holder, 'token', string.format('%.0f', token),
    'term', string.format('%.0f', term), 'until', string.format('%.0f', now + term),
    'beat', string.format('%.0f', records[i].beat + 1), 'doubt', '0')
end
"""

_LOOK: Final = """
local found = {}
for i, one in ipairs(records) do
  found[i] = {string.format('%.0f', one.token), string.format('%.0f', one.beat), one.holder,
    string.format('%.0f', one.ends - now), string.format('%.0f', one.term), server, one.doubt, one.state}
end
return found
"""

_TAKE: Final = """
local holder, term, token = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local marks = cjson.decode(ARGV[5])
for i, one in ipairs(records) do
  local mark = marks[i]
  if one.token ~= mark[1] or one.beat ~= mark[2] or server ~= mark[3] then return '0' end
  if one.holder ~= '' or one.doubt ~= '0' then
    local left = one.ends - now
    if ARGV[4] ~= '1' or (left > 0 and left <= one.term) then return '0' end
  end
  token = math.max(token, one.token)
end
for i in ipairs(records) do write(i, holder, token + 1, term) end
return string.format('%.0f', token + 1)
"""

_RENEW: Final = """
local holder, token, term = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local states = cjson.decode(ARGV[5])
for _, one in ipairs(records) do
  if one.token > token or (one.token == token and one.holder ~= holder) then return '0' end
  if ARGV[4] ~= '1' and (one.token ~= token or one.doubt ~= '0') then return '0' end
end
for i in ipairs(records) do
  write(i, holder, token, term)
  if states[i] ~= '' then redis.call('HSET', KEYS[i], 'state', states[i]) end
end
return '1'
"""

_GIVE_BACK: Final = """
local states = cjson.decode(ARGV[3])
for _, one in ipairs(records) do
  if one.token ~= tonumber(ARGV[2]) or one.holder ~= ARGV[1] then return '0' end
end
for i, one in ipairs(records) do
  redis.call('HSET', KEYS[i], 'holder', '', 'until', '0', 'beat', string.format('%.0f', one.beat + 1))
  if states[i] ~= '' then redis.call('HSET', KEYS[i], 'state', states[i]) end
end
return '1'
"""


class RedisStore:
    """The leases of one account. A connection is made when it is needed, and anew by the step after one that failed."""

    def __init__(self, address: str, account: str, answer_s: float) -> None:
        """`address` as redis://HOST:PORT/DB, the password EMP_REDIS_PASSWORD; each answer is awaited for `answer_s`."""
        password = load_secrets().get(REDIS_PASSWORD)
        self._account = account
        self._address = address
        try:
            self._redis: Any = redis.Redis.from_url(
                address,
                password=None if password is None else password.reveal(),
                socket_timeout=answer_s,
                socket_connect_timeout=answer_s,
                decode_responses=True,
                retry=None,
                health_check_interval=0,
            )
        except ValueError as error:
            raise StoreError(f"lease.redis: {error}") from None

    def look(self, names: Sequence[str]) -> tuple[Record, ...]:
        """As the port."""
        found = self._run(_LOOK, names)
        return tuple(
            Record(
                token=int(token),
                beat=int(beat),
                holder=holder,
                left_us=int(left),
                term_us=int(term),
                server=server,
                doubt=doubt != "0",
                state=state,
            )
            for token, beat, holder, left, term, server, doubt, state in found
        )

    def take(
        self,
        names: Sequence[str],
        holder: str,
        term_us: int,
        marks: Sequence[Mark],
        *,
        floor: int,
        waited: bool,
    ) -> int:
        """As the port."""
        told = msgspec.json.encode(list(marks))
        return int(self._run(_TAKE, names, holder, term_us, floor, int(waited), told))

    def renew(
        self,
        names: Sequence[str],
        holder: str,
        token: int,
        term_us: int,
        states: Sequence[str],
        *,
        sure: bool,
    ) -> bool:
        """As the port."""
        told = msgspec.json.encode(list(states))
        return bool(self._run(_RENEW, names, holder, token, term_us, int(sure), told) == "1")

    def give_back(self, names: Sequence[str], holder: str, token: int, states: Sequence[str]) -> bool:
        """As the port."""
        told = msgspec.json.encode(list(states))
        return bool(self._run(_GIVE_BACK, names, holder, token, told) == "1")

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(redis.RedisError, OSError):
            self._redis.close()

    def _run(self, script: str, names: Sequence[str], *arguments: Any) -> Any:
        keys = [f"emp:{{lease:{self._account}}}:{name}" for name in names]
        try:
            return self._redis.eval(_COMMON + script, len(keys), *keys, *arguments)
        except (redis.RedisError, OSError) as error:
            words = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreError(f"redis at {self._address}: {words}") from None

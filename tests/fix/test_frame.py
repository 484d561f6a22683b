"""The framer takes anything in, lets only sound messages out, and finds the next good one."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from emp.access.fix.frame import Framer
from emp.access.fix.wire import (
    BAD_COMP_ID,
    BAD_FIELD,
    EMPTY_FIELD,
    MAX_FRAME,
    NO_COMP_ID,
    NO_SEQ,
    NO_TIME,
    POSS_DUP,
    REPEATED,
)
from emp.core.ids import generator
from tests.fix.wire import framed, incremental, is_sound, raw, snapshot

ENTRIES = [f"269={i % 2}|270=1.{8700 + i}|271={100000 * (i + 1)}|278={2291666392 + i}" for i in range(10)]
GOOD = framed("35=0|34=9|49=cServer|52=20230124-13:30:47.000|56=demo.broker.1|")

SEEDS = [
    snapshot(ENTRIES),
    incremental(["279=2|278=2291666392|55=1", "279=0|269=1|278=7|55=1|270=1.0875|271=50000"]),
    framed("35=A|34=1|49=a|52=20230124-13:30:46|56=b|98=0|108=30|141=Y|553=user|554=secret|"),
    framed("35=8|34=77|49=a|52=20170117-10:02:14.720|56=b|11=c1|17=e1|37=101|39=2|14=10|151=0|6=1.0674|"),
    framed("35=B|34=3|49=a|52=20170117-10:02:14.720|56=b|148=x|95=9|96=ab|10=9|z|58=end|"),
    framed("35=1|34=4|49=a|52=20170117-10:02:14.720123456|56=b|112=T|"),
]


def messages(framer: Framer, *chunks: bytes) -> list[bytes]:
    return [framer.bytes_of(frame) for chunk in chunks for frame in framer.frames(chunk)]


def test_header_is_read() -> None:
    framer = Framer(b"FIX.4.4", b"CSERVER", b"demo.broker.1")
    [frame] = list(framer.frames(SEEDS[0]))
    kind, seq, flags, sent = frame[4:8]
    assert (kind, seq, flags) == (ord("W"), 2, 0)
    assert np.datetime64(sent, "ns") == np.datetime64("2023-01-24T13:30:46.025")


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|43=Y|", POSS_DUP),
        ("35=0|49=a|52=20230124-13:30:46|56=b|", NO_SEQ),
        ("35=0|49=x|52=20230124-13:30:46|56=b|34=2|", BAD_COMP_ID),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|112=|", EMPTY_FIELD),
        ("35=0|49=a|52=20230124-13:30:46|56=|34=2|", EMPTY_FIELD | NO_COMP_ID),
        ("35=0|49=a|52=20230124-13:30:46|34=2|", NO_COMP_ID),
        ("35=0|49=a|52=|56=b|34=2|", EMPTY_FIELD | NO_TIME),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|34=3|", REPEATED),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|0112=5|", BAD_FIELD),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|x1=5|", BAD_FIELD),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|nonsense|", BAD_FIELD),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|99999999999=1|", BAD_FIELD),
        ("35=0|49=a|52=20230124-13:30:46|56=b|34=2|-5=1|", BAD_FIELD),
    ],
)
def test_sound_frame_with_a_flaw_is_flagged(body: str, flag: int) -> None:
    framer = Framer(b"FIX.4.4", b"A", b"B")
    [frame] = list(framer.frames(framed(body)))
    assert frame[6] == flag


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_every_split_in_two_reads(seed: bytes) -> None:
    for cut in range(len(seed) + 1):
        framer = Framer()
        assert messages(framer, seed[:cut], seed[cut:] + GOOD) == [seed, GOOD]
        assert framer.refused["skipped"] == 0


def test_byte_by_byte_and_all_at_once() -> None:
    stream = b"".join(SEEDS) + GOOD
    single = [stream[i : i + 1] for i in range(len(stream))]
    assert messages(Framer(), *single) == [*SEEDS, GOOD]
    assert messages(Framer(), stream * 200) == [*SEEDS, GOOD] * 200


def test_data_field_may_hold_anything_and_hides_what_it_holds() -> None:
    inner = framed("35=8|34=1|49=a|52=20230124-13:30:46|56=b|11=forged|")
    outer = framed(
        f"35=B|34=3|49=a|52=20170117-10:02:14|56=b|95={len(inner)}|96=" + inner.decode("latin-1") + "|"
    )
    for cut in range(0, len(outer), 7):
        assert messages(Framer(), outer[:cut], outer[cut:]) == [outer]
    spoiled = outer.replace(b"52=20170117", b"52=20170118")
    assert messages(Framer(), spoiled + GOOD) == [GOOD]


@pytest.mark.parametrize(
    "bad",
    [
        raw("8=FIX.4.4|9=5|35=0|10=000|"),
        raw("8=FIX.4.4|9=0|10=000|"),
        raw("8=FIX.4.4|9=|35=0|10=163|"),
        raw("8=FIX.4.4|9=-5|35=0|10=163|"),
        raw("8=FIX.4.4|9=99999999999999|35=0|10=163|"),
        raw("8=FIX.4.4|9=9999999|35=0|10=163|"),
        raw("8=FIX.4.4|9=4000000|35=0|34=1|10=163|"),
        raw("8=FIX.4.4|9=60000|35=0|34=1|10=163|"),
        raw("8=FIX.4.4|9=4|35=0|10=163|"),
        raw("8=FIX.4.4|9=6|35=0|10=163|"),
        raw("8=FIX.4.4|35=0|9=5|10=163|"),
        raw("8=" + "FIX" * 30 + "|9=5|35=0|10=163|"),
        b"\x00" * 300,
        bytes(range(256)) * 5,
        b"8=8=8=F8=FI8=FIX8=FIX.8=FIX.4.4\x018=FIX.4.4\x019=8=",
        SEEDS[0][:-1],
        SEEDS[0][:200],
        SEEDS[0].replace(b"\x01268=", b"\x01\x00\xff="),
    ],
    ids=range(18),
)
def test_garbage_then_the_next_good_message(bad: bytes) -> None:
    assert messages(Framer(), bad + GOOD) == [GOOD]
    assert messages(Framer(), SEEDS[0] + bad, GOOD) == [SEEDS[0], GOOD]


def test_a_length_that_ends_inside_a_field_is_wrong_even_where_a_trailer_follows() -> None:
    inner = raw("35=0|34=9|52=20230124-13:30:47|58=abc")
    whole = b"8=FIX.4.4\x019=%d\x01" % len(inner) + inner
    message = whole + b"10=%03d\x01" % (sum(whole) % 256)
    assert is_sound(message)
    assert messages(Framer(), message + GOOD) == [GOOD]


def resident() -> int:
    """Bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells resident memory by /proc")
def test_megabytes_without_soh_are_bounded_and_pass() -> None:
    framer = Framer()
    assert messages(framer, SEEDS[0]) == [SEEDS[0]]
    before = resident()
    junk = [b"A" * 1_000_000, b"8=FIX.4.4\x019=4000000\x01" + b"5" * 1_000_000] * 6
    assert messages(framer, *junk, GOOD) == [GOOD]
    assert resident() - before < 2 * MAX_FRAME + (4 << 20)
    assert framer.refused["skipped"] >= 12_000_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells resident memory by /proc")
def test_long_messages_pass_in_pieces_and_short_ones_use_little_memory() -> None:
    framer = Framer()
    entries = [f"269={i % 2}|270=1.{10000 + i}|271=1000|278={i}" for i in range(2_282)]
    book = snapshot(entries)
    assert len(book) > 80_000
    long = framed("35=B|34=1|49=a|52=20230124-13:30:46|56=b|58=" + "x" * (MAX_FRAME - 200))
    pieces = [long[i : i + 65_536] for i in range(0, len(long), 65_536)]
    assert messages(framer, book, *pieces, GOOD, *pieces, book + GOOD) == [book, long, GOOD, long, book, GOOD]
    assert framer.refused == {"skipped": 0, "bad_length": 0, "bad_checksum": 0, "too_long": 0}
    before = resident()
    assert messages(Framer(), *[GOOD * 500] * 200) == [GOOD] * 100_000
    assert resident() - before < (1 << 20) + 100_000 * (len(GOOD) + 60)
    assert messages(framer, b"8=FIX.4.4\x019=%d\x01" % MAX_FRAME + GOOD) == [GOOD]
    assert framer.refused["too_long"] == 1


@pytest.mark.parametrize("gap", [b"\x01" * 60_000, b"\x01" * 3_000_000, b"=\x01" * 1_500_000])
def test_fields_without_a_byte_find_no_room_to_overflow(gap: bytes) -> None:
    whole = b"8=FIX.4.4\x019=%d\x0135=0\x01" % (len(gap) + 5) + gap
    found = messages(Framer(), whole + b"10=%03d\x01" % (sum(whole) % 256) + GOOD)
    assert found[-1] == GOOD
    assert len(found) == 1 + (gap[0] == 61)


def test_header_ends_at_the_first_field_of_the_body_whatever_the_order() -> None:
    strange = ["115=x", "116=x", "128=x", "129=x", "144=x", "145=x", "90=2", "91=ab", "347=UTF-8", "1128=9"]
    hops = [
        "627=1",
        "628=hop",
        "629=20230124-13:30:46",
        "630=3",
        "212=2",
        "213=ab",
        "369=4",
        "370=x",
        "122=x",
    ]
    known = ["34=7", "49=a", "52=20230124-13:30:46", "56=b", "43=Y"]
    rng = generator(5, "fix-header-order")
    for _ in range(200):
        order = rng.permutation(len(known) + len(strange) + len(hops))
        body = "|".join((known + strange + hops)[i] for i in order)
        [frame] = list(Framer(b"FIX.4.4", b"A", b"B").frames(framed(f"35=8|{body}|11=c|34=9|")))
        assert frame[5:7] == (7, POSS_DUP)
    [frame] = list(Framer().frames(framed("35=8|49=a|56=b|11=c|34=9|52=20230124-13:30:46|")))
    assert frame[6] == NO_SEQ | NO_TIME


@pytest.mark.parametrize(
    "piece",
    [
        "A",
        "8=FIX.4.4|9=60000|",
        "58=8=FIX.4.4|9=60000|",
        "8=FIX.4.4|9=60000|35=0|95=50000|96=",
        "8=FIX.4.4|9=60000|35=0|58=",
    ],
)
def test_no_garbage_is_slow(piece: str) -> None:
    """Under 5 ms per KiB on a busy machine, whatever looks like a beginning; quadratic time takes minutes.

    A head that announces a data field can hide what follows for one longest frame, so good ones follow for longer.
    """
    framer = Framer()
    messages(framer, SEEDS[0])
    data = (raw(piece) * (262_144 // len(piece) + 1))[:262_144]
    began = time.thread_time()
    found = messages(framer, data + GOOD * 2_000)
    assert len(found) > 500
    assert set(found) == {GOOD}
    assert time.thread_time() - began < 1.3


def test_size_limit_holds() -> None:
    longer = framed("35=B|34=1|49=a|52=20230124-13:30:46|56=b|58=" + "x" * 2000)
    framer = Framer(max_frame=1000)
    assert messages(framer, longer + GOOD) == [GOOD]
    assert framer.refused["too_long"] == 1


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """`seed` with one to four bytes flipped, set, doubled, dropped, or with a piece cut out or repeated."""
    data = bytearray(seed)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data)))
        match int(rng.integers(0, 6)):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at] = b"\x01=|0198\x00\xff"[int(rng.integers(0, 9))]
            case 2:
                data.insert(at, int(rng.integers(0, 256)))
            case 3 if len(data) > 20:
                del data[at]
            case 4 if len(data) > 40:
                del data[at : at + int(rng.integers(1, 30))]
            case _:
                data[at:at] = data[at : at + int(rng.integers(1, 30))]
    return bytes(data)


def test_two_hundred_thousand_mutations() -> None:
    """Nothing unsound comes out, nothing is raised, and the next good message always arrives."""
    rng = generator(1, "fix-mutations")
    framer = Framer()
    passed = 0
    for i in range(200_000):
        bad = mutated(SEEDS[i % len(SEEDS)], rng)
        found = messages(framer, bad + GOOD)
        assert found, bad
        assert found[-1] == GOOD, bad
        for message in found[:-1]:
            assert is_sound(message), message
            passed += 1
    assert (
        passed < 4_000
    )  # a sum of 256 cannot tell more: 1 in 256 at most, and mutations that undo themselves

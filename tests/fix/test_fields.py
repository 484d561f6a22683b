"""Fields are found the same whether a frame arrives whole (64 bytes at a time) or in pieces (byte by byte)."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from emp.access.fix.frame import FRAME, Framer

Found = tuple[list[tuple[int, list[tuple[int, bytes]]]], dict[str, int]]


def _framed(fields: list[bytes]) -> bytes:
    body = b"".join(field + b"\x01" for field in [b"35=W", *fields])
    head = b"8=FIX.4.4\x019=%d\x01" % len(body)
    return head + body + b"10=%03d\x01" % (sum(head + body) % 256)


def _found(pieces: list[bytes]) -> Found:
    """Of every frame its flags and fields (tag, value), and what was refused."""
    framer = Framer()
    frames = []
    for piece in pieces:
        for frame in framer.frames(piece):
            index = framer.fields[: frame[3]]
            fields = [(int(tag), bytes(framer.buffer[at:end])) for tag, at, end in index]
            frames.append((frame[6], fields))
    assert framer.next()[0] != FRAME
    return frames, framer.refused


_TAGS = st.one_of(
    st.sampled_from([b"34", b"52", b"269", b"270", b"271", b"278", b"55", b"58", b"1128"]),
    st.sampled_from(
        [b"95", b"90", b"354", b"212", b"618", b"8", b"9", b"10", b"0", b"034", b"", b"x", b"5 8"]
    ),
    st.integers(1, 10**9).map(lambda n: b"%d" % n),
)
_VALUES = st.one_of(
    st.binary(max_size=12).map(lambda v: v.replace(b"\x01", b"=")),
    st.sampled_from([b"1.08750", b"2291666392", b"0", b"3", b"", b"a=b", b"x" * 70, b"y" * 200]),
)
_FIELD = st.one_of(
    st.tuples(_TAGS, _VALUES).map(lambda pair: pair[0] + b"=" + pair[1]),
    st.binary(max_size=6).map(lambda data: b"95=%d\x0196=" % len(data) + data),
    st.sampled_from([b"", b"58", b"=", b"=5"]),
)


@settings(max_examples=300, deadline=None)
@given(fields=st.lists(_FIELD, max_size=40), cuts=st.lists(st.integers(1, 2000), max_size=4))
@example(fields=[b"95=3\x0196=a\x01b", b"58=x"], cuts=[])
@example(fields=[b"58", b"034="], cuts=[])
@example(fields=[b"58=" + b"x" * 61, b"269=0", b"", b"270=1"], cuts=[30])
def test_a_frame_in_one_piece_and_in_many_has_the_same_fields(fields: list[bytes], cuts: list[int]) -> None:
    data = _framed(fields) + _framed([b"34=2", b"58=after"])
    at = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    whole = _found([data])
    assert _found([data[a:b] for a, b in pairwise(at)]) == whole
    assert _found([data[i : i + 1] for i in range(len(data))]) == whole


def test_a_plain_frame_is_read_to_its_last_field() -> None:
    fields = [b"269=%d" % (i % 2) for i in range(200)] + [b"58=" + b"v" * n for n in range(1, 140)]
    frames, refused = _found([_framed(fields)])
    assert frames[0][1][1:] == [(int(f[: f.index(b"=")]), f[f.index(b"=") + 1 :]) for f in fields]
    assert not any(refused.values())

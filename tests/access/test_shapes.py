"""JSON lines read by the shape of earlier ones, beside each line read alone, which knows no shape."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.recordings import jsonscan
from emp.access.recordings.jsonlines import JsonLines
from emp.access.recordings.scan import (
    CELL,
    EPOCH,
    GRID,
    HASH,
    INT,
    LEVEL_PX,
    LEVEL_SZ,
    NO_PRICE,
    STAMP,
    WORD,
    Column,
    hashed,
    word,
)
from emp.access.recordings.stamps import HAS_ZONE
from emp.core.codes import Quarantine
from tests.access.test_scan import Pieces

MALFORMED = int(Quarantine.MALFORMED)
KEYS = {
    "@0": Column(EPOCH, 0, 6),
    "@1": Column(WORD, 1),
    "e": Column(HASH, 2),
    "d.u": Column(INT, 3),
    "d.p": Column(GRID, 4, 100.0, Quarantine.ABSURD_PRICE),
    "d.b": Column(CELL, 5),
    "d.t": Column(STAMP, 6, HAS_ZONE),
    "q": Column(LEVEL_SZ, 7, 1000.0, Quarantine.ABSURD_SIZE),
    "x": Column(LEVEL_PX, 8, 10.0, Quarantine.ABSURD_PRICE),
}
CELLS = 5


def read(text: bytes, *, step: int = 1 << 20, rows: int = 64) -> list[tuple[object, ...]]:
    """Every line's values, the cell as its bytes, and what is wrong with it."""
    pieces = Pieces("", step)
    pieces.pieces = [text[i : i + step] for i in range(0, len(text), step)]
    lines = JsonLines(pieces, tuple(KEYS), dict(enumerate(KEYS.values())), "test")
    found: list[tuple[object, ...]] = []
    while True:
        out = np.zeros((rows, len(KEYS)), np.int64)
        n = lines.read(out)
        if n == 0:
            return found
        for i in range(n):
            values = out[i].tolist()
            status = int(lines.status[i])
            if status:
                found.append((status,))  # what such a row holds is not used
                continue
            place, length = values[CELLS] >> 32, values[CELLS] & 0xFFFFFFFF
            cell = lines.buf[place : place + length].tobytes()
            found.append((0, *values[:CELLS], cell, *values[CELLS + 1 :]))


def alone(text: bytes) -> list[tuple[object, ...]]:
    """The same, each line by a reader of its own."""
    return [row for line in text.split(b"\n") for row in read(line + b"\n")]


NUMBERS = st.one_of(
    st.integers(-5, 10**6).map(str),
    st.decimals(0, 10**5, places=2).map(str),
    st.sampled_from(
        ["1e3", "1.5E+2", "2e-1", "1e999", "9" * 17, "9" * 19, "9" * 30, "0.10000000000000001", "-0", "null"]
    ),
    st.sampled_from(["1723161255030", "1723161255030314667", "", "true", "12a", "1.2.3", " 7", "+4", "NaN"]),
)
STRINGS = st.one_of(
    NUMBERS,
    st.text(max_size=12).map(lambda text: json.dumps(text)[1:-1]),
    st.sampled_from(["trade", "depthUpdate", "é€", 'a\\"b', "\\\\", "[1]", "}{", "a,b", "\\u0041"]),
)
LISTS = st.one_of(
    st.lists(st.lists(NUMBERS.map(lambda one: f'"{one}"'), min_size=2, max_size=2), max_size=30).map(
        lambda rows: "[" + ",".join("[" + ",".join(row) + "]" for row in rows) + "]"
    ),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=9)),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=30,
    ).map(lambda value: json.dumps([value])),
    st.sampled_from(
        ["[]", "{}", '{"a":[1,{"b":"]"}]}', '[{"price":"1","size":"2"}]', "[", "[[1,2]", '["]"]']
    ),
)
VALUES = st.one_of(NUMBERS, STRINGS.map(lambda text: f'"{text}"'), LISTS)
TEMPLATES = (
    '%s %s {{"e":{0},"d":{{"u":{1},"p":{2},"b":{3},"t":{4}}},"q":{5}}}',
    '{{"e":{0},"d":{{"p":{2},"u":{1}}},"q":{5},"x":{4}}}',
    '{{ "q" : {5}, "d" : {{ "b" : {3}, "u" : {1} }}, "e" : {0} }}',
    '%s,%s,{{"zz":{{"k":{3}}},"x":{5},"other":{0},"e":{4}}}  ',
    '{{"d":{{"t":"2024-03-06T10:00:00.{1}Z","b":{3}}}}}\r',
)


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Lines of a few kinds, their values of every sort, some with a byte that was lost, doubled or is another."""
    lines = []
    usual = draw(st.lists(VALUES, min_size=6, max_size=6))
    for _ in range(draw(st.integers(1, 12))):
        template = draw(st.sampled_from(TEMPLATES))
        values = [draw(VALUES) if draw(st.integers(0, 3)) == 0 else one for one in usual]
        line = template.format(*values)
        if "%s" in line:
            line = line.replace(
                "%s", draw(st.sampled_from(["1723161255030", "12", "trade", "{", '"']))
            ).replace("%s", "w")
        raw = bytearray(line.encode())
        if draw(st.integers(0, 4)) == 0 and raw:
            at = draw(st.integers(0, len(raw) - 1))
            what = draw(st.integers(0, 3))
            if what == 0:
                del raw[at]
            elif what == 1:
                raw.insert(at, draw(st.sampled_from(list(b'"\\{}[],: \t\r0a\xff'))))
            elif what == 2:
                raw[at] = draw(st.sampled_from(list(b'"\\{}[],: \t\r0a\xff')))
            else:
                del raw[at:]
        lines.append(bytes(raw).replace(b"\n", b" "))
    return b"\n".join(lines) + draw(st.sampled_from([b"\n", b"", b"\r\n", b"\n\n \n"]))


@settings(max_examples=150)
@given(recordings(), st.integers(1, 300), st.integers(1, 5))
def test_a_line_says_the_same_after_others_like_it(text: bytes, step: int, rows: int) -> None:
    assert read(text, step=step, rows=rows) == alone(text)


def test_lines_of_one_shape_are_what_json_says() -> None:
    lines = [
        {
            "e": f"trade{i % 3}",
            "d": {"u": i, "p": f"{i}.{i % 100:02}", "b": [[f"{i}.5", "1"]] * (i % 40)},
            "q": i / 8,
        }
        for i in range(500)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for line, row in zip(lines, read(text.encode(), step=977), strict=True):
        d = line["d"]
        assert isinstance(d, dict)
        assert row[0] == 0
        assert row[3:6] == (hashed(str(line["e"])), d["u"], round(100 * float(d["p"])))
        assert json.loads(row[6]) == d["b"]  # type: ignore[arg-type]
        assert row[8] == int(line["q"] * 1000)  # type: ignore[operator]
        assert row[1:3] == (0, 0)
        assert row[9] == NO_PRICE


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        (b'{"e":"x","q":5}', b'{"e":"x\\","q":5}'),  # the quote that ends the string is escaped
        (b'{"z":1,"q":2}', b'{"z":[1,"q":2}'),  # a list that nothing closes
        (b'{"z":1,"q":2}', b'{"z":{"k":1,"q":2}'),
        (b'{"z":1,"q":2}', b'{"z":"1,"q":2}'),
        (b'{"d":[1],"q":2}', b'{"d":{"u":7},"q":2}'),  # an object where a list was: its keys count
        (b'{"d":{"b":[[1,2]]},"q":2}', b'{"d":{"b":[[1,2]\n]},"q":2}'),  # cut off, and the next line goes on
        (b'{"d":{"b":[[1,2]]},"q":2}', b'{"d":{"b":[["]",2]]},"q":2}'),
        (b'{"d":{"b":[["' + b"x" * 70 + b'",2]]},"q":2}', b'{"d":{"b":[["' + b"x" * 70 + b']",2]]},"q":2}'),
        (b'{"z":1,"q":2}', b'{"z": 1,"q":2}'),
        (b'{"z":1,"q":2}', b'{"z":,"q":2}'),
        (b'{"z":1,"q":2}', b'{"z"::1,"q":2}'),
        (b'{"e":"x","q":5}', b'{"e":"y","q":5} and more'),
        (b'{"e":"x","q":5}', b'{"f":"y","q":5}'),
        (b'{"e":"x","d":{"u":7}}', b'{"e":"y","d":{"v":7}}'),
        (b'5 a {"q":1}', b'5  {"q":1}'),
        (b'5 a {"q":1}', b'5 a\t{"q":1}'),
    ],
)
def test_a_line_that_nearly_has_the_shape_of_another(usual: bytes, odd: bytes) -> None:
    text = b"\n".join([usual, usual, odd, usual, odd, usual, b""])
    assert read(text) == alone(text)
    assert read(text, step=7, rows=2) == alone(text)


def test_words_before_the_message_belong_to_the_shape() -> None:
    rows = read(b'5 trade {"q":1}\n6 quote {"q":2}\n7\tquote {"q":3}\n')
    assert [row[1:3] for row in rows] == [
        (5_000_000, word("trade")),
        (6_000_000, word("quote")),
        (7_000_000, word("quote")),
    ]


@pytest.mark.parametrize("keys", [jsonscan.MAX_STEPS - 1, jsonscan.MAX_STEPS, jsonscan.MAX_STEPS + 40])
def test_more_keys_than_a_shape_holds(keys: int) -> None:
    line = json.dumps({**{f"k{i}": i for i in range(keys)}, "q": 4}).encode() + b"\n"
    assert [row[8] for row in read(line * 3)] == [4000] * 3


def test_more_shapes_than_are_kept() -> None:
    text = b"".join(b'{"n%d":1,"q":%d}\n' % (i % 40, i) for i in range(400))
    assert [row[8] for row in read(text)] == [1000 * i for i in range(400)]


def test_bytes_between_values_beyond_what_a_shape_holds() -> None:
    gap = b" " * jsonscan.MAX_BYTES
    assert [row[8] for row in read(b'{"q":' + gap + b'4,"e":"a"}\n' + b'{"q":5,"e":"a"}\n')] == [4000, 5000]

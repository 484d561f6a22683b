"""Which case of a native peer does the work of which of ours, and what either side leaves out."""

import msgspec


class Like(msgspec.Struct, frozen=True):
    """One case of a peer beside one of ours."""

    program: str
    case: str
    ours: str
    peer_omits: str
    ours_omits: str
    expect: str = ""
    """Which result a run must show: `touch` (best prices of the stream), `quotes` (one callback a quote), `last` (the
    last bid), `end` (came to the end), `checked` (the program compared the result itself), or nothing.
    """


NOTHING = "nothing"
_WORLD = "latencies drawn leg by leg, sums of lots"
_SECOND = "a second book at our end"
_REACTION = "making the messages, a market that reacts; " + _WORLD
_GUESS = "the queue: our place in it is guessed from levels; "
_ENGINE = "features, model, decision, risk, log row; ten levels a side"

SIM = (
    Like(
        "bookpeer",
        "floor, record known (as EMP)",
        "replay",
        "owners, our own orders in the queue, fill log, sums of lots that came, left and traded",
        NOTHING,
        "touch",
    ),
    Like(
        "hftpeer",
        "depth-l3 roivector",
        "replay",
        "the queue within a level, trades",
        "the look-up of order ids (done before)",
        "touch",
    ),
    Like(
        "hftpeer",
        "depth-l2 roivector",
        "replay",
        "orders: a level's lots are told, not kept",
        NOTHING,
        "touch",
    ),
    Like("nautpeer", "book L3_MBO apply_delta", "replay", "trades", "the look-up of order ids", "touch"),
    Like(
        "bookpeer",
        "floor, matching, FxHashMap",
        "zi",
        "making the messages; refusals, sums, the window that follows the price",
        "the look-up of order ids",
    ),
    Like("hftpeer", "engine-l2 roivector", "tape_idle", "the queue; " + _WORLD, _SECOND, "touch"),
    Like("hftpeer", "engine-l3 roivector fifo", "tape_idle", _WORLD, _SECOND, "touch"),
    Like("hftpeer", "maker-l2 roivector logprob2", "tape_maker", _GUESS + _WORLD, _SECOND, "end"),
    Like("hftpeer", "maker-l3 roivector fifo", "tape_maker", _WORLD, _SECOND, "end"),
    Like("hftpeer", "maker-l2 roivector logprob2", "full_stack", _GUESS + _REACTION, _SECOND, "end"),
    Like("hftpeer", "maker-l3 roivector fifo", "full_stack", _REACTION, _SECOND, "end"),
)
"""A stream of messages of the book."""

PATH = (
    Like(
        "nautpeer",
        "engine quotes, empty strategy",
        "decided",
        _ENGINE,
        "message bus, cache, any order type but ours",
        "quotes",
    ),
    Like(
        "nautpeer",
        "engine quotes, touch maker",
        "with_orders",
        _ENGINE + "; orders only every ten quotes",
        "message bus, cache, margin account",
        "quotes",
    ),
    Like(
        "barterpeer",
        "engine.process historical clock",
        "decided",
        _ENGINE + "; stores the quote only, no order",
        "an audit record an event",
        "last",
    ),
    Like(
        "barterpeer",
        "backtest() one thread, mock exch.",
        "journalled",
        _ENGINE + "; no order, nothing on disk",
        "channels between tasks, a summary of returns",
    ),
)
"""Best quotes of a recording or of the shipped flow."""

_CODEC = "names and order of the group's fields, doubled fields and ids, the book between messages"

FIX = tuple(
    Like("fixpeer", case, "decode", omits, "message objects", "checked")
    for case, omits in (
        ("by hand, one pass", "any field order or message but this; " + _CODEC),
        ("by hand, AVX2 bitmap", "any field order or message but this; " + _CODEC),
        ("fix-codec-rs 0.3.0 walk", _CODEC),
        ("fix-codec-rs 0.3.0 groups", "doubled ids, the book between messages"),
        ("fixlite 0.7.0 derive, checksum", "sending time, doubled ids, the book between messages"),
        ("ironfix-tagvalue 0.5.1", _CODEC),
        ("hotfix-message 0.4.0", "the book between messages"),
    )
)
"""A snapshot (W) of ten entries."""

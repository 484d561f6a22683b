"""One small market of quotes, written in the ways that vendors and tools write such files."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emp.core.ids import generator

START = datetime(2024, 3, 6, 10, tzinfo=UTC)


class Quote(NamedTuple):
    """Best bid and ask in ticks of 0.00001, and sizes in lots of 1,000."""

    at: datetime
    bid: int
    ask: int
    bid_sz: int
    ask_sz: int

    @property
    def bid_text(self) -> str:
        return f"{self.bid / 1e5:.5f}"

    @property
    def ask_text(self) -> str:
        return f"{self.ask / 1e5:.5f}"

    @property
    def ms(self) -> int:
        return round(self.at.timestamp() * 1000)


def quotes(n: int = 120, seed: int = 1) -> list[Quote]:
    """A random walk of EURUSD, one quote every few hundred ms, each different from the one before."""
    rng = generator(seed, "spelled")
    bid, at = 108_650, START
    rows = []
    for _ in range(n):
        spread = int(rng.integers(1, 4))
        rows.append(Quote(at, bid, bid + spread, int(rng.integers(1, 90)), int(rng.integers(1, 90))))
        bid += int(rng.integers(1, 4)) * (1 if rng.random() < 0.5 else -1)
        at += timedelta(milliseconds=int(rng.integers(100, 700)))
    return rows


Line = Callable[[Quote], str]


def lines(header: str, line: Line) -> str:
    """A csv."""
    return "\n".join([*([header] if header else []), *(line(q) for q in quotes())]) + "\n"


def stamp(q: Quote, form: str = "%Y-%m-%d %H:%M:%S.%f") -> str:
    return q.at.strftime(form)


def plain(q: Quote) -> str:
    return f"{stamp(q)},{q.bid_text},{q.ask_text}"


def _ms(q: Quote, form: str) -> str:
    return q.at.strftime(form) + f"{q.at.microsecond // 1000:03d}"


def _new_york(q: Quote) -> str:
    return (q.at - timedelta(hours=5)).strftime("%Y-%m-%d %H:%M:%S.%f") + "-05:00"


def _half_day(q: Quote) -> str:
    return q.at.strftime("%m/%d/%Y %I:%M:%S.%f %p")


SPELLINGS: dict[str, str] = {
    "base": lines("ts_utc,bid,ask", plain),
    "offset": lines("timestamp,bid,ask", lambda q: f"{stamp(q)}+00:00,{q.bid_text},{q.ask_text}"),
    "new-york-offset": lines("timestamp,bid,ask", lambda q: f"{_new_york(q)},{q.bid_text},{q.ask_text}"),
    "utc-suffix": lines("timestamp,bid,ask", lambda q: f"{stamp(q)} UTC,{q.bid_text},{q.ask_text}"),
    "t-and-z": lines(
        "time,bid,ask", lambda q: f"{stamp(q, '%Y-%m-%dT%H:%M:%S.%f')}Z,{q.bid_text},{q.ask_text}"
    ),
    "epoch-ms": lines("timestamp,bid,ask", lambda q: f"{q.ms},{q.bid_text},{q.ask_text}"),
    "epoch-us": lines("timestamp,bid,ask", lambda q: f"{q.ms}000,{q.bid_text},{q.ask_text}"),
    "epoch-ns": lines("ts,bid,ask", lambda q: f"{q.ms}000000,{q.bid_text},{q.ask_text}"),
    "epoch-s": lines("ts,bid,ask", lambda q: f"{q.ms // 1000}.{q.ms % 1000:03d},{q.bid_text},{q.ask_text}"),
    "epoch-without-header": lines("", lambda q: f"{q.ms},{q.bid_text},{q.ask_text},0"),
    "date-and-time": lines(
        "date,time,bid,ask", lambda q: f"{stamp(q, '%Y-%m-%d,%H:%M:%S.%f')},{q.bid_text},{q.ask_text}"
    ),
    "dots": lines("time,bid,ask", lambda q: f"{stamp(q, '%Y.%m.%d %H:%M:%S.%f')},{q.bid_text},{q.ask_text}"),
    "slashes": lines(
        "time,bid,ask", lambda q: f"{stamp(q, '%Y/%m/%d %H:%M:%S.%f')},{q.bid_text},{q.ask_text}"
    ),
    "quoted": lines('"ts_utc","bid","ask"', lambda q: f'"{stamp(q)}","{q.bid_text}","{q.ask_text}"'),
    "padded": lines("ts_utc, bid, ask", lambda q: f"{stamp(q)}, {q.bid_text}, {q.ask_text}"),
    "windows": lines("ts_utc,bid,ask", plain).replace("\n", "\r\n"),
    "tabs": lines("ts_utc\tbid\task", lambda q: f"{stamp(q)}\t{q.bid_text}\t{q.ask_text}"),
    "pipes": lines("ts_utc|bid|ask", lambda q: f"{stamp(q)}|{q.bid_text}|{q.ask_text}"),
    "decimal-commas": lines(
        "ts_utc;bid;ask", lambda q: f"{stamp(q)};{q.bid_text};{q.ask_text}".replace(".", ",")
    ),
    "scientific": lines("ts_utc,bid,ask", lambda q: f"{stamp(q)},{q.bid / 1e5:.8e},{q.ask / 1e5:.8e}"),
    "float-dust": lines(
        "ts_utc,bid,ask", lambda q: f"{stamp(q)},{q.bid / 1e5 + 3e-12:.14f},{q.ask / 1e5:.14f}"
    ),
    "histdata": lines("", lambda q: f"{_ms(q, '%Y%m%d %H%M%S')},{q.bid_text},{q.ask_text},0"),
    "truefx": lines("", lambda q: f"EUR/USD,{_ms(q, '%Y%m%d %H:%M:%S.')},{q.bid_text},{q.ask_text}"),
    "jforex": lines(
        "Gmt time,Ask,Bid,AskVolume,BidVolume",
        lambda q: (
            f"{_ms(q, '%d.%m.%Y %H:%M:%S.')},{q.ask_text},{q.bid_text},{q.ask_sz / 1e3:g},{q.bid_sz / 1e3:g}"
        ),
    ),
    "dukascopy-node": lines(
        "timestamp,askPrice,bidPrice,askVolume,bidVolume",
        lambda q: f"{q.ms},{q.ask_text},{q.bid_text},{q.ask_sz / 1e3:g},{q.bid_sz / 1e3:g}",
    ),
    "mt5": lines(
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>",
        lambda q: f"{stamp(q, '%Y.%m.%d')}\t{_ms(q, '%H:%M:%S.')}\t{q.bid_text}\t{q.ask_text}\t\t\t6",
    ),
    "json-lines": "".join(
        json.dumps({"timestamp": q.ms, "bid": q.bid / 1e5, "ask": q.ask_text}) + "\n" for q in quotes()
    ),
    "cells": lines(
        "timestamp;bids;asks",
        lambda q: f"{q.ms};[[{q.bid_text}, {q.bid_sz}000]];[[{q.ask_text}, {q.ask_sz}000]]",
    ),
}
"""The same quotes, spelled in many ways; HistData's clock is five hours behind."""

BASE = SPELLINGS["base"].encode()


def _tar_gz(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("some/q.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


PACKED: dict[str, bytes] = {
    "gz": gzip.compress(BASE),
    "bz2": bz2.compress(BASE),
    "xz": lzma.compress(BASE),
    "tar.gz": _tar_gz(BASE),
    "utf-16": BASE.decode().encode("utf-16"),
    "utf-16-be": BASE.decode().encode("utf-16-be"),
    "utf-8-bom": b"\xef\xbb\xbf" + BASE,
}


def truth() -> np.ndarray:
    """ts, bid, ask of every quote."""
    rows = [(q.ms * 1_000_000, q.bid, q.ask) for q in quotes()]
    return np.array(rows, np.int64)


def write(folder: Path, name: str, data: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path

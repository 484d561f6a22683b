"""Watch a page of the console under load: python scripts/console_load.py [--minutes 30] [--events 1000]

The built-in market runs at so many events a second, a minute unwatched, then with a page open in Chromium. Each
minute it prints the page's heap after a full garbage collection, the frames it drew a second, and the 99th percentile
of the engine's decision. Exit code 1 where the heap does not come to rest: the median of its last third more than
10 % above that of the third before. The page holds as much as it ever does from the start, and shows all of it.
"""

import argparse
import json
import statistics
import sys
import time
import urllib.request
from typing import Any, NamedTuple

from console_pictures import browser_path, console_of_a_market, wait_for
from playwright.sync_api import sync_playwright

ALONE_S = 60
RISE = 1.10
LEAST = (
    9  # minutes of which a third's median says something: what is held varies by a quarter between two looks
)
OPEN = "BTC-PERPETUAL"  # a market that never closes
FLOW_HZ = 5.0  # visible events a second of the built-in market at its own pace

FILL = """() => {
  const {lines} = emp.store, missing = emp.MOST.lines - lines.ts.length;
  for (const [name, list] of Object.entries(lines)) {
    const older = (_, i) => name === "ts" ? list[0] - (missing - i) * 1e9 : list[0];
    lines[name] = [...Array.from({length: missing}, older), ...list];
  }
}"""
"""Older moments, as many as the page keeps: else what it holds would grow for 37 minutes."""

COUNT_FRAMES = """() => {
  globalThis.drawn = {frames: 0, worst: 0, at: performance.now()};
  const frame = (now) => {
    drawn.frames += 1; drawn.worst = Math.max(drawn.worst, now - (drawn.last ?? now)); drawn.last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
FRAMES = """() => {
  const now = performance.now(), seen = {hz: drawn.frames * 1000 / (now - drawn.at), worst: drawn.worst};
  drawn.frames = 0; drawn.worst = 0; drawn.at = now;
  return seen;
}"""


class Minute(NamedTuple):
    """What was seen in a minute of the page."""

    heap_mib: float
    frames_hz: float
    longest_frame_ms: float
    events_hz: float
    p99_us: float


def main() -> None:
    """Run the market, watch it alone, then with a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--events", type=float, default=1000.0, help="a second")
    asked = parser.parse_args()
    speed, names = str(asked.events / FLOW_HZ), f'["{OPEN}"]'
    with console_of_a_market(EMP_ACCESS__SPEED=speed, EMP_INSTRUMENTS__NAMES=names) as address:
        seen = watch(address, asked.minutes)
    told(seen)


def watch(address: str, minutes: int) -> list[Minute]:
    """The engine without a page, then with one."""
    url = address.partition("/#")[0]
    while "instruments" not in (view := snapshot(url)) or not view["instruments"][0]["events"]:
        time.sleep(1.0)
    time.sleep(ALONE_S)
    print(f"no page: p99 of a decision {snapshot(url)['p99_total_ms'] * 1e3:.1f} us", flush=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 1180})
        page.goto(address)
        wait_for(page, "(globalThis.emp?.store.lines.ts.length ?? 0) > 8")
        page.evaluate(FILL)
        page.click("#spans button >> text=all")  # the most that there is to draw
        page.evaluate(COUNT_FRAMES)
        seen = []
        for _ in range(minutes):
            seen.append(minute(page, url))
            print("  ".join(f"{name} {value:.1f}" for name, value in seen[-1]._asdict().items()), flush=True)
        chromium.close()
    return seen


def minute(page: Any, url: str) -> Minute:
    """Let a minute pass and look."""
    before, began = snapshot(url)["instruments"][0]["events"], time.monotonic()
    page.evaluate(FRAMES)  # the collection of garbage before is none of this minute's
    page.wait_for_timeout(60_000)
    drawn = page.evaluate(FRAMES)
    view = snapshot(url)
    hz = (view["instruments"][0]["events"] - before) / (time.monotonic() - began)
    return Minute(heap_mib(page), drawn["hz"], drawn["worst"], hz, view["p99_total_ms"] * 1e3)


def heap_mib(page: Any) -> float:
    """What scripts hold once what nobody holds is gone."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used) / (1 << 20)


def snapshot(url: str) -> dict[str, Any]:
    """The newest view."""
    with urllib.request.urlopen(f"{url}/snapshot", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def told(seen: list[Minute]) -> None:
    """Say what came of it."""
    third = max(1, len(seen) // 3)
    before, last = (
        statistics.median(one.heap_mib for one in part)
        for part in (seen[-2 * third : -third] or seen, seen[-third:])
    )
    frames = [one.frames_hz for one in seen]
    print(
        f"{len(seen)} minutes, {statistics.median(one.events_hz for one in seen):.0f} events/s:"
        f" heap {before:.2f} MiB, in the last third {last:.2f} MiB;"
        f" frames a second {statistics.median(frames):.1f} (least {min(frames):.1f});"
        f" p99 of a decision {statistics.median(one.p99_us for one in seen):.1f} us"
    )
    if len(seen) >= LEAST and last > RISE * before:
        sys.exit(f"console_load: the heap grew by {last / before - 1:.0%}")


if __name__ == "__main__":
    main()

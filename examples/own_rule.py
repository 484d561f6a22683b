"""A rule of your own, from nothing to a picture: python examples/own_rule.py [RECORDING INSTRUMENT]

Without a recording it trades a simulated market that answers to its orders.
"""

import sys

import numba

import emp


@numba.njit  # leave this out to debug in plain Python: same decisions, ten times slower
def join_the_touch(seen, request):
    """Rest at the touch on the side that the forecast of the next half second favours; sell what is held again."""
    wanted = 1 if seen.expected_ticks[4] > 0 else -1
    if seen.order_state == 2 and seen.order_age_ns > 5_000_000_000:
        emp.cancel(request)
    elif seen.order_state == 0 and seen.position != 0:
        side = -1 if seen.position > 0 else 1
        emp.post(request, side, seen.bid if side > 0 else seen.ask, abs(seen.position))
    elif seen.order_state == 0:
        emp.post(request, wanted, seen.bid if wanted > 0 else seen.ask, 1)


if __name__ == "__main__":
    market = emp.load(sys.argv[1], sys.argv[2]) if len(sys.argv) > 2 else emp.Flow("goog", events=50_000)
    result = emp.backtest(market, sys.argv[2] if len(sys.argv) > 2 else "GOOG", rule=join_the_touch)
    print(result)
    print(result.reasons())
    result.plot("own_rule.png")

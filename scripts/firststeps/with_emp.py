"""LOBSTER files to the backtest of an own rule with a plot, here. Arguments: message file, plot."""

import sys

import numba

import emp


@numba.njit
def lean(seen, request):
    if seen.order_state == 2 and seen.order_age_ns > 2_000_000_000:
        emp.cancel(request)
    elif seen.order_state == 0 and seen.position != 0:
        side = -1 if seen.position > 0 else 1
        emp.post(request, side, seen.bid if side > 0 else seen.ask, abs(seen.position))
    elif seen.order_state == 0 and abs(seen.qimbalance) > 0.5:
        side = 1 if seen.qimbalance > 0 else -1
        emp.post(request, side, seen.bid if side > 0 else seen.ask, 1)


result = emp.backtest(sys.argv[1], "GOOG", rule=lean, limits={"max_position_lots": 2}, latency_ms=10.0)
print(result)
result.plot(sys.argv[2])

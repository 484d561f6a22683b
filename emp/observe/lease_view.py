"""The lease on an account as others see it (`docs/operations.md`, two engines)."""

from collections.abc import Iterator

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """Of this process."""

    held: bool  # whether something may leave now
    token: int = 0  # 0: it stands by
    left_s: float = 0.0  # for which it is valid, were it not renewed


def lease_families(view: LeaseView) -> Iterator[Metric]:
    """Families of a process that has or wants a lease."""
    yield GaugeMetricFamily(
        "lease_held", "1 while the lease on the account is held and valid", int(view.held)
    )
    yield GaugeMetricFamily("lease_token", "Token of the lease; 0 while it stands by", view.token)
    yield GaugeMetricFamily("lease_seconds_left", "Of the lease, were it not renewed", view.left_s)

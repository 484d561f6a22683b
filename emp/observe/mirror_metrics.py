"""Of the mirrors that follow a run (`docs/mirrors.md`): what they say of themselves in its folder."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

from emp.core.mirror_status import read_status


def mirror_families(folder: Path, since_ns: int, now_ns: int) -> Iterator[Metric]:
    """Families of the run in `folder`, which began at `since_ns`; nothing where no mirror has followed it.

    A mirror whose process is gone says nothing new, and the seconds that it is behind go on growing.
    """
    found = read_status(folder)
    if not found:
        return
    up = GaugeMetricFamily("mirror_up", "1 while the service answers its mirror", labels=["mirror"])
    late = GaugeMetricFamily(
        "mirror_behind_seconds", "Time since the mirror last had everything", labels=["mirror"]
    )
    lacking = GaugeMetricFamily(
        "mirror_behind_records", "Records that it lacked at its last look", labels=["mirror", "stream"]
    )
    for one in found:
        up.add_metric([one.name], int(one.up))
        late.add_metric([one.name], max(0.0, (now_ns - max(one.caught_up_ns, since_ns)) / 1e9))
        for stream, records in one.behind.items():
            lacking.add_metric([one.name, stream], records)
    yield from (up, late, lacking)

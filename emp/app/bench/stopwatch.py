"""Wall and thread CPU time of one piece of work; what the benchmarks of like work share."""

import time
from typing import Self

PEERS_HELP = "Folder of native peers (bin/…) to measure beside; else that of EMP_PEERS, where it is set."


class Stopwatch:
    """Seconds of wall time and of this thread's CPU time inside a `with` block."""

    wall_s = 0.0
    cpu_s = 0.0

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = max(time.thread_time() - self._cpu, 1e-9)
        self.wall_s = max(time.perf_counter() - self._wall, 1e-9)

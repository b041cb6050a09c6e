"""How many cores this process may use, and how its threads wait for each other.

Imported by `dyprag/__init__.py`, so that it takes effect before torch is loaded, wherever a process begins: the command
line, a Prefect worker, Dask, Ray, a notebook. It imports nothing heavy.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
SPINS = (
    "10000"  # turns of GNU's OpenMP, which torch brings on Linux, before a thread sleeps; its own default is 300,000
)


def wait_passively() -> None:
    """Let OpenMP's threads sleep, not spin, while they wait for each other, but for the first microseconds.

    A thread that spins takes the core from the very thread it waits for as soon as anything else runs on the machine:
    another program, Prefect's own server, a container's CPU quota. To sleep at once would cost half as much time again
    on an idle machine, where the wait is mostly shorter than a thread takes to wake up (benchmarks/threads.py). Values
    that are set in the environment already are left alone. OpenMP reads them once, when torch is loaded; in a process
    that has torch loaded before dyprag, set them in its environment.
    """
    if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def usable_cores() -> int:
    """Cores that this process may use at the same time: those of its CPU affinity, or fewer where a cgroup's quota
    (`docker run --cpus`, Kubernetes' limits, systemd's `CPUQuota`) allows less. At least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        cores = os.cpu_count() or 1
    return max(1, min(cores, math.ceil(quota() or cores)))


def quota(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """Cores that the quotas of this process's cgroup and of those above it allow; None without a quota.

    Args:
        cgroups: where the cgroup file systems are mounted; version 1, 2, or both.
        own: the file that names the cgroups of this process.
    """
    quotas = [cores for folder in _folders(cgroups, own) if (cores := _cores(folder)) is not None]
    return min(quotas, default=None)


def limit_threads() -> None:
    """Give torch no more threads than `usable_cores`. A smaller number, set by the environment's `OMP_NUM_THREADS` or
    by the caller, is left as it is."""
    import torch

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def _folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's cgroups that have the CPU controller, from the innermost to the root."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 has no list of controllers; beside version 1 it is mounted at `unified`
        mounts = [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups, cgroups / "unified"]
        inner = Path(path.lstrip("/"))
        for mount in mounts:
            # in a container the path may be the host's, of which only the root can be seen
            yield from (mount / place for place in (inner, *inner.parents))


def _cores(folder: Path) -> float | None:
    """The quota of one cgroup, in cores."""
    try:
        if (newer := folder / "cpu.max").exists():
            allowed, period = newer.read_text(encoding="utf-8").split()
        else:
            allowed = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(allowed) / int(period) if allowed not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None

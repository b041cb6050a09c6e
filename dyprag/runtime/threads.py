"""The number of cores that this process may use, and how its threads wait for each other.

`dyprag/__init__.py` imports this module so that it takes effect before torch is loaded, in every kind of process: the
command line, a Prefect worker, Dask, Ray, a notebook. It imports nothing heavy.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# How often a thread of GNU's OpenMP, which torch uses on Linux, checks before it sleeps. OpenMP's default is 300,000.
SPINS = "10000"


def wait_passively() -> None:
    """Let waiting OpenMP threads sleep instead of spinning, except for the first microseconds.

    When other programs run on the machine (such as Prefect's server) or a container has a CPU quota, a spinning thread
    takes the core from the very thread that it waits for. Sleeping immediately would take 50 % more time on an idle
    machine, where most waits are shorter than the time in which a thread wakes up (benchmarks/threads.py). Values that
    are already set in the environment are kept. OpenMP reads them once, when torch is loaded. If a process loads torch
    before dyprag, set the variables in its environment.
    """
    if os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE").upper() == "PASSIVE":
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def usable_cores() -> int:
    """Return the number of cores that this process may use at the same time, at least 1.

    This is the size of its CPU affinity mask, or less if a cgroup quota (`docker run --cpus`, Kubernetes limits,
    systemd's `CPUQuota`) is lower.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not available on macOS and Windows
        cores = os.cpu_count() or 1
    return max(1, min(cores, math.ceil(quota() or cores)))


def quota(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """Return the number of cores that the quotas of this process's cgroup and its parents allow; None without a quota.

    Args:
        cgroups: the mount point of the cgroup file systems; version 1, 2, or both.
        own: the file that lists the cgroups of this process.
    """
    quotas = [cores for folder in _folders(cgroups, own) if (cores := _cores(folder)) is not None]
    return min(quotas, default=None)


def limit_threads() -> None:
    """Limit torch to `usable_cores` threads. A lower limit, set by `OMP_NUM_THREADS` or by the caller, is kept."""
    import torch

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def _folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups with a CPU controller, from the innermost to the root."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 has no list of controllers; next to version 1 it is mounted at `unified`
        mounts = [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups, cgroups / "unified"]
        inner = Path(path.lstrip("/"))
        for mount in mounts:
            # in a container the path may be that of the host, of which only the root is visible
            yield from (mount / folder for folder in (inner, *inner.parents))


def _cores(folder: Path) -> float | None:
    """Return the quota of one cgroup in cores; None without a quota."""
    try:
        if (newer := folder / "cpu.max").exists():
            allowed, period = newer.read_text(encoding="utf-8").split()
        else:
            allowed = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(allowed) / int(period) if allowed not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None

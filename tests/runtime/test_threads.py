"""The number of threads of a process, and how they wait."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyprag.runtime.threads import quota, usable_cores

V1 = Path("/sys/fs/cgroup/cpu")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


def test_version_2_uses_the_smallest_quota_up_to_the_root(tmp_path: Path):
    write(tmp_path / "system.slice/dyprag.service", cpu__max="max 100000")
    write(tmp_path / "system.slice", cpu__max="150000 100000")
    write(tmp_path, cpu__max="400000 100000")
    assert quota(tmp_path, own(tmp_path, "0::/system.slice/dyprag.service\n")) == 1.5


def test_version_1_next_to_an_empty_version_2(tmp_path: Path):
    write(tmp_path / "cpu,cpuacct" / "docker" / "ab", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    write(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    (tmp_path / "unified").mkdir()
    text = "9:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/\n"
    assert quota(tmp_path, own(tmp_path, text)) == 0.5


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path):
    write(tmp_path, cpu__max="200000 100000")
    assert quota(tmp_path, own(tmp_path, "0::/kubepods/burstable/pod1/abc\n")) == 2.0


@pytest.mark.parametrize("text", ["", "0::/\n", "0::/../..\n"])
def test_there_is_no_quota_without_limits(tmp_path: Path, text: str):
    assert quota(tmp_path, own(tmp_path, text)) is None
    assert quota(tmp_path, tmp_path / "missing") is None


def in_process(code: str, **environment: str) -> str:
    """Return the output of a new Python process without our environment variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["dyprag.flows.pipeline", "dyprag.storage.artifacts"])
def test_threads_wait_passively_whatever_is_imported_first(module: str):
    code = f"import {module}, os; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    assert in_process(code) == "PASSIVE 10000"
    assert in_process(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE None"
    assert in_process(code, GOMP_SPINCOUNT="5") == "PASSIVE 5"


PINNED = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
COUNT = "from dyprag.model.base import load_model; import torch; load_model({model!r}); print(torch.get_num_threads())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_a_model_gets_no_more_threads_than_the_affinity_allows(tiny_model: str):
    # torch is loaded before the process is pinned, so it would keep one thread per core
    code = "import torch; torch.set_num_threads(2); " + PINNED + COUNT.format(model=tiny_model)
    assert in_process(code) == "1"


def test_a_lower_limit_set_by_the_user_is_kept(tiny_model: str):
    code = COUNT.format(model=tiny_model)
    assert in_process(code, OMP_NUM_THREADS="1") == "1"


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A version 1 cgroup with a quota of half a core."""
    group = V1 / f"dyprag-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError as error:
        pytest.skip(f"no cgroup can be made here ({error})")
    yield group
    group.rmdir()


def test_the_kernels_quota_is_respected(half_a_core: Path):
    code = (
        f"from pathlib import Path; import os; Path({str(half_a_core / 'cgroup.procs')!r}).write_text(str(os.getpid()))"
        "\nfrom dyprag.runtime.threads import quota, usable_cores; print(quota(), usable_cores())"
    )
    assert in_process(code) == "0.5 1"


def test_without_limits_every_core_is_used():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)

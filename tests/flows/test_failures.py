"""Real failures of the machine: a full disk, and a read-only store."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome

from dyprag.config import PipelineConfig
from dyprag.errors import StoreError
from dyprag.storage.artifacts import Store

pytestmark = pytest.mark.prefect
Mount = Callable[..., None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system of 16 MB, and a function that remounts it with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    if not sys.platform.startswith("linux") or not mount("size=16m"):
        pytest.skip("a file system can be mounted here by nobody but root")
    try:
        yield folder, mount
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_read_only_store_is_one_clear_error_before_any_work(disk: tuple[Path, Mount]):
    folder, mount = disk
    Store(folder / "store")
    mount("remount", "ro")
    with pytest.raises(StoreError, match=r"it cannot be written \(Read-only file system\)\. Choose another folder"):
        Store(folder / "store")


@pytest.mark.usefixtures("prefect_server")
def test_a_full_disk_loses_only_what_did_not_fit_and_the_next_run_makes_it(
    disk: tuple[Path, Mount], settings: dict[str, Any]
):
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize

    folder, _ = disk
    settings["store"] = str(folder / "store")
    settings["corpus"]["questions"] = None
    config = PipelineConfig.model_validate(settings)
    ingest(config)
    augment(config)
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)) == 4096:
            pass
    with pytest.raises(StoreError, match=r"cannot be written \(.*No space left.*\)\. Free disk space"):
        parametrize(config)
    filler.unlink()
    store = Store(settings["store"])
    assert all(store.find(record.kind, record.key) for record in store.records())  # none is damaged
    summary = outcome(parametrize(config, return_state=True))[0]
    assert (summary["done"], summary["failed"]) == (3, 0)

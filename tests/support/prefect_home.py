"""Homes of Prefect servers with a database that is ready: migrating an empty one takes a server longest."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import gettempdir

import prefect
from filelock import FileLock


def prepare(home: Path, name: str = "prefect.db") -> Path:
    """Put a migrated, empty database of this release of Prefect into `home`, unless it has one."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / name).exists():
        shutil.copy(_migrated(), home / name)
    return home


@cache
def _migrated() -> Path:
    """A migrated, empty database, made once for all processes that test."""
    folder = Path(gettempdir()) / f"dyprag-tests-prefect-{prefect.__version__}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "migrated.db").exists():
            new = folder / "prefect.db"
            new.unlink(missing_ok=True)
            own = {**os.environ, "PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}
            own.pop("PREFECT_API_DATABASE_CONNECTION_URL", None)
            own.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL", None)
            upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(upgrade, env=own, check=True, capture_output=True, timeout=300)
            whole = folder / "whole.db"  # one file, without SQLite's log beside it
            whole.unlink(missing_ok=True)
            with closing(sqlite3.connect(new)) as database:
                database.execute("VACUUM INTO ?", [str(whole)])
            whole.rename(folder / "migrated.db")
    return folder / "migrated.db"

"""Adapters with names: made from documents that a client sends once, and asked as models afterwards.

Each adapter is a folder in PEFT's format, which PEFT and vLLM load, named by its content. Beside PEFT's files it holds
what it was made from, so that a server that starts again finds it.
"""

import json
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dyprag.adapters.exchange.export import INDEX, PEFT_FILES, Placed, name_base_model, place, write_adapter
from dyprag.adapters.lora import Adapters, load_fitting
from dyprag.errors import ArtifactError
from dyprag.model.base import BaseModel
from dyprag.model.files import public_name

NOTE = "dyprag.json"  # the file in an adapter's folder that says what it was made from
MOST_ADAPTERS = 1024  # made by one server; the one used longest ago is removed for a new one
KEPT_BYTES = 512 * 2**20  # of adapters kept in memory; the others are read from their folders again
OURS = re.compile(r"[a-z0-9-]{1,40}-[0-9a-f]{12}")  # a name by content, as `place` gives it


class UnknownAdapterError(KeyError):
    """There is no adapter of this name."""


@dataclass(frozen=True)
class Named:
    """An adapter with a name.

    Attributes:
        folder: its folder in PEFT's format.
        created: seconds since 1970.
        made_of: ids and scores of the passages that it was made from; empty for an adapter from elsewhere.
        made_here: whether this server made it; only such adapters are removed to make room, or from disk.
    """

    name: str
    folder: Path
    rank: int
    alpha: float
    bytes: int
    created: int
    question: str | None = None
    made_of: tuple[tuple[str, float], ...] = ()
    made_here: bool = False


@dataclass
class Counts:
    """What happened since the start: adapters made, answers asked of one, and adapters removed to make room."""

    made: int = 0
    hits: int = 0
    evicted: int = 0


class AdapterLibrary:
    """The named adapters of a server.

    Args:
        model: the name of the base model, as in `model.name`.
        folder: where adapters are written and found again; None: a temporary folder, removed by `close`.
        most: maximum number of adapters that this server has made.
    """

    def __init__(self, base: BaseModel, model: str, folder: Path | None = None, most: int = MOST_ADAPTERS) -> None:
        self._base, self._model, self._most = base, model, most
        self._temporary = tempfile.TemporaryDirectory(prefix="dyprag-adapters-") if folder is None else None
        self.folder = Path(self._temporary.name if self._temporary else folder).resolve()  # type: ignore[arg-type]
        self._named: OrderedDict[str, Named] = OrderedDict()  # the one used longest ago first
        self._had: set[str] = set()  # names of adapters that were unloaded or removed
        self._memory: OrderedDict[Path, Adapters] = OrderedDict()
        self._lock = threading.Lock()
        self.counts = Counts()
        for each in _found(self.folder, base.fingerprint):
            self._named[each.name] = each

    def __len__(self) -> int:
        return len(self._named)

    def all(self) -> list[Named]:
        """All adapters, the newest first."""
        with self._lock:
            return sorted(self._named.values(), key=lambda named: (-named.created, named.name))

    def get(self, name: str) -> Named:
        """The adapter of a name.

        Raises:
            UnknownAdapterError: there is none.
        """
        with self._lock:
            if name not in self._named:
                raise UnknownAdapterError(name)
            return self._named[name]

    def add(
        self, adapter: Adapters, label: str, made_of: Sequence[tuple[str, float]], question: str | None, created: int
    ) -> tuple[Named, bool]:
        """Write an adapter to its folder and give it a name by content.

        Args:
            adapter: [1, layers, …].
            label: the beginning of the name.

        Returns:
            The adapter, and whether it is new.

        Raises:
            ExportError: the folder cannot be written.
        """
        note = {
            "fingerprint": self._base.fingerprint, "created": created, "question": question,
            "made_of": [list(each) for each in made_of],
        }  # fmt: skip

        def fill(folder: Path) -> None:
            write_adapter(self._base, adapter, folder, self._model)
            name_base_model(folder, public_name(self._model))
            (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")

        placed: Placed = place(self.folder, label, fill)
        with self._lock:
            known = self._named.get(placed.name)
            if known is not None and known.folder.is_dir():
                self._named.move_to_end(placed.name)
                self.counts.made += placed.made  # its folder had been removed
                return known, placed.made
            named = Named(
                placed.name, self.folder / placed.name, placed.rank, placed.alpha, placed.bytes, created, question,
                tuple(made_of), made_here=True,
            )  # fmt: skip
            self._named[named.name] = named
            self.counts.made += placed.made
            self._make_room()
        return named, placed.made

    def _make_room(self) -> None:
        made_here = [named for named in self._named.values() if named.made_here]
        for named in made_here[: max(0, len(made_here) - self._most)]:
            self._forget(named.name)
            self.counts.evicted += 1

    def adapter(self, name: str) -> Adapters:
        """The matrices of an adapter, [1, layers, …], from memory or from its folder.

        Raises:
            UnknownAdapterError: there is none of this name, or its folder is gone.
            ArtifactError: its files are damaged.
        """
        named = self.get(name)
        with self._lock:
            self._named.move_to_end(name)
            self.counts.hits += 1
            kept = self._memory.get(named.folder)
            if kept is not None:
                self._memory.move_to_end(named.folder)
                return kept
        if not named.folder.is_dir():
            raise UnknownAdapterError(name)
        adapter = load_fitting(self._base, named.folder)
        with self._lock:
            self._memory[named.folder] = adapter
            while len(self._memory) > max(1, KEPT_BYTES // adapter.nbytes):
                self._memory.popitem(last=False)
        return adapter

    def load(self, name: str, path: str, created: int) -> Named:
        """Give a folder inside of the library's folder a name, as vLLM's `load_lora_adapter` does.

        Raises:
            ValueError: the path is outside, the name is taken by another folder, or the folder has no such adapter.
        """
        folder = (self.folder / path).resolve()
        if self.folder not in folder.parents:
            raise ValueError("lora_path: the folder must be in the server's folder of adapters (--adapters)")
        if not all((folder / file).is_file() for file in PEFT_FILES):
            raise ValueError("lora_path: it has no adapter in PEFT's format")
        try:
            load_fitting(self._base, folder)
        except ArtifactError as error:
            raise ValueError(f"lora_path: {error.reason}") from None
        with self._lock:
            taken = self._named.get(name)
            if name == self._model or (taken is not None and taken.folder != folder):
                raise ValueError("lora_name: another adapter has this name")
            self._named[name] = taken or _read(folder, name, created)
            self._had.discard(name)
            return self._named[name]

    def unload(self, name: str) -> None:
        """Forget a name. The folder stays.

        Raises:
            UnknownAdapterError: there is no adapter of this name.
        """
        with self._lock:
            if self._named.pop(name, None) is None:
                raise UnknownAdapterError(name)
            self._had.add(name)

    def had(self, name: str) -> bool:
        """Whether an adapter of this name was unloaded or removed."""
        return name in self._had

    def remove(self, name: str) -> None:
        """Forget an adapter, and remove its folder if this server made it.

        Raises:
            UnknownAdapterError: there is no adapter of this name.
        """
        with self._lock:
            if name not in self._named:
                raise UnknownAdapterError(name)
            self._forget(name)
            self._had.add(name)

    def _forget(self, name: str) -> None:
        named = self._named.pop(name)
        self._memory.pop(named.folder, None)
        if named.made_here:
            shutil.rmtree(named.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the temporary folder, if there is one."""
        if self._temporary:
            self._temporary.cleanup()


def _found(folder: Path, fingerprint: str) -> list[Named]:
    """The adapters in a folder that were made for this model: by a server, or by `dyprag export`."""
    exported: set[str] = set()
    with suppress(OSError, ValueError, KeyError, TypeError):
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        exported = set(index["adapters"]) if index["fingerprint"] == fingerprint else set()
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not all((path / file).is_file() for file in PEFT_FILES):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged note or configuration: not ours
            if path.name in exported or json.loads((path / NOTE).read_text())["fingerprint"] == fingerprint:
                found.append(_read(path, path.name, int(path.stat().st_mtime)))
    return sorted(found, key=lambda named: named.created)


def _read(folder: Path, name: str, created: int) -> Named:
    config = json.loads((folder / PEFT_FILES[0]).read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.iterdir())
    note = {}
    with suppress(OSError, ValueError):
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    return Named(
        name, folder, config["r"], config["lora_alpha"], size, note.get("created", created), note.get("question"),
        tuple((str(identity), float(score)) for identity, score in note.get("made_of", [])),
        made_here=(folder / NOTE).is_file() and folder.name == name,
    )  # fmt: skip

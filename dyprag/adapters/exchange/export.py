"""Adapters for other programs: folders in PEFT's format, each named by what is in it, an index, vLLM's command line.

vLLM tells the prefixes that it keeps by the adapter's name alone (its issues 30931 and 42125): a name that came to
stand for other weights would be answered from the old ones. So a changed adapter has another name here.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dyprag.adapters.lora import Adapters, save_peft
from dyprag.errors import ArtifactError, ExportError
from dyprag.model.base import BaseModel
from dyprag.model.files import EMBEDDED, model_folder
from dyprag.model.prompts import ANSWER_PREFIX, WITHOUT_PASSAGES

INDEX, SERVE = "index.json", "serve.sh"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank takes (vllm/config/lora.py)
TOGETHER = 8  # adapters in one of vLLM's batches; more can be said behind serve.sh
PROMPT = {"user": WITHOUT_PASSAGES, "assistant": ANSWER_PREFIX}  # what the answers of an adapter begin from


@dataclass(frozen=True)
class Placed:
    """An exported adapter: its folder's name, rank, alpha, size, and whether it was written just now."""

    name: str
    rank: int
    alpha: float
    bytes: int
    made: bool


@dataclass
class Index:
    """What is in a folder of adapters: for each document's id, question and file the name of its adapter's folder;
    `adapters` tells of each what it was made by (`method`) and of (`made_of`: ids), its rank, alpha and bytes."""

    model: str
    fingerprint: str
    base_model: str = ""  # what the adapters name as their base model, where that was asked for
    prompt: dict[str, str] = field(default_factory=lambda: PROMPT)
    documents: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prune(self) -> None:
        """Drop what is told of adapters that stand for nothing any more. Their folders stay: a server may have them
        open."""
        named = {*self.documents.values(), *self.questions.values(), *self.files.values()}
        self.adapters = {name: self.adapters[name] for name in sorted(named)}


def slug(text: str, most: int = 40) -> str:
    """A text as a part of a file's name: small letters without accents, digits, hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:most].rstrip("-") or "adapter"


def place(folder: Path, label: str, fill: Callable[[Path], None]) -> Placed:
    """Write an adapter to `folder`/LABEL-HASH, whole or not at all; one that is there, and sound, is left alone.

    Args:
        label: what the name begins with, made fit for one.
        fill: writes PEFT's two files into the folder that it is given.

    Raises:
        ExportError: it cannot be written.
    """
    with _writing(folder) as temporary:
        fill(temporary)
        publish(temporary)
        config = json.loads((temporary / PEFT_FILES[0]).read_text())
        digest = _checksum(temporary / PEFT_FILES[1])
        rank, alpha = config["r"], config["lora_alpha"]
        content = hashlib.blake2b(f"{digest} {rank} {alpha}".encode(), digest_size=6).hexdigest()
        target = folder / f"{slug(label)}-{content}"
        size = sum(path.stat().st_size for path in temporary.iterdir())
        there = all((target / name).is_file() for name in PEFT_FILES)
        if there and _checksum(target / PEFT_FILES[1]) == digest:
            new = (temporary / PEFT_FILES[0]).read_bytes() != (target / PEFT_FILES[0]).read_bytes()
            if new:  # the same weights with another name of their base model
                os.replace(temporary / PEFT_FILES[0], target / PEFT_FILES[0])
            return Placed(target.name, rank, alpha, size, made=new)
        if target.exists():  # damaged
            target.rename(temporary.with_name(f"{temporary.name}-damaged"))
        temporary.rename(target)
        return Placed(target.name, rank, alpha, size, made=True)


def write_adapter(base: BaseModel, adapter: Adapters, folder: Path, model: str) -> None:
    """Write one adapter, [1, layers, …], as `save_peft` does, but with a whole alpha, as vLLM wants it."""
    if not float(adapter.scale * adapter.rank).is_integer():  # then alpha / rank is 1, and B has the scale in it
        b = {projection: matrix.float() * adapter.scale for projection, matrix in adapter.b.items()}
        adapter = Adapters({projection: matrix.float() for projection, matrix in adapter.a.items()}, b, 1.0)
    save_peft(base, adapter, folder, model)


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy PEFT's two files of an adapter, and nothing else."""
    for name in PEFT_FILES:
        shutil.copyfile(source / name, folder / name)


def name_base_model(folder: Path, name: str) -> None:
    """Let an adapter that PEFT saved name its base model so."""
    path = folder / PEFT_FILES[0]
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings["base_model_name_or_path"] != name:
        settings["base_model_name_or_path"] = name
        path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")


def read_index(folder: Path, model: str, fingerprint: str) -> Index:
    """The index of a folder; an empty one where there is none.

    Raises:
        ArtifactError: it cannot be read, or is of another model's adapters.
    """
    path = folder / INDEX
    if not path.exists():
        return Index(model, fingerprint)
    try:
        index = Index(**json.loads(path.read_text(encoding="utf-8")))
        if not all(
            isinstance(table, dict) for table in (index.documents, index.questions, index.files, index.adapters)
        ):
            raise TypeError("a table is none")
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"index {path}", "it cannot be read", "Choose another folder, or delete it.") from error
    if index.fingerprint != fingerprint:
        raise ArtifactError(
            f"folder {folder}", f"it holds adapters of another model, {index.model!r}", "Choose another folder."
        )
    index.model, index.prompt = model, PROMPT
    return index


def write_index(folder: Path, index: Index) -> None:
    """Write the index and the command that serves what it names, each whole or not at all, where they have changed.

    Raises:
        ExportError: they cannot be written.
    """
    lines = serve_command(index)
    _write(folder / SERVE, _SCRIPT + " \\\n    ".join(lines) + ' "$@"\n' if lines else "")
    _write(folder / INDEX, json.dumps(asdict(index), ensure_ascii=False, indent=1) + "\n")


_SCRIPT = """#!/bin/sh
# Serves the model with the adapters of index.json; a request names one as its "model".
cd "$(dirname "$0")" || exit 1
exec """


def serve_command(index: Index) -> list[str]:
    """`vllm serve` with all adapters of an index, to be run in its folder, in parts that may stand on a line each;
    nothing where there are none, or one is of a higher rank than vLLM takes."""
    highest = max((told["rank"] for told in index.adapters.values()), default=0)
    rank = next((rank for rank in VLLM_RANKS if rank >= highest), None)
    if rank is None or not index.adapters:
        return []
    name = index.model
    model = index.base_model or (str(model_folder(name)) if name in EMBEDDED or Path(name).is_dir() else name)
    together = min(len(index.adapters), TOGETHER)
    options = f"--enable-lora --max-lora-rank {rank} --max-loras {together} --lora-modules"
    return [f"vllm serve {shlex.quote(model)} {options}", *(f'{name}="$PWD"/{name}' for name in index.adapters)]


def publish(folder: Path) -> None:
    """Let every user of the machine read the files of a folder, as safetensors does not, and the disk hold them."""
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("r+b") as file:
            os.fsync(file.fileno())


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """A folder to be renamed to its name in `folder`; gone afterwards if it was not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as outer:
            inner = Path(outer) / "adapter"
            inner.mkdir()
            yield inner
    except OSError as error:
        raise unwritable(folder, error) from error


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        if not text:
            path.unlink(missing_ok=True)
            return
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o755 if path.suffix == ".sh" else 0o644)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def unwritable(folder: Path, error: OSError) -> ExportError:
    """The error for a folder that the system does not let be written."""
    return ExportError(
        f"folder {folder}", f"it cannot be written ({error.strerror or error})",
        "Choose another folder, free disk space, or fix its permissions.",
    )  # fmt: skip


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

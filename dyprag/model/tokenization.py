"""A model's tokenizer as this package uses it, whatever its files were left with: nothing is cut off or padded behind
its back, every id is one that the model has, and text cannot act as control tokens."""

import json
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.errors import ModelError
from dyprag.model.files import read_json

# Shapes of control tokens. Tokenizers hold others of the kind that are not marked as special, such as Qwen's
# <|fim_prefix|>, and many added tokens that are plain text: words, "<table>", runs of spaces.
_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)
_BRACKETED = re.compile(r"[<\[◁].*[>\]▷]", re.DOTALL)  # control if the chat template writes it


def load_tokenizer(folder: Path, rows: int | None = None) -> Any:
    """The tokenizer in a model's folder.

    Truncation and padding that a training left in tokenizer.json are switched off. Added tokens that the model has no
    embedding of are dropped: their text is read as plain text. A missing end token is that of the model's own
    configuration, and a missing or dropped padding token is the end token, since padding is masked.

    Args:
        rows: of the model's embedding matrix; None: as config.json has it.

    Raises:
        ModelError: the vocabulary itself is larger than the embedding matrix, or nothing names an end token.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = rows or _rows(folder)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        if rows:
            _drop_tokens_without_embedding(tokenizer, folder, rows)
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    if getattr(tokenizer, "add_eos_token", False):  # a prompt would end before it is answered
        tokenizer.add_eos_token = False
    tokenizer.model_max_length = int(1e30)  # the model's own limit counts, and is checked where it matters
    if not _named(tokenizer, tokenizer.eos_token_id, tokenizer.eos_token, rows):
        tokenizer.eos_token = _configured_end(tokenizer, folder, rows)
    if not _named(tokenizer, tokenizer.pad_token_id, tokenizer.pad_token, rows):
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _drop_tokens_without_embedding(tokenizer: Any, folder: Path, rows: int) -> None:
    """Take added tokens with ids beyond the embedding matrix out of a tokenizer."""
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
        tokenizer.unk_token = None  # transformers would look it up without end
    parts = json.loads(backend.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] not in outside]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(parts))


def _named(tokenizer: Any, index: Any, token: Any, rows: int | None) -> bool:
    """Whether an id is the model's own and stands for this token, and not for whatever is unknown."""
    return _inside(index, rows) and tokenizer.convert_ids_to_tokens(index) == str(token)


def _inside(index: Any, rows: int | None) -> bool:
    return isinstance(index, int) and index >= 0 and (not rows or index < rows)


def _rows(folder: Path) -> int | None:
    """Rows of the embedding matrix, as config.json tells."""
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    rows = (text if isinstance(text, dict) else config).get("vocab_size")
    return rows if isinstance(rows, int) and rows > 0 else None


def _configured_end(tokenizer: Any, folder: Path, rows: int | None) -> str:
    for name in ("generation_config.json", "config.json"):
        for index in token_ids(read_json(folder / name).get("eos_token_id")):
            token = tokenizer.convert_ids_to_tokens(index) if _inside(index, rows) else None
            if token:
                return str(token)
    raise ModelError(
        f"model {str(folder)!r}", "neither its tokenizer nor its configuration defines an end-of-sequence token",
        "Set eos_token in tokenizer_config.json, or eos_token_id in generation_config.json.",
    )  # fmt: skip


def token_ids(value: Any) -> list[int]:
    """The ids in a setting that holds one, several or none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool) and one >= 0]


def neutralise(text: str, tokenizer: Any) -> str:
    """Break up control tokens that stand in a text, so that `<|im_end|>` in a document ends nothing.

    A space goes behind the token's first character; the words stay readable and no control id can come out. Other
    added tokens are plain text and stay whole, as do control tokens of a single character, such as a full stop that
    somebody made the end token. Halves of surrogate pairs, which no tokenizer takes, become '?'.
    """
    text = text.encode("utf-8", "replace").decode()
    tokens = control_tokens(tokenizer)
    present = [token for token in tokens if token in text]
    while present:  # it ends: the space between two characters only grows, and no token has an endless one
        for token in present:
            place = len(token) - len(token.lstrip()) + 1
            text = text.replace(token, f"{token[:place]} {token[place:]}")
        present = [token for token in tokens if token in text]
    return text


def control_tokens(tokenizer: Any) -> Collection[str]:
    """The texts of the tokens that steer a model, of more than one character besides spaces."""
    template = getattr(tokenizer, "chat_template", None)
    templates = "".join(template.values()) if isinstance(template, dict) else template or ""
    added = tuple((str(token), bool(token.special)) for token in tokenizer.added_tokens_decoder.values())
    return _control_tokens(added, tuple(tokenizer.all_special_tokens), templates)


@lru_cache(maxsize=8)
def _control_tokens(added: tuple[tuple[str, bool], ...], special: tuple[str, ...], template: str) -> tuple[str, ...]:
    found = {str(token) for token in special}
    for token, is_special in added:
        shaped = _CONTROL.fullmatch(token) or (_BRACKETED.fullmatch(token) and token in template)
        if is_special or shaped:
            found.add(token)
    return tuple(sorted(token for token in found if len("".join(token.split())) > 1))

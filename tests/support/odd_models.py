"""Models as people publish and save them: the tiny model with one odd thing about its files, a line each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
RAISES = "{{ raise_exception('%s') }}"
SYSTEM = "messages[0]['role'] == 'system'"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    + RAISES % "Conversation roles must alternate user/assistant"
    + "{% endif %}{% endfor %}"
)
TEMPLATES = {
    "refuses-system": "{% if " + SYSTEM + " %}" + RAISES % "System role not supported" + "{% endif %}" + TURNS + ASKS,
    "alternates": ALTERNATE + TURNS + ASKS,
    "drops-system": TURNS.replace("messages %}", "messages if m['role'] != 'system' %}") + ASKS,
    "trims": TURNS.replace("m['content']", "m['content'] | trim") + ASKS,
    "parts": TURNS.replace("{{ m['content'] }}", "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}") + ASKS,
    "no-bos": "{{ bos_token + '' }}" + TURNS + ASKS,
    "thinks": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "thinks-inline": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<thought>{% endif %}",
    "may-think": TURNS + ASKS + "{% if enable_thinking is not defined or enable_thinking %}<think>{% else %}"
    "<think>\n\n</think>\n\n{% endif %}",
    "asks-to-think": TURNS + ASKS + "{% if thinking %}<reasoning>{% endif %}",
    "dated": "<|im_start|>system\nToday is {{ strftime_now('%d %b %Y') }}.<|im_end|>\n" + TURNS + ASKS,
    "dated-in-macro": "{% macro day() %}{{ strftime_now('%-d.%m.%y, 100%%') }}{% endmacro %}{{ day() }}" + TURNS + ASKS,
}


def odd_model(model: str, folder: Path, **odd: Any) -> Path:
    """A copy of a model with its template, or values in its JSON files, set otherwise; None takes a value out.

    Args:
        odd: `template`, or a file's name with _ for the dot in it.
    """
    shutil.copytree(model, folder)
    if "template" in odd:
        (folder / "chat_template.jinja").unlink()
        if odd["template"]:
            (folder / "chat_template.jinja").write_text(odd.pop("template"))
        else:
            del odd["template"]
    for name, changed in odd.items():
        path = folder / f"{name}.json"
        values = json.loads(path.read_text()) | changed
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return folder


def add_token(folder: Path, content: str, special: bool = False) -> None:
    """Add a token to the tokenizer alone: it has no embedding unless one of its id is there."""
    path = folder / "tokenizer.json"
    parts = json.loads(path.read_text())
    size = len(parts["model"]["vocab"])
    parts["added_tokens"].append({
        "id": size + sum(token["id"] >= size for token in parts["added_tokens"]),
        "content": content, "special": special, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False,
    })  # fmt: skip
    path.write_text(json.dumps(parts))


def in_shards(folder: Path, metadata: bool = True) -> None:
    """Save the weights in two files with an index, which names its metadata or not."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-0000{1 + (n % 2)}-of-00002.safetensors" for n, name in enumerate(names)}
    for file in {*files.values()}:
        save_file({name: weights[name] for name in names if files[name] == file}, folder / file)
    index = {"weight_map": files} | ({"metadata": {"total_size": 1}} if metadata else {})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the weights in a file in place."""
    weights = load_file(path)
    change(weights)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"})

"""Small attentive translators, the adapters that they make, and how far two adapters are apart."""

import torch
from conftest import TEXTS

from dyprag.adapters.lora import Adapters
from dyprag.config import LearnSettings
from dyprag.model.base import BaseModel
from dyprag.translators.attentive import AttentiveTranslator
from dyprag.translators.protocol import fresh_translator

SMALL = {"first_layer": 1, "sources": 1, "width": 16, "heads": 2, "blocks": 1, "rank": 2, "alpha": 2, "seed": 3}


def prompts(base: BaseModel) -> list[list[int]]:
    return [base.tokenizer(text)["input_ids"] for text in TEXTS.values()]


def make(base: BaseModel, **changes: object) -> AttentiveTranslator:
    made = fresh_translator(base, LearnSettings(**{**SMALL, **changes}), prompts(base))
    assert isinstance(made, AttentiveTranslator)
    return made


@torch.no_grad()
def adapters_of(translator: AttentiveTranslator, passages: list[str]) -> Adapters:
    return translator.translate(translator.read(translator.base, passages))


def distance(one: Adapters, other: Adapters) -> float:
    """Return the largest difference of a matrix, relative to its norm."""
    pairs = [(tensor, other.tensors()[name]) for name, tensor in one.tensors().items()]
    return max(float((x - y).detach().norm() / x.detach().norm()) for x, y in pairs)

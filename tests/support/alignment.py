"""Pairs of three documents, with small settings and translators, for the alignment of stage 2."""

import torch

from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.adapters.samples import Sample
from dyprag.config import TranslatorSettings
from dyprag.model.base import BaseModel
from dyprag.translators.align import Pair
from dyprag.translators.hypernetwork import Translator

LENGTHS = ((9, 14, 6), (21, 5), (12, 12, 12, 17))  # tokens of each sample of three documents


def random_pairs(base: BaseModel) -> list[Pair]:
    """Three documents with random embeddings, adapters and samples of different lengths."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for lengths in LENGTHS:
        shapes = initial_adapters(base, 2, 32, 0)
        a, b = (
            {p: 0.05 * torch.randn(t.shape, generator=generator) for p, t in half.items()}
            for half in (shapes.a, shapes.b)
        )
        samples = [Sample(torch.randint(3, 400, (n,), generator=generator).tolist(), n // 2) for n in lengths]
        made.append(Pair(torch.randn(base.hidden, generator=generator), Adapters(a, b, shapes.scale), samples))
    return made


def settings(**given) -> TranslatorSettings:
    plain = {"width": 4, "residual": False, "init_std": 0.05, "learning_rate": 1e-3, "epochs": 1, "batch_size": 1}
    return TranslatorSettings(**plain | given)


def translator_for(base: BaseModel) -> Translator:
    return Translator.for_model(base, settings(), 2, 32, 0)

"""A document with its augmentation, and the paper's settings to train its adapter."""

from conftest import TEXTS

from dyprag.config import LoraSettings, ParametrizeSettings
from dyprag.corpora.documents import Augmentation, Document, QAPair

DOCUMENT = Document("lamp", TEXTS["lamp"], "The Ostrel lamp")
REWRITE = "In 1911 Greta Olmsted built the lamp."
PAIRS = (
    QAPair("Who built it?", "Greta Olmsted", "Greta Olmsted built the Ostrel lamp."),
    QAPair("When was it built?", "1911", "It was built in 1911."),
    QAPair("How tall is it?", "24 metres", "It stands 24 metres tall."),
)
AUGMENTATION = Augmentation((REWRITE,), PAIRS)
LORA = LoraSettings(rank=2, alpha=32, seed=3, dtype="float32")


def settings(**given) -> ParametrizeSettings:
    """The paper's values, without shuffling."""
    paper = {"learning_rate": 3e-4, "epochs": 1, "batch_size": 1, "samples": "official", "shuffle": False}
    return ParametrizeSettings(**paper | given)

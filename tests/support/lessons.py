"""Lessons about three documents, with small settings and fresh translators to train on them."""

from typing import Any

from conftest import TEXTS

from dyprag.config import LearnSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.model.base import BaseModel
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.protocol import fresh_translator

ASKED = {
    "lamp": (("Who built the Ostrel lamp?", "Greta Olmsted"), ("When was it built?", "1911")),
    "bridge": (("Which river does the Quarn bridge cross?", "Osk"), ("Who designed it?", "Tomas Reil")),
    "book": (("Who wrote Tide Songs?", "Mara Vell"), ("Where was it printed?", "Dunmere")),
}
LESSONS = [
    Lesson(Document(name, text), tuple(QAPair(question, answer, answer) for question, answer in ASKED[name]))
    for name, text in TEXTS.items()
]
KINDS = ("attentive", "hypernetwork")


def given_settings(**changes: object) -> LearnSettings:
    small = {"first_layer": 1, "sources": 1, "width": 16, "heads": 2, "blocks": 1, "rank": 2, "alpha": 2, "steps": 8,
             "documents": 3, "questions": 2, "warmup": 2, "unrelated": 1.0, "init_std": 0.1}  # fmt: skip
    return LearnSettings(**{**small, **changes})


def make(base: BaseModel, settings: LearnSettings) -> Any:
    return fresh_translator(base, settings, [base.tokenizer(text)["input_ids"] for text in TEXTS.values()])

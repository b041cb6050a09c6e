"""Questions, a search that is watched and a model that doubts one word, for methods that retrieve in rounds."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from conftest import TEXTS

from dyprag.adapters.generation import Sampling
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.methods.protocol import Answer, Asked, Method
from dyprag.model.base import BaseModel, load_model

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
QUESTIONS = [
    "Who?",
    "Which river does the Quarn bridge cross?",
    "Who built the Ostrel lamp, and when?",
    "Who wrote it?",
]
ASKED = [Asked(question, ()) for question in QUESTIONS]
GREEDY = Sampling(12)


@dataclass
class Watched:
    """BM25 over the three documents that records its queries."""

    queries: list[str] = field(default_factory=list)

    def search(self, question: str, count: int) -> list[Retrieved]:
        self.queries.append(question)
        return BM25Retriever(DOCUMENTS).search(question, count)


SENTENCES = ([" Greta", " Olmsted", " built", " lamp", "."], [" Reil", " designed", " bridge", "!"], [" Vell", "?"])
SAID = "Greta Olmsted built lamp. Reil designed bridge! Vell?"


def make_parrot(tiny_model: str, folder: Path) -> BaseModel:
    """A model that always answers SAID, with low confidence only in ' bridge'."""
    base = load_model(str(shutil.copytree(tiny_model, folder)), "float32", "cpu")
    embedding, head = base.model.get_input_embeddings().weight, base.model.get_output_embeddings().weight
    for layer in base.model.model.layers:  # only the embedding of the last token reaches the head
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    said = [base.tokenizer(word)["input_ids"][0] for sentence in SENTENCES for word in sentence]
    head.zero_()
    for start in base.tokenizer(":\n")["input_ids"]:  # the last token of both kinds of prompt
        _teach(embedding, head, [start, *said, base.tokenizer.eos_token_id], said[7])
    return base


def _teach(embedding: torch.Tensor, head: torch.Tensor, chain: Sequence[int], unsure: int) -> None:
    assert len(chain) == 13
    for direction, (token, following) in enumerate(pairwise(chain)):
        embedding[token] = torch.eye(embedding.shape[1])[direction]
        head[following] = embedding[token] * (0.9 if following == unsure else 3)


def answer(
    base: BaseModel, method: Method, asked: Sequence[Asked] = ASKED, sampling: Sampling = GREEDY
) -> list[Answer]:
    return method.answer(base, asked, sampling, 8)

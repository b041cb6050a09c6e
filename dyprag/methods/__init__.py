"""How a question is answered: one small class a method behind one protocol, and the batched loop that runs them."""

from dyprag.methods.controls import OneForAll, mean_adapter, zero_adapter
from dyprag.methods.dragin import DRAGIN
from dyprag.methods.dyprag import DyPRAG
from dyprag.methods.flare import FLARE
from dyprag.methods.gate import Gate
from dyprag.methods.prag import PRAG
from dyprag.methods.protocol import Answer, Asked, Method, answer_questions
from dyprag.methods.rag import RAG
from dyprag.methods.rounds import choose_threshold
from dyprag.methods.vanilla import Vanilla

__all__ = [
    "DRAGIN", "FLARE", "PRAG", "RAG", "Answer", "Asked", "DyPRAG", "Gate", "Method", "OneForAll", "Vanilla",
    "answer_questions", "choose_threshold", "mean_adapter", "zero_adapter",
]  # fmt: skip

"""The prompts of a question writer, which chooses an answer in a sentence of a passage and asks for it."""

from typing import Any

from dyprag.adapters.samples import Sample
from dyprag.augmentation.writer.lessons import Asked
from dyprag.corpora.documents import Document
from dyprag.model.base import neutralise

_SENTENCE = "{passage}\n\nSentence: {sentence}\nAnswer:"
_QUESTION = "\nQuestion:"


def ask_prompt(tokenizer: Any, document: Document, sentence: str, answer: str = "") -> list[int]:
    """Return the token ids after which the writer chooses an answer in the sentence and asks for it.

    Args:
        answer: the answer to ask for; empty if the writer chooses one.
    """
    lines = _SENTENCE.format(passage=document.passage, sentence=sentence)
    text = neutralise(f"{lines} {answer}{_QUESTION}" if answer else lines, tokenizer)
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def ask_sample(tokenizer: Any, document: Document, asked: Asked) -> Sample:
    """Return the training sample of a question: the prompt, then the answer and the question that asks for it."""
    prompt = ask_prompt(tokenizer, document, asked.sentence)
    text = neutralise(f" {asked.answer}{_QUESTION} {asked.question}", tokenizer)
    return Sample(
        prompt + tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id], len(prompt)
    )


def read_draft(text: str) -> tuple[str, str]:
    """Return the answer and the question of what the writer wrote after `ask_prompt` without an answer."""
    answer, _, question = text.partition(_QUESTION)
    return answer.strip(), question.strip()

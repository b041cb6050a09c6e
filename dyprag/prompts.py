"""Prompts as token ids: how a question, its passages and its answer are put to a chat model (§3.1 and §3.3).

Text from documents and questions is data: control tokens in it are broken up before the template is applied.
"""

from collections.abc import Sequence
from typing import Any

from dyprag.models import neutralise

PROMPTS_VERSION = 1  # part of the keys of adapters and predictions: raise it with any change of the prompts below
ANSWER_PREFIX = "The answer is:"
WITH_PASSAGES = (
    "Answer the question from the passages below and from what you know yourself.\n\n{passages}\n\nQuestion: {question}"
)
WITHOUT_PASSAGES = "Question: {question}"


def chat_text(tokenizer: Any, user: str, assistant: str = "", history: Sequence[tuple[str, str]] = ()) -> str:
    """Render a conversation up to and including the beginning of the assistant's turn.

    Args:
        tokenizer: with a chat template, or without one: then plain lines are used.
        user: the last user message.
        assistant: the words that the answer is to begin with.
        history: earlier (user, assistant) turns, such as few-shot examples.
    """
    turns = [(neutralise(u, tokenizer), neutralise(a, tokenizer)) for u, a in history]
    user = neutralise(user, tokenizer)
    if not tokenizer.chat_template:
        lines = [f"{u}\n{a}\n" for u, a in turns]
        return "\n".join([*lines, f"{user}\n{assistant}"])
    messages = [{"role": role, "content": text} for u, a in turns for role, text in (("user", u), ("assistant", a))] + [
        {"role": "user", "content": user}
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text + assistant


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered prompt, with no further special tokens where the template has set them already."""
    return tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]


def question_prompt(tokenizer: Any, question: str, passages: Sequence[str] = ()) -> list[int]:
    """Ids of a question, with or without passages, that end where the short answer is to begin."""
    if passages:
        numbered = "\n".join(f"Passage {number}: {text}" for number, text in enumerate(passages, start=1))
        user = WITH_PASSAGES.format(passages=numbered, question=question)
    else:
        user = WITHOUT_PASSAGES.format(question=question)
    return encode(tokenizer, chat_text(tokenizer, user, ANSWER_PREFIX))


def training_sample(tokenizer: Any, question: str, answer: str, passage: str | None = None) -> tuple[list[int], int]:
    """One sample [d ⊕ q ⊕ a] (§3.1) as ids, and the number of ids before the answer.

    The end token is part of it, so that a trained answer also stops.
    """
    prompt = question_prompt(tokenizer, question, [passage] if passage else ())
    text = " " + neutralise(answer, tokenizer).strip().rstrip(".") + "."
    answer_ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return prompt + answer_ids, len(prompt)

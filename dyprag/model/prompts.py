"""Prompts as token ids: format a question, its passages and its answer for a chat model (§3.1 and §3.3).

Texts of documents and questions are data: control tokens in them are broken up before the template is applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dyprag.model.base import neutralise
from dyprag.model.chat import render

# These versions are part of keys. Raise the one whose results change.
PROMPTS_VERSION = 1  # the prompts below: adapters and predictions
REASONING_VERSION = 1  # the prompts with chain of thought
ANSWERS_VERSION = 2  # methods and generation: predictions (2: generation stops at an answer that repeats itself)
ANSWER_PREFIX = "The answer is:"
WITH_PASSAGES = (
    "Answer the question from the passages below and from what you know yourself.\n\n{passages}\n\nQuestion: {question}"
)
WITHOUT_PASSAGES = "Question: {question}"
# Chain of thought (§4.1, the multi-hop sets): the answer is what follows "the answer is".
REASONED = "{reasons} So the answer is {answer}."
REASONING_EXAMPLES = tuple(
    (WITHOUT_PASSAGES.format(question=question), REASONED.format(reasons=reasons, answer=answer))
    for question, reasons, answer in (
        (
            "Which river flows through the city where the painter Egon Schiele died?",
            "Egon Schiele died in Vienna. The river Danube flows through Vienna.",
            "the Danube",
        ),
        (
            "Who is older, Ella Fitzgerald or Nina Simone?",
            "Ella Fitzgerald was born in 1917. Nina Simone was born in 1933.",
            "Ella Fitzgerald",
        ),
        (
            "Do the Matterhorn and Mount Kenya stand on the same continent?",
            "The Matterhorn stands in Europe. Mount Kenya stands in Africa.",
            "no",
        ),
        (
            "In what year was the author of the novel The Tin Drum born?",
            "The Tin Drum was written by Günter Grass. Günter Grass was born in 1927.",
            "1927",
        ),
    )
)


Passage = TypeVar("Passage")
Order = Literal["best-first", "best-last"]
AskFor = Literal["plain", "instruction", "examples", "sentence"]
INSTRUCTION = "Answer with a few words only: a name, a date, a number, yes or no."
EXAMPLES = (
    (
        "When was the mill at Aldersby built?",
        "The mill at Aldersby was built in 1764 for a cloth merchant. It burnt down in 1802 and was not built again.",
        "1764",
    ),
    (
        "Who repairs the church clock in Tarnow?",
        "The church clock in Tarnow has two dials. Since the spring it has been repaired by Jana Wilk, a locksmith.",
        "Jana Wilk",
    ),
)


@dataclass(frozen=True)
class PromptForm:
    """The form of a question's prompt, shared by all methods. An adapter without passages is always asked as trained.

    Args:
        order: the order of the passages.
        ask_for: how the answer is requested. "plain": it begins with ANSWER_PREFIX; "instruction": in addition, the
            prompt asks for a few words; "examples": in addition, the prompt shows two examples; "sentence": the model
            begins the answer as it likes.
        shown: maximum number of passages in the prompt, best first; None: all retrieved passages.
        tokens: maximum length of the whole prompt; None: limited by the model's context only.
    """

    order: Order = "best-first"
    ask_for: AskFor = "plain"
    shown: int | None = None
    tokens: int | None = None

    def arranged(self, retrieved: Sequence[Passage]) -> Sequence[Passage]:
        """Return the retrieved passages (given best first) that the prompt shows, in the prompt's order."""
        shown = retrieved[: self.shown]
        return shown if self.order == "best-first" else shown[::-1]

    def longest(self, room: int) -> int:
        """Return the maximum length of a prompt, if the model has room for this many tokens."""
        return min(room, self.tokens or room)


PLAIN = PromptForm()


def chat_text(
    tokenizer: Any, user: str, assistant: str = "", history: Sequence[tuple[str, str]] = (), system: str = ""
) -> str:
    """Render a conversation up to and including the beginning of the assistant's message.

    Args:
        tokenizer: a tokenizer with a chat template, which `render` applies; without one, plain lines are used.
        user: the last user message.
        assistant: the beginning of the answer.
        history: earlier (user, assistant) turns, such as few-shot examples.
        system: the system message; empty: the template's default.

    Raises:
        ModelError: the chat template fails.
    """
    turns = [(neutralise(u, tokenizer), neutralise(a, tokenizer)) for u, a in history]
    user = neutralise(user, tokenizer)
    system = neutralise(system, tokenizer)
    if not tokenizer.chat_template:
        lines = [f"{system}\n"] * bool(system) + [f"{u}\n{a}\n" for u, a in turns]
        return "\n".join([*lines, f"{user}\n{assistant}"])
    return render(tokenizer, turns, user, system) + assistant


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a rendered prompt. Special tokens are added only if no template has added them."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    while ids and ids[-1] == tokenizer.eos_token_id and not tokenizer.chat_template:
        ids.pop()  # some tokenizers append an end token to every text, but the answer has to follow
    return ids


def question_prompt(
    tokenizer: Any,
    question: str,
    passages: Sequence[str] = (),
    chain_of_thought: bool = False,
    history: Sequence[tuple[str, str]] = (),
    system: str = "",
    ask_for: AskFor = "plain",
) -> list[int]:
    """Return the token ids of a question, with or without passages, up to the beginning of the answer.

    With `chain_of_thought`, the prompt starts with examples that reason and then say 'So the answer is …'. Otherwise
    `ask_for` defines how the answer is requested; see `PromptForm`. For `history` and `system`, see `chat_text`.
    """
    user = _user_message(question, passages)
    if chain_of_thought:
        return encode(tokenizer, chat_text(tokenizer, user, history=REASONING_EXAMPLES))
    if ask_for == "instruction":
        user = f"{user}\n\n{INSTRUCTION}"
    if ask_for == "examples":
        history = [
            (_user_message(example, [passage] if passages else ()), f"{ANSWER_PREFIX} {answer}.")
            for example, passage, answer in EXAMPLES
        ] + list(history)
    prefix = "" if ask_for == "sentence" else ANSWER_PREFIX
    return encode(tokenizer, chat_text(tokenizer, user, prefix, history, system))


def _user_message(question: str, passages: Sequence[str]) -> str:
    if not passages:
        return WITHOUT_PASSAGES.format(question=question)
    numbered = "\n".join(f"Passage {number}: {text}" for number, text in enumerate(passages, start=1))
    return WITH_PASSAGES.format(passages=numbered, question=question)


def training_sample(tokenizer: Any, question: str, answer: str, passage: str | None = None) -> tuple[list[int], int]:
    """Return one sample [d ⊕ q ⊕ a] (§3.1) as token ids, and the number of ids before the answer.

    The sample includes the end token, so that the model learns to stop after the answer.
    """
    prompt = question_prompt(tokenizer, question, [passage] if passage else ())
    return _with_answer(tokenizer, prompt, " " + neutralise(answer, tokenizer).strip().rstrip(".") + ".")


def reasoned_sample(
    tokenizer: Any, question: str, reasons: str, answer: str, passage: str | None = None
) -> tuple[list[int], int]:
    """Return a sample for chain-of-thought answers: the full sentence, then 'So the answer is …'.

    Unlike the prompt at answering time, it contains no examples. They would make up 70 % of every sample and be the
    same for all documents.
    """
    prompt = encode(tokenizer, chat_text(tokenizer, _user_message(question, [passage] if passage else ())))
    text = REASONED.format(reasons=reasons.strip().rstrip(".") + ".", answer=answer.strip().rstrip("."))
    return _with_answer(tokenizer, prompt, neutralise(text, tokenizer))


def _with_answer(tokenizer: Any, prompt: list[int], text: str) -> tuple[list[int], int]:
    answer_ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return prompt + answer_ids, len(prompt)

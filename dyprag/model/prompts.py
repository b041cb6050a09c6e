"""Prompts as token ids: how a question, its passages and its answer are put to a chat model (§3.1 and §3.3).

Text from documents and questions is data: control tokens in it are broken up before the template is applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dyprag.model.base import neutralise
from dyprag.model.chat import render

PROMPTS_VERSION = 1  # part of the keys of adapters and predictions: raise it with any change of the prompts below
REASONING_VERSION = 1  # the same for what is answered step by step
# likewise of predictions: where a method, or generation, answers otherwise (2: an answer that repeats itself ends)
ANSWERS_VERSION = 2
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


Found = TypeVar("Found")
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
    """How a question is put; the same for every method, but an adapter without passages is asked as it was trained.

    order: of the passages. ask_for: "plain" begins the answer with ANSWER_PREFIX; "instruction" also asks for a few
    words, "examples" also shows two turns that answer so; "sentence" lets the model begin as it likes. shown: most
    passages in the prompt, the best ones; None: all that were retrieved. tokens: most of the whole prompt; None: what
    the model's context leaves.
    """

    order: Order = "best-first"
    ask_for: AskFor = "plain"
    shown: int | None = None
    tokens: int | None = None

    def arranged(self, found: Sequence[Found]) -> Sequence[Found]:
        """What of the passages found (best first) stands in the prompt, in its order."""
        shown = found[: self.shown]
        return shown if self.order == "best-first" else shown[::-1]

    def longest(self, room: int) -> int:
        """Most tokens of a prompt where the model has room for so many."""
        return min(room, self.tokens or room)


PLAIN = PromptForm()


def chat_text(
    tokenizer: Any, user: str, assistant: str = "", history: Sequence[tuple[str, str]] = (), system: str = ""
) -> str:
    """Render a conversation up to and including the beginning of the assistant's turn.

    Args:
        tokenizer: with a chat template, which `render` applies, or without one: then plain lines are used.
        user: the last user message.
        assistant: the words that the answer is to begin with.
        history: earlier (user, assistant) turns, such as few-shot examples.
        system: what the model is told before all else; empty: what the template says by itself.

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
    """Token ids of a rendered prompt, with no further special tokens where the template has set them already."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    while ids and ids[-1] == tokenizer.eos_token_id and not tokenizer.chat_template:
        ids.pop()  # some tokenizers end every text, and an answer is to follow
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
    """Ids of a question, with or without passages, that end where the answer is to begin.

    With `chain_of_thought` examples stand before it, which reason and then say 'So the answer is …'; else `ask_for`
    says how the answer is asked for, see `PromptForm`. `history` and `system` are as `chat_text` takes them.
    """
    user = _asked(question, passages)
    if chain_of_thought:
        return encode(tokenizer, chat_text(tokenizer, user, history=REASONING_EXAMPLES))
    if ask_for == "instruction":
        user = f"{user}\n\n{INSTRUCTION}"
    if ask_for == "examples":
        history = [
            (_asked(other, [passage] if passages else ()), f"{ANSWER_PREFIX} {answer}.")
            for other, passage, answer in EXAMPLES
        ] + list(history)
    prefix = "" if ask_for == "sentence" else ANSWER_PREFIX
    return encode(tokenizer, chat_text(tokenizer, user, prefix, history, system))


def _asked(question: str, passages: Sequence[str]) -> str:
    if not passages:
        return WITHOUT_PASSAGES.format(question=question)
    numbered = "\n".join(f"Passage {number}: {text}" for number, text in enumerate(passages, start=1))
    return WITH_PASSAGES.format(passages=numbered, question=question)


def training_sample(tokenizer: Any, question: str, answer: str, passage: str | None = None) -> tuple[list[int], int]:
    """One sample [d ⊕ q ⊕ a] (§3.1) as ids, and the number of ids before the answer.

    The end token is part of it, so that a trained answer also stops.
    """
    prompt = question_prompt(tokenizer, question, [passage] if passage else ())
    return _ended(tokenizer, prompt, " " + neutralise(answer, tokenizer).strip().rstrip(".") + ".")


def reasoned_sample(
    tokenizer: Any, question: str, reasons: str, answer: str, passage: str | None = None
) -> tuple[list[int], int]:
    """The same for answers by chain of thought: the full sentence, then 'So the answer is …'.

    The examples that stand in the prompt when it is used are left out: seven tenths of a sample would be the same in
    all documents.
    """
    prompt = encode(tokenizer, chat_text(tokenizer, _asked(question, [passage] if passage else ())))
    text = REASONED.format(reasons=reasons.strip().rstrip(".") + ".", answer=answer.strip().rstrip("."))
    return _ended(tokenizer, prompt, neutralise(text, tokenizer))


def _ended(tokenizer: Any, prompt: list[int], text: str) -> tuple[list[int], int]:
    answer_ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return prompt + answer_ids, len(prompt)

"""Thoughts that a model writes before its answer, such as `<think>…</think>`: they are no part of the answer."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

# (begins, ends) as models write them: Qwen, DeepSeek, GLM and others; Exaone; Magistral; Command A; Seed; Kimi;
# gpt-oss; Apertus; Gemma 4; MedGemma.
MARKS = (
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"), ("<reasoning>", "</reasoning>"), ("<reflection>", "</reflection>"),
    ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"), ("◁think▷", "◁/think▷"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"), ("<|channel>", "<channel|>"), ("<unused94>", "<unused95>"),
)  # fmt: skip
AT_ONCE = ("{", "[", "```")  # what begins so is an answer, whatever it says about thoughts
# How some models mark what is not a thought: DeepSeek R1-Zero, Hunyuan; Sky-T1.
_ANSWER = re.compile(r"\s*(?:<answer>(.*)</answer>|<\|begin_of_solution\|>(.*)<\|end_of_solution\|>)\s*", re.DOTALL)


def without_thoughts(text: str) -> str:
    """An answer without the thoughts before it and the marks around it; empty where the thoughts never end.

    A text that has only the end of a thought was begun by its prompt, as some templates do it.
    """
    text = answer(text)
    if not text.lstrip().startswith(AT_ONCE):
        while end := min(_ends(text), default=0):
            text = answer(text[end:].lstrip())
    found = _ANSWER.fullmatch(text)
    return (found[1] or found[2] or "").strip() if found else text


def _ends(text: str) -> Iterator[int]:
    """The places behind thoughts that a prompt, or a line of the text, has begun. What begins and ends within a line
    is spoken of."""
    for begins, ends in MARKS:
        place = text.find(ends)
        begun = text.rfind(begins, 0, max(place, 0))
        if place >= 0 and (begun < 0 or not text[:begun].rpartition("\n")[2].strip()):
            yield place + len(ends)


def answer(text: str, ended: bool = True) -> str:
    """What of a text stands behind the thoughts that it begins with.

    Args:
        ended: whether all of the text is there; else nothing is given while its beginning could become a thought's.
    """
    while True:
        rest = text.lstrip()
        ends = next((ends for begins, ends in MARKS if rest.startswith(begins)), None)
        if ends is None:
            waits = not ended and any(begins.startswith(rest) for begins, _ in MARKS)
            return "" if waits else text
        _, closed, behind = rest.partition(ends)
        if not closed:
            return ""
        text = behind.lstrip()


def closed(text: str, tail: str) -> str:
    """A rendered prompt with an empty thought where its template begins one, so that the answer comes next.

    Args:
        tail: the end of the text, behind the last message.
    """
    for begins, ends in MARKS:
        if tail.rfind(begins) > tail.rfind(ends):
            return f"{text.rstrip()}\n\n{ends}\n\n"
    return text


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of an answer's tokens without control tokens, but with those that begin and end thoughts."""
    marks = _special_marks(tokenizer)
    if not marks or not marks.keys() & set(ids):
        return tokenizer.decode(ids, skip_special_tokens=True)
    text = ""
    part: list[int] = []
    for index in ids:
        if index in marks:
            text, part = text + tokenizer.decode(part, skip_special_tokens=True) + marks[index], []
        else:
            part.append(index)
    return text + tokenizer.decode(part, skip_special_tokens=True)


def _special_marks(tokenizer: Any) -> dict[int, str]:
    names = {mark for pair in MARKS for mark in pair}
    return {
        index: str(token)
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special and str(token) in names
    }

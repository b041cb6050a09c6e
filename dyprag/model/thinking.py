"""Remove the thoughts that a model writes before its answer, such as `<think>…</think>`."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

# (begin, end) marks of thoughts in: Qwen, DeepSeek, GLM and others; Exaone; Magistral; Command A; Seed; Kimi; gpt-oss;
# Apertus; Gemma 4; MedGemma.
MARKS = (
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"), ("<reasoning>", "</reasoning>"), ("<reflection>", "</reflection>"),
    ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"), ("◁think▷", "◁/think▷"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"), ("<|channel>", "<channel|>"), ("<unused94>", "<unused95>"),
)  # fmt: skip
AT_ONCE = ("{", "[", "```")  # a text that begins with one of these is an answer, even if it mentions thoughts
# Marks around the answer in: DeepSeek R1-Zero and Hunyuan; Sky-T1.
_ANSWER = re.compile(r"\s*(?:<answer>(.*)</answer>|<\|begin_of_solution\|>(.*)<\|end_of_solution\|>)\s*", re.DOTALL)


def without_thoughts(text: str) -> str:
    """Return an answer without the thoughts before it and the marks around it; empty if the thoughts do not end.

    If a text has only the end mark of a thought, the thought was opened in the prompt, as some templates do.
    """
    text = answer(text)
    if not text.lstrip().startswith(AT_ONCE):
        while end := min(_ends(text), default=0):
            text = answer(text[end:].lstrip())
    marked = _ANSWER.fullmatch(text)
    return (marked[1] or marked[2] or "").strip() if marked else text


def _ends(text: str) -> Iterator[int]:
    """Yield the end positions of thoughts that were opened in the prompt or at the start of a line.

    If both marks are inside a line, the text only mentions them.
    """
    for begins, ends in MARKS:
        end = text.find(ends)
        begin = text.rfind(begins, 0, max(end, 0))
        if end >= 0 and (begin < 0 or not text[:begin].rpartition("\n")[2].strip()):
            yield end + len(ends)


def answer(text: str, ended: bool = True) -> str:
    """Return the part of a text after its leading thoughts.

    Args:
        text: the text.
        ended: whether the text is complete. If not, the result is empty while the text could still become a begin mark.
    """
    while True:
        rest = text.lstrip()
        ends = next((ends for begins, ends in MARKS if rest.startswith(begins)), None)
        if ends is None:
            incomplete = not ended and any(begins.startswith(rest) for begins, _ in MARKS)
            return "" if incomplete else text
        _, closed, remainder = rest.partition(ends)
        if not closed:
            return ""
        text = remainder.lstrip()


def closed(text: str, tail: str) -> str:
    """Close the thought that a template opens at the end of a prompt, so that the model continues with the answer.

    Args:
        text: the rendered prompt.
        tail: the part of the prompt after the last message.
    """
    for begins, ends in MARKS:
        if tail.rfind(begins) > tail.rfind(ends):
            return f"{text.rstrip()}\n\n{ends}\n\n"
    return text


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode an answer's tokens without control tokens, except for those that begin and end thoughts."""
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

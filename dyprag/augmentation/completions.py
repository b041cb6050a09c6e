"""Read chat completions in the variants that servers send."""

from typing import Any

from openai.types.chat import ChatCompletion

from dyprag.model.thinking import AT_ONCE

DECLINED = "declined"  # our finish reason for an answer in which the model declines


def said_by(message: Any, finish: str) -> tuple[str, bool]:
    """The text of a message, and whether it is a refusal to answer.

    If there is no text, an answer in the reasoning field is used: some servers put the whole output there even if the
    model did not think.
    """
    content = getattr(message, "content", None)
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    refusal = getattr(message, "refusal", None)
    text = content if isinstance(content, str) else ""
    declines = not text.strip() and isinstance(refusal, str) and bool(refusal.strip())
    if declines:
        text = str(refusal)
    elif not text.strip() and finish != "length":
        thoughts = [getattr(message, name, None) for name in ("reasoning_content", "reasoning")]
        answers = (thought for thought in thoughts if isinstance(thought, str) and thought.lstrip().startswith(AT_ONCE))
        text = next(answers, text)
    return text.encode("utf-8", "replace").decode(), declines


def usage_of(answer: ChatCompletion) -> tuple[int, int] | None:
    """The tokens (in, out) of a completion; None if the server does not report both."""
    usage = getattr(answer, "usage", None)
    tokens = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    return (tokens[0], tokens[1]) if isinstance(tokens[0], int) and isinstance(tokens[1], int) else None

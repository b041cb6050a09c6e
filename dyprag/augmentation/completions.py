"""Read chat completions in the variants that servers send."""

import re
from typing import Any

from openai.types.chat import ChatCompletion

from dyprag.corpora.text.forms import encodable
from dyprag.model.thinking import AT_ONCE

# Control tokens that some servers leave at the end of an answer.
_CONTROL = re.compile(r"(?:\s*(?:</s>|<\|im_end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end\|>|<end_of_turn>))+\s*$")
DECLINED = "declined"  # our finish reason for an answer in which the model declines
# Other servers' words for OpenAI's finish reasons.
_FINISHES = {
    "max_tokens": "length", "model_length": "length", "max_output_tokens": "length", "safety": "content_filter",
    "recitation": "content_filter", "blocklist": "content_filter", "prohibited_content": "content_filter",
    "refusal": "content_filter",
}  # fmt: skip


def finish_of(choice: Any) -> str:
    """Why an answer ended, in OpenAI's words; empty if the server does not say."""
    finish = str(getattr(choice, "finish_reason", None) or "")
    return _FINISHES.get(finish.lower(), finish)


def said_by(message: Any, finish: str) -> tuple[str, bool]:
    """The text of a message, and whether it is a refusal to answer.

    If there is no text, an answer in the reasoning field is used: some servers put the whole output there even if the
    model did not think.
    """
    content = getattr(message, "content", None)
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(part if isinstance(part, str) else _text_of(part) for part in content)
    refusal = getattr(message, "refusal", None)
    text = content if isinstance(content, str) else ""
    declines = not text.strip() and isinstance(refusal, str) and bool(refusal.strip())
    if declines:
        text = str(refusal)
    elif not text.strip() and finish != "length":
        thoughts = [getattr(message, name, None) for name in ("reasoning_content", "reasoning")]
        answers = (thought for thought in thoughts if isinstance(thought, str) and thought.lstrip().startswith(AT_ONCE))
        text = next(answers, text)
    return encodable(_CONTROL.sub("", text)), declines


def _text_of(part: Any) -> str:
    """The text of a part of a message; empty for thoughts."""
    thinks = not isinstance(part, dict) or part.get("type") in ("reasoning", "thinking")
    return "" if thinks else str(part.get("text") or "")


def usage_of(answer: ChatCompletion) -> tuple[int, int] | None:
    """The tokens (in, out) of a completion; None if the server does not report both, or reports none."""
    usage = getattr(answer, "usage", None)
    tokens = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    counted = all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in tokens)
    return tokens if counted else None  # type: ignore[return-value]

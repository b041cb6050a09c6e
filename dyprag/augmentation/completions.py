"""What a chat completion says, in the forms that servers give it."""

from typing import Any

from openai.types.chat import ChatCompletion

from dyprag.model.thinking import AT_ONCE

DECLINED = "declined"  # how an answer is said to have finished in which the model says why it gives none


def said_by(message: Any, finish: str) -> tuple[str, bool]:
    """What a message says, and whether that is why it declines to answer.

    Where it says nothing, an answer that stands among the thoughts is taken: some servers take all for a thought that
    a model writes, though it has not thought.
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
        text = next((one for one in thoughts if isinstance(one, str) and one.lstrip().startswith(AT_ONCE)), text)
    return text.encode("utf-8", "replace").decode(), declines


def usage_of(answer: ChatCompletion) -> tuple[int, int] | None:
    """Tokens in and out, where the server tells both."""
    used = getattr(answer, "usage", None)
    found = getattr(used, "prompt_tokens", None), getattr(used, "completion_tokens", None)
    return (found[0], found[1]) if isinstance(found[0], int) and isinstance(found[1], int) else None

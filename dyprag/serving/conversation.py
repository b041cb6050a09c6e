"""A request's messages as what a model is asked: turns that alternate, whatever roles the client has sent.

No tool can be called here, but a conversation may have called some elsewhere: their results are read as part of the
user's turn that they belong to, and an assistant's turn that did nothing but call them is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.serving.refusals import RefusedError
from dyprag.serving.schema import Message


@dataclass(frozen=True)
class Conversation:
    """What the model is told before all else, the (user, assistant) turns so far, the last turn, and what passages are
    searched for: the user's last message, without the tools' results behind it."""

    system: str
    history: list[tuple[str, str]]
    question: str
    searched: str


def conversation(messages: Sequence[Message]) -> Conversation:
    """Put messages in order; several of one side in a row are one turn.

    Raises:
        RefusedError: the last turn is the assistant's, or is empty.
    """
    system: list[str] = []
    turns: list[tuple[str, list[str]]] = []
    calls: dict[str, str] = {}
    searched = ""
    for message in messages:
        if message.role in ("system", "developer"):
            system.append(message.text)
            continue
        calls |= message.calls
        if message.role == "assistant" and message.only_calls:
            continue
        side, text = "user", message.text
        if message.role == "assistant":
            side = "assistant"
        elif message.role == "user":
            searched = text
        else:
            text = _result(message, calls)
        if turns and turns[-1][0] == side:
            turns[-1][1].append(text)
        else:
            turns.append((side, [text]))
    if not turns:
        raise RefusedError(400, "messages: none is a user's. Ask a question.", param="messages")
    if turns[-1][0] == "assistant":
        reason = "users and assistants take turns, and the last turn has to be a user's (or a tool's result)"
        raise RefusedError(400, f"messages: {reason}.", param="messages")
    texts = ["\n\n".join(part for part in parts if part.strip()) or parts[0] for _, parts in turns]
    if not texts[-1].strip():
        raise RefusedError(400, "messages: the last one is empty. Ask a question.", param="messages")
    if turns[0][0] == "assistant":  # a greeting
        texts.insert(0, "")
    history = list(zip(texts[:-1:2], texts[1:-1:2], strict=True))
    return Conversation("\n".join(system), history, texts[-1], searched if searched.strip() else texts[-1])


def _result(message: Message, calls: dict[str, str]) -> str:
    call = calls.get(message.tool_call_id) or message.name or "a tool"
    return f"Result of {call}:\n{message.text}"

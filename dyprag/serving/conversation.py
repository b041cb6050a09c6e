"""Turn a request's messages into alternating turns of user and assistant.

The server calls no tools, but a conversation may contain calls made elsewhere. Their results become part of the user's
turn, and assistant messages that only call tools are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.serving.refusals import RefusedError
from dyprag.serving.schema import Message


@dataclass(frozen=True)
class Conversation:
    """A conversation with the question to answer."""

    system: str
    history: list[tuple[str, str]]  # (user, assistant) turns so far
    question: str  # the last turn
    searched: str  # the query for retrieval: the user's last message without the results of tools


def conversation(messages: Sequence[Message]) -> Conversation:
    """Group messages into turns; successive messages of one side form one turn.

    Raises:
        RefusedError: there is no user message, or the last turn is the assistant's or empty.
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
        raise RefusedError(400, "messages: there is no user message. Add one.", param="messages")
    if turns[-1][0] == "assistant":
        reason = "the last message must be from the user (or a tool's result)"
        raise RefusedError(400, f"messages: {reason}.", param="messages")
    texts = ["\n\n".join(part for part in parts if part.strip()) or parts[0] for _, parts in turns]
    if not texts[-1].strip():
        raise RefusedError(400, "messages: the last message is empty. Ask a question.", param="messages")
    if turns[0][0] == "assistant":  # a greeting
        texts.insert(0, "")
    history = list(zip(texts[:-1:2], texts[1:-1:2], strict=True))
    return Conversation("\n".join(system), history, texts[-1], searched if searched.strip() else texts[-1])


def _result(message: Message, calls: dict[str, str]) -> str:
    call = calls.get(message.tool_call_id) or message.name or "a tool"
    return f"Result of {call}:\n{message.text}"

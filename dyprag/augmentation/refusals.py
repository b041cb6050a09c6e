"""What an endpoint means by refusing a request: a context that is too small for it, or something that can be left out.

Servers share the form of an error but not its words, and seldom its code. The phrases here are those of OpenAI, vLLM,
llama.cpp, llama-cpp-python, TGI, SGLang, Ollama, Groq, Mistral and Anthropic.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import openai

from dyprag.augmentation.answers import BOUNDS, ITEMS, LENGTHS
from dyprag.augmentation.diagnosis import said
from dyprag.errors import DocumentError, DocumentTooLong

Kind = Literal["context", "answer", "schema", "parameter", "model", "other"]
PARAMETERS = ("max_tokens", "temperature", "seed")  # that a request can do without
_CONTEXT = re.compile(
    r"context (?:length|size|window)|context_length_exceeded|exceed_context|prompt is too long|input is too long|"
    r"reduce the length|longer than the model|tokens exceed|exceeds? (?:the )?(?:\w+ )?context|"
    r"exceeds? (?:the )?limit of [\d,]+ tokens|"
    r"`inputs`|max_model_len",
    re.I,
)
_LIMIT = re.compile(
    r"(?:context (?:length|size|window)|max_model_len|less than|at most|maximum (?:value )?(?:of|is)|<=|limit of|>)"
    r"[^\d]{0,24}?([\d,]{2,})",
    re.I,
)
_PROMPT = (
    re.compile(r"([\d,]+) (?:tokens )?(?:in|from) (?:the|your) (?:input )?(?:messages|prompt)", re.I),
    re.compile(r"([\d,]+) (?:input|prompt|`inputs`) tokens", re.I),
    re.compile(r"(?:resulted in|prompt contains|given:) ([\d,]+)", re.I),
    re.compile(r"(?:prompt is too long: |(?:request|input|prompt|tokens) \()([\d,]+)", re.I),
)
_ANSWER = re.compile(
    r"max_(?:completion_|new_|output_)?tokens[^.]{0,40}"
    r"(?:too (?:large|high)|greater than|exceed|at most|less than|must be)"
    r"|(?:too (?:large|high)|at most|maximum)[^.]{0,40}max_(?:completion_|new_|output_)?tokens|at most \d+ completion",
    re.I,
)
_UNKNOWN_MODEL = re.compile(
    r"(?:model|deployment)\b.{0,80}?(?:not found|not exist|is not available|not served|unknown)"
    r"|(?:unknown|invalid|no such) model",
    re.I | re.S,
)
_UNSUPPORTED = ("support", "unrecognized", "unknown", "unexpected", "not permitted", "not allowed", "extra", "invalid",
                "failed", "cannot", "could not", "unable")  # fmt: skip
_FORM = ("response_format", "json_object", "json_schema", "schema", "grammar", "structured", "guided", *sorted(BOUNDS))


@dataclass(frozen=True)
class Refusal:
    """What was refused.

    `names`: the parameters that the refusal is about, or, of a schema, its keywords, or response_format where it is
    refused as such. `limit` and `prompt`: tokens that the context holds, and that the prompt has, where that is told.
    """

    kind: Kind
    names: frozenset[str] = frozenset()
    limit: int | None = None
    prompt: int | None = None

    @property
    def room(self) -> int | None:
        """Tokens that an answer may have beside the prompt, where both numbers are told."""
        return None if self.limit is None or self.prompt is None else self.limit - self.prompt


class PromptTooLong(DocumentTooLong):
    """A request's messages leave no room for an answer in the endpoint's context: the request's fault, as long as it
    can say less, and else the document's."""

    def __init__(self, document_id: str, refusal: Refusal) -> None:
        exact = refusal.prompt and refusal.prompt != (refusal.limit or 0) + 1  # vLLM stops counting there
        tokens = f"{refusal.prompt:,} tokens" if exact else "too many tokens"
        context = f"of {refusal.limit:,}" if refusal.limit else "of its server"
        super().__init__(
            f"document {document_id!r}",
            f"with the instructions around it, it has {tokens}, which leaves no room for an answer in a context "
            f"{context}",
            "Split it (corpus.passage_tokens), or start the server with a larger context (vLLM: --max-model-len, "
            "llama.cpp: -c, Ollama: num_ctx).",
        )


class Unanswered(DocumentError):
    """The endpoint answered, and its model did not: it declines, a filter withholds what it said, or all that it may
    write went into thoughts."""


def read_refusal(message: str, param: str | None, code: str | None, body: Mapping[str, Any]) -> Refusal:
    """What a refusal says, in whatever words.

    Args:
        body: of the request that was refused.
    """
    message = re.sub(r"^Error code: \d+( - )?", "", message)
    text = f"{message} {param or ''} {code or ''}"
    lower = text.lower()
    limit, prompt = _limit(message), _prompt(message)
    if _ANSWER.search(text) and prompt is None and param != "input_tokens" and not code_of_context(code):
        return Refusal("answer", limit=limit)
    if _CONTEXT.search(text) or code_of_context(code):
        return Refusal("context", limit=limit, prompt=prompt)
    if _UNKNOWN_MODEL.search(message):
        return Refusal("model")
    named = param or code in ("unsupported_parameter", "unsupported_value")
    if not named and not any(words in lower for words in _UNSUPPORTED):
        return Refusal("other")
    if "response_format" in body and any(word in lower for word in _FORM):
        inside = frozenset(keyword for keyword in BOUNDS if keyword.lower() in lower)
        whole = not inside and not re.search(r"\b(?:schema|x?grammar|outlines)\b", lower)
        return Refusal("schema", frozenset({"response_format"}) if whole else inside)
    sent = {*PARAMETERS, *body.get("extra_body", {})}
    about = frozenset(name for name in sent if re.search(rf"\b{re.escape(name.lower())}\b", lower))
    return Refusal("parameter", about) if about else Refusal("other")


def refusal_of(error: openai.APIStatusError, body: Mapping[str, Any]) -> Refusal:
    """What the refusal of a request says."""
    found = read_refusal(said(error), error.param, str(error.code or ""), body)
    told = error.body if isinstance(error.body, dict) else {}
    limit, prompt = told.get("n_ctx"), told.get("n_prompt_tokens")  # llama.cpp's, beside the message
    if isinstance(limit, int) and isinstance(prompt, int):
        return Refusal("context", limit=limit, prompt=prompt)
    if found.kind == "other" and error.status_code == 413:
        return Refusal("context")
    return found


def refusal_in(told: Mapping[str, Any], body: Mapping[str, Any]) -> Refusal:
    """What the body of a refusal says, as a line of a batch's file has it."""
    inner = told.get("error", told)
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else {"message": inner}
    message, param, code = (str(error.get(name) or "") for name in ("message", "param", "code"))
    return read_refusal(message, param or None, code or None, body)


def bounds_to_leave_out(refusal: Refusal, left_out: frozenset[str]) -> frozenset[str]:
    """The next bounds of the schema to do without; none where no bound is left.

    First those that are named, then the lengths of texts, which fewer servers know, and then those of lists.
    """
    for family in (LENGTHS, ITEMS):
        if refusal.names & family and not family <= left_out:
            return family
    return next((family for family in (LENGTHS, ITEMS) if not family <= left_out), frozenset())


def code_of_context(code: str | None) -> bool:
    """Whether an error's code says that the context is too small."""
    return code in ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")


def _limit(message: str) -> int | None:
    found = _LIMIT.search(message)
    return _number(found[1]) if found else None


def _prompt(message: str) -> int | None:
    return next((_number(found[1]) for pattern in _PROMPT if (found := pattern.search(message))), None)


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)

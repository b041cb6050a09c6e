"""Interpret why an endpoint refuses a request: its context is too small, or a parameter is unsupported.

Servers share the structure of errors, but neither their wording nor usually their codes. The phrases here are those of
OpenAI, vLLM, llama.cpp, llama-cpp-python, TGI, SGLang, Ollama, Groq, Mistral, Anthropic, Gemini and xAI.
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
PARAMETERS = ("max_tokens", "temperature", "seed")  # optional parameters of a request
_CONTEXT = re.compile(
    r"context (?:length|size|window)|context_length_exceeded|exceed_context|prompt is too long|input is too long|"
    r"reduce the length|longer than the model|tokens exceed|exceeds? (?:the )?(?:\w+ )?context|"
    r"exceeds? (?:the )?limit of [\d,]+ tokens|"
    r"`inputs`|max_model_len|input token count|maximum prompt length",
    re.I,
)
_LIMIT = re.compile(
    r"(?:context (?:length|size|window)|max_model_len|tokens allowed|maximum prompt length|"
    r"less than|at most|maximum (?:value )?(?:of|is)|<=|limit of|>)"
    r"[^\d]{0,24}?([\d,]{2,})",
    re.I,
)
_PROMPT = (
    re.compile(r"([\d,]+) (?:tokens )?(?:in|from) (?:the|your) (?:input )?(?:messages|prompt)", re.I),
    re.compile(r"([\d,]+) (?:input|prompt|`inputs`) tokens", re.I),
    re.compile(r"(?:resulted in|(?:prompt|request) contains|given:|input token count \() ?([\d,]+)", re.I),
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
    """A refusal.

    Attributes:
        names: the refused parameters; for a schema, its refused keywords, or response_format if refused as a whole.
        limit: tokens of the context, if reported.
        prompt: tokens of the prompt, if reported.
    """

    kind: Kind
    names: frozenset[str] = frozenset()
    limit: int | None = None
    prompt: int | None = None

    @property
    def room(self) -> int | None:
        """The tokens left for an answer; None if not reported."""
        return None if self.limit is None or self.prompt is None else self.limit - self.prompt


class PromptTooLong(DocumentTooLong):
    """The messages leave no room for an answer in the endpoint's context. The document is at fault only if the request
    cannot be shortened."""

    def __init__(self, document_id: str, refusal: Refusal) -> None:
        exact = refusal.prompt and refusal.prompt != (refusal.limit or 0) + 1  # vLLM stops counting there
        tokens = f"{refusal.prompt:,} tokens" if exact else "too many tokens"
        context = f"of {refusal.limit:,}" if refusal.limit else "of its server"
        super().__init__(
            f"document {document_id!r}",
            f"with the instructions it has {tokens}, which leaves no room for an answer in a context {context}",
            "Split it (corpus.passage_tokens), or start the server with a larger context (vLLM: --max-model-len, "
            "llama.cpp: -c, Ollama: num_ctx).",
        )


class Unanswered(DocumentError):
    """The model gave no answer: it declined, a content filter blocked it, or its thoughts used all tokens."""


def read_refusal(message: str, param: str | None, code: str | None, body: Mapping[str, Any]) -> Refusal:
    """Interpret the message of a refusal.

    Args:
        body: the body of the refused request.
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
    """Interpret the error of a refused request."""
    refusal = read_refusal(said(error), error.param, str(error.code or ""), body)
    details = error.body if isinstance(error.body, dict) else {}
    limit, prompt = details.get("n_ctx"), details.get("n_prompt_tokens")  # llama.cpp
    if isinstance(limit, int) and isinstance(prompt, int):
        return Refusal("context", limit=limit, prompt=prompt)
    if refusal.kind == "other" and error.status_code == 413:
        return Refusal("context")
    return refusal


def refusal_in(refused: Mapping[str, Any], body: Mapping[str, Any]) -> Refusal:
    """Interpret the body of a refusal, as in a batch's file."""
    inner = refused.get("error", refused)
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else {"message": inner}
    message, param, code = (str(error.get(name) or "") for name in ("message", "param", "code"))
    return read_refusal(message, param or None, code or None, body)


def bounds_to_leave_out(refusal: Refusal, left_out: frozenset[str]) -> frozenset[str]:
    """The bounds of the schema to leave out next; empty if none is left.

    The order is: the named ones, then the lengths of texts, which fewer servers support, then those of lists.
    """
    for family in (LENGTHS, ITEMS):
        if refusal.names & family and not family <= left_out:
            return family
    return next((family for family in (LENGTHS, ITEMS) if not family <= left_out), frozenset())


def code_of_context(code: str | None) -> bool:
    """Whether an error's code says that the context is too small."""
    return code in ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")


def _limit(message: str) -> int | None:
    match = _LIMIT.search(message)
    return _number(match[1]) if match else None


def _prompt(message: str) -> int | None:
    return next((_number(match[1]) for pattern in _PROMPT if (match := pattern.search(message))), None)


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)

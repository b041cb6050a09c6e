"""Request fields of OpenAI-compatible servers that this server does not support.

Fields that do not change the answer (`user`, `metadata`, `store`) are ignored. Fields that a client relies on are
refused, so that it does not take prose for the JSON it asked for, or one answer for three.
"""

from typing import Any

from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.schema import ChatRequest

TEXT_ONLY = "this server does not support structured output"
NO_TOOLS = "this server does not support tools"
NO_LOGPROBS = "this server does not return probabilities"
FORMS = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "structural_tag", "grammar",
    "json_schema", "regex", "ebnf", "format",
)  # fmt: skip

# field: (accepted values that have no effect, why others are refused)
FIELDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "response_format": (("text", {}), TEXT_ONLY),
    **{name: (({}, "", [], "text"), TEXT_ONLY) for name in FORMS},
    "tool_choice": (("auto", "none"), NO_TOOLS),
    "function_call": (("auto", "none"), NO_TOOLS),
    "logprobs": ((False, 0), NO_LOGPROBS),
    "top_logprobs": ((0,), NO_LOGPROBS),
    "prompt_logprobs": ((0, False), NO_LOGPROBS),
    "best_of": ((1,), "this server generates a single answer"),
    "use_beam_search": ((False,), "this server does not support beam search"),
    "modalities": ((["text"], []), "this server returns text only"),
    "audio": ((), "this server returns text only"),
    "echo": ((False,), "this server does not repeat the prompt"),
    "suffix": (("",), "this server does not fill in text"),
    "min_tokens": ((0,), "this server has no minimum length"),
    "stop_token_ids": (([],), "use stop with texts instead of token ids"),
    "bad_words": (([],), "this server does not exclude words"),
    "allowed_token_ids": (([],), "use logit_bias to exclude tokens"),
    "ignore_eos": ((False,), "this server always stops at the end token"),
    "continue_final_message": ((False,), "this server does not continue messages"),
}


def refuse_unsupported(body: ChatRequest) -> None:
    """Refuse a request with an unsupported field.

    Raises:
        RefusedError: the request has such a field.
    """
    for name, value in (body.model_extra or {}).items():
        if name in FIELDS and value is not None:
            accepted, reason = FIELDS[name]
            requested = value.get("type") if isinstance(value, dict) and value.get("type") else value
            if not any(requested == harmless for harmless in accepted):
                raise RefusedError(400, f"{name} is {shown(value)}: {reason}. Leave it out.", param=name)

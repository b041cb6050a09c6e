"""What clients of OpenAI-like servers ask for and this one does not do.

A field that only gives advice (`user`, `metadata`, `store`) is passed over. One that the client's program relies on is
refused: prose where it expects JSON, or one answer of three, would be taken for what was asked for.
"""

from typing import Any

from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.schema import ChatRequest

TEXT_ONLY = "this server writes text without a form that could be relied on"
NO_TOOLS = "tools are not supported here: no function can be called"
NO_LOGPROBS = "this server does not tell probabilities"
FORMS = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "structural_tag", "grammar",
    "json_schema", "regex", "ebnf", "format",
)  # fmt: skip

# field: (values that ask for nothing, why others are refused)
FIELDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "response_format": (("text", {}), TEXT_ONLY),
    **{name: (({}, "", [], "text"), TEXT_ONLY) for name in FORMS},
    "tool_choice": (("auto", "none"), NO_TOOLS),
    "function_call": (("auto", "none"), NO_TOOLS),
    "logprobs": ((False, 0), NO_LOGPROBS),
    "top_logprobs": ((0,), NO_LOGPROBS),
    "prompt_logprobs": ((0, False), NO_LOGPROBS),
    "best_of": ((1,), "this server writes one answer"),
    "use_beam_search": ((False,), "this server writes one answer, token by token"),
    "modalities": ((["text"], []), "this server writes text only"),
    "audio": ((), "this server writes text only"),
    "echo": ((False,), "the prompt is not repeated"),
    "suffix": (("",), "text cannot be filled in"),
    "min_tokens": ((0,), "an answer ends where the model ends it"),
    "stop_token_ids": (([],), "an answer ends at texts (stop), not at tokens' ids"),
    "bad_words": (([],), "no word is ruled out"),
    "allowed_token_ids": (([],), "no token is ruled out but by logit_bias"),
    "ignore_eos": ((False,), "an answer ends where the model ends it"),
    "continue_final_message": ((False,), "an answer begins anew"),
}


def refuse_unsupported(body: ChatRequest) -> None:
    """Refuse a request that asks for what is not done here.

    Raises:
        RefusedError: it does.
    """
    for name, value in (body.model_extra or {}).items():
        if name in FIELDS and value is not None:
            nothing, reason = FIELDS[name]
            asked = value.get("type") if isinstance(value, dict) and value.get("type") else value
            if not any(asked == one for one in nothing):
                raise RefusedError(400, f"{name} is {shown(value)}: {reason}. Leave it out.", param=name)

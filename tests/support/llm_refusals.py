"""How the tests' LLM service refuses a request, in the words of the servers that people run."""

import json
from typing import Any

Json = dict[str, Any]
WORDS = ("vllm", "openai", "llama.cpp", "llama-cpp-python", "tgi")
SERVED = ["m", "another-model"]


def error_body(message: str, kind: str = "invalid_request_error", param: str | None = None, code: str = "") -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code or None}}


def too_long(words: str, limit: int, prompt: int, asked: int) -> Json | None:
    """The refusal of a prompt, or of a prompt and an answer of so many tokens; None where they fit the context."""
    if prompt + asked <= limit or (words.startswith("llama") and prompt < limit):  # those two end the answer earlier
        return None
    if words == "vllm" and prompt >= limit:
        message = (
            f"This model's maximum context length is {limit} tokens. However, your prompt contains at least "
            f"{limit + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
            f"length of the input prompt. (parameter=input_tokens, value={limit + 1})"
        )
        return {"error": {"message": message, "type": "BadRequestError", "param": "input_tokens", "code": 400}}
    if words == "vllm":
        message = (
            f"'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length is "
            f"{limit} tokens and your request has {prompt} input tokens ({asked} > {limit} - {prompt})."
        )
        return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}
    if words == "openai":
        message = (
            f"This model's maximum context length is {limit} tokens. However, you requested {prompt + asked} tokens "
            f"({prompt} in the messages, {asked} in the completion). Please reduce the length of the messages or "
            "completion."
        )
        return error_body(message, param="messages", code="context_length_exceeded")
    if words == "llama.cpp":
        message = f"request ({prompt} tokens) exceeds the available context size ({limit} tokens), try increasing it"
        return {"error": {"code": 400, "message": message, "type": "exceed_context_size_error",
                          "n_prompt_tokens": prompt, "n_ctx": limit}}  # fmt: skip
    if words == "tgi":
        message = (
            f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {prompt} `inputs` "
            f"tokens and {asked} `max_new_tokens`"
        )
        return {"error": message, "error_type": "validation"}
    return error_body(f"Requested tokens ({prompt}) exceed context window of {limit}")


def too_much_asked(most: int, asked: int) -> Json:
    message = (
        f"max_tokens is too large: {asked}. This model supports at most {most} completion tokens, whereas you provided "
        f"{asked}."
    )
    return error_body(message, param="max_tokens", code="invalid_value")


def bad_keyword(keyword: str) -> Json:
    """As OpenAI and Groq have it."""
    message = (
        f"Invalid schema for response_format: In context=('properties', 'qa_pairs'), '{keyword}' is not permitted."
    )
    return error_body(message, param="response_format")


GRAMMAR = {
    "error": {"code": 400, "message": "Failed to initialize samplers: failed to parse grammar", "type": "server"}
}


def unknown_model(name: str) -> Json:
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(SERVED)}."
    return {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}


def keywords(body: Json) -> set[str]:
    """The bounds in the schema of a request."""
    text = json.dumps(body.get("response_format") or {})
    return {word for word in ("minItems", "maxItems", "minLength", "maxLength") if f'"{word}"' in text}

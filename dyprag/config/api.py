"""Settings of an LLM behind an OpenAI-compatible endpoint, used to augment documents or judge answers."""

from typing import Any, Literal

from pydantic import model_validator

from dyprag.config.base import Section, basic, expert


class Price(Section):
    """Token prices of a model, in any currency."""

    input: float = expert(..., "Price of a million input tokens.", ge=0)
    output: float = expert(..., "Price of a million output tokens.", ge=0)


class ApiSettings(Section):
    """An OpenAI-compatible endpoint: OpenAI, vLLM, Ollama, llama.cpp, Together and others."""

    model: str = basic("", "Name of the model at the endpoint.")
    base_url: str | None = basic(
        None,
        "URL of the endpoint, such as http://localhost:8000/v1. Empty: OPENAI_BASE_URL, or else OpenAI's own.",
    )
    key_env: str = expert("OPENAI_API_KEY", "Environment variable that contains the API key.")
    key_block: str | None = basic(
        None, "Prefect Secret block that contains the API key. Empty: the environment variable is used."
    )
    extra_body: dict[str, Any] = expert({}, "Further fields of every request, such as {top_k: 50} for vLLM.")
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = expert(
        "auto", "How the answer's format is requested. auto: the strictest format that the endpoint accepts."
    )
    send_seed: bool = expert(
        False,
        "Send a seed with each request. Not every endpoint accepts one. Received answers are stored in any case.",
    )
    concurrency: int = expert(32, "Maximum number of requests in flight.", ge=1)
    requests_per_minute: float | None = expert(None, "The endpoint's limit of requests per minute. Empty: none.", gt=0)
    tokens_per_minute: float | None = expert(
        None, "The endpoint's limit of tokens per minute, input and output together. Empty: none.", gt=0
    )
    workers: int = expert(
        1, "Number of processes that share the limits and the budget; each takes an equal part.", ge=1
    )
    timeout: float = expert(120.0, "Seconds to wait for the answer to a request.", gt=0)
    retries: int = expert(
        8, "Number of times a request is sent again after 429, 5xx, a timeout or a lost connection.", ge=0
    )
    give_up_after: float = expert(
        600.0,
        "Seconds that the endpoint may be unreachable before the stage stops. The remaining documents wait.",
        gt=0,
    )
    max_tokens: int | None = expert(
        None,
        "Budget of tokens, input and output together, over all runs on this store. When it is exhausted the stage "
        "stops and the remaining documents wait; raise it and run again. Empty: none.",
        ge=1,
    )
    max_cost: float | None = expert(None, "Budget as a sum of money; it needs the model's price. Empty: none.", gt=0)
    prices: dict[str, Price] = expert({}, "Prices by model name, such as {gpt-4o-mini: {input: 0.15, output: 0.6}}.")
    batch: bool = expert(
        False,
        "Use the endpoint's Batch API: requests are submitted together, often at half the price, and answered "
        "within a day. Run the same command again to fetch the answers.",
    )
    batch_wait: float = expert(0.0, "Seconds to wait for a batch's answers before the run ends without them.", ge=0)

    @model_validator(mode="after")
    def _check_consistency(self) -> "ApiSettings":
        if self.max_cost is not None and self.model not in self.prices:
            raise ValueError(f"max_cost requires the price of {self.model!r} (set prices, too)")
        if self.base_url and "@" in self.base_url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("base_url contains a user name or password (use key_env or key_block for the key)")
        if reserved := sorted(
            {"max_tokens", "max_completion_tokens", "n", "stream", "model", "messages"} & {*self.extra_body}
        ):
            raise ValueError(
                f"extra_body contains {', '.join(reserved)} (these are set by other settings; remove them)"
            )
        return self

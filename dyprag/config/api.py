"""The settings of an LLM behind an OpenAI-compatible endpoint, which augments documents or judges answers."""

from typing import Any, Literal

from pydantic import model_validator

from dyprag.config.base import Section, basic, expert


class Price(Section):
    """What a model's tokens cost, in any one currency."""

    input: float = expert(..., "Price of a million tokens in.", ge=0)
    output: float = expert(..., "Price of a million tokens out.", ge=0)


class ApiSettings(Section):
    """An OpenAI-compatible endpoint that augments: OpenAI, vLLM, Ollama, llama.cpp, Together and others."""

    model: str = basic("", "The model's name at the endpoint.")
    base_url: str | None = basic(
        None,
        "The endpoint, such as http://localhost:8000/v1. Empty: OPENAI_BASE_URL, else OpenAI's own.",
    )
    key_env: str = expert("OPENAI_API_KEY", "Environment variable that holds the key.")
    key_block: str | None = basic(
        None, "A Prefect Secret block that holds the key. Empty: an environment variable holds it."
    )
    extra_body: dict[str, Any] = expert({}, "Further fields of every request, such as {top_k: 50} for vLLM.")
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = expert(
        "auto", "How the form of an answer is asked for. auto: the strictest that is not refused."
    )
    send_seed: bool = expert(
        False,
        "Send a seed with each request. Not every endpoint takes one; answers that came are kept anyway.",
    )
    concurrency: int = expert(32, "Most requests in flight.", ge=1)
    requests_per_minute: float | None = expert(None, "The endpoint's limit. Empty: none.", gt=0)
    tokens_per_minute: float | None = expert(None, "The endpoint's limit, in and out together. Empty: none.", gt=0)
    workers: int = expert(1, "Processes that share the limits and the budget: each takes its part of them.", ge=1)
    timeout: float = expert(120.0, "Seconds after which a request without an answer is over.", gt=0)
    retries: int = expert(8, "Times a request is sent again after 429, 5xx, a timeout or a lost connection.", ge=0)
    give_up_after: float = expert(
        600.0, "Seconds that an endpoint may be down before the stage stops; documents wait.", gt=0
    )
    max_tokens: int | None = expert(
        None,
        "Budget, in and out together, over all runs on this store. Where it is spent the stage stops "
        "and the other documents wait; raise it and run again to go on. Empty: none.",
        ge=1,
    )
    max_cost: float | None = expert(None, "The same as a sum of money; needs the price.", gt=0)
    prices: dict[str, Price] = expert(
        {}, "Prices by the model's name, such as {gpt-4o-mini: {input: 0.15, output: 0.6}}."
    )
    batch: bool = expert(
        False,
        "Use the endpoint's Batch API: requests are handed in together, often for half the price, and "
        "answered within a day. Run the same command again to fetch the answers.",
    )
    batch_wait: float = expert(0.0, "Seconds to stay and ask for a batch's answers before leaving it.", ge=0)

    @model_validator(mode="after")
    def _sound(self) -> "ApiSettings":
        if self.max_cost is not None and self.model not in self.prices:
            raise ValueError(f"max_cost needs the price of {self.model!r} (set prices, too)")
        if self.base_url and "@" in self.base_url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("base_url holds a user name or password (put the key into key_env or key_block)")
        if ours := sorted(
            {"max_tokens", "max_completion_tokens", "n", "stream", "model", "messages"} & {*self.extra_body}
        ):
            raise ValueError(f"extra_body holds {', '.join(ours)} (which other settings decide; leave it out)")
        return self

"""One OpenAI-compatible endpoint: requests go out as fast as its limits allow, and as often as its faults demand."""

import asyncio
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from dyprag.augmentation.limits import Breaker, Budget, Rate, cost
from dyprag.augmentation.products import Request, Response, Wanted
from dyprag.config import AugmentSettings
from dyprag.errors import DocumentError, Stopped

FORMATS = ("json_schema", "json_object", "text")  # strictest first
BYTES_PER_TOKEN = 4.0  # until answers have told
LONGEST_BACKOFF = 60.0
_UNSUPPORTED = ("support", "unrecognized", "unknown", "unexpected", "not permitted", "not allowed", "extra", "invalid")
SIGNS = 64  # of a chat template around the messages, in tokens at most


class Endpoint:
    """Sends requests to one endpoint. Everything happens on the event loop that it was made on.

    Args:
        key: of the endpoint; where it is empty, none is sent that means anything.
        spent: tokens, and money, that earlier runs on this store have spent.
    """

    def __init__(self, settings: AugmentSettings, key: str, spent: tuple[int, float]) -> None:
        self.settings, self.api = settings, settings.api
        self.client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=self.api.base_url, max_retries=0, timeout=self.api.timeout,
        )  # fmt: skip
        self.budget = Budget(self.api, spent)
        self._breaker = Breaker(self.api.give_up_after)
        self._requests = Rate(self.api.requests_per_minute, self.api.workers)
        self._tokens = Rate(self.api.tokens_per_minute, self.api.workers)
        self._slots = asyncio.Semaphore(max(1, self.api.concurrency // self.api.workers))
        self._format = FORMATS[0] if self.api.answer_format == "auto" else self.api.answer_format
        self._refused: set[str] = set()  # parameters that the endpoint does not take
        self._seen = [0, 0, 0, 0]  # answers, bytes in, tokens in, tokens out
        self._owed = 0  # tokens that answers took beyond what was expected
        self._stopped: Stopped | None = None

    async def complete(self, request: Request) -> Response:
        """Send a request until it is answered, with a chat completion of any content.

        Raises:
            DocumentError: the endpoint refuses this request, or fails at it again and again.
            Stopped: the budget is spent, the endpoint is down, or it refuses the key or the model.
        """
        retries, failures, began = 0, 0, time.monotonic()
        async with self.budget.set_aside(request.bytes + SIGNS, self.settings.max_new_tokens) as took:
            while True:
                body = self.body(request)
                try:
                    async with self._breaker.passed():
                        answer, seconds = await self._send(request, body)
                except Stopped as stop:
                    self._stopped = stop
                    raise
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if self._adapts(error, body):
                        continue
                    raise self._refusal(request, error) from None
                except (openai.APIError, _MalformedBody) as error:
                    fault = error
                    pause = self._pause(request, error, failures)
                else:
                    response = self.response(request, answer, seconds, retries)
                    took(response)
                    return response
                retries += 1
                limited = isinstance(fault, openai.RateLimitError)
                if limited and time.monotonic() - began > self.api.give_up_after:
                    raise self.stop(
                        f"it has refused a request for {self.api.give_up_after:.0f} seconds (429)",
                        "Lower augment.api.requests_per_minute or concurrency and run again.",
                    )
                failures += not limited and not self._breaker.open
                await asyncio.sleep(pause)

    def stop(self, reason: str, remedy: str) -> Stopped:
        """Nothing more is sent from now on; gives what every request is to raise."""
        self._stopped = Stopped(f"the endpoint {self.client.base_url}", reason, remedy)
        return self._stopped

    async def _send(self, request: Request, body: dict[str, Any]) -> tuple[ChatCompletion, float]:
        """The answer, and the seconds that the endpoint took for it."""
        expected = self.expected_tokens(request.bytes)
        async with self._slots:
            await self._requests.take()
            owed, self._owed = self._owed, 0
            await self._tokens.take(expected + owed)
            if self._stopped:  # while it waited for its turn
                raise self._stopped
            began = time.monotonic()
            try:
                answer = await self.client.chat.completions.create(**body)
                if not isinstance(answer, ChatCompletion) or not answer.choices:
                    raise ValueError("it is no chat completion")
            except openai.APIStatusError as error:
                self._breaker.faulted(request.key) if error.status_code >= 500 else self._breaker.answered()
                raise
            except openai.APIConnectionError:
                self._breaker.faulted(request.key)
                raise
            except ValueError as error:  # a body that is no JSON, or other JSON
                self._breaker.faulted(request.key)
                raise _MalformedBody(f"a malformed body: {error}") from None
            seconds = time.monotonic() - began
        self._breaker.answered()
        if used := _usage(answer):  # what was taken too little; too much shows in the next expectation
            self._owed += sum(used) - expected  # an answer never waits: the next request takes it too
        return answer, seconds

    def body(self, request: Request) -> dict[str, Any]:
        """The parameters of a chat completion, without those that the endpoint does not take."""
        body: dict[str, Any] = {
            "model": self.api.model, "messages": list(request.messages), "temperature": self.settings.temperature,
            "seed": request.seed, "max_tokens": self.settings.max_new_tokens,
        }  # fmt: skip
        if request.schema and self._format == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": request.schema}
        elif request.schema and self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = body["max_tokens"]
        body = {name: value for name, value in body.items() if name not in self._refused}
        return body | ({"extra_body": self.api.extra_body} if self.api.extra_body else {})

    def expected_tokens(self, prompt_bytes: int) -> int:
        """Tokens, in and out, that a request will likely take, by what those before it took."""
        answers, bytes_in, tokens_in, tokens_out = self._seen
        if not answers:
            return int(prompt_bytes / BYTES_PER_TOKEN) + self.settings.max_new_tokens // 2
        return int(prompt_bytes * tokens_in / max(1, bytes_in) + tokens_out / answers)

    def response(self, request: Request | Wanted, answer: ChatCompletion, seconds: float, retries: int) -> Response:
        """An answer with what it took; where the server does not tell the tokens, they are estimated."""
        choice = answer.choices[0] if answer.choices else None
        content = getattr(getattr(choice, "message", None), "content", None)
        if isinstance(content, list):  # parts, as some servers send them
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        text = content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""
        finish = str(getattr(choice, "finish_reason", None) or "")
        tokens_in, tokens_out = _usage(answer) or (
            int(request.bytes / BYTES_PER_TOKEN), int(len(text.encode()) / BYTES_PER_TOKEN)
        )  # fmt: skip
        for place, amount in enumerate((1, request.bytes, tokens_in, tokens_out)):
            self._seen[place] += amount
        price = cost(self.api.prices.get(self.api.model), tokens_in, tokens_out)
        return Response(
            request.key, request.product_key, request.document_id, request.label, text, finish, self.api.model,
            tokens_in, tokens_out, request.bytes, seconds, retries, price, time.time(),
        )  # fmt: skip

    def _pause(self, request: Request, error: Exception, failures: int) -> float:
        """Seconds to wait before a request is sent again.

        Raises:
            Stopped, DocumentError: it is not worth sending again.
        """
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        told = _retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
        where = f"the endpoint {self.client.base_url}"
        stop = None
        if status in (401, 403):
            stop = Stopped(where, f"it refuses the key ({status})", f"Set {self.api.key_env} or augment.api.key_block.")
        elif status == 402:
            stop = Stopped(where, "the account's balance is spent (402)", "Raise it there and run again.")
        elif status == 404:
            reason = f"it knows no model {self.api.model!r}, or no chat completions (404)"
            stop = Stopped(where, reason, "Mend augment.api.model or augment.api.base_url.")
        elif status == 429 and getattr(error, "code", None) == "insufficient_quota":
            stop = Stopped(where, "the account's quota is spent", "Raise it there and run again.")
        elif told is not None and told > self.api.give_up_after:
            stop = Stopped(where, f"it asks to come again in {told:.0f} seconds", "Run again then.")
        if stop:
            self._stopped = stop
            raise stop from None
        if status is not None and status < 500 and status not in (408, 409, 425, 429):
            raise self._refusal(request, error) from None
        if failures >= self.api.retries and not self._breaker.open and status != 429:
            reason = f"the endpoint failed {failures + 1} times at its {request.label!r} ({_short(error)})"
            raise DocumentError(f"document {request.document_id!r}", reason, "Run again: what was answered is kept.")
        backoff = random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, 0.5 * 2**failures)
        return backoff if told is None else told + random.uniform(0, 0.1)

    def _adapts(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> bool:
        """Whether a request was refused for a parameter that it can do without, which is left out from now on."""
        message = f"{error.message} {error.param or ''}".lower()
        if "context" in message or "too long" in message:  # that is the document's fault
            return False
        named = error.param or error.code in ("unsupported_parameter", "unsupported_value")
        if not named and not any(words in message for words in _UNSUPPORTED):
            return False
        form = body.get("response_format", {}).get("type")
        about_form = any(word in message for word in ("response_format", "json_object", "schema", "grammar"))
        if self.api.answer_format == "auto" and form and about_form:
            if form == self._format:  # no other request has found it out
                self._format = FORMATS[FORMATS.index(form) + 1]
            return True
        for name in ("max_tokens", "temperature", "seed"):
            if name in message and name in body:
                self._refused.add(name)
                return True
        return False

    def _refusal(self, request: Request, error: Exception) -> DocumentError:
        return DocumentError(
            f"document {request.document_id!r}", f"the endpoint refuses it ({_short(error)})",
            "Split the document if it is too long for the model, or leave it out.",
        )  # fmt: skip


class _MalformedBody(Exception):
    """An answer with status 200 that is no chat completion."""


def _usage(answer: ChatCompletion) -> tuple[int, int] | None:
    """Tokens in and out, where the server tells both."""
    used = getattr(answer, "usage", None)
    found = getattr(used, "prompt_tokens", None), getattr(used, "completion_tokens", None)
    return (found[0], found[1]) if isinstance(found[0], int) and isinstance(found[1], int) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None


def _short(error: Exception) -> str:
    """The error in one line."""
    return " ".join(str(error).split())[:200]

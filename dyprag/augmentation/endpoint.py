"""One OpenAI-compatible endpoint: send requests as fast as its limits allow, and retry them as needed."""

import asyncio
import json
import math
import os
import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from dyprag.augmentation.answers import BOUNDS, without
from dyprag.augmentation.completions import DECLINED, finish_of, said_by, usage_of
from dyprag.augmentation.diagnosis import (
    MalformedBody,
    base_address,
    described,
    hopeless,
    never_connected,
    one_line,
    strange,
    unknown_model,
    unreachable,
)
from dyprag.augmentation.disguised import unmask
from dyprag.augmentation.limits import Breaker, Budget, Rate, Slots, cost
from dyprag.augmentation.refusals import (
    PARAMETERS,
    PromptTooLong,
    Refusal,
    bounds_to_leave_out,
    refusal_in,
    refusal_of,
)
from dyprag.augmentation.room import SIGNS, Room
from dyprag.config import AugmentSettings
from dyprag.corpora.products import Request, Response, Wanted
from dyprag.errors import DocumentError, Stopped
from dyprag.runtime.proxies import prepare_proxies, proxy_of

FORMATS = ("json_schema", "json_object", "text")  # strictest first
BYTES_PER_TOKEN = 4.0  # an estimate until there are answers
LONGEST_BACKOFF = 60.0
LONGEST_LIMITED = 8.0  # after a 429 without Retry-After: asking at once again may prolong the limit
LEAST_ROOM = 64  # minimum tokens of an answer in a context with little room
TOO_LARGE = re.compile("request too large|tokens must be reduced", re.IGNORECASE)
STRANGE = 3  # give up after this many answers that are not chat completions, if none was


class Endpoint:
    """Sends requests to one endpoint. It must be used on the event loop that it was created on.

    Args:
        key: the API key; empty: a placeholder is sent.
        spent: tokens and money that earlier runs spent on this store.
    """

    def __init__(self, settings: AugmentSettings, key: str, spent: tuple[int, float]) -> None:
        self.settings, self.api = settings, settings.api
        address = base_address(self.api.base_url or os.environ.get("OPENAI_BASE_URL"))
        prepare_proxies(address)
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [unmask]}, timeout=self.api.timeout)
        self.client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=address, max_retries=0, timeout=self.api.timeout, http_client=http
        )
        self._late = http.build_request("POST", str(self.client.base_url))  # named by the error of a timeout
        self.budget = Budget(self.api, spent)
        self._breaker = Breaker(self.api.give_up_after, name=f"the endpoint {self.client.base_url}")
        self._requests = Rate(self.api.requests_per_minute, self.api.workers)
        self._tokens = Rate(self.api.tokens_per_minute, self.api.workers)
        self._slots = Slots(max(1, self.api.concurrency // self.api.workers), self.api.timeout)
        self._format = FORMATS[0] if self.api.answer_format == "auto" else self.api.answer_format
        # A batch reports a refusal only after hours, so its schema uses only what all providers support.
        self._left_out = BOUNDS if self.api.batch else frozenset[str]()
        self._refused: set[str] = set() if self.api.send_seed else {"seed"}  # parameters to leave out
        self.room = Room(settings.max_new_tokens, self.budget)
        self._seen = [0, 0, 0, 0]  # answers, bytes in, tokens in, tokens out
        self._strange = 0  # answers that were not chat completions
        self._owed = 0  # tokens that answers used beyond the expected ones
        self._stopped: Stopped | None = None

    async def complete(self, request: Request) -> Response:
        """Send a request, with retries, until there is a chat completion.

        Raises:
            PromptTooLong: the messages do not fit the endpoint's context.
            DocumentError: the endpoint refuses this request, or repeatedly fails at it.
            Stopped: the budget is exhausted, the endpoint is down, or it rejects the API key or the model.
        """
        retries, failures, start, longest = 0, 0, time.monotonic(), self.room.tokens(request)
        async with self.budget.set_aside(request.bytes + SIGNS, longest) as record:
            while True:
                body = self.body(request, longest)
                try:
                    async with self._breaker.passed():
                        answer, seconds = await self._send(request, body)
                except Stopped as stop:
                    self._stopped = stop
                    raise
                except (openai.APIError, MalformedBody) as error:
                    if isinstance(error, openai.APIStatusError) and (room := await self._changed(request, error, body)):
                        longest = room
                        continue
                    tries = retries if isinstance(error, openai.RateLimitError) else failures
                    fault, pause = error, await self._pause(request, error, tries)
                else:
                    response = self.response(request, answer, seconds, retries)
                    record(response)
                    return response
                retries += 1
                limited = isinstance(fault, openai.RateLimitError)
                if limited and time.monotonic() - start > self.api.give_up_after:
                    raise self.stop(
                        f"it has refused a request for {self.api.give_up_after:.0f} seconds (429)",
                        "Lower augment.api.requests_per_minute or concurrency and run again.",
                    )
                failures += not (limited or self._breaker.open or never_connected(fault))
                await asyncio.sleep(pause)

    def stop(self, reason: str, remedy: str) -> Stopped:
        """Stop sending requests. Returns the error that every request raises from now on."""
        self._stopped = Stopped(f"the endpoint {self.client.base_url}", reason, remedy)
        return self._stopped

    async def _send(self, request: Request, body: dict[str, Any]) -> tuple[ChatCompletion, float]:
        """Send a request once. Returns the answer and the seconds that it took."""
        expected = self.expected_tokens(request.bytes)
        async with self._slots.one():
            await self._requests.take()
            owed, self._owed = self._owed, 0
            await self._tokens.take(expected + owed)
            if self._stopped:  # while this request was waiting
                raise self._stopped
            start = time.monotonic()
            try:
                answer = await self._created(body)
                if not isinstance(answer, ChatCompletion) or not isinstance(answer.choices, list) or not answer.choices:
                    raise ValueError(described(answer))
            except openai.APIStatusError as error:
                status = error.status_code
                self._breaker.faulted(request.key, f"HTTP {status}") if status >= 500 else self._breaker.answered()
                raise
            except openai.APIConnectionError as error:
                timeout = isinstance(error, openai.APITimeoutError)
                if timeout:
                    self._slots.timed_out(start)
                reason = f"no answer within {self.api.timeout:g} s" if timeout else one_line(error.__cause__ or error)
                if proxy := proxy_of(str(self.client.base_url)):
                    reason += f", through the proxy {proxy}"
                self._breaker.faulted(request.key, reason, never_connected(error))
                raise
            except ValueError as error:  # the body is not JSON, or other JSON
                self._breaker.faulted(request.key, "no chat completion")
                self._strange += 1
                raise MalformedBody(f"a malformed body: {error}") from None
            seconds = time.monotonic() - start
        self._breaker.answered()
        self._slots.answered()
        if used := usage_of(answer):
            self._owed += sum(used) - expected  # the next request takes the difference from the rate limit
        return answer, seconds

    async def _created(self, body: dict[str, Any]) -> Any:
        """Send a body. The timeout holds for the whole answer, not only for each of its parts as the client's does."""
        try:
            async with asyncio.timeout(self.api.timeout):
                return await self.client.chat.completions.create(**body)
        except TimeoutError as error:
            raise openai.APITimeoutError(self._late) from error

    def body(self, request: Request, longest: int | None = None) -> dict[str, Any]:
        """The parameters of a chat completion, without those that the endpoint refuses.

        Args:
            longest: maximum tokens of the answer; None: as configured, within the endpoint's limit.
        """
        body: dict[str, Any] = {
            "model": self.api.model, "messages": list(request.messages), "temperature": self.settings.temperature,
            "seed": request.seed, "max_tokens": longest or self.room.tokens(request),
        }  # fmt: skip
        if request.schema and self._format == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": without(request.schema, self._left_out)}
        elif request.schema and self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = body["max_tokens"]
        body = {name: value for name, value in body.items() if name not in self._refused}
        return body | ({"extra_body": self.api.extra_body} if self.api.extra_body else {})

    def expected_tokens(self, prompt_bytes: int) -> int:
        """The tokens, in and out, that a request will probably use, estimated from earlier requests."""
        answers, bytes_in, tokens_in, tokens_out = self._seen
        if not answers:
            return int(prompt_bytes / BYTES_PER_TOKEN) + self.settings.max_new_tokens // 2
        return int(prompt_bytes * tokens_in / max(1, bytes_in) + tokens_out / answers)

    def response(self, request: Request | Wanted, answer: ChatCompletion, seconds: float, retries: int) -> Response:
        """Convert a completion into a Response. Tokens are estimated if the server does not report them."""
        choice = answer.choices[0] if answer.choices else None
        finish = finish_of(choice)
        text, declines = said_by(getattr(choice, "message", None), finish)
        finish = DECLINED if declines else finish
        tokens_in, tokens_out = usage_of(answer) or (
            int(request.bytes / BYTES_PER_TOKEN), int(len(text.encode()) / BYTES_PER_TOKEN)
        )  # fmt: skip
        for index, amount in enumerate((1, request.bytes, tokens_in, tokens_out)):
            self._seen[index] += amount
        price = cost(self.api.prices.get(self.api.model), tokens_in, tokens_out)
        return Response(
            request.key, request.product_key, request.document_id, request.label, text, finish, self.api.model,
            tokens_in, tokens_out, request.bytes, seconds, retries, price, time.time(),
        )  # fmt: skip

    async def _pause(self, request: Request, error: Exception, failures: int) -> float:
        """The seconds to wait before a retry.

        Raises:
            Stopped, DocumentError: a retry would be pointless.
        """
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        retry_after = _retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
        stop = await hopeless(self.client, self.api, error, worked=bool(self._seen[0]))
        if stop is None and not self._seen[0]:  # the endpoint has never worked
            stop = (
                strange(self.client, one_line(error)) if self._strange >= STRANGE else unreachable(self.client, error)
            )
        if stop is None and retry_after is not None and retry_after > self.api.give_up_after:
            subject = f"the endpoint {self.client.base_url}"
            stop = Stopped(subject, f"it asks to retry in {retry_after:.0f} seconds", "Run again after that.")
        if stop:
            self._stopped = stop
            raise stop from None
        if status is not None and status < 500 and status not in (408, 409, 425, 429):
            raise self._refusal(request, error) from None
        if failures >= self.api.retries and not self._breaker.open and status != 429:
            reason = f"the endpoint failed {failures + 1} times at its request {request.label!r} ({one_line(error)})"
            raise DocumentError(
                f"document {request.document_id!r}", reason, "Run again: answers received so far are kept."
            )
        longest = LONGEST_LIMITED if status == 429 else LONGEST_BACKOFF
        backoff = random.uniform(0.5, 1.0) * min(longest, 0.5 * 2 ** min(failures, 10))
        return backoff if retry_after is None else retry_after + random.uniform(0, 0.1)

    async def _changed(self, request: Request, error: openai.APIStatusError, body: Mapping[str, Any]) -> int | None:
        """Adapt to a refusal, by fewer answer tokens or without the refused parameter.

        Returns:
            The maximum answer tokens of the next attempt; None if this was not a refusal.

        Raises:
            PromptTooLong: the context has no room for an answer.
            DocumentError, Stopped: the request is refused for another reason.
        """
        status = error.status_code
        too_large = status == 429 and TOO_LARGE.search(one_line(error))  # however long one waits
        if status not in (400, 413, 422) and status < 500 and not too_large:
            return None
        refusal, longest = refusal_of(error, body), body.get("max_tokens") or body.get("max_completion_tokens") or 0
        if refusal.kind == "answer" and longest > 1:
            self.room.longest = min(self.room.longest, _below(refusal.limit, longest))
            return self.room.longest
        if refusal.kind == "context" or too_large:
            room = _below(refusal.room, longest)
            if room < LEAST_ROOM:
                raise PromptTooLong(request.document_id, refusal) from None
            return room
        passing = status >= 500 and refusal.kind != "schema" and refusal.names != {"seed"}
        if not passing and self._adapts(refusal, body):
            return longest or self.room.tokens(request)
        if extra := sorted(refusal.names & {*self.api.extra_body}):
            raise self.stop(
                f"it refuses {', '.join(extra)} of augment.api.extra_body ({one_line(error)})", "Remove it."
            )
        if status >= 500:
            return None
        if refusal.kind == "schema":
            raise self.stop(f"it refuses the answer format ({one_line(error)})", "Set augment.api.answer_format=auto.")
        if refusal.kind == "model":
            self._stopped = await unknown_model(self.client, self.api, one_line(error), status)
            raise self._stopped from None
        return None

    def _adapts(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        """Whether a request was refused for something optional, which is left out from now on."""
        form = body.get("response_format", {})
        if refusal.kind == "schema" and form:
            bounds = BOUNDS & _keywords(form) if "response_format" not in refusal.names else frozenset()
            if bounds & self._left_out:  # another request has already adapted
                return True
            if left_out := bounds_to_leave_out(refusal, BOUNDS - bounds):
                self._left_out |= left_out
                return True
            if self.api.answer_format == "auto":
                if form["type"] == self._format:  # no other request has adapted yet
                    self._format = FORMATS[FORMATS.index(form["type"]) + 1]
                return True
        for name in PARAMETERS:
            if refusal.kind == "parameter" and name in refusal.names and name in body:
                self._refused.add(name)
                return True
        return False

    def relents(self, error: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
        """Adapt to the refusal of a line of a batch. Returns whether the line is worth sending again.

        Args:
            error: the body of the refusal.
            sent: the body of such a request before any line of the batch was read.
        """
        refusal = refusal_in(error, sent)
        if refusal.kind == "answer":
            longest = sent.get("max_tokens") or sent.get("max_completion_tokens") or 0
            self.room.longest = max(1, min(self.room.longest, _below(refusal.limit, longest)))
        return refusal.kind == "answer" or self._adapts(refusal, sent)

    def _refusal(self, request: Request, error: Exception) -> DocumentError:
        return DocumentError(
            f"document {request.document_id!r}", f"the endpoint refuses it ({one_line(error)})",
            "If it refuses other documents too, correct augment.api; otherwise remove the document.",
        )  # fmt: skip


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header, a number or a date; None without one, or if it names no time to come."""
    value = headers.get("retry-after") or ""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _below(limit: int | None, requested: int) -> int:
    """The limit if it is known and below the requested number, else half of that."""
    return limit if limit is not None and limit < requested else requested // 2


def _keywords(form: Any) -> set[str]:
    """The names of all fields of a JSON value, at any depth."""
    names: set[str] = set()
    json.loads(json.dumps(form), object_pairs_hook=lambda pairs: names.update(name for name, _ in pairs))
    return names

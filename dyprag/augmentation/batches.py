"""The Batch API: requests are submitted as files and answered within a day, with some providers at half the price.

The answers go into the same journal as direct ones, so products are written in the same way: requests without an answer
in the journal go into the next batch.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import openai
from openai._models import construct_type
from openai.types import Batch as Handle
from openai.types.chat import ChatCompletion

from dyprag.augmentation.answers import schema
from dyprag.augmentation.diagnosis import one_line
from dyprag.augmentation.disguised import status_in
from dyprag.augmentation.endpoint import Endpoint
from dyprag.augmentation.room import SIGNS
from dyprag.corpora.products import Journal, OpenBatch, Request, Response, Wanted
from dyprag.errors import Stopped, Waiting

logger = logging.getLogger("dyprag.augmentation")
MOST_REQUESTS, MOST_BYTES = 20_000, 90_000_000  # per file; providers accept 50,000 and 100 or 200 MB
ENDED = ("completed", "failed", "expired", "cancelled", "canceled")


@dataclass(frozen=True)
class Fetched:
    """The result of checking the open batches."""

    answers: int
    unanswered: int
    still_open: int


class Batches:
    """The requests of a process that wait for a batch, and the open batches of a store."""

    def __init__(self, endpoint: Endpoint, journal: Journal) -> None:
        self._endpoint, self._journal = endpoint, journal
        self._wanted: dict[str, Request] = {}
        self._keys: dict[str, set[str]] = {}  # the keys of the requests in each open batch
        self._failed: Stopped | None = None  # why this process submits no further batch

    def wanted(self, request: Request) -> Waiting:
        """Add a request to the next batch unless an open batch has it. Returns the error for its document to raise."""
        subject = f"document {request.document_id!r}"
        unanswered = self._journal.unanswered(request.key)
        before = f"; an earlier batch ended without answering it ({unanswered})" if unanswered else ""
        for batch in self._journal.open_batches():
            if request.key in self._keys.setdefault(batch.id, {wanted.key for wanted in batch.requests}):
                hours = (time.time() - batch.created) / 3600
                reason = f"its {request.label!r} is in batch {batch.id}, submitted {hours:.1f} hours ago{before}"
                return Waiting(subject, reason, "Run again later to fetch the answers.")
        self._wanted[request.key] = request
        if stop := self._failed:
            reason = f"its {request.label!r} is not submitted again now: {stop.subject}: {stop.reason}"
            return Waiting(subject, reason, stop.remedy)
        reason = f"its {request.label!r} goes into the next batch{before}"
        return Waiting(subject, reason, "Run again later to fetch the answer.")

    async def hand_in(self) -> list[OpenBatch]:
        """Submit the waiting requests as batches.

        Raises:
            Stopped: the budget does not allow all requests (those that it allows were submitted), or an earlier batch
                failed as a whole.
        """
        if self._failed and self._wanted:
            raise self._failed
        batches, allowed = [], self._within_budget(list(self._wanted.values()))
        rest = len(self._wanted) - len(allowed)
        while allowed:
            size = 0
            lines: list[tuple[Request, bytes]] = []
            while allowed and len(lines) < MOST_REQUESTS and size < MOST_BYTES:
                request = allowed.pop(0)
                lines.append((request, self._line(request)))
                size += len(lines[-1][1])
            batches.append(await self._hand_in(lines))
            for request, _ in lines:
                self._wanted.pop(request.key, None)
        self._wanted = {}
        if rest:
            raise Stopped(
                "the budget", f"{rest} requests were not submitted, because they might exceed the budget",
                "Raise the budget (augment.api.max_tokens, augment.api.max_cost) and run again to continue.",
            )  # fmt: skip
        return batches

    async def fetch(self) -> Fetched:
        """Check the open batches, and put the answers of finished ones into the journal.

        Unanswered requests (the batch expired, or the endpoint failed) go into a later batch.

        Raises:
            Stopped: the endpoint cannot be reached now, or a batch failed as a whole.
        """
        self._failed = None
        try:
            fetched = await self._fetch()
            if self._failed:
                raise self._failed
            return fetched
        except openai.APIError as error:
            raise self._refused("it does not return the state of its batches", error) from None

    async def _fetch(self) -> Fetched:
        answers = unanswered = still_open = 0
        for batch in self._journal.open_batches():
            try:
                handle = await self._endpoint.client.batches.retrieve(batch.id)
            except openai.NotFoundError:
                handle = None
            if handle is not None and _status(handle) not in ENDED:
                still_open += 1
                continue
            responses, reasons = await self._answers(handle, batch) if handle is not None else ([], Counter[str]())
            for response in responses:
                if self._journal.find(response.product_key, response.request) is None:
                    self._journal.add(response)
                    self._endpoint.budget.count(response)
            why = self._report(batch, handle, len(responses), reasons)
            self._journal.end_batch(batch.id, why)
            answers, unanswered = answers + len(responses), unanswered + len(batch.requests) - len(responses)
        return Fetched(answers, unanswered, still_open)

    def _report(self, batch: OpenBatch, handle: Handle | None, answers: int, reasons: Counter[str]) -> str:
        """Log why a batch left requests unanswered, and return the reason in short.

        If the batch failed as a whole, or answered nothing for one reason, the next batch would likely fail too, so
        none is submitted until the next run.
        """
        missing = len(batch.requests) - answers
        if not missing:
            return ""
        status = _status(handle) if handle is not None else "no longer known to the endpoint"
        errors = handle.errors.data or [] if handle and handle.errors else []
        messages = [error.message for error in errors if error.message]
        messages += [reason for reason, _ in reasons.most_common(1)]
        why = "; ".join(dict.fromkeys(" ".join(text.split())[:300].rstrip(".") for text in messages))
        logger.warning(
            "Batch %s is %s; %d of its %d requests were not answered%s.",
            batch.id, status, missing, len(batch.requests), f": {why}" if why else "",
        )  # fmt: skip
        if status == "failed" or (status == "completed" and not answers and why):
            self._failed = Stopped(
                f"batch {batch.id} of the endpoint {self._endpoint.client.base_url}",
                f"it failed ({why or 'the endpoint gives no reason'})",
                "Fix the cause and run again to submit its requests again. If too many tokens were submitted at once, "
                "lower corpus.max_documents, or wait until other batches have finished.",
            )
        return f"{batch.id} is {status}{f': {why}' if why else ''}"

    def _refused(self, reason: str, error: openai.APIError) -> Stopped:
        status = f"{error.status_code}" if isinstance(error, openai.APIStatusError) else type(error).__name__
        status += f": {one_line(error)}" if isinstance(error, openai.APIStatusError) else ""
        return Stopped(
            f"the endpoint {self._endpoint.client.base_url}", f"{reason} ({status})",
            "Try again later, or set augment.api.batch=false.",
        )  # fmt: skip

    def _within_budget(self, requests: list[Request]) -> list[Request]:
        """The first requests that the budget allows in addition to the open batches."""
        tokens_in = sum(wanted.bytes + SIGNS for batch in self._journal.open_batches() for wanted in batch.requests)
        tokens_out = sum(len(batch.requests) for batch in self._journal.open_batches())
        tokens_out *= self._endpoint.settings.max_new_tokens
        for count, request in enumerate(requests):
            tokens_in += request.bytes + SIGNS
            tokens_out += self._endpoint.room.tokens(request)
            if not self._endpoint.budget.allows(tokens_in, tokens_out):
                return requests[:count]
        return requests

    def _line(self, request: Request) -> bytes:
        body = self._endpoint.body(request)
        body |= body.pop("extra_body", {})
        line = {"custom_id": request.key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    async def _hand_in(self, lines: Sequence[tuple[Request, bytes]]) -> OpenBatch:
        client = self._endpoint.client
        try:
            file = await client.files.create(
                file=("requests.jsonl", b"".join(line for _, line in lines)), purpose="batch"
            )
            handle = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        except openai.APIError as error:
            raise self._refused("it does not accept a batch", error) from None
        wanted = tuple(Wanted(r.key, r.product_key, r.document_id, r.label, r.bytes) for r, _ in lines)
        batch = OpenBatch(handle.id, time.time(), wanted)
        self._journal.open_batch(batch)
        return batch

    async def _answers(self, handle: Handle, batch: OpenBatch) -> tuple[list[Response], Counter[str]]:
        """The answers in a batch's files, including refusals of single requests, and the reasons for missing ones."""
        wanted = {request.key: request for request in batch.requests}
        sent = self._endpoint.body(Request("", "", "", (), schema("rewrites", 1)))
        responses: list[Response] = []
        reasons: Counter[str] = Counter()
        for file in (handle.output_file_id, handle.error_file_id):
            if not file:
                continue
            try:
                content = await self._endpoint.client.files.content(file)
            except openai.NotFoundError:
                continue  # deleted; its requests go into a later batch
            for text in content.text.split("\n"):
                try:
                    line = json.loads(text)
                    request = wanted[line["custom_id"]]
                    response = self._read(request, line, sent)
                except (ValueError, KeyError, TypeError):
                    continue  # a malformed line answers nothing
                if isinstance(response, Response):
                    responses.append(response)
                elif response:
                    reasons[response] += 1
        return responses, reasons

    def _read(self, request: Wanted, line: Mapping[str, Any], sent: Mapping[str, Any]) -> Response | str:
        """The answer to one request, or, if it should be sent again, the reason.

        The reason is empty if the endpoint refused a parameter that is no longer sent.
        """
        reply = line.get("response") or {}
        status = reply.get("status_code")
        status = (status_in(reply["body"]) or 200) if status == 200 else status
        if status == 200:
            answer: Any = construct_type(type_=ChatCompletion, value=reply["body"])
            return self._endpoint.response(request, answer, 0.0, 0)
        if status in (400, 413, 422):
            error = reply.get("body")
            if isinstance(error, dict) and self._endpoint.relents(error, sent):
                return ""
            refusal = json.dumps(reply.get("body"), ensure_ascii=False)[:500]
            return Response(**{
                **asdict(self._endpoint.response(request, ChatCompletion.model_construct(choices=[]), 0.0, 0)),
                "text": refusal, "finish": "refused", "tokens_in": 0, "tokens_out": 0, "cost": 0.0,
            })  # fmt: skip
        return _reason(line, reply)


def _status(handle: Handle) -> str:
    """The status of a batch in lower case; some endpoints use upper case."""
    return str(handle.status).lower()


def _reason(line: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    """Why a line of a batch's file has no answer."""
    body = reply.get("body")
    inner = body.get("error", body) if isinstance(body, dict) else body
    error = line.get("error") or inner
    message = (error.get("message") or error.get("code")) if isinstance(error, dict) else error
    return str(message or f"HTTP {reply.get('status_code')}")

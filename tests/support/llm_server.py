"""An LLM service for tests: chat completions and the Batch API of OpenAI over real HTTP, good or misbehaving on demand.

Good answers are sound and depend on the messages alone. Over HTTP there are also `GET /stats`, `POST /behaviour` (the
fields to change), `POST /reset` (clears the record) and `POST /pause` ({"seconds": s}: nothing listens for that long).
"""

import argparse
import asyncio
import json
import math
import random
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from llm_answers import Asked, Json, completion, read_messages, serial
from llm_refusals import (
    GRAMMAR,
    SERVED,
    bad_keyword,
    error_body,
    keywords,
    too_long,
    too_much_asked,
    unknown_model,
)

SHARES = (
    "rate_limited server_error dropped cut_short hangs truncated_json wrong_schema not_json empty null_content "
    "invented web_page cut_item"
).split()
SILENT = {"dropped", "cut_short", "hangs"}  # no whole answer reaches the client
ALIASES = {"429": "rate_limited", "500": "server_error"}
CONTROL = {"/stats", "/behaviour", "/reset", "/pause"}
INJECTION = re.compile(r"ignore the above|ignore all previous", re.IGNORECASE)
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass
class Behaviour:
    """How the server answers. The shares are probabilities, drawn for each request in order of arrival."""

    latency: float = 0.0  # seconds before an answer; refusals (400, 401, 429) come at once
    rate_limited: float = 0.0
    server_error: float = 0.0
    dropped: float = 0.0  # closed without a response
    cut_short: float = 0.0  # headers and half of the body
    hangs: float = 0.0  # no answer until the client gives up
    truncated_json: float = 0.0
    wrong_schema: float = 0.0
    not_json: float = 0.0
    empty: float = 0.0
    null_content: float = 0.0
    invented: float = 0.0
    cut_item: float = 0.0  # ends within its first item, at the limit of its tokens
    web_page: float = 0.0  # HTML with status 200, as a wrong address or a proxy has it
    junk: int = 0  # unsound items behind the good ones of a list, where no maxItems of a schema forbids them
    context: int | None = None  # tokens that the model's context holds
    most_tokens: int | None = None  # of an answer, that a request may ask for
    words: str = "vllm"  # whose words the server refuses in, see llm_refusals.py
    knows_models: bool = False  # refuses models other than those it serves
    dies_of: set[str] = field(default_factory=set)  # request parameters at which the connection breaks
    obeys: bool = False  # does what a document says that tells it to ignore its task
    script: list[str] = field(default_factory=list)  # used up first: names of shares, "429", "500", "good"
    # request parameters, "json_schema", keywords of a schema, or "grammar" (any bound of a schema), refused with 400
    unsupported: set[str] = field(default_factory=set)
    key: str | None = None  # the only key let in
    down: bool = False  # a request gets its connection closed, unless it is one to the control paths
    rpm_limit: float | None = None  # requests per minute, as a window of one second
    retry_after: float = 0.2
    retry_after_date: bool = False  # as an HTTP date, in whole seconds
    batch_seconds: float = 0.3
    batch_fate: str = "completed"  # or failed, expired, cancelled
    seed: int = 0

    def __post_init__(self) -> None:
        self.script, self.unsupported, self.dies_of = list(self.script), set(self.unsupported), set(self.dies_of)
        if unknown := {ALIASES.get(name, name) for name in self.script} - {*SHARES, "good"}:
            raise ValueError(f"no such behaviour: {', '.join(sorted(unknown))}")
        if self.batch_fate not in ("completed", "failed", "expired", "cancelled"):
            raise ValueError(f"no such fate of a batch: {self.batch_fate}")

    def draw(self, rng: random.Random) -> str:
        """The next behaviour of the script, or one drawn by the shares."""
        if self.script:
            name = self.script.pop(0)
            return ALIASES.get(name, name)
        shares = [getattr(self, name) for name in SHARES]
        return rng.choices([*SHARES, "good"], [*shares, max(0.0, 1.0 - sum(shares))])[0]


@dataclass
class Record:
    """One request to the chat endpoint, or one line of a batch."""

    arrived: float
    digest: str
    document: str  # its first characters
    product: str
    count: int
    repair: bool
    in_flight: int  # at arrival, with this one; 0 for a line of a batch
    behaviour: str = ""
    status: int = 0  # 0: no response
    answered: float | None = None
    usage: dict[str, int] = field(default_factory=dict)
    seed: int | None = None
    prompt: str = ""
    bounds: set[str] = field(default_factory=set)  # keywords of the schema

    def settle(self, reply: "Reply") -> None:
        """Note the reply, before it is sent: who has it finds the record whole."""
        self.status, self.answered = reply.status, time.time()
        self.usage = reply.body.get("usage", {}) if isinstance(reply.body, dict) else {}


def unsupported_parameter(behaviour: Behaviour, body: Json) -> str:
    """What of a request is refused, or ""."""
    response_format = body.get("response_format") or {}
    if "json_schema" in behaviour.unsupported and response_format.get("type") == "json_schema":
        return "response_format"
    refused = behaviour.unsupported | ({"stream"} if body.get("stream") else set())
    return min(refused & {*body}, default="")


# ---- HTTP


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Json:
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            raise ValueError("the body is not a JSON object")
        return value


@dataclass
class Reply:
    status: int
    body: Json | bytes
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, bytes]:
        """Head and body."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        kind = "application/octet-stream" if isinstance(self.body, bytes) else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Error')}", *map(": ".join, headers.items())]
        return "\r\n".join([*lines, "", ""]).encode(), body


UNAUTHORISED = Reply(401, error_body("Incorrect API key provided.", code="invalid_api_key"))


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, target, _ = first.split(" ", 2)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target.partition("?")[0], headers, body)


def form_parts(request: Request) -> dict[str, tuple[str, bytes]]:
    """The (file name, content) of each field of a multipart/form-data body."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    parts: dict[str, tuple[str, bytes]] = {}
    for part in request.body.split(b"--" + boundary[1].encode())[1:-1] if boundary else ():
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        parts[names.get("name", "")] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return parts


# ---- the server


class LLMServer:
    """Serves from a thread of its own while its `with` block lasts; `url` is what a client takes as base URL."""

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.port = port
        self.requests: list[Record] = []
        self._in_flight = 0
        self._files: dict[str, tuple[Json, bytes]] = {}
        self._batches: dict[str, Json] = {}
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()

    @property
    def behaviour(self) -> Behaviour:
        return self._behaviour

    @behaviour.setter
    def behaviour(self, value: Behaviour) -> None:
        self._behaviour, self._rng = value, random.Random(value.seed)
        self._window: deque[float] = deque()  # when the requests of the last second came

    def __enter__(self) -> "LLMServer":
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop_listening(self) -> None:
        """Refuse connections from now on and break those there are."""
        self._on_loop(self._stop_listening())

    def listen_again(self) -> None:
        """Take connections again, on the same port."""
        self._on_loop(self._listen())

    def reset(self) -> None:
        """Clear the record."""
        self.requests = []

    def stats(self) -> Json:
        """Sums over the record."""
        requests = list(self.requests)
        good = [r.digest for r in requests if r.behaviour == "good" and r.status == 200]
        tokens: Counter[str] = Counter()
        for record in requests:
            tokens.update(record.usage)
        return {
            "total": len(requests),
            "by_behaviour": Counter(record.behaviour for record in requests),
            "answered_good": len(good),
            "most_in_flight": max((record.in_flight for record in requests), default=0),
            "first": min((record.arrived for record in requests), default=None),
            "last": max((record.answered for record in requests if record.answered), default=None),
            "repeated": sum(times > 1 for times in Counter(good).values()),
            "tokens": {name: tokens[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
        }

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        await self._stop_listening()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._listening = True
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"

    async def _stop_listening(self) -> None:
        self._listening = False  # for connections taken a moment ago and not yet known
        self._listener.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(0.05)  # the answer to the request for it goes out first
        await self._stop_listening()
        await asyncio.sleep(seconds)
        await self._listen()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop alone would let it be collected
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._respond(await read_request(reader), reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, asyncio.CancelledError):
            pass  # the client left, or does not speak HTTP, or the server ends
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _respond(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection ends with it."""
        if not self._listening or (self.behaviour.down and request.path not in CONTROL):
            return False
        if (request.method, request.path) == ("POST", "/v1/chat/completions"):  # and nowhere else
            return await self._chat(request, reader, writer)
        try:
            reply = self._route(request)
        except KeyError as error:
            reply = Reply(404, error_body(f"No such object: {error}"))
        except (ValueError, TypeError) as error:
            reply = Reply(400, error_body(str(error)))
        writer.write(b"".join(reply.encoded()))
        await writer.drain()
        return request.headers.get("connection", "").lower() != "close"

    def _refused(self, request: Request) -> bool:
        return self.behaviour.key is not None and request.headers.get("authorization") != f"Bearer {self.behaviour.key}"

    def _note(self, asked: Asked, in_flight: int) -> Record:
        record = Record(
            time.time(), asked.digest, asked.document[:40], asked.product, asked.count, asked.repair, in_flight
        )
        self.requests.append(record)
        return record

    async def _chat(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            body = request.json()
            asked = read_messages(body["messages"])
        except (ValueError, KeyError, TypeError, AttributeError):
            writer.write(b"".join(Reply(400, error_body("The body is not a chat completion request.")).encoded()))
            return True
        self._in_flight += 1
        record = self._note(asked, self._in_flight)
        record.seed, record.prompt, record.bounds = body.get("seed"), asked.message, keywords(body)
        try:
            record.behaviour = "unauthorised" if self._refused(request) else self._choose(asked, body, self._crowded())
            reply = self._reply(record.behaviour, asked, body)
            if reply.status not in (400, 401, 429):
                await asyncio.sleep(self.behaviour.latency)
            return await self._send(record, reply, reader, writer) and request.headers.get("connection") != "close"
        finally:
            self._in_flight -= 1
            record.answered = record.answered or time.time()

    async def _send(
        self, record: Record, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send a reply as its behaviour has it; False if the connection ends with it."""
        head, body = reply.encoded()
        if record.behaviour == "hangs":
            while await reader.read(1 << 16):
                pass
        if record.behaviour in ("hangs", "dropped"):
            return False
        if reader.at_eof() or writer.is_closing():  # so that an answer that nobody got does not count as one
            record.behaviour = "client_gone"
            return False
        record.settle(reply)
        writer.write(head + body[: len(body) // 2] if record.behaviour == "cut_short" else head + body)
        await writer.drain()
        return record.behaviour != "cut_short"

    def _crowded(self) -> bool:
        """Whether this request is one too many for the last second; if not, it counts."""
        limit, now = self.behaviour.rpm_limit, time.monotonic()
        while self._window and self._window[0] <= now - 1.0:
            self._window.popleft()
        if limit is not None and len(self._window) >= max(1.0, limit / 60):
            return True
        self._window.append(now)
        return False

    def _choose(self, asked: Asked, body: Json, crowded: bool) -> str:
        """The name of what happens to a request. Only one that is let in uses up the script or a draw."""
        if self._refusal(asked, body):
            return "unsupported"
        if self.behaviour.dies_of & {*body}:
            return "dropped"
        name = "rate_limited" if crowded else self.behaviour.draw(self._rng)
        return "obeys" if name == "good" and self.behaviour.obeys and INJECTION.search(asked.document) else name

    def _reply(self, name: str, asked: Asked, body: Json) -> Reply:
        if name == "unauthorised":
            return UNAUTHORISED
        if name == "unsupported" and (refusal := self._refusal(asked, body)):
            return refusal
        if name == "web_page":
            return Reply(
                200, b"<!doctype html><html><body>Welcome to nginx!</body></html>", {"Content-Type": "text/html"}
            )
        if name == "rate_limited":
            wait = self.behaviour.retry_after
            date = formatdate(math.ceil(time.time() + wait), usegmt=True)
            headers = {"Retry-After": date if self.behaviour.retry_after_date else f"{wait:g}"}
            return Reply(429, error_body("Rate limit reached.", "requests", code="rate_limit_exceeded"), headers)
        if name == "server_error":
            return Reply(500, error_body("The server had an error while processing your request.", "server_error"))
        junk = [self.behaviour.junk] if self.behaviour.junk else []
        return Reply(200, completion(name, asked, body, *junk))

    def _refusal(self, asked: Asked, body: Json) -> Reply | None:
        """What a request is refused with, however often it is sent."""
        known, most = self.behaviour, body.get("max_tokens") or body.get("max_completion_tokens") or 0
        if known.knows_models and body.get("model") not in SERVED:
            return Reply(404, unknown_model(str(body.get("model"))))
        if param := unsupported_parameter(known, body):
            message = f"Unsupported parameter: '{param}' is not supported with this model."
            return Reply(400, error_body(message, param=param, code="unsupported_parameter"))
        if keyword := min(known.unsupported & keywords(body), default=""):
            return Reply(400, bad_keyword(keyword))
        if "grammar" in known.unsupported and keywords(body):
            return Reply(400, GRAMMAR)
        if known.most_tokens and most > known.most_tokens:
            return Reply(400, too_much_asked(known.most_tokens, most))
        if known.context and (told := too_long(known.words, known.context, asked.tokens, most)):
            return Reply(422 if known.words == "tgi" else 400, told)
        return None

    # ---- control, files and batches

    def _route(self, request: Request) -> Reply:
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["stats"]:
                return Reply(200, self.stats())
            case "POST", ["reset"]:
                self.reset()
                return Reply(200, {})
            case "POST", ["behaviour"]:
                self.behaviour = replace(self.behaviour, **request.json())
                return Reply(
                    200,
                    {
                        **asdict(self.behaviour),
                        **{n: sorted(getattr(self.behaviour, n)) for n in ("unsupported", "dies_of")},
                    },
                )
            case "POST", ["pause"]:
                self._start(self._pause(float(request.json()["seconds"])))
                return Reply(200, {})
            case _ if self._refused(request):
                return UNAUTHORISED
            case "GET", ["v1", "models"]:
                return Reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in SERVED]})
            case "POST", ["v1", "files"]:
                parts = form_parts(request)
                name, content = parts["file"]
                return Reply(200, self._add_file(name, content, parts["purpose"][1].decode()))
            case "GET", ["v1", "files", key]:
                return Reply(200, self._files[key][0])
            case "GET", ["v1", "files", key, "content"]:
                return Reply(200, self._files[key][1])
            case "DELETE", ["v1", "files", key]:
                del self._files[key]
                return Reply(200, {"id": key, "object": "file", "deleted": True})
            case "POST", ["v1", "batches"]:
                return Reply(200, self._add_batch(request.json()))
            case "GET", ["v1", "batches"]:
                data = list(self._batches.values())[::-1]
                ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
                return Reply(200, {"object": "list", "data": data, "has_more": False, **ends})
            case "GET", ["v1", "batches", key]:
                return Reply(200, self._batches[key])
            case "POST", ["v1", "batches", key, "cancel"]:
                if self._batches[key]["status"] in ("validating", "in_progress"):
                    self._batches[key]["status"] = "cancelling"
                return Reply(200, self._batches[key])
        return Reply(404, error_body(f"Invalid URL ({request.method} {request.path})"))

    def _add_file(self, name: str, content: bytes, purpose: str) -> Json:
        shown: Json = {"id": f"file-{next(serial)}", "object": "file", "bytes": len(content), "filename": name}
        shown |= {"created_at": int(time.time()), "purpose": purpose, "status": "processed"}
        self._files[shown["id"]] = (shown, content)
        return shown

    def _add_batch(self, asked: Json) -> Json:
        batch: Json = {"id": f"batch_{next(serial)}", "object": "batch", "status": "validating", "errors": None}
        batch |= {name: asked[name] for name in ("input_file_id", "endpoint", "completion_window")}
        batch |= {"output_file_id": None, "error_file_id": None, "created_at": int(time.time())}
        batch |= {"request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": asked.get("metadata")}
        self._start(self._run_batch(batch, self._files[asked["input_file_id"]][1]))
        self._batches[batch["id"]] = batch
        return batch

    async def _run_batch(self, batch: Json, content: bytes) -> None:
        wait, lines = self.behaviour.batch_seconds, [line for line in content.decode().split("\n") if line.strip()]
        await asyncio.sleep(wait / 3)
        if problem := "told to fail" if self.behaviour.batch_fate == "failed" else _invalid(lines, batch["endpoint"]):
            reason = {"code": "invalid_request", "message": problem, "param": None, "line": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [reason]}}
            return
        batch["request_counts"]["total"] = len(lines)
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
        await asyncio.sleep(wait * 2 / 3)
        fate = "cancelled" if batch["status"] == "cancelling" else self.behaviour.batch_fate
        batch["status"] = "finalizing"
        written: dict[str, list[str]] = {"output": [], "error": []}
        for number, line in enumerate(map(json.loads, lines)):
            undone = fate != "completed" and number >= len(lines) // 2
            response, error = (None, _batch_error(f"batch_{fate}")) if undone else self._batch_line(line["body"])
            status = response["status_code"] if response else 0
            shown: Json = {"id": f"batch_req_{next(serial)}", "custom_id": line["custom_id"]}
            shown |= {"response": response, "error": error}
            text = json.dumps(shown, ensure_ascii=False) + "\n"
            written["output" if status in (200, 500) else "error"].append(text)
            batch["request_counts"]["completed" if status == 200 else "failed"] += 1
            await asyncio.sleep(0)  # other requests are served between lines
        for kind, entries in written.items():
            if entries:
                file = self._add_file(
                    f"{batch['id']}_{kind}.jsonl", "".join(entries).encode("utf-8", "replace"), "batch_output"
                )
                batch[f"{kind}_file_id"] = file["id"]
        batch["status"] = fate

    def _batch_line(self, body: Json) -> tuple[Json | None, Json | None]:
        """(response, error) of one line; which of the ways to fail a service has depends on the behaviour."""
        asked = read_messages(body["messages"])
        record = self._note(asked, in_flight=0)
        record.behaviour = self._choose(asked, body, crowded=False)
        if record.behaviour in SILENT:
            return None, _batch_error("request_failed")
        reply = self._reply(record.behaviour, asked, body)
        record.settle(reply)
        return {"status_code": reply.status, "request_id": f"req_{next(serial)}", "body": reply.body}, None


def _batch_error(code: str) -> Json:
    return {"code": code, "message": "This request could not be executed."}


def _invalid(lines: list[str], endpoint: str) -> str:
    """What is wrong with the lines of a batch, or ""."""
    try:
        entries = [json.loads(line) for line in lines]
        for entry in entries:
            read_messages(entry["body"]["messages"])
        if any(entry["method"] != "POST" or entry["url"] != endpoint for entry in entries):
            return "a line does not fit the batch's endpoint"
        repeated = len({entry["custom_id"] for entry in entries}) < len(entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "a line is not a request"
    return "a custom_id occurs twice" if repeated else "" if entries else "the file is empty"


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve chat completions and batches on loopback until killed.")
    parser.add_argument("--port", type=int, default=0)
    for option in fields(Behaviour):
        kind: Json = {
            "type": {
                "seed": int,
                "key": str,
                "batch_fate": str,
                "words": str,
                "junk": int,
                "context": int,
                "most_tokens": int,
            }.get(option.name, float)
        }
        if option.name in ("script", "unsupported", "dies_of"):
            kind = {"nargs": "*"}
        elif option.type is bool:
            kind = {"action": "store_true"}
        parser.add_argument(f"--{option.name.replace('_', '-')}", default=argparse.SUPPRESS, **kind)
    options = vars(parser.parse_args())
    port = options.pop("port")
    with LLMServer(Behaviour(**options), port) as server, suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

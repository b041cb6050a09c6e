"""An LLM service for tests: chat completions and the Batch API of OpenAI over real HTTP, good or misbehaving on demand.

Good answers are sound and depend on the messages alone. Over HTTP there are also `GET /stats`, `POST /behaviour` (the
fields to change), `POST /reset` (clears the record) and `POST /pause` ({"seconds": s}: nothing listens for that long).
"""

import argparse
import asyncio
import math
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import asdict, fields, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from llm_answers import Asked, Json, completion, read_messages, serial
from llm_batches import Batches, batch_error
from llm_behaviour import INJECTION, SILENT, Behaviour, Record, refusal
from llm_http import UNAUTHORISED, Reply, Request, read_request
from llm_refusals import SERVED, error_body, keywords

CONTROL = {"/stats", "/behaviour", "/reset", "/pause"}


class LLMServer:
    """Serves from a thread of its own while its `with` block lasts; `url` is what a client takes as base URL."""

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.port = port
        self.requests: list[Record] = []
        self._in_flight = 0
        self._batches = Batches(lambda: self.behaviour, self._start, self._batch_line)
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
        if refusal(self.behaviour, asked, body):
            return "unsupported"
        if self.behaviour.dies_of & {*body}:
            return "dropped"
        name = "rate_limited" if crowded else self.behaviour.draw(self._rng)
        return "obeys" if name == "good" and self.behaviour.obeys and INJECTION.search(asked.document) else name

    def _reply(self, name: str, asked: Asked, body: Json) -> Reply:
        if name == "unauthorised":
            return UNAUTHORISED
        if name == "unsupported" and (refused := refusal(self.behaviour, asked, body)):
            return refused
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

    # ---- control and batches

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
        return self._batches.route(request) or Reply(404, error_body(f"Invalid URL ({request.method} {request.path})"))

    def _batch_line(self, body: Json) -> tuple[Json | None, Json | None]:
        """(response, error) of one line; which of the ways to fail a service has depends on the behaviour."""
        asked = read_messages(body["messages"])
        record = self._note(asked, in_flight=0)
        record.behaviour = self._choose(asked, body, crowded=False)
        if record.behaviour in SILENT:
            return None, batch_error("request_failed")
        reply = self._reply(record.behaviour, asked, body)
        record.settle(reply)
        return {"status_code": reply.status, "request_id": f"req_{next(serial)}", "body": reply.body}, None


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

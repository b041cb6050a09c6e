"""The files and batches of the tests' LLM service, as OpenAI's Batch API has them."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from llm_answers import Json, read_messages, serial
from llm_behaviour import Behaviour
from llm_http import Reply, Request, form_parts


class Batches:
    """All files and batches. It is told how to behave, how to start a task, and how to get the (response, error) of a
    line of a batch."""

    def __init__(
        self,
        behaviour: Callable[[], Behaviour],
        start: Callable[[Coroutine[Any, Any, None]], None],
        line: Callable[[Json], tuple[Json | None, Json | None]],
    ) -> None:
        self._behaviour, self._start, self._line = behaviour, start, line
        self._files: dict[str, tuple[Json, bytes]] = {}
        self._batches: dict[str, Json] = {}

    def route(self, request: Request) -> Reply | None:
        """Answer a request to /v1/files or /v1/batches; None for any other."""
        match request.method, request.path.strip("/").split("/"):
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
        return None

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
        wait, lines = self._behaviour().batch_seconds, [line for line in content.decode().split("\n") if line.strip()]
        await asyncio.sleep(wait / 3)
        fails = self._behaviour().batch_fate == "failed"
        if problem := "told to fail" if fails else _invalid(lines, batch["endpoint"]):
            reason = {"code": "invalid_request", "message": problem, "param": None, "line": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [reason]}}
            return
        batch["request_counts"]["total"] = len(lines)
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
        await asyncio.sleep(wait * 2 / 3)
        fate = "cancelled" if batch["status"] == "cancelling" else self._behaviour().batch_fate
        batch["status"] = "finalizing"
        written: dict[str, list[str]] = {"output": [], "error": []}
        for number, line in enumerate(map(json.loads, lines)):
            undone = fate != "completed" and number >= len(lines) // 2
            response, error = (None, batch_error(f"batch_{fate}")) if undone else self._line(line["body"])
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


def batch_error(code: str) -> Json:
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

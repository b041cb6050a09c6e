"""Metrics of the server for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dyprag.serving.assistant import Assistant
from dyprag.serving.engine import Engine
from dyprag.serving.jobs import Job
from dyprag.serving.library import AdapterLibrary

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one server, in their own registry."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, engine: Engine, assistant: Assistant, library: AdapterLibrary) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "dyprag_requests", "Requests by method and outcome.", ["method", "outcome"], registry=registry
        )
        words = "Tokens of prompts, those of them that were not read again, and of answers."
        self._tokens = Counter("dyprag_tokens", words, ["kind"], registry=registry)
        self._seconds = Histogram(
            "dyprag_request_seconds",
            "Seconds until the whole answer.",
            ["method"],
            buckets=SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "dyprag_first_token_seconds",
            "Seconds until the first token.",
            ["method"],
            buckets=SECONDS,
            registry=registry,
        )
        for name, words, value in (
            ("dyprag_running", "Answers being generated.", lambda: engine.running),
            ("dyprag_waiting", "Requests waiting for a row or an adapter.", lambda: engine.waiting),
            ("dyprag_adapters", "Adapters kept in memory.", lambda: assistant.cached),
            ("dyprag_prefix_bytes", "Size of the kept states of prompts.", lambda: engine.prefixes.bytes),
        ):
            Gauge(name, words, registry=registry).set_function(value)
        counts = library.counts
        for name, words, value in (
            ("dyprag_named_adapters", "Adapters that can be asked as models.", lambda: len(library)),
            ("dyprag_named_adapters_made", "Adapters made from documents since the start.", lambda: counts.made),
            ("dyprag_named_adapters_hits", "Questions to adapters since the start.", lambda: counts.hits),
            ("dyprag_named_adapters_evicted", "Adapters removed to make room.", lambda: counts.evicted),
        ):
            Gauge(name, words, registry=registry).set_function(value)

    def ended(self, method: str, outcome: str, start: float, job: Job | None = None) -> None:
        """Record the end of a request."""
        self._requests.labels(method, outcome).inc()
        if job is None:
            return
        self._tokens.labels("prompt").inc(len(job.prompt))
        self._tokens.labels("cached").inc(job.cached)
        self._tokens.labels("answer").inc(len(job.ids))
        self._seconds.labels(method).observe(time.monotonic() - start)
        if job.waited:
            self._first.labels(method).observe(job.waited)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

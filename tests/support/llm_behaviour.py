"""How the tests' LLM service behaves, what it refuses, and what it notes of each request."""

import random
import re
import time
from dataclasses import dataclass, field

from llm_answers import Asked, Json
from llm_http import Reply
from llm_refusals import GRAMMAR, SERVED, bad_keyword, error_body, keywords, too_long, too_much_asked, unknown_model

SHARES = (
    "rate_limited server_error dropped cut_short hangs truncated_json wrong_schema not_json empty null_content "
    "invented web_page cut_item"
).split()
SILENT = {"dropped", "cut_short", "hangs"}  # no whole answer reaches the client
ALIASES = {"429": "rate_limited", "500": "server_error"}
INJECTION = re.compile(r"ignore the above|ignore all previous", re.IGNORECASE)


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

    def settle(self, reply: Reply) -> None:
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


def refusal(known: Behaviour, asked: Asked, body: Json) -> Reply | None:
    """What a request is refused with, however often it is sent."""
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 0
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

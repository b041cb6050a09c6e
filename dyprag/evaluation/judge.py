"""LLM judge: which of two methods has internalised the passages (§4, on RAGTruth): win, tie or loss of the first.

Each pair is judged in both orders, and only a verdict that does not depend on the order counts. Answers are treated as
data: they cannot close their tags, and the judge does not see which method they come from.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import json_repair
import yaml

from dyprag.augmentation.prompt_files import PromptFile, prompt_file
from dyprag.config import ApiSettings, AugmentSettings
from dyprag.corpora.documents import content_key
from dyprag.corpora.products import Message, Request, Response
from dyprag.errors import DocumentError
from dyprag.evaluation.statistics import share_interval
from dyprag.model.thinking import without_thoughts

Outcome = Literal["win", "tie", "loss"]  # of the first method
Order = Literal["given", "swapped"]
SCHEMA: dict[str, Any] = {
    "name": "verdict",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["1", "2", "tie"]}},
        "required": ["reason", "better"],
        "additionalProperties": False,
    },
}
_TAGS = re.compile(r"<(?=\s*/?\s*(?:question|passages|answer_[12])\b)", re.IGNORECASE)
_BETTER = re.compile(r"(?:answer[ _]?)?(1|2|tie)", re.IGNORECASE)
_OUTCOMES: dict[Order, dict[str, Outcome]] = {
    "given": {"1": "win", "2": "loss", "tie": "tie"},
    "swapped": {"1": "loss", "2": "win", "tie": "tie"},
}


class Completer(Protocol):
    """Completes requests: an Endpoint, or a cache of its responses."""

    settings: AugmentSettings

    async def complete(self, request: Request) -> Response:
        """Complete a request.

        Raises:
            DocumentError: this request failed.
            Stopped: no further request can succeed.
        """


@dataclass(frozen=True)
class Pair:
    """Two methods' answers to a question, and the passages that contain the knowledge. `id` is the question's."""

    id: str
    question: str
    passages: tuple[str, ...]
    one: str
    other: str


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on one order of answers.

    outcome: of the first method; None if the judge gave no readable verdict.
    reason: the judge's reason, or what was wrong with its responses.
    """

    outcome: Outcome | None
    reason: str


@dataclass(frozen=True)
class Judgement:
    """The verdicts on a pair, with the first method's answer shown first (`given`) and second (`swapped`)."""

    pair: Pair
    given: Verdict
    swapped: Verdict

    @property
    def decided(self) -> bool:
        """Whether there is a verdict for both orders."""
        return self.given.outcome is not None and self.swapped.outcome is not None

    @property
    def agreed(self) -> bool:
        """Whether both orders have the same verdict."""
        return self.decided and self.given.outcome == self.swapped.outcome

    @property
    def outcome(self) -> Outcome | None:
        """The first method's outcome: a tie if the orders disagree, None if the pair is undecided."""
        if not self.decided:
            return None
        return self.given.outcome if self.agreed else "tie"


@dataclass(frozen=True)
class Share:
    """A share of the decided pairs, with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Summary of all judgements on two methods: the first method's outcomes, as counts and shares of decided pairs.

    agreement: the share of pairs with the same verdict in both orders, a measure of the judge's reliability.
    """

    wins: int
    ties: int
    losses: int
    undecided: int
    win_share: Share
    tie_share: Share
    loss_share: Share
    agreement: Share


def judge_settings(api: ApiSettings, tries: int = 3, seed: int = 0) -> AugmentSettings:
    """Return the settings of an Endpoint for judging, with greedy decoding.

    Args:
        api: the judge's endpoint, with its limits and budget.
        tries: maximum number of requests per verdict, until a response can be read.
    """
    return AugmentSettings(backend="api", api=api, temperature=0.0, max_new_tokens=512, tries=tries, seed=seed)


async def judge_pairs(completer: Completer, pairs: Sequence[Pair]) -> list[Judgement]:
    """Judge every pair in both orders, concurrently within the completer's limits.

    Returns:
        A judgement for each pair, in the same order. A pair is undecided if the endpoint refuses it, or if no response
        can be read within `tries` requests.

    Raises:
        Stopped: the endpoint is down, rejects the key or the model, or its budget is exhausted.
    """
    orders: tuple[Order, ...] = ("given", "swapped")
    requests = (_verdict(completer, pair, order) for pair in pairs for order in orders)
    # wait for all requests before raising, so that responses in flight reach the cache
    verdicts = await asyncio.gather(*requests, return_exceptions=True)
    completed = []
    for verdict in verdicts:
        if isinstance(verdict, BaseException):
            raise verdict
        completed.append(verdict)
    return [Judgement(*verdict_pair) for verdict_pair in zip(pairs, completed[::2], completed[1::2], strict=True)]


def summarise(judgements: Sequence[Judgement]) -> Summary:
    """Count outcomes. Shares exclude undecided pairs."""
    outcomes = [judgement.outcome for judgement in judgements]
    wins, ties, losses = (outcomes.count(outcome) for outcome in ("win", "tie", "loss"))
    decided = wins + ties + losses
    agreed = sum(judgement.agreed for judgement in judgements)
    shares = [Share(n / max(1, decided), *share_interval(n, decided)) for n in (wins, ties, losses, agreed)]
    return Summary(wins, ties, losses, len(outcomes) - decided, *shares)


async def _verdict(completer: Completer, pair: Pair, order: Order) -> Verdict:
    """Request the verdict on one order until it can be read; retries show what was wrong with the last response."""
    settings, messages = completer.settings, judge_messages(pair, order)
    key, fault = _key(pair, settings), ""
    repair: tuple[Message, ...] = ()
    for attempt in range(settings.tries):
        request = Request(
            pair.id, key, f"{order} {attempt + 1}", (*messages, *repair), SCHEMA, settings.seed + attempt,
        )  # fmt: skip
        try:
            response = await completer.complete(request)
        except DocumentError as error:
            return Verdict(None, f"{error.reason}.")
        better, reason, fault = read_verdict(response.text)
        if better:
            return Verdict(_OUTCOMES[order][better], reason)
        repair = _repair(response.text, fault)
    return Verdict(None, f"After {settings.tries} answers: {fault}")


def judge_messages(pair: Pair, order: Order) -> tuple[Message, ...]:
    """Build the judge's messages. Texts of the pair cannot close the tags around them."""
    first, second = (pair.one, pair.other) if order == "given" else (pair.other, pair.one)
    passages = "\n\n".join(f"Passage {number}: {text}" for number, text in enumerate(pair.passages, start=1))
    texts = {"question": pair.question, "passages": passages, "answer_1": first, "answer_2": second}
    return prompt().messages(**{name: _TAGS.sub("‹", text) for name, text in texts.items()})


def read_verdict(text: str) -> tuple[str, str, str]:
    """Parse a judge's response. If it contains several verdicts, the last one counts.

    Returns:
        Which answer is better ("1", "2", "tie", or "" if unreadable), the judge's reason, and what is wrong with the
        response ("" if nothing is).
    """
    answer = without_thoughts(text)  # thoughts may contain several verdicts
    try:
        values = json_repair.loads(answer)
    except (ValueError, TypeError, RecursionError):  # unparsable text
        values = None
    objects = [value for value in (values if isinstance(values, list) else [values]) if isinstance(value, dict)]
    last = next((value for value in reversed(objects) if "better" in value), None)
    if last is None:
        return "", "", 'it contains no JSON object with "better".'
    better = _BETTER.fullmatch(str(last["better"]).strip())
    if better is None:
        return "", "", '"better" is neither "1" nor "2" nor "tie".'
    return better[1].lower(), str(last.get("reason") or "").encode("utf-8", "replace").decode().strip(), ""


def _repair(text: str, fault: str) -> tuple[Message, ...]:
    """Build the messages after an unreadable response; none after an empty one, which some endpoints reject."""
    if not text.strip():
        return ()
    return ({"role": "assistant", "content": text}, *prompt_file("repair").messages(error=fault))


def _key(pair: Pair, settings: AugmentSettings) -> str:
    """Return the cache key of the requests about a pair."""
    material = settings.model_dump(mode="json", include={"temperature", "max_new_tokens", "seed"})
    material |= {"model": settings.api.model, "extra_body": settings.api.extra_body}
    return content_key("judgement", [prompt().digest, pair.question, pair.one, pair.other, *pair.passages], material)


@lru_cache
def prompt() -> PromptFile:
    """Load the judge's prompt."""
    path = Path(__file__).parent / "prompts" / "judge.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    version, system, user = int(values["version"]), str(values["system"]), str(values["user"])
    return PromptFile("judge", version, system, user, content_key("prompt", [str(version), system, user]))

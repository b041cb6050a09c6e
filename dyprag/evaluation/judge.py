"""An LLM judges which of two methods has internalised the passages (§4, on RAGTruth): win, tie or loss of the first.

Each pair is judged twice, with the answers in either order; only a verdict that survives the exchange counts. What the
answers say is data: it cannot leave its tags, and the judge is not told whose it is.
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

from dyprag.augmentation.products import Message, Request, Response
from dyprag.augmentation.prompt_files import PromptFile, prompt_file
from dyprag.config import ApiSettings, AugmentSettings
from dyprag.corpora.documents import content_key
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
_OURS = re.compile(r"<(?=\s*/?\s*(?:question|passages|answer_[12])\b)", re.IGNORECASE)
_BETTER = re.compile(r"(?:answer[ _]?)?(1|2|tie)", re.IGNORECASE)
_OUTCOMES: dict[Order, dict[str, Outcome]] = {
    "given": {"1": "win", "2": "loss", "tie": "tie"},
    "swapped": {"1": "loss", "2": "win", "tie": "tie"},
}


class Completer(Protocol):
    """What answers requests: an Endpoint, or what keeps its answers."""

    settings: AugmentSettings

    async def complete(self, request: Request) -> Response:
        """The answer; DocumentError where this request gets none, Stopped where none will."""


@dataclass(frozen=True)
class Pair:
    """Two methods' answers to a question, and the passages that hold the knowledge; `id` is the question's."""

    id: str
    question: str
    passages: tuple[str, ...]
    one: str
    other: str


@dataclass(frozen=True)
class Verdict:
    """What the judge said to one order: the first method's outcome, and why. Without an outcome the reason is what was
    wrong with the judge's answers."""

    outcome: Outcome | None
    reason: str


@dataclass(frozen=True)
class Judgement:
    """The verdicts on a pair, with the first method's answer shown first (given) and last (swapped)."""

    pair: Pair
    given: Verdict
    swapped: Verdict

    @property
    def decided(self) -> bool:
        """Whether there is a verdict for either order."""
        return self.given.outcome is not None and self.swapped.outcome is not None

    @property
    def agreed(self) -> bool:
        """Whether the verdict does not depend on the order."""
        return self.decided and self.given.outcome == self.swapped.outcome

    @property
    def outcome(self) -> Outcome | None:
        """The first method's: a tie where the orders disagree, None where the pair is undecided."""
        if not self.decided:
            return None
        return self.given.outcome if self.agreed else "tie"


@dataclass(frozen=True)
class Share:
    """A share of the decided pairs, with its 95 % interval (Wilson's)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """All judgements on two methods: counts of the first method's outcomes, and shares of the decided pairs.
    `agreement` is the share with the same verdict in both orders: how far the judge can be trusted."""

    wins: int
    ties: int
    losses: int
    undecided: int
    win_share: Share
    tie_share: Share
    loss_share: Share
    agreement: Share


def judge_settings(api: ApiSettings, tries: int = 3, seed: int = 0) -> AugmentSettings:
    """The settings of an Endpoint that judges: the likeliest answer, not a sampled one.

    Args:
        api: where the judge is reached, and its limits and budget.
        tries: times that a verdict is asked for until it can be read.
    """
    return AugmentSettings(backend="api", api=api, temperature=0.0, max_new_tokens=512, tries=tries, seed=seed)


async def judge_pairs(completer: Completer, pairs: Sequence[Pair]) -> list[Judgement]:
    """Judge every pair in both orders, all at the same time; the completer's limits hold.

    Returns:
        A judgement for each pair, in their order. A pair that the endpoint refuses, or to which no answer can be read
        in `tries` times, is undecided.

    Raises:
        Stopped: the endpoint is down, refuses the key or the model, or its budget is spent.
    """
    orders: tuple[Order, ...] = ("given", "swapped")
    asked = (_verdict(completer, pair, order) for pair in pairs for order in orders)
    # all have ended before anything is raised, so that answers under way reach whoever keeps them
    verdicts = await asyncio.gather(*asked, return_exceptions=True)
    sound = []
    for verdict in verdicts:
        if isinstance(verdict, BaseException):
            raise verdict
        sound.append(verdict)
    return [Judgement(*both) for both in zip(pairs, sound[::2], sound[1::2], strict=True)]


def summarise(judgements: Sequence[Judgement]) -> Summary:
    """Count outcomes; undecided pairs enter no share."""
    outcomes = [judgement.outcome for judgement in judgements]
    wins, ties, losses = (outcomes.count(outcome) for outcome in ("win", "tie", "loss"))
    decided = wins + ties + losses
    agreed = sum(judgement.agreed for judgement in judgements)
    shares = [Share(n / max(1, decided), *share_interval(n, decided)) for n in (wins, ties, losses, agreed)]
    return Summary(wins, ties, losses, len(outcomes) - decided, *shares)


async def _verdict(completer: Completer, pair: Pair, order: Order) -> Verdict:
    """Ask for the verdict on one order until it can be read, showing the judge what was wrong with its last answer."""
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
    """What the judge is asked; nothing in the pair can close the tags it stands between."""
    first, second = (pair.one, pair.other) if order == "given" else (pair.other, pair.one)
    passages = "\n\n".join(f"Passage {number}: {text}" for number, text in enumerate(pair.passages, start=1))
    texts = {"question": pair.question, "passages": passages, "answer_1": first, "answer_2": second}
    return prompt().messages(**{name: _OURS.sub("‹", text) for name, text in texts.items()})


def read_verdict(text: str) -> tuple[str, str, str]:
    """From a judge's answer to which is better ("1", "2", "tie", or "" where it does not say), the reason that it
    gives, and what is wrong with it (empty: nothing). A judge that corrects itself is taken at its last word."""
    said = without_thoughts(text)  # a judge that thinks aloud may weigh several verdicts there
    try:
        values = json_repair.loads(said)
    except (ValueError, TypeError, RecursionError):  # what no parser can make sense of
        values = None
    objects = [one for one in (values if isinstance(values, list) else [values]) if isinstance(one, dict)]
    last = next((one for one in reversed(objects) if "better" in one), None)
    if last is None:
        return "", "", 'it holds no JSON object with "better".'
    better = _BETTER.fullmatch(str(last["better"]).strip())
    if better is None:
        return "", "", '"better" is neither "1" nor "2" nor "tie".'
    return better[1].lower(), str(last.get("reason") or "").encode("utf-8", "replace").decode().strip(), ""


def _repair(text: str, fault: str) -> tuple[Message, ...]:
    """What follows an answer that cannot be read; after an empty one, which some endpoints refuse to see, nothing."""
    if not text.strip():
        return ()
    return ({"role": "assistant", "content": text}, *prompt_file("repair").messages(error=fault))


def _key(pair: Pair, settings: AugmentSettings) -> str:
    """Names what is asked about a pair, for whoever keeps the answers."""
    material = settings.model_dump(mode="json", include={"temperature", "max_new_tokens", "seed"})
    material |= {"model": settings.api.model, "extra_body": settings.api.extra_body}
    return content_key("judgement", [prompt().digest, pair.question, pair.one, pair.other, *pair.passages], material)


@lru_cache
def prompt() -> PromptFile:
    """What a judge is asked."""
    path = Path(__file__).parent / "prompts" / "judge.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    version, system, user = int(values["version"]), str(values["system"]), str(values["user"])
    return PromptFile("judge", version, system, user, content_key("prompt", [str(version), system, user]))

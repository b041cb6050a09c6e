"""Let an LLM compare two methods' answers to questions without gold answers (§4, RAGTruth)."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.augmentation.limits import spent_before
from dyprag.config import AugmentSettings, JudgeSettings, PipelineConfig
from dyprag.corpora.products import Request, Response
from dyprag.evaluation.judge import Judgement, Pair, judge_pairs, judge_settings, prompt, summarise
from dyprag.runtime.interruption import until_interrupted
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.journal import Journal
from dyprag.storage.tables import read_rows, write_rows
from dyprag.tasks.augment import endpoint_key
from dyprag.tasks.planning.keys import judgement_key
from dyprag.tasks.work import is_retryable

if TYPE_CHECKING:
    from dyprag.augmentation.endpoint import Endpoint


def judgement_of(settings: JudgeSettings, predictions: Sequence[list[str]]) -> str:
    """The key of the judgement of two methods' predictions."""
    material = {"model": settings.api.model, "extra_body": settings.api.extra_body, "tries": settings.tries}
    return judgement_key(prompt().digest, material, *predictions)


@task(name="judge", task_run_name="judge {one} against {other}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def judge_methods(one: str, other: str, key: str, predictions: tuple[list[str], list[str]],
                  config: PipelineConfig) -> Record:  # fmt: skip
    """Compare two methods' answers and store the judgements.

    Args:
        predictions: Keys of the first method's predictions, and of the other method's.

    Raises:
        Stopped: The endpoint is down, rejects the key or the model, or the budget is exhausted. Its answers so far are
            kept.
    """
    store = Store(config.store)
    pairs = _pairs(store, *predictions)
    judgements = asyncio.run(_judge(store, pairs, config))
    rows = [
        {"question_id": j.pair.id, "question": j.pair.question, "one": j.pair.one, "other": j.pair.other,
         "outcome": j.outcome, "given": j.given.outcome, "swapped": j.swapped.outcome, "reason": j.given.reason,
         "reason_swapped": j.swapped.reason}
        for j in judgements
    ]  # fmt: skip
    measures = {"one": one, "other": other, "judge": config.judge.api.model, **asdict(summarise(judgements))}
    record = Record("judgement", key, [*predictions[0], *predictions[1]], {"tries": config.judge.tries},
                    measures=measures)  # fmt: skip
    return store.write(record, lambda folder: write_rows(folder / "judgements.parquet", rows))


async def _judge(store: Store, pairs: list[Pair], config: PipelineConfig) -> list[Judgement]:
    from dyprag.augmentation.endpoint import Endpoint

    api, journal = config.judge.api, Journal(store)
    tokens_spent = spent_before(api, journal.tokens)
    endpoint = Endpoint(judge_settings(api, config.judge.tries), endpoint_key(api), tokens_spent)
    try:
        return await until_interrupted(judge_pairs(_JournaledEndpoint(endpoint, journal), pairs))
    finally:
        await endpoint.client.close()


class _JournaledEndpoint:
    """An endpoint whose answers are stored at once, so that a resumed run does not request them again."""

    def __init__(self, endpoint: "Endpoint", journal: Journal) -> None:
        self._endpoint, self._journal = endpoint, journal
        self.settings: AugmentSettings = endpoint.settings

    async def complete(self, request: Request) -> Response:
        """The stored answer if there is one, else the endpoint's."""
        stored = self._journal.find(request.product_key, request.key)
        if stored is not None:
            return stored
        response = await self._endpoint.complete(request)
        self._journal.add(response)
        return response


def _pairs(store: Store, one: list[str], other: list[str]) -> list[Pair]:
    """Questions without gold answers that both methods answered."""
    first, second = ({row["question_id"]: row for row in _rows(store, keys)} for keys in (one, other))
    return [
        Pair(
            name, row["question"],
            tuple({p["text"]: None for side in (row, second[name]) for p in side["passages"]}),
            row["answer"], second[name]["answer"],
        )
        for name, row in first.items()
        if name in second and not row["answers"]
    ]  # fmt: skip


def _rows(store: Store, keys: list[str]) -> list[dict[str, Any]]:
    return [row for key in keys for row in read_rows(store.open("prediction", key) / "predictions.parquet")]

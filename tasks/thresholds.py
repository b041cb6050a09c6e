"""Retrieval thresholds of FLARE and DRAGIN, chosen on alignment questions.

The published thresholds do not suit newer models, which are overconfident and seldom fall below them.
"""

import logging
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.methods.spec import spec_of
from dyprag.storage.artifacts import Record, Store
from dyprag.tasks.answering import make_method
from dyprag.tasks.corpora import stored_corpus
from dyprag.tasks.planning.answers import AnswerJob
from dyprag.tasks.planning.keys import threshold_key
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.work import base_model

logger = logging.getLogger("dyprag.tasks")
MOST_QUESTIONS = 32


@dataclass(frozen=True)
class Threshold:
    """A method's threshold on a data set, and the alignment questions that determine it.

    The questions are the data set's own, or those of other data sets if it has none.
    """

    key: str
    method: str
    dataset: str
    questions: tuple[str, ...]

    @staticmethod
    def of(plan: Plan, method: str, dataset: str) -> "Threshold":
        """The threshold for a plan's method and data set."""
        every = plan.corpus.alignment_questions
        asked = ([q for q in every if q.dataset == dataset] or list(every))[:MOST_QUESTIONS]
        asked = [q for q in asked if q.chain_of_thought == asked[0].chain_of_thought]
        key = threshold_key(method, [(q, plan.config.evaluate.answer_length(q)) for q in asked], plan.model)
        return Threshold(key, method, dataset, tuple(question.id for question in asked))


def thresholds(plan: Plan, corpus_key: str, config: PipelineConfig) -> dict[tuple[str, str], float | None]:
    """The thresholds of methods that retrieve while they answer, by method and data set.

    They are as configured, or chosen on alignment questions. None without such questions: the published threshold.
    """
    chosen: dict[tuple[str, str], float | None] = {}
    for method in plan.methods:
        spec = spec_of(method)
        if not spec.retrieves:
            continue
        given = config.evaluate.threshold_of(method)
        for dataset in dict.fromkeys(question.dataset for question in plan.questions(method)):
            threshold = Threshold.of(plan, method, dataset)
            value = given
            if given is None and threshold.questions:
                value = choose_threshold(threshold, corpus_key, config)
            chosen[method, dataset] = value
            used = spec.threshold if value is None else value
            logger.info("%s on %s: threshold %.3g", method, dataset or "the corpus", used)
    return chosen


def choose_threshold(threshold: Threshold, corpus_key: str, config: PipelineConfig) -> float:
    """The value at which half of the alignment questions would have triggered a retrieval."""
    store = Store(config.store)
    record = store.find("threshold", threshold.key) or _measure(threshold, corpus_key, config)
    return float(record.measures["threshold"])


@task(name="threshold", task_run_name="threshold of {threshold.method}, {threshold.dataset}", cache_policy=NO_CACHE)
def _measure(threshold: Threshold, corpus_key: str, config: PipelineConfig) -> Record:
    from dyprag.adapters.generation import Sampling
    from dyprag.methods.protocol import Asked
    from dyprag.methods.rounds import choose_threshold
    from dyprag.runtime.batching import compute

    corpus = stored_corpus(config.store, corpus_key)
    wanted = set(threshold.questions)
    questions = [question for question in corpus.alignment_questions if question.id in wanted]
    job = AnswerJob("threshold", "", threshold.method, threshold.dataset, (), (), threshold=0.0)
    method: Any = make_method(job, corpus_key, config)
    asked = [Asked(question.question, (), question.chain_of_thought) for question in questions]
    sampling, base = Sampling(config.evaluate.answer_length(questions[0])), base_model(config)
    value = compute(lambda: choose_threshold(base, method, asked, sampling, config.evaluate.batch_size))
    record = Record(
        "threshold", threshold.key, [], {"method": threshold.method, "dataset": threshold.dataset},
        measures={"threshold": value, "questions": len(questions)},
    )  # fmt: skip
    return Store(config.store).write(record, lambda folder: None)

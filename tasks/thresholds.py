"""When FLARE and DRAGIN retrieve: thresholds chosen on alignment questions, since newer models are overconfident and
seldom fall below those that were published."""

from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import content_key
from dyprag.model.prompts import ANSWERS_VERSION, PROMPTS_VERSION, REASONING_VERSION
from dyprag.storage.artifacts import Record, Store
from dyprag.tasks.evaluate import AnswerJob, answer_length, make_method, stored_corpus
from dyprag.tasks.plan import Plan
from dyprag.tasks.work import base_model

MOST_QUESTIONS = 32
# The authors' for most data sets (LLaMA-2-7B). FLARE's is for one less the mean probability of a sentence.
PUBLISHED = {"flare": 0.08, "dragin": 0.8}


@dataclass(frozen=True)
class Threshold:
    """A method's threshold on a data set, and the alignment questions that tell it: its own, or where it has none those
    of the other data sets."""

    key: str
    method: str
    dataset: str
    questions: tuple[str, ...]

    @staticmethod
    def of(plan: Plan, method: str, dataset: str) -> "Threshold":
        """The threshold that a plan needs."""
        every = plan.corpus.alignment_questions
        asked = ([q for q in every if q.dataset == dataset] or list(every))[:MOST_QUESTIONS]
        asked = [q for q in asked if q.chain_of_thought == asked[0].chain_of_thought]
        settings = {
            "prompts": PROMPTS_VERSION, "reasoning": REASONING_VERSION, "answers": ANSWERS_VERSION, **plan.model
        }  # fmt: skip
        parts = [method, *(str((q.question, q.chain_of_thought, answer_length(q, plan.config))) for q in asked)]
        return Threshold(content_key("threshold", parts, settings), method, dataset, tuple(q.id for q in asked))


def choose_threshold(threshold: Threshold, corpus_key: str, config: PipelineConfig) -> float:
    """The value at which half of the alignment questions would have retrieved."""
    store = Store(config.store)
    record = store.find("threshold", threshold.key) or _measure(threshold, corpus_key, config)
    return float(record.measures["threshold"])


@task(name="threshold", task_run_name="threshold of {threshold.method}, {threshold.dataset}", cache_policy=NO_CACHE)
def _measure(threshold: Threshold, corpus_key: str, config: PipelineConfig) -> Record:
    from dyprag.adapters.generation import Sampling
    from dyprag.methods import Asked, choose_threshold
    from dyprag.runtime.batching import compute

    corpus = stored_corpus(config.store, corpus_key)
    wanted = set(threshold.questions)
    questions = [question for question in corpus.alignment_questions if question.id in wanted]
    job = AnswerJob("threshold", "", threshold.method, threshold.dataset, (), ())
    method: Any = make_method(job, corpus_key, config)
    asked = [Asked(question.question, (), question.chain_of_thought) for question in questions]
    sampling, base = Sampling(answer_length(questions[0], config)), base_model(config)
    value = compute(lambda: choose_threshold(base, method, asked, sampling, config.evaluate.batch_size))
    record = Record(
        "threshold", threshold.key, [], {"method": threshold.method, "dataset": threshold.dataset},
        measures={"threshold": value, "questions": len(questions)},
    )  # fmt: skip
    return Store(config.store).write(record, lambda folder: None)

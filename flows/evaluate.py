"""Stage 3: every method answers the test questions; the answers are scored and reported (§3.3, §4)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.documents import Found, Question, content_key
from dyprag.errors import CorpusError, StoreError
from dyprag.prompts import PROMPTS_VERSION, REASONING_VERSION
from flows.stage import Stage, Summary, end_state, stage, with_retries
from flows.train_translator import translator_jobs, translator_key
from storage.artifacts import Record
from tasks.controls import ControlJob, make_control
from tasks.evaluate import AnswerJob, answer_batch, answer_length, passages_of
from tasks.judge import judge_methods
from tasks.plan import Plan, family, needs_adapters, needs_translator
from tasks.report import score_run, write_report
from tasks.thresholds import Threshold, choose_threshold

LOOPING = ("flare", "dragin")  # methods that retrieve while they answer


@flow(
    name="evaluate", flow_run_name="evaluate {config.corpus.documents}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
def evaluate(config: PipelineConfig = PipelineConfig()) -> State[Any]:
    """Answer the questions with each method, one task a method and batch, then score and report."""
    return end_state(config, [evaluate_methods(config)])


def evaluate_methods(config: PipelineConfig) -> Summary:
    """The work of the flow; gives its summary."""
    with stage(config, "evaluate") as run:
        corpus_key = run.require_corpus()
        if not run.plan.corpus.questions:
            raise CorpusError(
                f"corpus {run.config.corpus.documents}", "there are no questions to evaluate it with",
                "Give a file of questions: --set corpus.questions=FILE.",
            )  # fmt: skip
        sources = Sources(run)
        _make_controls(run, sources, corpus_key)
        jobs = answer_jobs(run.plan, sources, retrieve(run, corpus_key), _thresholds(run, corpus_key))
        task = with_retries(answer_batch, run.config)
        work = run.fan_out(
            jobs, run.stored("prediction"), lambda some: task.submit(some[0], corpus_key, run.config)
        )  # fmt: skip
        summary = run.summary(work)
        judgements = _judge(run, jobs)
        score_run(run.store, run.catalogue, run.plan, run.run_id, jobs, judgements)
        report = write_report(run.store, run.catalogue, run.run_id, run.config, {run.run_id: ""})
        create_markdown_artifact(report.markdown_with_pictures, key="report", description="Results of the evaluation")
        create_table_artifact(report.rows, key="results", description="Scores by method and split")
        return summary


class Sources:
    """Keys of what the methods draw on: adapters and embeddings by document key, the translator, the controls.

    Raises:
        StoreError: a method is asked for whose artifacts have not been made.
    """

    def __init__(self, run: Stage) -> None:
        plan, store, methods = run.plan, run.store, run.plan.methods
        self.adapters = {d.key: key for d in plan.parametrized if store.find("adapter", key := plan.adapter_key(d))}
        self.embeddings = {d.key: key for d in plan.documents if store.find("embedding", key := plan.embedding_key(d))}
        if not self.adapters and any(map(needs_adapters, methods)):
            raise StoreError(f"store {store.root}", "no document has an adapter yet", "Run: dyprag parametrize.")
        self.pairs = tuple(translator_jobs(run)) if any(map(needs_translator, methods)) else ()
        self.translator = translator_key(run, list(self.pairs))
        trained = store.find("translator", self.translator) is not None and len(self.embeddings) == len(plan.documents)
        if not trained and any(method.startswith("dyprag") for method in methods):
            raise StoreError(
                f"store {store.root}", "the translator is not trained yet", "Run: dyprag train-translator."
            )
        self.controls = {job.document_id: job for job in self._controls(plan, methods)}

    def _controls(self, plan: Plan, methods: Sequence[str]) -> list[ControlJob]:
        """What the controls asked for inject."""
        config, pairs = plan.config, self.pairs
        lora = {"lora": config.lora.material(), **plan.model}
        jobs = [ControlJob("zero", content_key("adapter", ["zero"], lora))]
        if pairs:
            adapters, embeddings = [a.key for a, _ in pairs], [e.key for _, e in pairs]
            products = [key for adapter, _ in pairs for key in adapter.upstream]
            training = {"parametrize": config.parametrize.material(), "prompts": PROMPTS_VERSION, **lora}
            mean = content_key("adapter", ["mean", *adapters])
            translated = content_key("adapter", ["mean", self.translator, *embeddings])
            jobs += [
                ControlJob("generic", content_key("adapter", ["generic", *products], training), pairs),
                ControlJob("prag-mean", mean, pairs),
                ControlJob("dyprag-mean", translated, pairs, self.translator),
            ]
        wanted = {control_of(method) for method in methods}
        return [job for job in jobs if job.document_id in wanted]


def control_of(method: str) -> str:
    """Which one adapter for all questions a method injects; empty for none."""
    name = method.replace("-combine", "")
    return name if name in ("zero", "generic", "prag-mean", "dyprag-mean") else ""


def _make_controls(run: Stage, sources: Sources, corpus_key: str) -> None:
    task = with_retries(make_control, run.config)
    for job in sources.controls.values():
        if run.store.find("adapter", job.key) is None:
            task.submit(job, corpus_key, run.config).result()


def _thresholds(run: Stage, corpus_key: str) -> dict[tuple[str, str], float]:
    """FLARE's and DRAGIN's thresholds by method and data set: as set, or as the alignment questions tell."""
    chosen: dict[tuple[str, str], float] = {}
    for method in LOOPING:
        if method not in run.plan.methods:
            continue
        given = getattr(run.config.evaluate, f"{method}_threshold")
        for dataset in dict.fromkeys(q.dataset for q in run.plan.corpus.questions):
            threshold = Threshold.of(run.plan, method, dataset)
            chosen[method, dataset] = choose_threshold(threshold, corpus_key, run.config) if given is None else given
    return chosen


def _judge(run: Stage, jobs: Sequence[AnswerJob]) -> list[Record]:
    """What an LLM says of the pairs of methods that are set, on questions without answers of their own; nothing where
    no judge is named."""
    settings = run.config.judge
    asked = {q.dataset for q in run.plan.corpus.questions if not q.answers}
    if not settings.api.model or not asked:
        return []
    task = with_retries(judge_methods, run.config)
    records = []
    for one, other in settings.pairs:
        keys = tuple([j.key for j in jobs if j.method == method and j.dataset in asked and
                      run.store.find("prediction", j.key)] for method in (one, other))  # fmt: skip
        if not all(keys):
            continue
        material = {"model": settings.api.model, "extra_body": settings.api.extra_body, "tries": settings.tries}
        key = content_key("judgement", [*keys[0], "against", *keys[1]], material)
        record = run.store.find("judgement", key)
        records.append(record or task.submit(one, other, key, keys, run.config).result())
    return records


def retrieve(run: Stage, corpus_key: str) -> dict[str, Found]:
    """What is found for each test question, by its id."""
    corpus = run.plan.corpus
    if corpus.retrieved is not None:
        return dict(corpus.retrieved)
    retriever = passages_of(run.config.store, corpus_key, corpus, "")
    count = run.config.evaluate.passages
    return {
        question.id: tuple((hit.document.id, hit.score) for hit in retriever.search(question.question, count))
        for question in corpus.questions
    }


def answer_jobs(
    plan: Plan, sources: Sources, found: dict[str, Found], thresholds: dict[tuple[str, str], float]
) -> list[AnswerJob]:
    """A job for each method and batch of the questions; its key holds all that the answers depend on."""
    places = {question.id: place for place, question in enumerate(plan.corpus.questions)}
    size = plan.config.evaluate.batch_size
    jobs = []
    for method in plan.methods:
        questions = plan.questions(method)
        others = wrong_documents(questions, found) if method.endswith("-wrong") else None
        for dataset in dict.fromkeys(question.dataset for question in questions):
            mine = [question for question in questions if question.dataset == dataset]
            for start in range(0, len(mine), size):
                batch = mine[start : start + size]
                injected = None if others is None else tuple(others[question.id] for question in batch)
                name = f"{method}, {f'{dataset}, ' if dataset else ''}questions {start + 1} to {start + len(batch)}"
                job = AnswerJob(
                    name, "", method, dataset, tuple(places[question.id] for question in batch),
                    tuple(found.get(question.id, ()) for question in batch), injected,
                    threshold=thresholds.get((method, dataset), 0.0),
                )  # fmt: skip
                jobs.append(_keyed(plan, linked(plan, sources, job), batch))
    return jobs


def wrong_documents(questions: Sequence[Question], found: dict[str, Found]) -> dict[str, Found]:
    """For each question as many documents as were found for it, all of them found for others of its data set and none
    its own or among its gold ones; with its own scores, so that a merge by scores weighs them alike."""
    wrong: dict[str, Found] = {}
    for dataset in dict.fromkeys(question.dataset for question in questions):
        mine = [question for question in questions if question.dataset == dataset]
        # in an order of its own: neighbours in a file are often about the same thing
        order = sorted(mine, key=lambda question: content_key("wrong", [question.id]))
        for place, question in enumerate(order):
            its = found.get(question.id, ())
            own = {identity for identity, _ in its} | set(question.documents)
            turned = (identity for q in [*order[place + 1 :], *order[:place]] for identity, _ in found.get(q.id, ()))
            others = islice(dict.fromkeys(identity for identity in turned if identity not in own), len(its))
            wrong[question.id] = tuple((other, score) for other, (_, score) in zip(others, its, strict=False))
    return wrong


def linked(plan: Plan, sources: Sources, job: AnswerJob) -> AnswerJob:
    """The job with the keys of the artifacts that it draws on."""
    if name := control_of(job.method):
        return replace(job, control=sources.controls[name].key)
    documents = {d.id: d.key for d in plan.corpus.documents}
    used = [documents[identity] for found in job.injected or job.found for identity, _ in found]
    if family(job.method).startswith("prag"):
        return replace(job, adapters={key: sources.adapters[key] for key in used if key in sources.adapters})
    if family(job.method).startswith("dyprag"):
        embeddings = {key: sources.embeddings[key] for key in used}
        return replace(job, embeddings=embeddings, translator=sources.translator)
    return job


def _keyed(plan: Plan, job: AnswerJob, batch: Sequence[Question]) -> AnswerJob:
    """The job under the key of its predictions."""
    settings, method = plan.config.evaluate, family(job.method)
    parametric = bool(job.adapters or job.embeddings)
    merge = (settings.prag_merge if method.startswith("prag") else settings.dyprag_merge) if parametric else ""
    documents = {d.id: d.key for d in plan.corpus.documents}

    def seen(found: Found) -> list[Any]:
        return [(documents[i], round(score, 4) if merge == "weighted" else 0) for i, score in found]

    in_prompt = job.method == "rag" or "-combine" in job.method
    parts = [
        str((q.id, q.dataset, q.question, q.answers, q.type, q.documents, q.chain_of_thought, q.believed,
             seen(job.found[place]) if in_prompt or parametric else [],
             seen(job.injected[place]) if job.injected else []))
        for place, q in enumerate(batch)
    ]  # fmt: skip
    used = {
        **settings.material(), "max_new_tokens": answer_length(batch[0], plan.config), "merge": merge,
        "prompts": PROMPTS_VERSION, "reasoning": REASONING_VERSION if batch[0].chain_of_thought else 0, **plan.model,
    }  # fmt: skip
    if job.method in LOOPING:
        used |= {"threshold": job.threshold, "passages_key": plan.corpus.passages.get(job.dataset, plan.corpus_key)}
    key = content_key("prediction", [job.method, *sorted(job.inputs), *parts], used)
    return replace(job, key=key)

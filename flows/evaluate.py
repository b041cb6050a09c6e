"""Stage 3: every method answers the test questions; the answers are scored and reported (§3.3, §4)."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Document, Found, Question, content_key
from dyprag.corpora.retrieval import RETRIEVAL_VERSION
from dyprag.errors import CorpusError, StoreError
from dyprag.evaluation.judge import prompt
from dyprag.evaluation.metrics import answer_presence
from dyprag.evaluation.report import brief_table
from dyprag.flows.endings import interruptible
from dyprag.flows.forms import UNTOUCHED, EvaluateForm
from dyprag.flows.overview import run_name
from dyprag.flows.page import show_report
from dyprag.flows.progress import stage_progress
from dyprag.flows.stage import Stage, Summary, end_state, failed_work, stage, with_retries
from dyprag.flows.train_translator import choose_translator, translator_jobs
from dyprag.model.prompts import ANSWERS_VERSION, PROMPTS_VERSION, REASONING_VERSION
from dyprag.storage.artifacts import Record
from dyprag.storage.catalogue import Work
from dyprag.tasks.controls import CONTROLS_VERSION, ControlJob, make_control
from dyprag.tasks.evaluate import AnswerJob, answer_batch, answer_length, passages_of
from dyprag.tasks.judge import judge_methods
from dyprag.tasks.plan import LOOPING, Plan, family, needs_adapters, needs_training_pairs, shows_passages
from dyprag.tasks.report import score_run, write_report
from dyprag.tasks.telling import told
from dyprag.tasks.thresholds import PUBLISHED, Threshold, choose_threshold

logger = logging.getLogger("dyprag.flows")


@flow(
    name="evaluate", flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]
)  # fmt: skip
@interruptible
def evaluate(config: EvaluateForm = UNTOUCHED) -> State[Any]:
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
        lost = _make_controls(run, sources, corpus_key)
        found = retrieve(run, corpus_key)
        jobs = answer_jobs(run.plan, sources, found, _thresholds(run, corpus_key))
        task = with_retries(answer_batch, run.config)
        work = run.fan_out(
            jobs, run.stored("prediction"), lambda some: task.submit(some[0], corpus_key, run.config),
            weigh=lambda job: len(job.questions),
        )  # fmt: skip
        score_run(run.store, run.catalogue, run.plan, run.run_id, jobs, found)
        report = write_report(run.store, run.catalogue, run.run_id, run.config, {run.run_id: ""})
        if judgements := _judge(run, jobs):  # what comes last loses nothing where it fails
            score_run(run.store, run.catalogue, run.plan, run.run_id, jobs, found, judgements)
            report = write_report(run.store, run.catalogue, run.run_id, run.config, {run.run_id: ""})
        summary = run.summary([*work, *lost])
        show_report(report.report.folder, run.run_id, brief_table(report.rows))
        description = "Results of the evaluation"
        told(create_markdown_artifact, report.markdown_with_pictures, key="report", description=description)
        told(create_table_artifact, report.rows, key="results", description="Scores by method and split")
        return summary


class Sources:
    """Keys of what the methods draw on: adapters and embeddings by document key, the translator, the controls.

    Raises:
        StoreError: a method is asked for whose artifacts have not been made.
    """

    def __init__(self, run: Stage) -> None:
        plan, store, methods = run.plan, run.store, run.plan.methods
        self.adapters = {d.key: key for d in plan.parametrized if store.find("adapter", key := plan.adapter_key(d))}
        embedded = plan.documents if plan.embedded else []
        self.embeddings = {d.key: key for d in embedded if store.find("embedding", key := plan.embedding_key(d))}
        if not self.adapters and any(map(needs_adapters, methods)):
            raise StoreError(f"store {store.root}", "no document has an adapter yet", "Run: dyprag parametrize.")
        given = run.config.translator.given
        self.pairs = tuple(translator_jobs(run, given)) if any(map(needs_training_pairs, methods)) else ()
        self.translator, *_ = choose_translator(run, list(self.pairs))
        if any(method.startswith("dyprag") for method in methods):
            if store.find("translator", self.translator) is None:
                raise StoreError(
                    f"store {store.root}", "the translator is not trained yet", "Run: dyprag train-translator."
                )
            if len(self.embeddings) < len(embedded):
                raise StoreError(
                    f"store {store.root}", "not every document is embedded yet", "Run: dyprag train-translator."
                )
        self.controls = {job.document_id: job for job in self._controls(plan, methods)}

    def _controls(self, plan: Plan, methods: Sequence[str]) -> list[ControlJob]:
        """What the controls asked for inject."""
        config, pairs = plan.config, self.pairs
        lora = {"lora": config.lora.material(), "recipe": CONTROLS_VERSION, **plan.model}
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


def _make_controls(run: Stage, sources: Sources, corpus_key: str) -> list[Work]:
    """Make what the controls inject. One that fails takes its own methods out, and nothing else; gives the failures."""
    task = with_retries(make_control, run.config)
    failed = []
    missing = [job for job in sources.controls.values() if run.store.find("adapter", job.key) is None]
    with stage_progress("controls", len(missing), len(sources.controls) - len(missing)) as advance:
        for job in missing:
            result: Any = task.submit(job, corpus_key, run.config).result(raise_on_failure=False)
            if isinstance(result, BaseException):
                failed.append(failed_work(job, result))
                del sources.controls[job.document_id]
            advance(1, int(isinstance(result, BaseException)))
    run.catalogue.record_work(run.run_id, run.name, failed)
    return failed


def _thresholds(run: Stage, corpus_key: str) -> dict[tuple[str, str], tuple[float, bool]]:
    """FLARE's and DRAGIN's thresholds by method and data set, and whether they are the published ones: as set, or as
    alignment questions tell."""
    chosen: dict[tuple[str, str], tuple[float, bool]] = {}
    for method in LOOPING:
        if method not in run.plan.methods:
            continue
        given = getattr(run.config.evaluate, f"{method}_threshold")
        for dataset in dict.fromkeys(q.dataset for q in run.plan.questions(method)):
            threshold = Threshold.of(run.plan, method, dataset)
            if given is not None:
                chosen[method, dataset] = given, False
            elif not threshold.questions:
                chosen[method, dataset] = PUBLISHED[method], True
            else:
                chosen[method, dataset] = choose_threshold(threshold, corpus_key, run.config), False
            logger.info("%s on %s: threshold %.3g", method, dataset or "the corpus", chosen[method, dataset][0])
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
        key = content_key("judgement", [prompt().digest, *keys[0], "against", *keys[1]], material)
        record: Any = run.store.find("judgement", key)
        record = record or task.submit(one, other, key, keys, run.config).result(raise_on_failure=False)
        if isinstance(record, BaseException):
            logger.warning("%s against %s is not judged: %s", one, other, record)
            run.reason = str(record)
        else:
            records.append(record)
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
    plan: Plan, sources: Sources, found: dict[str, Found], thresholds: dict[tuple[str, str], tuple[float, bool]]
) -> list[AnswerJob]:
    """A job for each method and batch of the questions; its key holds all that the answers depend on."""
    places = {question.id: place for place, question in enumerate(plan.corpus.questions)}
    size = plan.config.evaluate.batch_size
    jobs = []
    for method in plan.methods:
        if (name := control_of(method)) and name not in sources.controls:
            logger.warning("%s is left out: there are no training documents to make it of.", method)
            continue
        questions = plan.questions(method)
        others = wrong_documents(plan, questions, found) if method.endswith("-wrong") else None
        if others is not None:
            questions = [question for question in questions if others[question.id]]
        for dataset in dict.fromkeys(question.dataset for question in questions):
            mine = [question for question in questions if question.dataset == dataset]
            for start in range(0, len(mine), size):
                batch = mine[start : start + size]
                injected = None if others is None else tuple(others[question.id] for question in batch)
                name = f"{method}, {f'{dataset}, ' if dataset else ''}questions {start + 1} to {start + len(batch)}"
                threshold, published = thresholds.get((method, dataset), (0.0, False))
                job = AnswerJob(
                    name, "", method, dataset, tuple(places[question.id] for question in batch),
                    tuple(found.get(question.id, ()) for question in batch), injected, threshold=threshold,
                    published=published,
                )  # fmt: skip
                jobs.append(_keyed(plan, linked(plan, sources, job), batch))
    return jobs


def wrong_documents(plan: Plan, questions: Sequence[Question], found: dict[str, Found]) -> dict[str, Found]:
    """For each question as many documents as were found for it, all of them found for others of its data set: none its
    own, of the same title, or with an answer to it in them. They get its own scores, so that a merge by scores weighs
    them alike. A question that no such document is left for gets none, and is left out of the control."""
    documents = {document.id: document for document in plan.corpus.documents}
    wrong: dict[str, Found] = {}
    for dataset in dict.fromkeys(question.dataset for question in questions):
        mine = [question for question in questions if question.dataset == dataset]
        # in an order of its own: neighbours in a file are often about the same thing
        order = sorted(mine, key=lambda question: content_key("wrong", [question.id]))
        for place, question in enumerate(order):
            its = found.get(question.id, ())
            own = [documents[i] for i in (*(i for i, _ in its), *question.documents) if i in documents]
            keys, titles = {d.key for d in own}, {d.title for d in own if d.title}
            turned = (documents[i] for q in [*order[place + 1 :], *order[:place]] for i, _ in found.get(q.id, ()))
            others = (
                d.id for d in dict.fromkeys(turned)
                if d.key not in keys and d.title not in titles and not _answers(d, question)
            )  # fmt: skip
            wrong[question.id] = tuple((other, score) for other, (_, score) in zip(others, its, strict=False))
    return wrong


def _answers(document: Document, question: Question) -> bool:
    """Whether a document holds an answer; a yes or no is in none of them."""
    names = [answer for answer in question.answers if answer.lower() not in ("yes", "no")]
    return bool(names) and answer_presence(document.passage, names)


def linked(plan: Plan, sources: Sources, job: AnswerJob) -> AnswerJob:
    """The job with the keys of the artifacts that it draws on."""
    if name := control_of(job.method):
        summed = family(job.method).startswith("prag") and plan.config.evaluate.prag_merge == "sum"
        return replace(job, control=sources.controls[name].key, summed=summed)
    used = [plan.keys[identity] for found in job.injected or job.found for identity, _ in found]
    if family(job.method).startswith("prag"):
        return replace(job, adapters={key: sources.adapters[key] for key in used if key in sources.adapters})
    if family(job.method).startswith("dyprag"):
        embeddings = {key: sources.embeddings[key] for key in used} if plan.embedded else {}
        return replace(job, embeddings=embeddings, translator=sources.translator)
    return job


def _keyed(plan: Plan, job: AnswerJob, batch: Sequence[Question]) -> AnswerJob:
    """The job under the key of its predictions."""
    settings, method = plan.config.evaluate, family(job.method)
    merge = (settings.prag_merge if method.startswith("prag") else settings.dyprag_merge) if job.parametric else ""

    def seen(found: Found) -> list[Any]:
        return [(plan.keys[i], round(score, 4) if merge == "weighted" else 0) for i, score in found]

    in_prompt = shows_passages(job.method)
    parts = [
        str((q.id, q.dataset, q.question, q.answers, q.type, q.documents, q.chain_of_thought, q.believed,
             seen(job.found[place]) if in_prompt or (job.parametric and not job.injected) else [],
             seen(job.injected[place]) if job.injected else []))
        for place, q in enumerate(batch)
    ]  # fmt: skip
    used = {
        "max_new_tokens": answer_length(batch[0], plan.config), "merge": merge, "answers": ANSWERS_VERSION,
        "prompts": PROMPTS_VERSION, "reasoning": REASONING_VERSION if batch[0].chain_of_thought else 0, **plan.model,
    }  # fmt: skip
    if job.parametric or job.control:
        gate = settings.gate_of(job.method)
        used |= {"strength": settings.strength_of(job.method), "gate": None if gate is None else asdict(gate)}
    if in_prompt or job.method in ("vanilla", *LOOPING):
        used |= {"form": asdict(settings.form())}
    if job.summed:
        used |= {"times": [len(found) for found in job.found]}
    if job.method in LOOPING:
        used |= {
            "threshold": job.threshold,
            "published": job.published,
            "passages": settings.passages,
            "retrieval": RETRIEVAL_VERSION,
            "pool": plan.corpus.passages.get(job.dataset, plan.corpus_key),
        }
    key = content_key("prediction", [job.method, *sorted(job.inputs), *parts], used)
    return replace(job, key=key)

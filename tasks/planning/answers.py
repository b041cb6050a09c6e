"""The jobs of an evaluation: each method on each batch of questions, and the adapters that controls inject."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dyprag.corpora.documents import Document, Found, Question, content_key
from dyprag.errors import StoreError
from dyprag.evaluation.metrics import answer_presence
from dyprag.methods.spec import spec_of
from dyprag.storage.artifacts import Store
from dyprag.tasks.planning import keys
from dyprag.tasks.planning.jobs import PairJobs
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.planning.training import Planned, choose_translator, translator_jobs

logger = logging.getLogger("dyprag.tasks")

Pairs = tuple[PairJobs, ...]
Thresholds = Mapping[tuple[str, str], float | None]  # by method and data set; None: the published threshold


@dataclass(frozen=True)
class AnswerJob:
    """A method, a batch of questions from one data set, and everything that the answers depend on.

    Attributes:
        label: The name in the catalogue and the UI.
        questions: Positions of the questions in the corpus.
        found: The documents retrieved for each question.
        injected: The documents whose adapters are injected instead (the control with wrong documents).
        adapters: Adapter keys by document key.
        embeddings: Embedding keys by document key.
        by_embedding: The translator uses embeddings.
        control: The key of the adapter that is injected for every question.
        per_document: The control's adapter is added once per retrieved document.
        threshold: For methods that retrieve while they answer; None: the published one.
    """

    label: str
    key: str
    method: str
    dataset: str
    questions: tuple[int, ...]
    found: tuple[Found, ...]
    injected: tuple[Found, ...] | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, str] = field(default_factory=dict)
    by_embedding: bool = False
    translator: str = ""
    control: str = ""
    per_document: bool = False
    threshold: float | None = None
    document_key: str = ""

    @property
    def parametric(self) -> bool:
        """Whether adapters of a question's documents are injected."""
        return bool(self.adapters or self.translator)

    def can_translate(self, document_key: str) -> bool:
        """Whether the translator can make the document's adapter: it reads tokens, or the embedding exists."""
        return not self.by_embedding or document_key in self.embeddings

    @property
    def inputs(self) -> list[str]:
        """Keys of the artifacts that the answers depend on."""
        return [*self.adapters.values(), *self.embeddings.values(), *filter(None, (self.translator, self.control))]


@dataclass(frozen=True)
class ControlJob:
    """A control's adapter: its name, and the documents that it is made from."""

    label: str
    key: str
    pairs: Pairs = ()
    translator: str = ""
    document_key: str = ""


class Sources:
    """The stored artifacts that methods use: adapters and embeddings by document key, the translator, and controls by
    name.

    Raises:
        StoreError: A method needs artifacts that have not been made.
    """

    def __init__(self, plan: Plan, store: Store, pairs: Pairs, translator: str) -> None:
        specs = [spec_of(method) for method in plan.methods]
        self.adapters = {d.key: key for d in plan.parametrized if store.find("adapter", key := plan.adapter_key(d))}
        embedded = plan.documents if plan.embedded else []
        self.embeddings = {d.key: key for d in embedded if store.find("embedding", key := plan.embedding_key(d))}
        if not self.adapters and any(spec.injects == "trained" for spec in specs):
            raise StoreError(f"store {store.root}", "no document has an adapter yet", "Run: dyprag parametrize.")
        self.translator = translator
        if any(spec.uses_translator for spec in specs):
            if store.find("translator", translator) is None:
                raise StoreError(
                    f"store {store.root}", "no translator has been trained yet",
                    "Run: dyprag train-translator; or name one that is trained: --set translator.learned=packaged.",
                )  # fmt: skip
            if embedded and not self.embeddings:
                raise StoreError(
                    f"store {store.root}", "no document has been embedded yet", "Run: dyprag train-translator."
                )
        wanted = {spec.shared for spec in specs}
        self.controls = {
            job.label: job for job in control_jobs(plan, pairs, translator, self.embeddings) if job.label in wanted
        }


def sources_of(planned: Planned) -> Sources:
    """The stored artifacts that the plan's methods use.

    Raises:
        StoreError: A method needs artifacts that have not been made.
    """
    plan = planned.plan
    needed = any(spec_of(method).needs_training_pairs for method in plan.methods)
    pairs = tuple(translator_jobs(planned, planned.config.translator.given)) if needed else ()
    translator, *_ = choose_translator(planned, list(pairs))
    return Sources(plan, planned.store, pairs, translator)


def control_jobs(plan: Plan, pairs: Pairs, translator: str, embeddings: Mapping[str, str]) -> list[ControlJob]:
    """Jobs for every control adapter. Without training documents there is only the zero adapter.

    Args:
        embeddings: Keys of existing embeddings by document key.
    """
    config = plan.config
    jobs = [ControlJob("zero", keys.zero_adapter_key(config.lora, plan.model))]
    if pairs:
        products = [key for adapter, _ in pairs for key in adapter.upstream]
        generic = keys.generic_adapter_key(products, config.lora, config.parametrize, plan.model)
        trained = keys.mean_adapter_key([adapter.key for adapter, _ in pairs])
        embedded = tuple(p for p in pairs if not plan.embedded or p[1].document_key in embeddings)
        translated = keys.mean_adapter_key([translator, *(embedding.key for _, embedding in embedded)])
        jobs += [
            ControlJob("generic", generic, pairs),
            ControlJob("prag-mean", trained, pairs),
            ControlJob("dyprag-mean", translated, embedded, translator),
        ]
    return jobs


def answer_jobs(plan: Plan, sources: Sources, found: Mapping[str, Found], thresholds: Thresholds) -> list[AnswerJob]:
    """A job, with its key, for each method and each batch of a data set's questions.

    Args:
        found: Retrieved documents by question id.
    """
    jobs = []
    for method in plan.methods:
        spec = spec_of(method)
        if spec.shared and spec.shared not in sources.controls:
            logger.warning("%s is skipped: there are no training documents to make its adapter from.", method)
            continue
        questions = plan.questions(method)
        wrong = wrong_documents(plan, questions, found) if spec.kind == "wrong" else None
        if wrong is not None:
            questions = [question for question in questions if wrong[question.id]]
        for dataset in dict.fromkeys(question.dataset for question in questions):
            dataset_questions = [question for question in questions if question.dataset == dataset]
            for start in range(0, len(dataset_questions), plan.config.evaluate.batch_size):
                batch = dataset_questions[start : start + plan.config.evaluate.batch_size]
                job = _batch_job(plan, method, batch, start, found, wrong)
                job = linked(plan, sources, replace(job, threshold=thresholds.get((method, dataset))))
                pool = plan.corpus.passages.get(dataset, plan.corpus_key) if spec.retrieves else ""
                key = keys.prediction_key(job, batch, plan.config.evaluate, plan.document_keys, pool, plan.model)
                jobs.append(replace(job, key=key))
    return jobs


def _batch_job(
    plan: Plan, method: str, batch: Sequence[Question], start: int, found: Mapping[str, Found],
    wrong: Mapping[str, Found] | None,
) -> AnswerJob:  # fmt: skip
    """The job of a batch, still without artifact keys. `start` is the number of the data set's earlier questions."""
    dataset = batch[0].dataset
    label = f"{method}, {f'{dataset}, ' if dataset else ''}questions {start + 1} to {start + len(batch)}"
    return AnswerJob(
        label, "", method, dataset, tuple(plan.positions[question.id] for question in batch),
        tuple(found.get(question.id, ()) for question in batch),
        None if wrong is None else tuple(wrong[question.id] for question in batch),
    )  # fmt: skip


def wrong_documents(plan: Plan, questions: Sequence[Question], found: Mapping[str, Found]) -> dict[str, Found]:
    """For each question, as many documents as were retrieved for it, all retrieved for other questions of its data set.

    None of them is one of the question's own documents, has the same title as one, or contains an answer. They get the
    scores of the question's own documents, so that a merge by scores weighs them alike. A question for which no such
    document exists gets none and is left out of the control.
    """
    documents = {document.id: document for document in plan.corpus.documents}
    wrong: dict[str, Found] = {}
    for dataset in dict.fromkeys(question.dataset for question in questions):
        dataset_questions = [question for question in questions if question.dataset == dataset]
        # shuffled, since neighbours in a file are often about the same subject
        order = sorted(dataset_questions, key=lambda question: content_key("wrong", [question.id]))
        for position, question in enumerate(order):
            retrieved = found.get(question.id, ())
            own_documents = [documents[i] for i in (*(i for i, _ in retrieved), *question.documents) if i in documents]
            contents, titles = {d.key for d in own_documents}, {d.title for d in own_documents if d.title}
            candidates = (
                documents[i] for q in [*order[position + 1 :], *order[:position]] for i, _ in found.get(q.id, ())
            )
            chosen = (
                d.id for d in dict.fromkeys(candidates)
                if d.key not in contents and d.title not in titles and not _answers(d, question)
            )  # fmt: skip
            wrong[question.id] = tuple(
                (identity, score) for identity, (_, score) in zip(chosen, retrieved, strict=False)
            )
    return wrong


def _answers(document: Document, question: Question) -> bool:
    """Whether a document contains an answer; yes and no do not count."""
    names = [answer for answer in question.answers if answer.lower() not in ("yes", "no")]
    return bool(names) and answer_presence(document.passage, names)


def linked(plan: Plan, sources: Sources, job: AnswerJob) -> AnswerJob:
    """The job with the keys of the artifacts that its answers depend on."""
    spec = spec_of(job.method)
    if spec.shared:
        summed = spec.merging == "prag" and plan.config.evaluate.prag_merge == "sum"
        return replace(job, control=sources.controls[spec.shared].key, per_document=summed)
    used = [plan.document_keys[identity] for retrieved in job.injected or job.found for identity, _ in retrieved]
    if spec.injects == "trained":
        return replace(job, adapters={key: sources.adapters[key] for key in used if key in sources.adapters})
    if spec.injects == "translated":
        embeddings = {key: sources.embeddings[key] for key in used if key in sources.embeddings}
        return replace(job, embeddings=embeddings, by_embedding=plan.embedded, translator=sources.translator)
    return job

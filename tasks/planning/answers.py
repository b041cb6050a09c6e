"""The jobs of an evaluation: each method on each batch of questions, and the adapters that its controls inject."""

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
Thresholds = Mapping[tuple[str, str], float | None]  # by method and data set; None: the published one


@dataclass(frozen=True)
class AnswerJob:
    """A method on a batch of the questions of one data set, with all that the answers draw on.

    label: what the catalogue and the UI call it. questions: by their position in the corpus. found: the documents
    retrieved for each. injected: those whose adapters are injected instead (the control with wrong documents).
    adapters, embeddings: keys by document key. control: the key of the one adapter for all questions, and
    `per_document` whether it is added once for each document. threshold: of a method that retrieves while it answers;
    None: the published one.
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
    by_embedding: bool = False  # the translator draws on embeddings
    translator: str = ""
    control: str = ""
    per_document: bool = False
    threshold: float | None = None
    document_key: str = ""

    @property
    def parametric(self) -> bool:
        """Whether it injects adapters of a question's documents."""
        return bool(self.adapters or self.translator)

    def can_translate(self, document_key: str) -> bool:
        """Whether the translator can make a document's adapter: it reads all tokens, or there is an embedding."""
        return not self.by_embedding or document_key in self.embeddings

    @property
    def inputs(self) -> list[str]:
        """Keys of the artifacts that it draws on."""
        return [*self.adapters.values(), *self.embeddings.values(), *filter(None, (self.translator, self.control))]


@dataclass(frozen=True)
class ControlJob:
    """A control's adapter: its name, and the documents that it is made of."""

    label: str
    key: str
    pairs: Pairs = ()
    translator: str = ""
    document_key: str = ""


class Sources:
    """What the methods draw on, as far as it is stored: adapters and embeddings by document key, the translator, and
    the controls by name.

    Raises:
        StoreError: a method is asked for whose artifacts have not been made.
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
                    f"store {store.root}", "no translator has been trained yet", "Run: dyprag train-translator."
                )
            if embedded and not self.embeddings:
                raise StoreError(
                    f"store {store.root}", "no document has been embedded yet", "Run: dyprag train-translator."
                )
        wanted = {spec.shared for spec in specs}
        self.controls = {
            job.label: job for job in control_jobs(plan, pairs, translator, self.embeddings) if job.label in wanted
        }


def sources_of(planned: Planned) -> Sources:
    """What the methods of a plan draw on.

    Raises:
        StoreError: a method is asked for whose artifacts have not been made.
    """
    plan = planned.plan
    needed = any(spec_of(method).needs_training_pairs for method in plan.methods)
    pairs = tuple(translator_jobs(planned, planned.config.translator.given)) if needed else ()
    translator, *_ = choose_translator(planned, list(pairs))
    return Sources(plan, planned.store, pairs, translator)


def control_jobs(plan: Plan, pairs: Pairs, translator: str, embeddings: Mapping[str, str]) -> list[ControlJob]:
    """Every adapter that a control could inject; without training documents the zero adapter alone.

    Args:
        embeddings: keys of the embeddings that there are, by document key.
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
    """A job for each method and batch of the questions of a data set, under its key.

    Args:
        found: the documents retrieved for each question, by its id.
    """
    jobs = []
    for method in plan.methods:
        spec = spec_of(method)
        if spec.shared and spec.shared not in sources.controls:
            logger.warning("%s is left out: there are no training documents to make it of.", method)
            continue
        questions = plan.questions(method)
        others = wrong_documents(plan, questions, found) if spec.kind == "wrong" else None
        if others is not None:
            questions = [question for question in questions if others[question.id]]
        for dataset in dict.fromkeys(question.dataset for question in questions):
            asked = [question for question in questions if question.dataset == dataset]
            for start in range(0, len(asked), plan.config.evaluate.batch_size):
                batch = asked[start : start + plan.config.evaluate.batch_size]
                job = _batch_job(plan, method, batch, start, found, others)
                job = linked(plan, sources, replace(job, threshold=thresholds.get((method, dataset))))
                pool = plan.corpus.passages.get(dataset, plan.corpus_key) if spec.retrieves else ""
                key = keys.prediction_key(job, batch, plan.config.evaluate, plan.document_keys, pool, plan.model)
                jobs.append(replace(job, key=key))
    return jobs


def _batch_job(
    plan: Plan, method: str, batch: Sequence[Question], start: int, found: Mapping[str, Found],
    others: Mapping[str, Found] | None,
) -> AnswerJob:  # fmt: skip
    """A batch of a data set's questions, of which `start` came before; without what its answers draw on."""
    dataset = batch[0].dataset
    label = f"{method}, {f'{dataset}, ' if dataset else ''}questions {start + 1} to {start + len(batch)}"
    return AnswerJob(
        label, "", method, dataset, tuple(plan.positions[question.id] for question in batch),
        tuple(found.get(question.id, ()) for question in batch),
        None if others is None else tuple(others[question.id] for question in batch),
    )  # fmt: skip


def wrong_documents(plan: Plan, questions: Sequence[Question], found: Mapping[str, Found]) -> dict[str, Found]:
    """For each question as many documents as were found for it, all of them found for others of its data set: none its
    own, of the same title, or with an answer to it in them. They get its own scores, so that a merge by scores weighs
    them alike. A question that no such document is left for gets none, and is left out of the control."""
    documents = {document.id: document for document in plan.corpus.documents}
    wrong: dict[str, Found] = {}
    for dataset in dict.fromkeys(question.dataset for question in questions):
        asked = [question for question in questions if question.dataset == dataset]
        # in an order of its own: neighbours in a file are often about the same thing
        order = sorted(asked, key=lambda question: content_key("wrong", [question.id]))
        for position, question in enumerate(order):
            right = found.get(question.id, ())
            own = [documents[i] for i in (*(i for i, _ in right), *question.documents) if i in documents]
            contents, titles = {d.key for d in own}, {d.title for d in own if d.title}
            turned = (documents[i] for q in [*order[position + 1 :], *order[:position]] for i, _ in found.get(q.id, ()))
            others = (
                d.id for d in dict.fromkeys(turned)
                if d.key not in contents and d.title not in titles and not _answers(d, question)
            )  # fmt: skip
            wrong[question.id] = tuple((other, score) for other, (_, score) in zip(others, right, strict=False))
    return wrong


def _answers(document: Document, question: Question) -> bool:
    """Whether a document holds an answer; a yes or no is in none of them."""
    names = [answer for answer in question.answers if answer.lower() not in ("yes", "no")]
    return bool(names) and answer_presence(document.passage, names)


def linked(plan: Plan, sources: Sources, job: AnswerJob) -> AnswerJob:
    """The job with the keys of the artifacts that it draws on."""
    spec = spec_of(job.method)
    if spec.shared:
        summed = spec.merging == "prag" and plan.config.evaluate.prag_merge == "sum"
        return replace(job, control=sources.controls[spec.shared].key, per_document=summed)
    used = [plan.document_keys[identity] for found in job.injected or job.found for identity, _ in found]
    if spec.injects == "trained":
        return replace(job, adapters={key: sources.adapters[key] for key in used if key in sources.adapters})
    if spec.injects == "translated":
        embeddings = {key: sources.embeddings[key] for key in used if key in sources.embeddings}
        return replace(job, embeddings=embeddings, by_embedding=plan.embedded, translator=sources.translator)
    return job

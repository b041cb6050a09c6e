"""Read an experiment's data sets, split them, retrieve for them, and store the result as one corpus (§4.1)."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from dyprag.config import DataSetSettings, PipelineConfig
from dyprag.corpora.datasets import MULTI_HOP, DataSet, load_dataset
from dyprag.corpora.datasets.conflict import contradict
from dyprag.corpora.retrieval import (
    IndexedBM25,
    Retriever,
    build_index,
    is_built,
    recall,
    retriever_for,
)
from dyprag.corpora.retrieval import read_passages as stream_passages
from dyprag.errors import ConfigError, CorpusError
from dyprag.evaluation.experiments import variants
from dyprag.evaluation.splits import Part, assemble
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.files import file_checksum
from dyprag.storage.tables import read_passages, write_corpus, write_passages
from dyprag.tasks.planning.keys import passages_key, streamed_passages_key
from dyprag.tasks.planning.plan import Plan
from dyprag.tasks.worker import worker_for

logger = logging.getLogger("dyprag.tasks")
PASSAGES = 4  # retrievers that a process caches


@dataclass(frozen=True)
class Configured:
    """One configuration of an experiment: a name to show, its label in the report's tables, and its settings."""

    name: str
    label: str
    config: PipelineConfig


def configurations(config: PipelineConfig) -> list[Configured]:
    """The configurations of the experiment's grid."""
    name = str(config.experiment.name)
    return [Configured(variant.label or name, variant.label, variant.config) for variant in variants(config)]


def store_experiment(store: Store, config: PipelineConfig) -> Record:
    """Read an experiment's data sets and store them, with split and retrieved passages, as one corpus.

    Raises:
        ConfigError: The settings leave no question to ask, or no document to train a translator on that is needed.
        CorpusError: A data set's file is missing or malformed.
    """
    settings = config.experiment
    notes: dict[str, list[str]] = {}
    parts = []
    for dataset_settings in settings.sets:
        dataset, part = _part(store, config, dataset_settings)
        notes[dataset_settings.name] = list(dataset.notes)
        parts.append(part)
    corpus = assemble(parts, config.evaluate.passages, settings.alignment)
    if not corpus.questions:
        raise ConfigError(
            "setting 'experiment.sets'", "no data set has a usable test question",
            "Raise its 'questions', or correct its 'gold' or 'passages'.",
        )  # fmt: skip
    plan = Plan(config, corpus)
    if plan.translated and not config.translator.given and not corpus.alignment:
        raise ConfigError(
            "setting 'experiment.sets'",
            f"no document was chosen to train the translator on (there are {len(corpus.questions)} test questions)",
            "Lower 'questions' of a set, raise its 'alignment_questions' or 'alignment_documents', or use a trained "
            "translator: --set translator.learned=packaged.",
        )  # fmt: skip
    requested, available = settings.alignment, len(corpus.alignment or ())
    if requested is not None and available < requested:
        logger.warning(
            "experiment: %d alignment documents were requested, but the data sets provide only %d.",
            requested,
            available,
        )
    key = plan.corpus_key
    if record := store.find("corpus", key):
        return record
    recalls: dict[str, list[float]] = {}
    for question in corpus.questions:
        retrieved = [identity for identity, _ in (corpus.retrieved or {}).get(question.id, ())]
        if (share := recall(retrieved, question.documents)) is not None:
            recalls.setdefault(question.dataset, []).append(share)
    measures = {
        "documents": len(corpus.documents), "questions": len(corpus.questions), "notes": notes,
        "alignment": len(corpus.alignment or ()),
        "recall": {name: sum(shares) / len(shares) for name, shares in recalls.items()},
    }  # fmt: skip
    record = Record(
        "corpus", key, sorted(corpus.passages.values()), settings.model_dump(mode="json"), measures=measures
    )
    return store.write(record, lambda folder: write_corpus(folder, corpus))


def check_experiment(config: PipelineConfig) -> None:
    """Check an experiment before it starts.

    Raises:
        CorpusError: A data set's file is missing or malformed.
    """
    for dataset in variants(config)[0].config.experiment.sets:
        _read(config, dataset)


def _read(config: PipelineConfig, settings: DataSetSettings) -> tuple[DataSet, Path | None]:
    """A data set, and its passages file if that is streamed instead of read."""
    root = Path(config.experiment.data).expanduser()
    location = root / settings.location if settings.location else root
    passages = root / settings.passages if settings.passages else None
    streamed = passages is not None and passages.suffix in (".tsv", ".gz")
    if streamed and not passages.is_file():  # type: ignore[union-attr]
        raise CorpusError(
            f"passages {passages}", "there is no such file", f"Correct 'passages' of data set {settings.name}."
        )
    if streamed and settings.gold:
        raise ConfigError(
            f"data set {settings.name}",
            "gold passages cannot be identified in a streamed file",
            "Set only one of the two.",
        )
    dataset = load_dataset(settings.format or settings.name, location, None if streamed else passages)
    if streamed:  # gold documents are the data set's paragraphs, which a streamed file does not contain
        questions = tuple(replace(question, documents=()) for question in dataset.questions)
        dataset = replace(dataset, questions=questions)
    return dataset, passages if streamed else None


def _part(store: Store, config: PipelineConfig, settings: DataSetSettings) -> tuple[DataSet, Part]:
    dataset, streamed = _read(config, settings)
    believed: dict[str, tuple[str, ...]] = {}
    if settings.contradict:
        conflict = contradict(dataset, seed=0)
        dataset, believed = conflict.dataset, conflict.believed
    reasons = settings.chain_of_thought
    if reasons is None:
        reasons = bool(config.evaluate.reasoning) and bool({settings.format, settings.name} & MULTI_HOP)
    questions = tuple(
        replace(question, chain_of_thought=reasons, believed=believed.get(question.id, ()))
        for question in dataset.questions
    )
    if streamed is not None:
        key = streamed_passages_key(file_checksum(streamed))
        folder = index_folder(store, key)
        if not is_built(folder):
            logger.info("%s: indexing %s", settings.name, streamed)
            build_index(folder, stream_passages(streamed))
        return dataset, Part(settings, questions, (), IndexedBM25(folder), key)
    documents = tuple(document for document in dataset.documents if document.text)
    if not documents:
        return dataset, Part(settings, questions, (), None)
    key = passages_key(documents)
    if store.find("passages", key) is None:
        measures = {"documents": len(documents)}
        record = Record("passages", key, [], {"dataset": settings.name}, measures=measures)
        store.write(record, lambda folder: write_passages(folder, documents))
    retriever = None if settings.gold else retriever_for(documents, index_folder(store, key))
    return dataset, Part(settings, questions, documents, retriever, key)


def index_folder(store: Store, key: str) -> Path:
    """The folder of the index over these passages."""
    return store.root / "indexes" / key


def open_passages(store_root: str, key: str) -> Retriever:
    """A retriever over stored passages, opened once per process."""
    return worker_for(store_root).keep("passages", key, lambda: _open_passages(Store(store_root), key), PASSAGES)


def _open_passages(store: Store, key: str) -> Retriever:
    folder = index_folder(store, key)
    if is_built(folder) or store.find("passages", key) is None:  # of a streamed file only the index is stored
        return IndexedBM25(folder)
    return retriever_for(read_passages(store.open("passages", key)), folder)

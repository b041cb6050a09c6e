"""Stage 2: train the translator on doc-param pairs (§3.2)."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.model.files import learned_folder
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import read_augmentation, read_embedding, write_rows
from dyprag.tasks.planning.jobs import DocumentJob, PairJobs
from dyprag.tasks.work import base_model, ingested, is_retryable, training_progress, translator_memory

if TYPE_CHECKING:
    from dyprag.translators.align import Pair

SAMPLED = 32  # documents, new and seen, on which a translator's losses are compared


@task(name="train translator", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def train_translator_on(
    key: str, pairs: list[PairJobs], corpus_key: str, config: PipelineConfig, start: str = ""
) -> Record:
    """Train the translator on (adapter, embedding) pairs and store it with its learning curve.

    An interrupted training resumes from its last checkpoint.

    Args:
        key: The translator's key.
        pairs: For each training document, the jobs that made its adapter and its embedding.
        start: The key of the translator that provides the initial weights; empty: random weights.
    """
    from dyprag.translators.align import Losses, train_translator
    from dyprag.translators.hypernetwork import Translator
    from dyprag.translators.protocol import load_translator, save_translator

    store, base, lora = Store(config.store), base_model(config), config.lora

    def train() -> tuple[Translator, list[Losses]]:
        data = _read_pairs(pairs, corpus_key, config)
        model = Translator.for_model(base, config.translator, lora.rank, lora.alpha, lora.seed)
        if start:
            last: Any = load_translator(store.open("translator", start), base)
            model.load_state_dict(last.state_dict())
        return model, train_translator(
            base, model, data, config.translator, lambda at, of, losses: report(at, of, losses.total), checkpoint
        )

    checkpoint = store.checkpoint("translator", key)
    began, steps = perf_counter(), f"{config.translator.batch_size} samples"
    with training_progress("L_align") as report, translator_memory(steps, "Lower translator.batch_size"):
        translator, curve = compute(train)
    parameters = sum(parameter.numel() for parameter in translator.parameters())
    validations = [losses.validation for losses in curve if losses.validation is not None]
    record = Record(
        "translator", key, [*(part.key for pair in pairs for part in pair), *([start] if start else [])],
        config.translator.material(),
        seconds=perf_counter() - began,
        measures={"steps": len(curve), "parameters": parameters, "documents": len(pairs), "loss": curve[-1].total,
                  "dtype": str(base.dtype), **({"validation_loss": min(validations)} if validations else {})},
    )  # fmt: skip

    def fill(folder):  # type: ignore[no-untyped-def]
        save_translator(translator, folder)
        write_rows(folder / "curve.parquet", [{"step": i, **vars(x)} for i, x in enumerate(curve, start=1)])

    record = store.write(record, fill)
    checkpoint.unlink(missing_ok=True)
    return record


@task(name="look at new documents", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def rise_of_loss(
    translator: str,
    new: list[PairJobs],
    seen: list[PairJobs],
    corpus_key: str,
    config: PipelineConfig,
) -> float:
    """How much higher a translator's loss is on new documents than on documents it was trained on, as a share.

    The loss is the mean of L_pred over a sample of either documents.
    """
    from dyprag.translators.align import prediction_loss
    from dyprag.translators.protocol import load_translator

    base = base_model(config)
    model: Any = load_translator(Store(config.store).open("translator", translator), base)

    def loss(pairs: list[PairJobs]) -> float:
        sample = pairs[:: max(1, len(pairs) // SAMPLED)][:SAMPLED]
        return compute(lambda: prediction_loss(base, model, _read_pairs(sample, corpus_key, config), config.translator))

    return loss(new) / loss(seen) - 1


def _read_pairs(pairs: list[PairJobs], corpus_key: str, config: PipelineConfig) -> "list[Pair]":
    """The doc-param pairs of (adapter, embedding) jobs, with their documents' training samples."""
    import torch

    from dyprag.adapters.lora import load_peft
    from dyprag.adapters.samples import document_samples
    from dyprag.translators.align import Pair

    store, base = Store(config.store), base_model(config)
    settings, documents = config.parametrize, ingested(config.store, corpus_key)

    def read(adapter: DocumentJob, embedding: DocumentJob) -> Pair:
        augmentation = read_augmentation(store, adapter.upstream)
        document = documents[adapter.document_id]
        return Pair(
            torch.tensor(read_embedding(store.open("embedding", embedding.key))),
            load_peft(store.open("adapter", adapter.key)),
            document_samples(base, document, augmentation, settings.answer, settings.samples),
        )

    return [read(*jobs) for jobs in pairs]


@task(name="take translator", cache_policy=NO_CACHE)
def take_given_translator(key: str, config: PipelineConfig) -> Record:
    """Store the translator that the configuration provides, after checking that it fits the model."""
    from dyprag.translators.hypernetwork import convert_official
    from dyprag.translators.protocol import load_translator, require_model, save_translator

    base, given = base_model(config), config.translator
    if given.official:
        translator: Any = compute(lambda: convert_official(Path(str(given.official)), config.lora.rank))
        require_model(translator.shape, base, given.official)
        settings: dict[str, Any] = {"official": given.official, "lora": config.lora.material()}
    else:
        folder = learned_folder(str(given.learned), config.model.name)
        translator = compute(lambda: load_translator(folder, base))
        settings = {"learned": given.learned}
    parameters = sum(parameter.numel() for parameter in translator.parameters())
    record = Record("translator", key, [], settings, measures={"parameters": parameters})
    return Store(config.store).write(record, lambda folder: save_translator(translator, folder))

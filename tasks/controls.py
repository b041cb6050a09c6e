"""Make the adapters that controls inject for every question: the mean of adapters, a generic adapter, and zero."""

from math import ceil
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from dyprag.config import PipelineConfig
from dyprag.errors import DocumentError
from dyprag.runtime.batching import compute
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.tables import read_augmentation, read_embedding
from dyprag.tasks.planning.answers import ControlJob
from dyprag.tasks.work import base_model, ingested, is_retryable, one_document, stored_translator

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.adapters.samples import Sample

MOST_SAMPLES = 64  # training samples of the generic adapter, one per document
MOST_AVERAGED = 16  # documents in the mean of an attentive translator's adapters, since each adds its rank


@task(name="control", task_run_name="control {job.label}", cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def make_control(job: ControlJob, corpus_key: str, config: PipelineConfig) -> Record:
    """Make a control's adapter and store it."""
    from dyprag.adapters.lora import initial_adapters, save_peft
    from dyprag.methods.controls import zero_adapter

    store, base, lora = Store(config.store), base_model(config), config.lora

    def make() -> "Adapters":
        if job.label == "zero":
            return zero_adapter(initial_adapters(base, lora.rank, lora.alpha, lora.seed))
        if job.label == "generic":
            return _generic(job, corpus_key, config)
        return _mean(job, corpus_key, config)

    with one_document(job.label):
        adapter = compute(make)
        inputs = [part.key for pair in job.pairs for part in pair]
        record = Record("adapter", job.key, inputs, {"control": job.label, "lora": lora.material()})
        return store.write(record, lambda folder: save_peft(base, adapter, folder, config.model.name))


def _mean(job: ControlJob, corpus_key: str, config: PipelineConfig) -> "Adapters":
    """The mean of trained adapters, or of translated ones."""
    import torch

    from dyprag.adapters.lora import load_peft, merge
    from dyprag.methods.controls import mean_adapter

    store, base = Store(config.store), base_model(config)
    if not job.translator:
        return mean_adapter(load_peft(store.open("adapter", adapter.key)) for adapter, _ in job.pairs)
    translator = stored_translator(config.store, config.model, job.translator)
    with torch.inference_mode():
        if translator.reads_tokens:  # the A matrices differ, so the deltas are averaged
            documents = ingested(config.store, corpus_key)
            passages = [documents[adapter.document_id].passage for adapter, _ in job.pairs[:MOST_AVERAGED]]
            return merge(translator.translate(translator.read(base, passages)), "mean")
        embeddings = [read_embedding(store.open("embedding", embedding.key)) for _, embedding in job.pairs]
        return mean_adapter(translator.translate([torch.tensor(embedding)]) for embedding in embeddings)


def _generic(job: ControlJob, corpus_key: str, config: PipelineConfig) -> "Adapters":
    """Train one adapter on many documents' question-answer pairs: it learns their form, but no document.

    It takes as many steps as a single document's adapter, each on samples of several documents. More steps at this
    learning rate destroy the model.
    """
    from dyprag.adapters.parametrize import parametrize
    from dyprag.adapters.samples import document_samples

    store, base, documents = Store(config.store), base_model(config), ingested(config.store, corpus_key)
    settings, steps = config.parametrize, 1
    samples: list[Sample] = []
    for index, (adapter, _) in enumerate(job.pairs[:MOST_SAMPLES]):
        augmentation = read_augmentation(store, adapter.upstream)
        own_samples = document_samples(
            base, documents[adapter.document_id], augmentation, settings.answer, settings.samples
        )
        samples.append(own_samples[index % len(own_samples)])
        steps = max(steps, settings.epochs * ceil(len(own_samples) / settings.batch_size))
    settings = settings.model_copy(update={"epochs": 1, "shuffle": True, "batch_size": ceil(len(samples) / steps)})
    ((_, trained),) = parametrize(base, [samples], config.lora, settings)
    if isinstance(trained, Exception):
        raise trained
    if trained.diverged:
        raise DocumentError(
            "control 'generic'", "its training diverged: the loss became NaN or infinite",
            "Lower parametrize.learning_rate.",
        )  # fmt: skip
    return trained.adapter

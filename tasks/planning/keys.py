"""Keys: one function per kind of artifact, and the version numbers of the code that makes it.

A key is the hash of everything that an artifact depends on: the keys of its inputs, the relevant settings, the model,
and the versions of the code that makes it. `content_key` adds the version of the stored format. A change of anything in
a key makes the artifact again; what is not in a key must not change the artifact. A settings section's `material()`
returns its relevant settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

from dyprag.augmentation import WRITER_VERSION, local_version
from dyprag.augmentation.checks import CHECKS_VERSION
from dyprag.augmentation.prompt_files import prompt_file
from dyprag.config import AugmentSettings, EvaluateSettings, LoraSettings, ParametrizeSettings, PipelineConfig
from dyprag.corpora.documents import Corpus, Document, Found, Question, content_key
from dyprag.corpora.products import ProductName
from dyprag.corpora.retrieval import RETRIEVAL_VERSION
from dyprag.methods.spec import spec_of
from dyprag.model.prompts import ANSWERS_VERSION, PROMPTS_VERSION, REASONING_VERSION

if TYPE_CHECKING:
    from dyprag.evaluation.recall.benchmark import Condition
    from dyprag.tasks.planning.answers import AnswerJob
    from dyprag.translators.lessons.lesson import Lesson

# Version numbers of code that changes results. Those that are imported are defined beside the code that they describe.
CORPUS_LAYOUT = 2  # columns of a corpus' tables
CONTROLS_VERSION = 2  # how the controls' adapters are made
RECALL_VERSION = 2  # how fact recall is measured
LEARNING_VERSION = 1  # how translators are learned: raise it if the same settings give other weights
WRITING_VERSION = 1  # how question writers are learned: raise it if the same settings give other weights

Material = Mapping[str, object]  # settings that enter a key
ProductMaterial = tuple[list[str], dict[str, object]]  # inputs and settings


def corpus_key(corpus: Corpus) -> str:
    """A corpus: its documents by id and content, its questions, and an experiment's split and retrieved passages."""
    documents = [part for document in corpus.documents for part in (document.id, document.key)]
    questions = [str(astuple(question)) for question in (*corpus.questions, *corpus.alignment_questions)]
    apart = {
        "alignment": None if corpus.alignment is None else sorted(corpus.alignment),
        "retrieved": None if corpus.retrieved is None else dict(corpus.retrieved),
        "passages": dict(corpus.passages),
    }
    return content_key("corpus", [*documents, *questions], {"layout": CORPUS_LAYOUT, **apart})


def passages_key(documents: Sequence[Document]) -> str:
    """The passages of a data set."""
    return content_key("passages", [part for document in documents for part in (document.id, document.key)])


def streamed_passages_key(checksum: str) -> str:
    """A file of passages that is indexed but not stored."""
    return content_key("passages", [checksum])


def product_material(
    product: ProductName, augment: AugmentSettings, model: Material, writer: str = ""
) -> ProductMaterial:
    """The inputs and settings that enter the keys of all documents' products of one kind.

    With an endpoint, the inputs are the digests of the prompts. The local model has no prompt files, but rules that
    depend on the document; see `product_key`.

    Args:
        writer: The checksum of the question writer that writes the pairs; empty for none.
    """
    if augment.backend == "api":
        prompts = [product, "repair", *(["verify"] if product == "qa_pairs" else [])]
        inputs = [prompt_file(name, augment.prompts).digest for name in prompts]
        settings = augment.material_of(product)
    else:
        written = {"writer": [WRITER_VERSION, writer]} if writer and product == "qa_pairs" else {}
        inputs, settings = [], {**augment.material_of(product), **written, **model}
    return inputs, {**settings, "checks": CHECKS_VERSION}


def product_key(product: ProductName, document: Document, material: ProductMaterial) -> str:
    """A document's rewrites or question-answer pairs."""
    inputs, settings = material
    return content_key(product, [document.key, *(inputs or [local_version(document.text)])], settings)


def augmentation_key(products: Sequence[str]) -> str:
    """A document's augmentation, from the keys of its products."""
    return content_key("augmentation", list(products))


def adapter_material(
    lora: LoraSettings, parametrize: ParametrizeSettings, model: Material, start: str = ""
) -> dict[str, object]:
    """The settings that enter the keys of all trained adapters.

    Args:
        start: The checksum of the translator whose adapters training starts from; empty for none.
    """
    started = {"start": start} if start else {}
    return {
        "lora": lora.material(), "parametrize": parametrize.material(), "prompts": PROMPTS_VERSION, **started, **model,
    }  # fmt: skip


def adapter_key(augmentation: str, material: Material) -> str:
    """A document's trained adapter."""
    return content_key("adapter", [augmentation], material)


def imported_adapter_key(document: Document, checksums: Sequence[str], settings: Material) -> str:
    """A document's imported adapter, from the checksums of its files."""
    return content_key("adapter", ["imported", document.key, *checksums], settings)


def zero_adapter_key(lora: LoraSettings, model: Material) -> str:
    """The control whose adapter adds nothing."""
    return content_key("adapter", ["zero"], _control_material(lora, model))


def generic_adapter_key(
    products: Sequence[str], lora: LoraSettings, parametrize: ParametrizeSettings, model: Material
) -> str:
    """The control whose adapter is trained on many documents' question-answer pairs."""
    settings = {"parametrize": parametrize.material(), "prompts": PROMPTS_VERSION, **_control_material(lora, model)}
    return content_key("adapter", ["generic", *products], settings)


def mean_adapter_key(inputs: Sequence[str]) -> str:
    """The mean of adapters: from the keys of trained adapters, or from those of a translator and embeddings."""
    return content_key("adapter", ["mean", *inputs])


def _control_material(lora: LoraSettings, model: Material) -> dict[str, object]:
    return {"lora": lora.material(), "recipe": CONTROLS_VERSION, **model}


def embedding_key(document: Document, model: Material) -> str:
    """A document's embedding."""
    return content_key("embedding", [document.key], model)


def translator_key(inputs: Sequence[str], start: str, settings: Material) -> str:
    """A translator that is aligned with documents' adapters.

    Args:
        inputs: The keys of the training documents' adapters and embeddings.
        start: The key of the translator that provides the initial weights; empty for none.
    """
    return content_key("translator", [*inputs, *([start] if start else [])], settings)


def official_translator_key(checksum: str, rank: int, model: Material) -> str:
    """A translator that the official code saved."""
    return content_key("translator", ["official", checksum], {"rank": rank, **model})


def given_translator_key(checksum: str, model: Material) -> str:
    """A translator that was learned before, from its files' checksum."""
    return content_key("translator", ["learned", checksum], model)


def lessons_key(lessons: "Sequence[Lesson]") -> str:
    """Training lessons, by their texts and pairs."""
    return content_key("lessons", [lesson.key for lesson in lessons])


def learned_translator_key(config: PipelineConfig, lessons: str, start: str, model: Material) -> str:
    """A translator that is learned from lessons.

    Args:
        lessons: The key of the lessons.
        start: The checksum of the translator that provides the initial weights; empty for none.
    """
    settings = {"learn": config.learn.material(), "version": LEARNING_VERSION, "prompts": PROMPTS_VERSION, **model}
    if start:
        settings["start"] = start
    return content_key("translator", [lessons], settings)


def writer_key(config: PipelineConfig, lessons: Sequence[str], model: Material) -> str:
    """A question writer that is learned from lessons, given by their texts."""
    return content_key("writer", lessons, {"writer": config.writer.material(), "version": WRITING_VERSION, **model})


def recall_key(
    config: PipelineConfig, condition: "Condition", shows: bool, translator: str, lessons: str, training: str,
    model: Material,
) -> str:  # fmt: skip
    """A band of the recall benchmark under a condition.

    Args:
        shows: The passage is in the prompt.
        translator: The translator's key; empty if the condition does not use it.
        lessons: The key of the band's lessons.
        training: The key of the training lessons.
    """
    evaluate = config.evaluate
    settings: dict[str, object] = {
        "condition": condition, "questions": config.recall.questions, "version": RECALL_VERSION,
        "prompts": PROMPTS_VERSION, "answers": ANSWERS_VERSION, "max_new_tokens": evaluate.max_new_tokens, **model,
    }  # fmt: skip
    if shows:
        settings["form"] = asdict(evaluate.form())
    if translator or condition == "generic":
        settings["strength"] = evaluate.combine_strength if shows else evaluate.strength
        if shows and (gate := evaluate.gate_of("dyprag-combine")):
            settings["gate"] = asdict(gate)
    inputs = [lessons, translator]
    if condition in ("generic", "parametrized"):
        settings |= {"lora": config.lora.material(), "parametrize": config.parametrize.material()}
    if condition == "parametrized":
        settings["documents"] = config.recall.parametrized
    if condition in ("generic", "mean"):
        inputs.append(training)
    return content_key("recall", inputs, settings)


def threshold_key(method: str, asked: Sequence[tuple[Question, int]], model: Material) -> str:
    """A retrieval threshold.

    Args:
        asked: The alignment questions that determine it, each with the maximum number of tokens in its answer.
    """
    settings = {"prompts": PROMPTS_VERSION, "reasoning": REASONING_VERSION, "answers": ANSWERS_VERSION, **model}
    parts = [method, *(str((q.question, q.chain_of_thought, limit)) for q, limit in asked)]
    return content_key("threshold", parts, settings)


def prediction_key(
    job: "AnswerJob", batch: Sequence[Question], settings: EvaluateSettings, documents: Mapping[str, str], pool: str,
    model: Material,
) -> str:  # fmt: skip
    """A method's answers to a batch of questions.

    Args:
        documents: Document keys by document id.
        pool: The key of the passages that a method searches while it answers.
    """
    spec = spec_of(job.method)
    merge = getattr(settings, f"{spec.merging}_merge") if job.parametric else ""

    def seen(found: Found) -> list[Any]:
        return [(documents[i], round(score, 4) if merge == "weighted" else 0) for i, score in found]

    uses_found = spec.shows_passages or (job.parametric and not job.injected)
    parts = [
        str((q.id, q.dataset, q.question, q.answers, q.type, q.documents, q.chain_of_thought, q.believed,
             seen(job.found[place]) if uses_found else [], seen(job.injected[place]) if job.injected else []))
        for place, q in enumerate(batch)
    ]  # fmt: skip
    used = {
        "max_new_tokens": settings.answer_length(batch[0]), "merge": merge, "answers": ANSWERS_VERSION,
        "prompts": PROMPTS_VERSION, "reasoning": REASONING_VERSION if batch[0].chain_of_thought else 0, **model,
    }  # fmt: skip
    if job.parametric or job.control:
        gate = settings.gate_of(job.method)
        used |= {"strength": settings.strength_of(job.method), "gate": None if gate is None else asdict(gate)}
    if not spec.asks_as_trained:
        used |= {"form": asdict(settings.form())}
    if job.per_document:
        used |= {"times": [len(found) for found in job.found]}
    if spec.retrieves:
        used |= {
            "threshold": spec.threshold if job.threshold is None else job.threshold, "published": job.threshold is None,
            "passages": settings.passages, "retrieval": RETRIEVAL_VERSION, "pool": pool,
        }  # fmt: skip
    return content_key("prediction", [job.method, *sorted(job.inputs), *parts], used)


def judgement_key(prompt: str, judge: Material, one: Sequence[str], other: Sequence[str]) -> str:
    """A judge's comparison of two methods' predictions; `prompt` is the digest of the judge's prompt."""
    return content_key("judgement", [prompt, *one, "against", *other], judge)

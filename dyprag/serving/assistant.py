"""Answer questions from your own documents with a model and a translator, without training, a store or a pipeline.

A document becomes an adapter in one forward pass (§3.3). A long document is split into passages, and the passages that
match the question best are used, as in the pipeline.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dyprag.adapters.generation import Sampling
from dyprag.adapters.lora import Adapters, merge, save_peft, stack
from dyprag.config import EvaluateSettings, PipelineConfig
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import Retriever, among_given
from dyprag.corpora.splitting import split_document, splitter
from dyprag.corpora.text.forms import encodable, written
from dyprag.errors import ConfigError, DocumentError
from dyprag.methods.gate import Gate
from dyprag.methods.protocol import Asked, Method
from dyprag.methods.spec import methods, spec_of
from dyprag.model.base import BaseModel, keeping_prefixes, load_model
from dyprag.model.files import learned_folder
from dyprag.translators.protocol import load_translator

PASSAGE_TOKENS = 160  # maximum of a passage; the packaged translator was trained on such passages
MOST_SHARED = 8  # maximum passages of one adapter without a question, because they share its strength
KEPT_BYTES = 512 * 2**20  # size of the adapter cache


def served_methods() -> list[str]:
    """The methods that need no store and answer from any documents."""
    return [spec.name for spec in methods() if spec.needs_no_store]


@dataclass(frozen=True)
class Reply:
    """An answer, its method, the passages it was made from (best first), and the seconds it took.

    The seconds include making adapters. `in_prompt` are the passages shown in the prompt, and `injected` those injected
    as adapters. All are empty if no passage shares a word with the question or the method uses none.
    """

    text: str
    method: str
    passages: tuple[Retrieved, ...]
    seconds: float
    in_prompt: tuple[Retrieved, ...] = ()
    injected: tuple[Retrieved, ...] = ()


class Assistant:
    """A base model with a translator that makes adapters for it. Adapters are cached by content. Created by `load`."""

    def __init__(self, name: str, base: BaseModel, translator: Any, settings: EvaluateSettings) -> None:
        self.name, self.base, self.translator = name, base, translator
        self.merging, self.chosen = str(settings.dyprag_merge), settings.passages
        self.sampling, self.form = Sampling(settings.max_new_tokens), settings.form()
        self.settings = settings
        self._cache: OrderedDict[str, Adapters] = OrderedDict()
        self._asked_alone = keeping_prefixes(base)  # not for the server's engine, which keeps them itself

    def passages(self, documents: Sequence[Document | str]) -> list[Document]:
        """Split documents of more than PASSAGE_TOKENS tokens into passages. A single document counts as a list of one.

        Raises:
            DocumentError: a document has no text, or is neither a text nor a `Document`.
        """
        passages = []
        for number, text in enumerate([documents] if isinstance(documents, str | Document) else documents, start=1):
            document = Document(f"document {number}", encodable(written(text))) if isinstance(text, str) else text
            if not isinstance(document, Document):
                raise DocumentError(
                    f"document {number}", f"it is neither a text nor a Document, but {type(text).__name__}",
                    "Give its text.",
                )  # fmt: skip
            if document.fault:
                raise document.fault
            passages += split_document(document, self._split)
        return passages

    @torch.inference_mode()
    def adapters(self, passages: Sequence[Document]) -> Adapters:
        """The adapters of passages, [passages, layers, …], from the cache or by one forward pass each."""
        new = [passage for passage in {p.key: p for p in passages}.values() if passage.key not in self._cache]
        for passage in new:  # one at a time: padding in a batch would change the last bits of an adapter
            readings = self.translator.read(self.base, [passage.passage])
            self._cache[passage.key] = self.translator.translate(readings)
        adapters = []
        for passage in passages:
            self._cache.move_to_end(passage.key)
            adapters.append(self._cache[passage.key])
        size = adapters[0].nbytes if adapters else 1
        while len(self._cache) > max(len(adapters), KEPT_BYTES // size):
            self._cache.popitem(last=False)
        return stack(adapters)

    @property
    def cached(self) -> int:
        """The number of cached adapters."""
        return len(self._cache)

    def is_cached(self, passage: Document) -> bool:
        """Whether a passage's adapter is in the cache."""
        return passage.key in self._cache

    def adapter(self, documents: Sequence[Document | str], question: str | None = None) -> Adapters:
        """One adapter for all passages of the documents, or for those that match a question; [1, layers, …].

        Raises:
            DocumentError: see `shared`.
        """
        sources = self.shared(documents, question)
        adapters = self.adapters([source.document for source in sources])
        return merge(adapters, self.merging, [source.score for source in sources])

    def shared(self, documents: Sequence[Document | str], question: str | None = None) -> tuple[Retrieved, ...]:
        """The passages that `adapter` merges into one.

        Without a question these are all passages with equal weights: each of c passages has 1/c of its full strength
        (unless adapters are summed), so recall drops quickly with c. With a question these are the best matches,
        weighted as in an answer.

        Raises:
            DocumentError: there are no passages or a document has no text; without a question, there are more than
                MOST_SHARED passages.
        """
        if question is not None:
            if retrieved := self.retrieve(question, documents):
                return retrieved
            raise DocumentError(
                "the documents", "no passage shares a word with the question", "Ask with words that occur in them."
            )
        passages = self.passages(documents)
        if not passages:
            raise DocumentError("the documents", "there are none", "Pass at least one.")
        if len(passages) > MOST_SHARED:
            raise DocumentError(
                "the documents", f"they have {len(passages)} passages, and an adapter of more than {MOST_SHARED} "
                "recalls very little of each", "Pass a question to select passages, or a shorter text.",
            )  # fmt: skip
        return tuple(Retrieved(passage, 0.0) for passage in passages)

    def ask(self, question: str, documents: Sequence[Document | str] = (), method: str = "dyprag-combine") -> Reply:
        """Answer a question from documents.

        Args:
            method: vanilla, rag, dyprag, or dyprag-combine. The last three use the best-matching passages of those
                that share a word with the question.

        Raises:
            ConfigError: there is no such method.
            DocumentError: a document has no text.
        """
        if method not in (known := served_methods()):
            reason = "it needs a store" if any(spec.name == method for spec in methods()) else "there is no such method"
            raise ConfigError(f"method {method!r}", reason, f"Choose one of {', '.join(known)}.")
        if not spec_of(method).needs_passages:
            return self._reply(question, method)
        start = perf_counter()
        retrieved = self.retrieve(question, documents)
        return self._reply(question, method, retrieved, perf_counter() - start)

    def compare(self, question: str, documents: Sequence[Document | str]) -> list[Reply]:
        """Answer with all methods. Retrieval runs once; its time is added to each method that uses passages.

        Raises:
            DocumentError: a document has no text.
        """
        start = perf_counter()
        retrieved = self.retrieve(question, documents)
        seconds = perf_counter() - start
        return [
            self._reply(question, method, retrieved, seconds)
            if spec_of(method).needs_passages
            else self._reply(question, method)
            for method in served_methods()
        ]

    def _reply(
        self, question: str, method: str, retrieved: tuple[Retrieved, ...] = (), retrieval_seconds: float = 0.0
    ) -> Reply:
        """Answer from retrieved passages."""
        start = perf_counter()
        asked = Asked(written(question), retrieved, form=self.form)
        (answer,) = self._method(method).answer(self._asked_alone, [asked], self.sampling, 1)
        injected = retrieved if answer.adapted else ()
        used = injected or answer.passages  # the prompt may lack passages that did not fit
        seconds = retrieval_seconds + perf_counter() - start
        return Reply(answer.text.strip(), method, used, seconds, answer.passages, injected)

    def retrieve(self, question: str, documents: Sequence[Document | str]) -> tuple[Retrieved, ...]:
        """The passages that match a question best, best first; see `among_given`."""
        return among_given(self.passages(documents), question, self.chosen)

    def strength(self, method: str) -> float:
        """The factor of a method's adapter."""
        return self.settings.strength_of(method)

    def gate(self, method: str) -> Gate | None:
        """The gate that decides whether a method's adapter is used; None: it always is."""
        return self.settings.gate_of(method)

    def save(self, adapter: Adapters, folder: Path | str) -> None:
        """Write an adapter in PEFT's format, which PEFT and vLLM load."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_peft(self.base, adapter, folder, self.name)

    def _method(self, name: str) -> Method:
        return spec_of(name).build(_Translating(self))

    @cached_property
    def _split(self) -> Any:
        return splitter(self.name, PASSAGE_TOKENS, 0)


@dataclass(frozen=True)
class _Translating:
    """The resources of methods (`dyprag.methods.spec.Resources`) without a store: only translated adapters."""

    assistant: Assistant
    threshold: None = None
    per_document: bool = False

    @property
    def settings(self) -> EvaluateSettings:
        return self.assistant.settings

    def translated(self, documents: Sequence[Document]) -> Adapters:
        return self.assistant.adapters(documents)

    def can_translate(self, document: Document) -> bool:
        return True

    def trained(self, document: Document) -> Adapters | None:
        raise _nothing_stored()

    def shared(self) -> Adapters:
        raise _nothing_stored()

    def retriever(self) -> Retriever:
        raise _nothing_stored()


def _nothing_stored() -> ConfigError:
    return ConfigError("the method", "it needs a store", "Use dyprag ask, or a method with translated adapters.")


def load(
    model: str = "smollm2-135m",
    translator: str = "packaged",
    device: str = "auto",
    config: PipelineConfig | None = None,
) -> Assistant:
    """Load a model and a translator.

    Args:
        model, device: see `load_model`.
        translator: a folder written by `dyprag learn`, or "packaged" for the translator in the package.
        config: used in place of the other arguments; also sets merging, the answer length and the number of passages.

    Raises:
        ConfigError: there is no such translator.
        ModelError: the model cannot be loaded.
        ArtifactError: the translator cannot be read, or belongs to another model.
    """
    config = config or PipelineConfig.model_validate(
        {"model": {"name": model, "device": device}, "translator": {"learned": translator}}
    )
    config = config.resolved()
    name, learned = config.model.name, config.translator.learned or "packaged"
    folder = learned_folder(learned, name)
    if not (folder / "translator.json").is_file():
        train = f"dyprag learn --set model.name={name} --set learn.output=FOLDER"
        if learned == "packaged":
            reason = f"the package has no translator for model {name}"
            remedy = f"Train one ({train}) and name it: translator.learned=FOLDER."
        else:
            reason, remedy = "there is no translator in this folder", f"Check the path, or train one: {train}."
        raise ConfigError(f"translator {learned!r}", reason, remedy)
    base = load_model(name, config.model.dtype, config.model.device)
    return Assistant(name, base, load_translator(folder, base), config.evaluate)

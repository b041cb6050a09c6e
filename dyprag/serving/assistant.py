"""Answers from one's own documents with no training: a model and a translator, nothing stored, no pipeline.

A document becomes an adapter in one forward pass (§3.3); a long one is split into passages, and those that fit the
question best are used, as the pipeline does with a corpus.
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
from dyprag.corpora.text.forms import written
from dyprag.errors import ConfigError, DocumentError
from dyprag.methods.gate import Gate
from dyprag.methods.protocol import Asked, Method
from dyprag.methods.spec import methods, spec_of
from dyprag.model.base import BaseModel, load_model
from dyprag.model.files import learned_folder
from dyprag.translators.protocol import load_translator

PASSAGE_TOKENS = 160  # of a passage at most: what the packaged translator was trained on
MOST_SHARED = 8  # passages that one adapter is made of without a question: each has its part of the strength of one
KEPT_BYTES = 512 * 2**20  # of adapters kept in memory


def served_methods() -> list[str]:
    """The methods that need no store: they answer from any documents."""
    return [spec.name for spec in methods() if spec.needs_no_store]


@dataclass(frozen=True)
class Reply:
    """An answer, the method, the passages that it was made from (best first), and seconds, those of making adapters
    included.

    Of the passages, `in_prompt` stood in the prompt, and `injected` were injected as adapters. Without any, no passage
    had a word of the question, or the method looks for none.
    """

    text: str
    method: str
    passages: tuple[Retrieved, ...]
    seconds: float
    in_prompt: tuple[Retrieved, ...] = ()
    injected: tuple[Retrieved, ...] = ()


class Assistant:
    """A base model and a translator that makes adapters for it; `load` makes one. Adapters are kept by content."""

    def __init__(self, name: str, base: BaseModel, translator: Any, settings: EvaluateSettings) -> None:
        self.name, self.base, self.translator = name, base, translator
        self.merging, self.chosen = str(settings.dyprag_merge), settings.passages
        self.sampling, self.form = Sampling(settings.max_new_tokens), settings.form()
        self.settings = settings
        self._made: OrderedDict[str, Adapters] = OrderedDict()

    def passages(self, documents: Sequence[Document | str]) -> list[Document]:
        """The documents, those of more than PASSAGE_TOKENS tokens as their passages.

        Raises:
            DocumentError: one has no text.
        """
        found = []
        for number, given in enumerate(documents, start=1):
            document = Document(f"document {number}", written(given)) if isinstance(given, str) else given
            if document.fault:
                raise document.fault
            found += split_document(document, self._split)
        return found

    @torch.inference_mode()
    def adapters(self, passages: Sequence[Document]) -> Adapters:
        """Adapters of passages, [passages, layers, …]: one forward pass for those that were not made before."""
        new = [passage for passage in {p.key: p for p in passages}.values() if passage.key not in self._made]
        for passage in new:  # each by itself: in other company it would be padded, and be another to the last bit
            readings = self.translator.read(self.base, [passage.passage])
            self._made[passage.key] = self.translator.translate(readings)
        made = []
        for passage in passages:
            self._made.move_to_end(passage.key)
            made.append(self._made[passage.key])
        size = sum(t.numel() * t.element_size() for t in made[0].tensors().values()) if made else 1
        while len(self._made) > max(len(made), KEPT_BYTES // size):
            self._made.popitem(last=False)
        return stack(made)

    @property
    def kept(self) -> int:
        """Adapters that are kept."""
        return len(self._made)

    def known(self, passage: Document) -> bool:
        """Whether a passage's adapter is kept."""
        return passage.key in self._made

    def adapter(self, documents: Sequence[Document | str], question: str | None = None) -> Adapters:
        """One adapter of all the documents' passages, or of those that fit a question; [1, layers, …]. See `shared`.

        Raises:
            DocumentError: as `shared` does.
        """
        found = self.shared(documents, question)
        return merge(self.adapters([one.document for one in found]), self.merging, [one.score for one in found])

    def shared(self, documents: Sequence[Document | str], question: str | None = None) -> tuple[Retrieved, ...]:
        """The passages that one adapter is made of.

        Without a question these are all, each as strong as the others: of c passages each has 1/c of the strength that
        it has alone (unless adapters are merged by their sum), and what is learned of it fades soon. With a question
        they are those that fit it best, as strong as they fit it, as in an answer.

        Raises:
            DocumentError: there is none, or one has no text; without a question, there are more than MOST_SHARED.
        """
        if question is not None:
            if found := self.retrieve(question, documents):
                return found
            raise DocumentError(
                "the documents", "no passage shares a word with the question", "Use words that occur in them."
            )
        passages = self.passages(documents)
        if not passages:
            raise DocumentError("the documents", "none was given", "Give at least one.")
        if len(passages) > MOST_SHARED:
            raise DocumentError(
                "the documents", f"they have {len(passages)} passages, and one adapter of more than {MOST_SHARED} "
                "knows next to nothing of each", "Give a question too, whose passages are taken, or a shorter text.",
            )  # fmt: skip
        return tuple(Retrieved(passage, 0.0) for passage in passages)

    def ask(self, question: str, documents: Sequence[Document | str] = (), method: str = "dyprag-combine") -> Reply:
        """Answer a question from documents.

        Args:
            method: vanilla, rag, dyprag, or dyprag-combine; the last three use the passages that fit best, of those
                that have a word of the question.

        Raises:
            ConfigError: there is no such method.
            DocumentError: a document has no text.
        """
        if method not in (known := served_methods()):
            raise ConfigError(f"method {method!r}", "there is no such method", f"Choose one of {', '.join(known)}.")
        if not spec_of(method).needs_passages:
            return self._reply(question, method)
        began = perf_counter()
        found = self.retrieve(question, documents)
        return self._reply(question, method, found, perf_counter() - began)

    def compare(self, question: str, documents: Sequence[Document | str]) -> list[Reply]:
        """The answers by all methods; the passages are looked for once, and count in the seconds of each that has them.

        Raises:
            DocumentError: a document has no text.
        """
        began = perf_counter()
        found = self.retrieve(question, documents)
        spent = perf_counter() - began
        return [
            self._reply(question, method, found, spent)
            if spec_of(method).needs_passages
            else self._reply(question, method)
            for method in served_methods()
        ]

    def _reply(self, question: str, method: str, found: tuple[Retrieved, ...] = (), spent: float = 0.0) -> Reply:
        """Answer from passages that were found in so many seconds."""
        began = perf_counter()
        asked = Asked(written(question), found, form=self.form)
        (given,) = self._method(method).answer(self.base, [asked], self.sampling, 1)
        injected = found if given.adapted else ()
        used = injected or given.passages  # in the prompt there may be fewer: what does not fit is left out
        return Reply(given.text.strip(), method, used, spent + perf_counter() - began, given.passages, injected)

    def retrieve(self, question: str, documents: Sequence[Document | str]) -> tuple[Retrieved, ...]:
        """The passages that fit a question best, best first; see `among_given`."""
        return among_given(self.passages(documents), question, self.chosen)

    def strength(self, method: str) -> float:
        """What a method's adapter is multiplied by."""
        return self.settings.strength_of(method)

    def gate(self, method: str) -> Gate | None:
        """When a method's adapter is held back."""
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
    """What a method draws on (`dyprag.methods.spec.Resources`) where nothing is stored: translated adapters alone."""

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
    return ConfigError("the method", "it needs a store", "Use dyprag ask, or a method that translates documents.")


def load(
    model: str = "smollm2-135m",
    translator: str = "packaged",
    device: str = "auto",
    config: PipelineConfig | None = None,
) -> Assistant:
    """A model and a translator, ready to answer.

    Args:
        model, device: as `load_model` takes them.
        translator: a folder that `dyprag learn` wrote, or "packaged": the one that comes with the package.
        config: where these, merging, the longest answer and the number of passages are taken from instead.

    Raises:
        ConfigError: there is no such translator.
        ModelError: the model cannot be loaded.
        ArtifactError: the translator cannot be read, or is another model's.
    """
    given = config or PipelineConfig.model_validate(
        {"model": {"name": model, "device": device}, "translator": {"learned": translator}}
    )
    given = given.resolved()
    name, learned = given.model.name, given.translator.learned or "packaged"
    folder = learned_folder(learned, name)
    if not (folder / "translator.json").is_file():
        reason = f"none comes with the package for model {name}" if learned == "packaged" else "it is not there"
        raise ConfigError(
            f"translator {learned!r}", reason,
            f"Learn one: dyprag learn --set model.name={name} --set learn.output=FOLDER, and name its folder.",
        )  # fmt: skip
    base = load_model(name, given.model.dtype, given.model.device)
    return Assistant(name, base, load_translator(folder, base), given.evaluate)

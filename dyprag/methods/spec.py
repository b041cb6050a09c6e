"""What each method is: the registry that planning, keys, answering, scoring and reports ask.

A method is one file with a class and a function `build(spec, resources)`, and one `register(MethodSpec(...))`; nothing
else knows its name. The controls of a method with adapters are registered with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

if TYPE_CHECKING:
    from dyprag.adapters.lora import Adapters
    from dyprag.config import EvaluateSettings
    from dyprag.corpora.documents import Document
    from dyprag.corpora.retrieval import Retriever
    from dyprag.methods.protocol import Method as Answering

Injects = Literal["nothing", "trained", "translated", "shared"]
ControlKind = Literal["wrong", "mean", "generic", "zero"]
KINDS: tuple[ControlKind, ...] = ("wrong", "mean", "generic", "zero")
_MEANS = {"trained": "prag-mean", "translated": "dyprag-mean"}  # the one adapter that stands for all documents'


class Resources(Protocol):
    """What a method may draw on when it is built; each is fetched when it is asked for."""

    @property
    def settings(self) -> "EvaluateSettings":
        """How questions are answered."""
        ...

    def trained(self, document: "Document") -> "Adapters | None":
        """A document's trained adapter ([1, layers, …]); None where it has none."""
        ...

    def translated(self, documents: "Sequence[Document]") -> "Adapters":
        """The documents' translated adapters ([docs, layers, …])."""
        ...

    def can_translate(self, document: "Document") -> bool:
        """Whether `translated` gives a document's adapter: its embedding may be missing."""
        ...

    def shared(self) -> "Adapters":
        """The one adapter ([1, layers, …]) that a control injects for every question."""
        ...

    @property
    def per_document(self) -> bool:
        """Whether that one is added once for each document, as the method that it controls adds theirs."""
        ...

    def retriever(self) -> "Retriever":
        """Over the passages of the questions' data set."""
        ...

    @property
    def threshold(self) -> float | None:
        """At which a method retrieves while it answers; None: the published one."""
        ...


@dataclass(frozen=True)
class MethodSpec:
    """A method.

    name: as in settings and tables. title: as in sentences.
    module: the module whose `build(spec, resources)` makes it.
    injects: each document's trained or translated adapter, one shared by all questions, or nothing.
    shows_passages: the passages that were retrieved stand in its prompt.
    retrieves: it looks for passages itself, while it answers.
    needs_passages: a question without passages is not asked.
    threshold: the published one, of a method that retrieves while it answers.
    kind, of: of a control, its kind and the method that it controls ("" where it controls several).
    shared: the name of the adapter that it injects for every question.
    """

    name: str
    title: str
    module: str
    injects: Injects = "nothing"
    shows_passages: bool = False
    retrieves: bool = False
    needs_passages: bool = True
    threshold: float | None = None
    kind: ControlKind | None = None
    of: str = ""
    shared: str = ""

    @property
    def is_control(self) -> bool:
        return self.kind is not None

    @property
    def injects_documents(self) -> bool:
        """Whether it injects adapters of a question's documents, or of other documents."""
        return self.injects in ("trained", "translated")

    @property
    def asks_as_trained(self) -> bool:
        """Whether a question is put as in the adapters' training, whatever the form says of how to ask: no passages in
        the prompt, and an adapter that answers such prompts."""
        return self.injects != "nothing" and not self.shows_passages

    @property
    def uses_translator(self) -> bool:
        return self.injects == "translated" or self.shared == _MEANS["translated"]

    @property
    def needs_training_pairs(self) -> bool:
        """Whether it draws on the translator's training documents: by the translator, or on their adapters and
        question-answer pairs themselves."""
        return self.uses_translator or self.kind in ("mean", "generic")

    @property
    def needs_no_store(self) -> bool:
        """Whether it can answer from documents that nothing was made of before."""
        return self.injects in ("nothing", "translated") and not self.retrieves and not self.is_control

    @property
    def merging(self) -> Literal["prag", "dyprag"] | None:
        """By which setting (`evaluate.prag_merge`, `evaluate.dyprag_merge`) it merges documents' adapters, or a
        control's method does."""
        source = spec_of(self.of).injects if self.of else self.injects
        return {"trained": "prag", "translated": "dyprag"}.get(source)  # type: ignore[return-value]

    def controls(self, kinds: Sequence[ControlKind] = KINDS) -> list[str]:
        """The names of its controls of these kinds; none of a method without documents' adapters.

        RAG is what the zero adapter makes of a method that shows passages, so that one is not run for it.
        """
        if not self.injects_documents or self.is_control:
            return []
        beside = "-combine" if self.shows_passages else ""
        names = {"wrong": f"{self.name}-wrong", "mean": f"{self.name}-mean", "generic": f"generic{beside}",
                 "zero": "zero"}  # fmt: skip
        return [names[kind] for kind in kinds if not (kind == "zero" and self.shows_passages)]

    @property
    def compared_with(self) -> list[str]:
        """Every control that its gain may be held against: its own, and RAG where passages stand in its prompt."""
        return [*self.controls(), *(["zero-combine", "rag"] if self.shows_passages else [])] if self.controls() else []

    def build(self, resources: Resources) -> "Answering":
        """The method, ready to answer."""
        build: Callable[[MethodSpec, Resources], Answering] = import_module(self.module).build
        return build(self, resources)


_SPECS: dict[str, MethodSpec] = {}


def register(spec: MethodSpec) -> MethodSpec:
    """Make a method known, with its controls. One of the same name is replaced."""
    _SPECS[spec.name] = spec
    if spec.injects_documents and not spec.is_control:
        _SPECS[f"{spec.name}-wrong"] = replace(
            spec, name=f"{spec.name}-wrong", title="wrong documents", kind="wrong", of=spec.name
        )
        _SPECS[f"{spec.name}-mean"] = replace(
            spec, name=f"{spec.name}-mean", title="mean adapter", kind="mean", of=spec.name, injects="shared",
            shared=_MEANS[spec.injects], module="dyprag.methods.controls",
        )  # fmt: skip
    return spec


def forget(name: str) -> None:
    """Take a method out again, with its controls."""
    for known in (name, f"{name}-wrong", f"{name}-mean"):
        _SPECS.pop(known, None)


def spec_of(name: str) -> MethodSpec:
    """The method of a name.

    Raises:
        KeyError: there is none.
    """
    return _SPECS[name]


def specs() -> Iterator[MethodSpec]:
    """All methods and controls, in the order in which they were registered."""
    yield from list(_SPECS.values())


def methods() -> list[MethodSpec]:
    """The methods, without controls."""
    return [spec for spec in specs() if not spec.is_control]


def parametric() -> list[MethodSpec]:
    """The methods that inject adapters of a question's documents, without controls."""
    return [spec for spec in methods() if spec.injects_documents]


def is_control(name: str) -> bool:
    """Whether a name is that of a control; a method that is not registered here is none."""
    return name in _SPECS and _SPECS[name].is_control


@dataclass(frozen=True)
class _Known:
    """The type of a value that names a method: text, checked and offered in forms as the registry has it then.

    served: of those alone that need no store.
    """

    served: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": self._names()}

    def _names(self) -> list[str]:
        return [spec.name for spec in specs() if spec.needs_no_store or not self.served]

    def _check(self, name: str) -> str:
        if name not in (known := self._names()):
            expected = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name


Method = Annotated[str, _Known()]
ServedMethod = Annotated[str, _Known(served=True)]

for _spec in (
    MethodSpec("vanilla", "vanilla", "dyprag.methods.vanilla", needs_passages=False),
    MethodSpec("rag", "RAG", "dyprag.methods.rag", shows_passages=True),
    MethodSpec("prag", "PRAG", "dyprag.methods.prag", "trained"),
    MethodSpec("prag-combine", "PRAG-Combine", "dyprag.methods.prag", "trained", shows_passages=True),
    MethodSpec("dyprag", "DyPRAG", "dyprag.methods.dyprag", "translated"),
    MethodSpec("dyprag-combine", "DyPRAG-Combine", "dyprag.methods.dyprag", "translated", shows_passages=True),
    # The authors' thresholds for most data sets (LLaMA-2-7B). FLARE's is for one less a sentence's mean probability.
    MethodSpec("flare", "FLARE", "dyprag.methods.flare", retrieves=True, threshold=0.08),
    MethodSpec("dragin", "DRAGIN", "dyprag.methods.dragin", retrieves=True, threshold=0.8),
    MethodSpec("zero", "zero adapter", "dyprag.methods.controls", "shared", needs_passages=False, kind="zero",
               shared="zero"),
    MethodSpec("generic", "generic adapter", "dyprag.methods.controls", "shared", needs_passages=False, kind="generic",
               shared="generic"),
    MethodSpec("zero-combine", "zero adapter", "dyprag.methods.controls", "shared", shows_passages=True, kind="zero",
               shared="zero"),
    MethodSpec("generic-combine", "generic adapter", "dyprag.methods.controls", "shared", shows_passages=True,
               kind="generic", shared="generic"),
):  # fmt: skip
    register(_spec)

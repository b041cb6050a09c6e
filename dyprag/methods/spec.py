"""The registry of methods, used by planning, keys, answering, scoring and reports.

A method is one file with a class and a function `build(spec, resources)`, and one call `register(MethodSpec(...))`: at
the end of this file for the methods of this package, in their own file for those of other packages. Registering a
method that injects documents' adapters also registers its controls.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
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
_MEANS = {
    "trained": "prag-mean",
    "translated": "dyprag-mean",
}  # name of the shared mean adapter, by what the method injects


class Resources(Protocol):
    """The resources that a method may use when it is built. Each is loaded on first use."""

    @property
    def settings(self) -> "EvaluateSettings":
        """The settings of the evaluation."""
        ...

    def trained(self, document: "Document") -> "Adapters | None":
        """Return a document's trained adapter ([1, layers, …]), or None if it has none."""
        ...

    def translated(self, documents: "Sequence[Document]") -> "Adapters":
        """Return the documents' translated adapters ([docs, layers, …])."""
        ...

    def can_translate(self, document: "Document") -> bool:
        """Whether a document can be translated; its embedding may be missing."""
        ...

    def shared(self) -> "Adapters":
        """Return the adapter ([1, layers, …]) that a control injects for every question."""
        ...

    @property
    def per_document(self) -> bool:
        """Whether the shared adapter is added once per document, because the controlled method sums adapters."""
        ...

    def retriever(self) -> "Retriever":
        """Return the retriever over the passages of the questions' data set."""
        ...

    @property
    def threshold(self) -> float | None:
        """The threshold for retrieving while answering; None for the published one."""
        ...


@dataclass(frozen=True)
class MethodSpec:
    """The properties of a method.

    name: the name in settings and tables.
    title: the name in prose.
    module: the module whose `build(spec, resources)` builds the method.
    injects: the documents' trained or translated adapters, one adapter shared by all questions, or nothing.
    shows_passages: whether the prompt contains the retrieved passages.
    retrieves: whether the method itself retrieves while it answers.
    needs_passages: whether questions without passages are skipped.
    threshold: the published threshold of a method that retrieves while it answers.
    kind: the kind of a control; None for a method.
    of: the method that a control belongs to; "" if it belongs to several.
    shared: the name of the adapter that is injected for every question.
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
        """Whether it injects documents' adapters: those of the question, or (as a control) of other questions."""
        return self.injects in ("trained", "translated")

    @property
    def asks_as_trained(self) -> bool:
        """Whether questions are phrased as in the adapters' training, whatever the prompt form says.

        True for methods that inject an adapter and show no passages.
        """
        return self.injects != "nothing" and not self.shows_passages

    @property
    def uses_translator(self) -> bool:
        return self.injects == "translated" or self.shared == _MEANS["translated"]

    @property
    def needs_training_pairs(self) -> bool:
        """Whether it depends on the translator's training documents: through the translator, or directly on their
        adapters and question-answer pairs."""
        return self.uses_translator or self.kind in ("mean", "generic")

    @property
    def needs_no_store(self) -> bool:
        """Whether it can answer from new documents, without prepared artifacts."""
        return self.injects in ("nothing", "translated") and not self.retrieves and not self.is_control

    @property
    def merging(self) -> Literal["prag", "dyprag"] | None:
        """Which setting (`evaluate.prag_merge` or `evaluate.dyprag_merge`) says how adapters are merged.

        For a control, it is the setting of the controlled method.
        """
        source = spec_of(self.of).injects if self.of else self.injects
        return {"trained": "prag", "translated": "dyprag"}.get(source)  # type: ignore[return-value]

    def controls(self, kinds: Sequence[ControlKind] = KINDS) -> list[str]:
        """Return the names of its controls of the given kinds; empty for methods without documents' adapters.

        A method that shows passages has no zero control: with a zero adapter, it would be RAG.
        """
        if not self.injects_documents or self.is_control:
            return []
        suffix = "-combine" if self.shows_passages else ""
        names = {"wrong": f"{self.name}-wrong", "mean": f"{self.name}-mean", "generic": f"generic{suffix}",
                 "zero": "zero"}  # fmt: skip
        return [names[kind] for kind in kinds if not (kind == "zero" and self.shows_passages)]

    @property
    def compared_with(self) -> list[str]:
        """All controls that its gain is compared with: its own, and RAG if the method shows passages."""
        return [*self.controls(), *(["zero-combine", "rag"] if self.shows_passages else [])] if self.controls() else []

    def build(self, resources: Resources) -> "Answering":
        """Build the method."""
        build: Callable[[MethodSpec, Resources], Answering] = import_module(self.module).build
        return build(self, resources)


_SPECS: dict[str, MethodSpec] = {}
PLUGINS = "dyprag.methods"  # entry points of installed packages whose modules register methods


def register(spec: MethodSpec) -> MethodSpec:
    """Register a method with its controls. A method of the same name is replaced."""
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
    """Remove a method and its controls from the registry."""
    for known in (name, f"{name}-wrong", f"{name}-mean"):
        _SPECS.pop(known, None)


def spec_of(name: str) -> MethodSpec:
    """Return the method with a name.

    Raises:
        KeyError: no method of this name is registered.
    """
    _load_plugins()
    return _SPECS[name]


@cache
def _load_plugins() -> None:
    """Import the modules that installed packages name under `PLUGINS`, once a process: they register their methods."""
    for plugin in entry_points(group=PLUGINS):
        plugin.load()


def specs() -> Iterator[MethodSpec]:
    """Iterate over all methods and controls, in the order of registration."""
    _load_plugins()
    yield from list(_SPECS.values())


def methods() -> list[MethodSpec]:
    """Return all methods except controls."""
    return [spec for spec in specs() if not spec.is_control]


def parametric() -> list[MethodSpec]:
    """Return the methods that inject adapters of a question's documents, except controls."""
    return [spec for spec in methods() if spec.injects_documents]


def is_control(name: str) -> bool:
    """Whether a name is that of a control. Unregistered names are not."""
    _load_plugins()
    return name in _SPECS and _SPECS[name].is_control


@dataclass(frozen=True)
class _Known:
    """Pydantic type of a method's name: validated, and listed in JSON schemas, against the current registry.

    served: accept only methods that need no store.
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
    # The authors' thresholds for most data sets (LLaMA-2-7B). FLARE's applies to 1 - mean probability of a sentence.
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

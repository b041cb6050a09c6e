"""The protocol of a method, and the loop that answers questions with one, in batches with an adapter for each row."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, stack_rows
from dyprag.adapters.stopping import repeats
from dyprag.corpora.documents import Retrieved
from dyprag.corpora.text.sentences import block_sentences
from dyprag.methods.gate import Gate, borne_out
from dyprag.model.base import BaseModel
from dyprag.model.prompts import PLAIN, AskFor, PromptForm, question_prompt


@dataclass(frozen=True)
class Asked:
    """A question with the documents retrieved for it, best first.

    `injected`: the documents whose adapters are injected, where they are others than those retrieved, as the control
    with wrong documents wants it. `form`: how it is put.
    """

    question: str
    retrieved: tuple[Retrieved, ...]
    chain_of_thought: bool = False
    injected: tuple[Retrieved, ...] | None = None
    form: PromptForm = PLAIN

    @property
    def adapted(self) -> tuple[Retrieved, ...]:
        """The documents whose adapters are injected."""
        return self.retrieved if self.injected is None else self.injected


@dataclass(frozen=True)
class Answer:
    """An answer, whole and uncut, and what it took.

    seconds: making the adapter, and the share of its batch; first_token: from the batch's beginning, the making of the
    adapter included, to its first token: what one waits for in a batch of that size;
    prompt: as the model saw it; passages: what stood in it (in the last one, where there were several); retrievals:
    times that passages were looked for while answering; cut: it had not ended at the limit of tokens;
    adapted: an adapter was injected.
    """

    text: str
    tokens: int
    seconds: float
    first_token: float
    prompt: str
    passages: tuple[Retrieved, ...] = ()
    retrievals: int = 0
    cut: bool = False
    adapted: bool = False


class Method(Protocol):
    """A way to answer."""

    @property
    def name(self) -> str:
        """As in the paper's tables, in lower case."""
        ...

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers to the questions, in their order."""
        ...


class Injection(Protocol):
    """What a method that answers in one go decides: what stands in the prompt, and which adapter is injected."""

    @property
    def passages_in_prompt(self) -> bool:
        """Whether the retrieved passages stand in the prompt."""
        ...

    @property
    def asks_as_trained(self) -> bool:
        """Whether a question is put as in the adapters' training, whatever the form says of how to ask: no passages in
        the prompt, and an adapter that answers such prompts."""
        ...

    @property
    def gate(self) -> Gate | None:
        """When the adapter is held back; None: never."""
        ...

    def adapter(self, documents: Sequence[Retrieved]) -> Adapters | None:
        """The merged adapter ([1, layers, …]) of the documents; None for none."""
        ...


def answer_questions(
    base: BaseModel, method: Injection, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer questions in one go each, greedy or sampled, in the order given."""
    prompts = [
        fitting_prompt(base, item, method.passages_in_prompt, sampling.max_new_tokens, method.asks_as_trained)
        for item in asked
    ]
    making = [0.0] * len(asked)
    injected = [False] * len(asked)

    def adapters(batch: list[int]) -> Adapters | None:
        made = []
        for index in batch:
            began = perf_counter()
            made.append(method.adapter(asked[index].adapted))
            making[index] = perf_counter() - began
        if method.gate:
            began = perf_counter()
            questions = [asked[index].question for index in batch]
            passages = [[one.document.passage for one in prompts[index].passages] for index in batch]
            made = borne_out(base, made, questions, passages, method.gate)
            for index in batch:
                making[index] += (perf_counter() - began) / len(batch)
        for index, adapter in zip(batch, made, strict=True):
            injected[index] = adapter is not None
        return stack_rows(made)

    generations = generate(base, [prompt.ids for prompt in prompts], sampling, adapters, batch_size, stop=repeats)
    answers = []
    for generation, seconds, prompt, used in zip(generations, making, prompts, injected, strict=True):
        taken, first = generation.seconds + seconds, generation.first_token + seconds  # the batch's clock starts later
        shown = base.tokenizer.decode(prompt.ids)
        answers.append(
            Answer(generation.text, generation.tokens, taken, first, shown, prompt.passages, 0, generation.cut, used)
        )
    return answers


@dataclass(frozen=True)
class Prompt:
    """A prompt's ids, and the passages in it."""

    ids: list[int]
    passages: tuple[Retrieved, ...]


def fitting_prompt(
    base: BaseModel, item: Asked, with_passages: bool, new_tokens: int, as_trained: bool = False
) -> Prompt:
    """The question's prompt; passages are cut where they do not all fit beside `new_tokens`. `as_trained`: the question
    is put as in the adapters' training."""
    form = item.form
    ask_for: AskFor = "plain" if as_trained else form.ask_for
    return fit(
        form.arranged(item.retrieved) if with_passages else (),
        lambda texts: question_prompt(base.tokenizer, item.question, texts, item.chain_of_thought, ask_for=ask_for),
        form.longest(base.max_tokens - new_tokens),
    )


def fit(found: Sequence[Retrieved], render: Callable[[Sequence[str]], list[int]], most: int) -> Prompt:
    """A prompt of at most so many ids. Where the passages do not fit whole, the long ones are cut to one length, each
    behind its last sentence that fits; one whose first sentence is longer is left out.

    Args:
        render: gives the ids of the prompt with some passages. Without any it may be longer than `most`.
    """

    def cut(length: int) -> Prompt:
        texts = [_beginning(one.document.passage, length) for one in found]
        kept = tuple(one for one, text in zip(found, texts, strict=True) if text)
        return Prompt(render([text for text in texts if text]), kept)

    longest = max((len(one.document.passage) for one in found), default=0)
    whole = cut(longest)
    if not found or len(whole.ids) <= most:
        return whole
    return cut(bisect_left(range(longest), True, key=lambda length: len(cut(length + 1).ids) > most))


def _beginning(text: str, length: int) -> str:
    """The sentences of a text that end within so many characters; all of it where it is no longer."""
    if len(text) <= length:
        return text
    end = 0
    for sentence in block_sentences(text):
        after = text.index(sentence, end) + len(sentence)
        if after > length:
            break
        end = after
    return text[:end]

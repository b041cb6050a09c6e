"""Prepare requests for the engine: build the prompt, retrieve the passages to inject, and create a job."""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dyprag.adapters.lora import Adapters, merge, stack
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import Retriever, among_given
from dyprag.errors import ArtifactError, DocumentError, ModelError
from dyprag.methods.gate import borne_out
from dyprag.methods.protocol import Prompt, fit
from dyprag.methods.spec import spec_of
from dyprag.model.prompts import chat_text, encode, question_prompt
from dyprag.serving.assistant import Assistant
from dyprag.serving.conversation import Conversation, conversation
from dyprag.serving.engine import Engine
from dyprag.serving.jobs import Job, Piece
from dyprag.serving.library import OURS, AdapterLibrary, UnknownAdapterError
from dyprag.serving.refusals import RefusedError, shown
from dyprag.serving.sampling import Wish
from dyprag.serving.schema import AdapterRequest, ChatRequest
from dyprag.serving.unsupported import refuse_unsupported

PLAIN = "chat"  # the method name of a request with neither documents nor a method
ASKED_AS = "dyprag"  # the method whose prompt and strength an adapter with a name is asked with


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    Attributes:
        rows: answers generated at the same time.
        waiting: queued requests; more are refused (429).
        body: bytes of a request (413).
        prompt: tokens of a prompt (400).
        answer: tokens of an answer (400).
        seconds: total time of a request (504).
    """

    rows: int = 16
    waiting: int = 256
    body: int = 1_000_000
    prompt: int = 4096
    answer: int = 1024
    seconds: float = 120.0


@dataclass(frozen=True)
class Ready:
    """A prepared request: its prompt, its sampling parameters and its passages."""

    method: str
    prompt: list[int]
    wish: Wish
    injected: tuple[Retrieved, ...]
    in_prompt: tuple[Retrieved, ...]
    question: str
    adapter: str = ""  # the name of the adapter that is asked as a model


class Service:
    """Turns requests into jobs of the engine.

    Args:
        documents: a retriever for requests without documents, and its number of passages.
        library: the adapters that can be asked as models.
    """

    def __init__(
        self, assistant: Assistant, documents: tuple[Retriever, int] | None, limits: Limits, library: AdapterLibrary
    ) -> None:
        self.assistant, self.limits, self.library = assistant, limits, library
        self.retriever: Retriever | None = documents[0] if documents else None
        self.count = documents[1] if documents else 0
        first = getattr(assistant.translator, "first_layer", 0)
        self.engine = Engine(
            assistant.base, assistant.adapters, assistant.is_cached, first, limits.rows, limits.waiting
        )  # fmt: skip

    def prepare(self, body: ChatRequest) -> Ready:
        """Build the prompt of a request and retrieve its passages.

        Raises:
            RefusedError: the conversation cannot be answered, a document is not text, or the prompt is too long.
        """
        refuse_unsupported(body)
        limits, base, asked = self.limits, self.assistant.base, conversation(body.messages)
        new, field = body.max_completion_tokens, "max_completion_tokens"
        if new is None:
            new, field = body.max_tokens, "max_tokens"
        if (new or 0) > limits.answer:
            message = f"{field} is {shown(new)}; this server generates at most {limits.answer} tokens."
            raise RefusedError(400, message, param=field)
        documents = body.given()
        if name := self._adapter_name(body):
            return self._ask_adapter(name, body, asked, new)
        if documents is None and self.retriever is None and body.method and spec_of(body.method).needs_passages:
            message = f"Method {body.method} needs documents: send some, or start the server with some."
            raise RefusedError(400, message, param="method")
        method = body.method or (PLAIN if documents is None and self.retriever is None else "dyprag-combine")
        new = new or (256 if method == PLAIN else self.assistant.sampling.max_new_tokens)
        most = max(0, min(limits.prompt, base.max_tokens - new))
        spec = None if method == PLAIN else spec_of(method)
        searches = spec is not None and spec.needs_passages
        retrieved = self._retrieve(asked.searched, documents, body.passages) if searches else ()
        prompt = self._fitting(method, asked, retrieved, most, new)
        injected = retrieved if spec and spec.injects_documents else ()
        return Ready(
            method, prompt.ids, self._wish(body, new, method != PLAIN), injected, prompt.passages, asked.question
        )

    def _adapter_name(self, body: ChatRequest) -> str:
        """The adapter that a request asks; empty if it asks the base model.

        Raises:
            RefusedError: the adapter is gone, or the request says otherwise how to answer.
        """
        try:
            self.library.get(body.model)
        except UnknownAdapterError:
            ours = OURS.fullmatch(body.model) and body.model != self.assistant.name
            if ours or self.library.had(body.model):
                message = f"There is no adapter {shown(body.model)} here; it was removed, or made by another server."
                raise RefusedError(404, message, "model_not_found", "model") from None
            return ""
        if body.documents:
            raise RefusedError(400, "documents: the model is an adapter, which holds its documents.", param="documents")
        if body.method not in (None, ASKED_AS):
            raise RefusedError(400, f"method: the model is an adapter; only {ASKED_AS} asks it.", param="method")
        return body.model

    def _ask_adapter(self, name: str, body: ChatRequest, asked: Conversation, new: int | None) -> Ready:
        new = new or self.assistant.sampling.max_new_tokens
        most = max(0, min(self.limits.prompt, self.assistant.base.max_tokens - new))
        prompt = self._fitting(ASKED_AS, asked, (), most, new)
        return Ready(ASKED_AS, prompt.ids, self._wish(body, new, True), (), (), asked.question, name)

    def sources(self, body: AdapterRequest) -> tuple[Retrieved, ...]:
        """The passages that a new adapter is made from.

        Raises:
            RefusedError: a document is not text, or there are too many passages.
        """
        documents = body.given()
        _refuse_binary(documents)
        try:
            return self.assistant.shared(documents, body.question)
        except DocumentError as error:
            raise RefusedError(400, str(error), param="documents") from None

    def adapter_job(self, passages: Sequence[Retrieved], emit: Callable[[Piece], None], deadline: float) -> Job:
        """Create the engine's job that makes an adapter and answers nothing."""
        scores = [passage.score for passage in passages]

        def combine(adapters: list[Adapters]) -> Adapters | None:
            return merge(stack(adapters), self.assistant.merging, scores)

        documents = [passage.document for passage in passages]
        return Job([], Wish(0), emit, deadline, documents, combine, only_adapter=True)

    def _prompt(self, method: str, asked: Conversation, retrieved: tuple[Retrieved, ...], most: int) -> Prompt:
        tokenizer = self.assistant.base.tokenizer
        if method == PLAIN:
            ids = encode(tokenizer, chat_text(tokenizer, asked.question, "", asked.history, asked.system))
            return fit((), lambda _: ids, most)
        form = self.assistant.form
        spec = spec_of(method)
        in_prompt = form.arranged(retrieved) if spec.shows_passages else ()

        def render(texts: Sequence[str]) -> list[int]:
            ask_for = "plain" if spec.asks_as_trained else form.ask_for
            return question_prompt(tokenizer, asked.question, texts, False, asked.history, asked.system, ask_for)

        return fit(in_prompt, render, form.longest(most))

    def _fitting(
        self, method: str, asked: Conversation, retrieved: tuple[Retrieved, ...], most: int, new: int
    ) -> Prompt:
        """The prompt of a request.

        Raises:
            RefusedError: the model's template rejects the messages, or they do not fit.
        """
        try:
            prompt = self._prompt(method, asked, retrieved, most)
        except ModelError as error:
            reason = f"the model's chat template rejects them ({str(error)[:300]})"
            raise RefusedError(400, f"messages: {reason}.", param="messages") from None
        if len(prompt.ids) > most:
            message = f"messages: the prompt has {len(prompt.ids)} tokens; {most} fit, with {new} for the answer."
            raise RefusedError(400, message, "context_length_exceeded", "messages")
        return prompt

    def _wish(self, body: ChatRequest, new: int, one_line: bool) -> Wish:
        bias = tuple((int(token), value) for token, value in body.logit_bias.items())
        size = self.assistant.base.model.config.get_text_config().vocab_size
        if beyond := [token for token, _ in bias if token >= size]:
            message = f"logit_bias: there is no token {beyond[0]}; this model has {size} tokens."
            raise RefusedError(400, message, param="logit_bias")
        seed = secrets.randbits(62) if body.seed is None else body.seed
        if not -(2**63) <= seed < 2**63:  # torch takes only 64 bits
            seed %= 2**63
        return Wish(
            new, body.temperature, body.top_p, seed, body.stops, one_line, body.top_k, body.min_p,
            body.repetition_penalty, body.presence_penalty, body.frequency_penalty, bias,
        )  # fmt: skip

    def _retrieve(self, question: str, documents: list[Document] | None, count: int | None) -> tuple[Retrieved, ...]:
        count = count or self.assistant.chosen
        if documents is None:
            return tuple(self.retriever.search(question, count)) if self.retriever else ()
        _refuse_binary(documents)
        try:
            passages = self.assistant.passages(documents)
        except DocumentError as error:
            raise RefusedError(400, str(error), param="documents") from None
        return among_given(passages, question, count)

    def job(self, ready: Ready, emit: Callable[[Piece], None], deadline: float) -> Job:
        """Create the engine's job for a prepared request."""
        scores = [passage.score for passage in ready.injected]

        def combine(adapters: list[Adapters]) -> Adapters | None:
            if not adapters:
                return None
            merged = merge(stack(adapters), self.assistant.merging, scores).times(self.assistant.strength(ready.method))
            if gate := self.assistant.gate(ready.method):
                shown = [passage.document.passage for passage in ready.in_prompt]
                (merged,) = borne_out(self.assistant.base, [merged], [ready.question], [shown], gate)
            return merged

        passages = [passage.document for passage in ready.injected]
        job = Job(ready.prompt, ready.wish, emit, deadline, passages, combine)
        if passages:
            how = self.assistant.merging
            weights = scores if how == "weighted" and len(scores) > 1 else []
            content = (how, self.assistant.strength(ready.method), [passage.key for passage in passages], weights)
            job.shares_as = f"passages {content}"
        if ready.adapter:
            job.adapter = self._named(ready.adapter)
            # another adapter's name may be given to other files later
            job.shares_as = ready.adapter if self.library.get(ready.adapter).made_here else None
        return job

    def _named(self, name: str) -> Adapters | None:
        try:
            return self.library.adapter(name).times(self.assistant.strength(ASKED_AS))
        except UnknownAdapterError:
            raise RefusedError(404, f"There is no adapter {shown(name)} here.", "model_not_found", "model") from None
        except ArtifactError as error:
            raise RefusedError(500, f"The adapter {shown(name)} {error.reason}.", "error") from None


def _refuse_binary(documents: Sequence[Document]) -> None:
    for document in documents:
        if len(re.findall(r"[\x00-\x08\x0e-\x1f\ufffd]", document.text)) > len(document.text) / 100:
            raise RefusedError(400, f"{document.id}: it is not text. Send its text.", param="documents")

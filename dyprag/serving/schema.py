"""Request and response schemas: OpenAI's chat completions API with the extra fields `documents` and `method`."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dyprag.corpora.documents import Document
from dyprag.corpora.text.forms import encodable, written
from dyprag.methods.spec import ServedMethod

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
MOST_DOCUMENTS, MOST_CHARACTERS, MOST_MESSAGES, MOST_STOPS = 64, 200_000, 1000, 16


def _whole(value: Any) -> Any:
    """Replace lone surrogates, such as half an emoji, by '?', because tokenizers reject them."""
    return encodable(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=MOST_CHARACTERS)]
Name = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=200)]
Stop = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Given(BaseModel):
    """Base of request models: unknown fields are ignored, and null means the default."""

    model_config = ConfigDict(extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        return field.get_default() if value is None and not field.is_required() else value


class Part(_Given):
    """A part of a message. Only text is supported."""

    type: str
    text: Text = ""
    refusal: Text = ""

    @model_validator(mode="after")
    def _is_text(self) -> "Part":
        if self.type not in ("text", "input_text", "output_text", "refusal"):
            raise PydanticCustomError("part", "parts of this type are not supported, only text")
        if not self.model_fields_set & {"text", "refusal"}:
            raise PydanticCustomError("part", "this part has no text")
        return self


class Message(_Given):
    """A message of the conversation. Results of tools that were called elsewhere are read as text."""

    role: Role
    content: Text | Annotated[list[Part | Text], Field(max_length=64)] | None = None
    refusal: Text = ""
    name: Name = ""
    tool_call_id: Name = ""
    tool_calls: list[Any] | None = Field(default=None, max_length=1000)
    function_call: Any = None

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.role != "assistant" and (self.content is None or self.content == []):
            raise PydanticCustomError("content", f"messages with role {self.role} must have content")
        return self

    @property
    def text(self) -> str:
        """The text of the message."""
        if self.content is None or isinstance(self.content, str):
            return written(self.content or self.refusal)
        return written("\n".join(part if isinstance(part, str) else part.text or part.refusal for part in self.content))

    @property
    def only_calls(self) -> bool:
        """Whether the message has no text, only tool calls."""
        calls = self.tool_calls or self.function_call
        return not self.text and bool(calls or self.content is None or self.content == [])

    @property
    def calls(self) -> dict[str, str]:
        """The tool calls of the message as text, by id."""
        calls = {}
        for call in self.tool_calls or []:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(call.get("id"), str):
                calls[call["id"]] = _whole(f"{function.get('name')}({_argument(function.get('arguments'))})")
        return calls


def _argument(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):
        return "…"


class GivenDocument(_Given):
    """A document with a title and an id."""

    text: Text
    title: Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=1000)] = ""
    id: Name = ""


class StreamOptions(_Given):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(_Given):
    """A chat completion. The last message is the question."""

    model_config = ConfigDict(extra="allow")  # unsupported fields are refused; see `unsupported`

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: Name = Field(default="", description="The id of an adapter to ask; any other name: the base model.")
    documents: list[Text | GivenDocument] | None = Field(
        default=None, max_length=MOST_DOCUMENTS,
        description="Texts to answer from, instead of the server's own documents.",
    )  # fmt: skip
    method: ServedMethod | None = Field(
        default=None,
        description="vanilla: the question alone; rag: passages in the prompt; dyprag: their adapters; dyprag-combine: "
        "both. Default: dyprag-combine if there are documents, else a plain chat.",
    )
    passages: int | None = Field(
        default=None, ge=1, le=10, description="Number of passages to use, best matches first."
    )
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: Number = Field(default=0.0, ge=0, le=2, description="0: greedy decoding.")
    top_p: Number = Field(default=1.0, ge=0, le=1)
    top_k: int = Field(default=0, ge=-1, description="0 or -1: no limit.")
    min_p: Number = Field(default=0.0, ge=0, le=1)
    presence_penalty: Number = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: Number = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: Number | None = Field(default=None, ge=0.01, le=100, description="Default: the model's own.")
    logit_bias: dict[
        Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Annotated[Number, Field(ge=-100, le=100)]
    ] = Field(default={}, max_length=1024, description="Amounts added to the logits, by token id.")
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = Field(
        default=None, description="Texts that end the answer; empty ones are ignored."
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return tuple(stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop or []) if stop)

    def given(self) -> list[Document] | None:
        """The documents of the request, each with an id; None if there are none."""
        return _documents(self.documents) if self.documents else None


class AdapterRequest(_Given):
    """Documents that become an adapter."""

    documents: list[Text | GivenDocument] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    question: Text | None = Field(
        default=None, description="Take only the passages that match this question best, weighted as in an answer."
    )
    name: Name = Field(default="", description="The beginning of the adapter's id. Default: from title or question.")

    def given(self) -> list[Document]:
        """The documents, each with an id."""
        return _documents(self.documents)


class LoadRequest(_Given):
    """A folder of adapters and the name to give it, as in vLLM."""

    lora_name: Name = Field(min_length=1)
    lora_path: Name = Field(min_length=1)


class UnloadRequest(_Given):
    """The name to forget, as in vLLM."""

    lora_name: Name = Field(min_length=1)


def _documents(entries: list[Any]) -> list[Document]:
    documents = []
    for number, entry in enumerate(entries, start=1):
        entry = GivenDocument(text=entry) if isinstance(entry, str) else entry
        documents.append(Document(entry.id or f"document {number}", written(entry.text), written(entry.title)))
    return documents


class MadeOf(BaseModel):
    """A passage that an adapter was made from, with its retrieval score (0 without a question)."""

    id: str
    score: float


class NamedAdapter(BaseModel):
    """An adapter that can be asked as a model.

    `path` is its folder in PEFT's format on the server, and `fingerprint` that of the base model's files.
    """

    id: str
    object: Literal["adapter"] = "adapter"
    created: int
    parent: str
    fingerprint: str
    path: str
    rank: int
    alpha: float
    bytes: int
    question: str | None
    passages: list[MadeOf]


class NamedAdapters(BaseModel):
    """The list of adapters."""

    object: Literal["list"] = "list"
    data: list[NamedAdapter]


class Answer(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The single choice of a response."""

    index: int = 0
    message: Answer
    finish_reason: Literal["stop", "length"]


class PromptTokens(BaseModel):
    """The tokens of the prompt that were not read again, because an earlier prompt began with them."""

    cached_tokens: int


class Usage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class UsedPassage(BaseModel):
    """A passage used for the answer, and whether it was shown in the prompt or injected as an adapter."""

    id: str
    text: str
    score: float
    in_prompt: bool
    injected: bool


class Provenance(BaseModel):
    """How the answer was made. `seconds` and `first_token` count from the arrival of the request."""

    method: str
    passages: list[UsedPassage]
    seconds: float
    first_token: float


class ChatCompletion(BaseModel):
    """A response as in OpenAI's API; the field `dyprag` says how it was made."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    dyprag: Provenance


class Model(BaseModel):
    """A model that can be asked: the base model, or one with an adapter, which names its parent and its folder."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dyprag"
    parent: str | None = None
    root: str | None = None


class Models(BaseModel):
    """The list of served models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """The health of the server, and its load."""

    status: Literal["ok"] = "ok"
    model: str
    running: int
    waiting: int
    documents: int = Field(description="Passages of the server's own documents.")


class Fault(BaseModel):
    """The details of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """An error as in OpenAI's API."""

    error: Fault

"""What a request may say and what an answer says: OpenAI's chat completions, with `documents` and `method` beside."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dyprag.corpora.documents import Document
from dyprag.corpora.text.forms import written
from dyprag.methods.spec import ServedMethod

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
MOST_DOCUMENTS, MOST_CHARACTERS, MOST_MESSAGES, MOST_STOPS = 64, 200_000, 1000, 16


def _whole(value: Any) -> Any:
    """Halves of surrogate pairs, as of an emoji that a client has cut through, become '?': no tokenizer takes them."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=MOST_CHARACTERS)]
Name = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=200)]
Stop = Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Given(BaseModel):
    """What clients send: of fields that are not known here, what others understand; null for what is not set."""

    model_config = ConfigDict(extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        return field.get_default() if value is None and not field.is_required() else value


class Part(_Given):
    """A part of a message. Only text can be read here."""

    type: str
    text: Text = ""
    refusal: Text = ""

    @model_validator(mode="after")
    def _is_text(self) -> "Part":
        if self.type not in ("text", "input_text", "output_text", "refusal"):
            raise PydanticCustomError("part", "a part of this type cannot be read here, only text")
        if not self.model_fields_set & {"text", "refusal"}:
            raise PydanticCustomError("part", "it has no text")
        return self


class Message(_Given):
    """A turn of the conversation. Results of tools that were called elsewhere are read as text."""

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
            raise PydanticCustomError("content", f"a message of the {self.role} has to have a content")
        return self

    @property
    def text(self) -> str:
        """What it says."""
        if self.content is None or isinstance(self.content, str):
            return written(self.content or self.refusal)
        return written("\n".join(part if isinstance(part, str) else part.text or part.refusal for part in self.content))

    @property
    def only_calls(self) -> bool:
        """Whether there is nothing in it to be read."""
        calls = self.tool_calls or self.function_call
        return not self.text and bool(calls or self.content is None or self.content == [])

    @property
    def calls(self) -> dict[str, str]:
        """The calls of tools in it, as text, by their ids."""
        found = {}
        for call in self.tool_calls or []:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(call.get("id"), str):
                found[call["id"]] = _whole(f"{function.get('name')}({_argument(function.get('arguments'))})")
        return found


def _argument(given: Any) -> str:
    try:
        return given if isinstance(given, str) else json.dumps(given)
    except (ValueError, RecursionError):
        return "…"


class GivenDocument(_Given):
    """A document with a name of its own."""

    text: Text
    title: Annotated[str, BeforeValidator(_whole), StringConstraints(max_length=1000)] = ""
    id: Name = ""


class StreamOptions(_Given):
    """What a stream also tells."""

    include_usage: bool = False


class ChatRequest(_Given):
    """A chat completion. The last message is the question."""

    model_config = ConfigDict(extra="allow")  # what is asked for and not done here is refused; see `unsupported`

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: Name = ""
    documents: list[Text | GivenDocument] | None = Field(
        default=None, max_length=MOST_DOCUMENTS,
        description="Texts to answer from, in place of the server's own documents.",
    )  # fmt: skip
    method: ServedMethod | None = Field(
        default=None,
        description="vanilla: the question alone; rag: passages in the prompt; dyprag: their adapters; dyprag-combine: "
        "both. Empty: dyprag-combine where there are documents, else a plain chat.",
    )
    passages: int | None = Field(default=None, ge=1, le=10, description="Passages used, those that fit best.")
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: Number = Field(default=0.0, ge=0, le=2, description="0: the likeliest token, always.")
    top_p: Number = Field(default=1.0, ge=0, le=1)
    top_k: int = Field(default=0, ge=-1, description="0 or -1: no limit.")
    min_p: Number = Field(default=0.0, ge=0, le=1)
    presence_penalty: Number = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: Number = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: Number | None = Field(default=None, ge=0.01, le=100, description="Empty: the model's own.")
    logit_bias: dict[
        Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Annotated[Number, Field(ge=-100, le=100)]
    ] = Field(default={}, max_length=1024, description="Added to the logits of tokens, by their ids.")
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = Field(
        default=None, description="Texts that end the answer; empty ones end nothing."
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return tuple(stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop or []) if stop)

    def given(self) -> list[Document] | None:
        """The documents that came with it, each with a name; None where there are none."""
        if not self.documents:
            return None
        found = []
        for number, one in enumerate(self.documents, start=1):
            one = GivenDocument(text=one) if isinstance(one, str) else one
            found.append(Document(one.id or f"document {number}", written(one.text), written(one.title)))
        return found


class Answer(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: Answer
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens, in and out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class UsedPassage(BaseModel):
    """A passage that the answer was made from: whether it stood in the prompt, and was injected as an adapter."""

    id: str
    text: str
    score: float
    in_prompt: bool
    injected: bool


class Made(BaseModel):
    """How the answer was made; seconds from the request's coming, `first_token` those until its first token."""

    method: str
    passages: list[UsedPassage]
    seconds: float
    first_token: float


class ChatCompletion(BaseModel):
    """An answer, as OpenAI's API gives it, and `dyprag`: how it was made."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    dyprag: Made


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dyprag"


class Models(BaseModel):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether answers can be expected, and who is being answered."""

    status: Literal["ok"] = "ok"
    model: str
    running: int
    waiting: int
    documents: int = Field(description="Passages of the server's own documents.")


class Fault(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """An error, as OpenAI's API gives it."""

    error: Fault

"""What a request may say and what an answer says: OpenAI's chat completions, with `documents` and `method` beside."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from dyprag.documents import Document
from dyprag.text.forms import written

Method = Literal["vanilla", "rag", "dyprag", "dyprag-combine"]
MOST_DOCUMENTS, MOST_CHARACTERS, MOST_MESSAGES = 64, 200_000, 64
Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="ignore")  # as OpenAI-compatible servers do: clients send what others understand


class Part(_Given):
    """A part of a message. Only text can be read here."""

    type: Literal["text"]
    text: Text


class Message(_Given):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=64)]

    @property
    def text(self) -> str:
        """What it says."""
        return written(self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content))


class GivenDocument(_Given):
    """A document with a name of its own."""

    text: Text
    title: Annotated[str, StringConstraints(max_length=1000)] = ""
    id: Annotated[str, StringConstraints(max_length=200)] = ""


class StreamOptions(_Given):
    """What a stream also tells."""

    include_usage: bool = False


class ChatRequest(_Given):
    """A chat completion. The last message is the question."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: Annotated[str, StringConstraints(max_length=200)] = ""
    documents: list[Text | GivenDocument] | None = Field(
        default=None, max_length=MOST_DOCUMENTS,
        description="Texts to answer from, in place of the server's own documents.",
    )  # fmt: skip
    method: Method | None = Field(
        default=None,
        description="vanilla: the question alone; rag: passages in the prompt; dyprag: their adapters; dyprag-combine: "
        "both. Empty: dyprag-combine where there are documents, else a plain chat.",
    )
    passages: int | None = Field(default=None, ge=1, le=10, description="Passages used, those that fit best.")
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2, description="0: the likeliest token, always.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[str, StringConstraints(min_length=1, max_length=100)] | Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=4)
    ] | None = None  # fmt: skip
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1

    @field_validator("stream", "temperature", "top_p", "n", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

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
    code: str | None = None


class ErrorAnswer(BaseModel):
    """An error, as OpenAI's API gives it."""

    error: Fault

"""Every setting of the pipeline: one tree for the command line, YAML or TOML files and the Prefect form.

The only place with defaults. A setting that is empty (None) takes the value of the model's preset; `resolved()` fills
those in. Each section says which of its settings matter to the artifact that it makes; only those enter its key. It
also says which are basic: these are on the form of a run (forms.py) and in what `dyprag config` prints, in this order.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from dyprag.methods.spec import ControlKind, Method, spec_of

if TYPE_CHECKING:
    from dyprag.corpora.documents import Question
    from dyprag.methods.gate import Gate
    from dyprag.model.prompts import PromptForm

DataSetName = Literal["2wikimultihopqa", "hotpotqa", "popqa", "complexwebquestions", "strategyqa", "iirc", "ragtruth",
                      "jsonl"]  # fmt: skip
ExperimentName = Literal["main", "out-of-distribution", "width", "alignment-size", "losses", "conflict",
                         "answer-length", "cost", "internalization"]  # fmt: skip
Merge = Literal["sum", "mean", "matrices", "weighted"]
MOST_TOGETHER = 64  # documents handed to the model at once: more fill no accelerator better


class Section(BaseModel):
    """A group of settings. Unknown keys are errors; nulls mean 'not given', as a form sends them."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    immaterial: ClassVar[frozenset[str]] = frozenset()
    basic: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values

    def material(self) -> dict[str, Any]:
        """The settings that change the result, for an artifact's key."""
        return self.model_dump(mode="json", exclude=set(self.immaterial))


def preset_field(description: str, **bounds: Any) -> Any:
    """A setting whose default comes from the model's preset."""
    return Field(default=None, description=f"{description} Empty: the model preset's value.", **bounds)


class ModelSettings(Section):
    """The base model: frozen, and the same for augmentation, parametrization and answering."""

    name: str = Field(
        default="smollm2-135m",
        description="An embedded model (smollm2-135m), a Hugging Face id, or a local folder.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on an accelerator and on a CPU that is quicker in it, else float32."
    )
    device: str = Field(
        default="auto", description="cpu, cuda, cuda:1, mps; auto: the first accelerator, else the CPU."
    )

    basic: ClassVar[tuple[str, ...]] = ("name",)
    immaterial: ClassVar[frozenset[str]] = frozenset({"name", "device"})  # the fingerprint stands for the name


class CorpusSettings(Section):
    """Where the documents and the test questions come from."""

    documents: str = Field(
        default="demo",
        description="A folder (.txt, .md, .html, .pdf), a JSONL, Parquet, CSV or TSV file, a glob, a URL of these, or "
        "'demo'.",
    )
    questions: str | None = Field(
        default=None,
        description="A JSONL file of test questions, or 'demo'. Empty: the demo's own with the demo corpus, otherwise "
        "none, and nothing is evaluated.",
    )
    max_documents: int | None = Field(
        default=None, ge=1, description="Use only the first so many documents. Empty: all."
    )
    max_questions: int | None = Field(
        default=None, ge=1, description="Take at most so many questions about each document (and pair of documents)."
    )
    passage_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Split documents into passages of at most so many tokens. Empty: each is taken whole, and must fit "
        "the model's context.",
    )
    overlap: int = Field(
        default=0, ge=0, description="Of a passage's tokens, most that the one before it ends with; in whole sentences."
    )
    held_out: float = Field(
        default=0.25, ge=0, lt=1, description="Share of the documents that the translator is not trained on."
    )

    basic: ClassVar[tuple[str, ...]] = ("documents", "questions", "max_documents", "passage_tokens", "held_out")

    @model_validator(mode="after")
    def _room_beside_the_overlap(self) -> "CorpusSettings":
        if self.overlap and self.overlap >= (self.passage_tokens or 0):
            raise ValueError("overlap must be less than passage_tokens (set passage_tokens, or lower overlap)")
        return self


class Price(Section):
    """What a model's tokens cost, in any one currency."""

    input: float = Field(ge=0, description="Price of a million tokens in.")
    output: float = Field(ge=0, description="Price of a million tokens out.")


class ApiSettings(Section):
    """An OpenAI-compatible endpoint that augments: OpenAI, vLLM, Ollama, llama.cpp, Together and others."""

    model: str = Field(default="", description="The model's name at the endpoint.")
    base_url: str | None = Field(
        default=None,
        description="The endpoint, such as http://localhost:8000/v1. Empty: OPENAI_BASE_URL, else OpenAI's own.",
    )
    key_env: str = Field(default="OPENAI_API_KEY", description="Environment variable that holds the key.")
    key_block: str | None = Field(
        default=None, description="A Prefect Secret block that holds the key. Empty: an environment variable holds it."
    )
    extra_body: dict[str, Any] = Field(
        default={}, description="Further fields of every request, such as {top_k: 50} for vLLM."
    )
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = Field(
        default="auto", description="How the form of an answer is asked for. auto: the strictest that is not refused."
    )
    send_seed: bool = Field(
        default=False,
        description="Send a seed with each request. Not every endpoint takes one; answers that came are kept anyway.",
    )
    concurrency: int = Field(default=32, ge=1, description="Most requests in flight.")
    requests_per_minute: float | None = Field(default=None, gt=0, description="The endpoint's limit. Empty: none.")
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="The endpoint's limit, in and out together. Empty: none."
    )
    workers: int = Field(
        default=1, ge=1, description="Processes that share the limits and the budget: each takes its part of them."
    )
    timeout: float = Field(default=120.0, gt=0, description="Seconds after which a request without an answer is over.")
    retries: int = Field(
        default=8, ge=0, description="Times a request is sent again after 429, 5xx, a timeout or a lost connection."
    )
    give_up_after: float = Field(
        default=600.0, gt=0, description="Seconds that an endpoint may be down before the stage stops; documents wait."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Budget, in and out together, over all runs on this store. Where it is spent the stage stops "
        "and the other documents wait; raise it and run again to go on. Empty: none.",
    )
    max_cost: float | None = Field(default=None, gt=0, description="The same as a sum of money; needs the price.")
    prices: dict[str, Price] = Field(
        default={}, description="Prices by the model's name, such as {gpt-4o-mini: {input: 0.15, output: 0.6}}."
    )
    batch: bool = Field(
        default=False,
        description="Use the endpoint's Batch API: requests are handed in together, often for half the price, and "
        "answered within a day. Run the same command again to fetch the answers.",
    )
    batch_wait: float = Field(
        default=0.0, ge=0, description="Seconds to stay and ask for a batch's answers before leaving it."
    )

    basic: ClassVar[tuple[str, ...]] = ("model", "base_url", "key_block")

    @model_validator(mode="after")
    def _sound(self) -> "ApiSettings":
        if self.max_cost is not None and self.model not in self.prices:
            raise ValueError(f"max_cost needs the price of {self.model!r} (set prices, too)")
        if self.base_url and "@" in self.base_url.split("://", 1)[-1].split("/", 1)[0]:
            raise ValueError("base_url holds a user name or password (put the key into key_env or key_block)")
        if ours := sorted(
            {"max_tokens", "max_completion_tokens", "n", "stream", "model", "messages"} & {*self.extra_body}
        ):
            raise ValueError(f"extra_body holds {', '.join(ours)} (which other settings decide; leave it out)")
        return self


class AugmentSettings(Section):
    """Stage 1a: rewrites and question-answer pairs (§3.1)."""

    backend: Literal["local", "api"] = Field(
        default="local",
        description="Who writes: the base model itself (local, English only), or an LLM behind an endpoint (api).",
    )
    api: ApiSettings = Field(default=ApiSettings(), description="The endpoint, its limits and the budget.")
    rewrites: int = preset_field("Rewrites per document (the paper's n).", ge=0)
    qa_pairs: int = preset_field("Question-answer pairs per document (the paper's m).", ge=1)
    least_pairs: int = preset_field("Pairs without which a document counts as partial; all asked for, if fewer.", ge=1)
    temperature: float = Field(default=0.7, ge=0, description="Sampling temperature.")
    top_k: int = Field(default=50, ge=1, description="Sample among so many of the likeliest tokens (local).")
    max_new_tokens: int = Field(default=512, ge=1, description="Longest rewrite, in tokens; the API's longest answer.")
    seed: int = Field(default=0, description="Seed of the sampling.")
    tries: int = Field(
        default=3, ge=1, description="Times that what is missing, malformed or not accepted is asked for (API)."
    )
    rewrite_recall: float = Field(
        default=0.9, ge=0, le=1, description="Share of a document's names, numbers and dates that a rewrite must keep."
    )
    rewrite_change: float = Field(
        default=0.05, ge=0, le=1, description="Least share of a rewrite's letters that differ from the document."
    )
    answer_support: float = Field(
        default=0.85, ge=0, le=1, description="How alike an answer and some words of the document must be; 1: equal."
    )
    verify: bool = Field(
        default=True, description="Where they are not, ask the model with the passage; the same answer is accepted."
    )
    prompts: str | None = Field(
        default=None, description="A folder of prompt files that stand in for the built-in ones of the same name."
    )
    batch_documents: int = Field(default=8, ge=1, description="Documents that generate together (local).")

    basic: ClassVar[tuple[str, ...]] = ("backend", "api", "qa_pairs", "rewrites")

    def material_of(self, product: Literal["rewrites", "qa_pairs"]) -> dict[str, Any]:
        """The settings that change one of the two products."""
        names = {"backend", "temperature", "seed", "max_new_tokens", product}
        names |= {"top_k"} if self.backend == "local" else set()
        names |= {"rewrite_recall", "rewrite_change"} if product == "rewrites" else {"answer_support", "verify"}
        settings = self.model_dump(mode="json", include=names)
        if self.backend == "api":  # where it is reached and how fast does not matter
            settings |= {"model": self.api.model, "extra_body": self.api.extra_body}
        return settings

    @model_validator(mode="after")
    def _endpoint_named(self) -> "AugmentSettings":
        if self.backend == "api" and not self.api.model:
            raise ValueError("backend 'api' needs the model's name at the endpoint (set augment.api.model)")
        return self


class LoraSettings(Section):
    """The adapters' shape, on gate_proj, up_proj and down_proj of every layer."""

    rank: int = Field(default=2, ge=1, description="Rank r of the adapters.")
    alpha: float = Field(default=32, gt=0, description="LoRA's alpha; the delta is scaled by alpha / rank.")
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Number format of the stored adapters; they are trained in float32."
    )
    seed: int = Field(default=0, description="Seed of the initial adapter that all documents share.")

    basic: ClassVar[tuple[str, ...]] = ("rank",)


class ParametrizeSettings(Section):
    """Stage 1b: training one adapter a document (§3.1)."""

    learning_rate: float = preset_field("AdamW's learning rate.", gt=0)
    epochs: int = preset_field("Passes over a document's samples.", ge=1)
    batch_size: int = preset_field("Samples in a step.", ge=1)
    samples: Literal["official", "both", "closed-book"] = preset_field(
        "official: the first half of the pairs with passage and rewrites in the prompt, the others without; both: "
        "every pair once with a passage and once without; closed-book: every pair without, each text once with a pair."
    )
    answer: Literal["short", "full"] = Field(
        default="short", description="Which answer is trained: the short one, or the full sentence (chain of thought)."
    )
    loss_on: Literal["all", "answer"] = Field(default="all", description="Loss over the whole sequence or the answer.")
    shuffle: bool = preset_field("Shuffle a document's steps in every epoch.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay.")
    seed: int = Field(default=0, description="Seed of the sample order.")
    documents: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOGETHER,
        description="Most documents trained together. Empty: as many as memory holds and speed gains by.",
    )

    basic: ClassVar[tuple[str, ...]] = ("learning_rate", "epochs", "shuffle")
    immaterial: ClassVar[frozenset[str]] = frozenset({"documents"})


class TranslatorSettings(Section):
    """Stage 2: the hypernetwork and its training (§3.2)."""

    official: str | None = Field(
        default=None,
        description="A translator that the official code saved (epoch_N.pt), taken instead of training one. Its "
        "adapters' rank is lora.rank; preset=official merges and answers as that code does.",
    )
    learned: str | None = Field(
        default=None,
        description="Use this translator instead of training one: a folder written by dyprag learn, or 'packaged' for "
        "the one that comes with smollm2-135m.",
    )
    retrain: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of documents new to it from which on the translator is trained again; below it, the last "
        "one trained for this corpus with the same settings is kept. 0: train again after every change.",
    )
    retrain_loss: float | None = Field(
        default=None,
        ge=0,
        description="Train it again as well once its loss on documents that are new to it is higher by this share "
        "than on those it was trained on (0.1: by a tenth). Empty: however high it is.",
    )
    tune: bool = Field(
        default=False,
        description="Train it again from the last one's weights, on all documents, rather than from the beginning.",
    )
    width: int = Field(default=32, ge=1, description="Intermediate width p.")
    layers: Literal["own", "shared"] = Field(
        default="own", description="own: each layer has its own weights; shared: one set, told the layer by its index."
    )
    residual: bool = preset_field("Predict the difference from the shared initial adapter rather than the matrices.")
    scaling: Literal["lora", "none"] = preset_field(
        "Scale of the generated delta. lora: alpha / rank, as of the trained adapters; none: 1, as the official code."
    )
    init_std: float = preset_field("Standard deviation of the initial weights of the up-projection.", gt=0)
    init_std_down: float | None = Field(
        default=None, gt=0, description="The same of the down-projection. Empty: 1 / √(its inputs)."
    )
    learning_rate: float = preset_field("AdamW's learning rate.", gt=0)
    epochs: int = preset_field("Passes over the documents' samples.", ge=1)
    batch_size: int = preset_field("Samples in a step, of any documents.", ge=1)
    samples: Literal["all", "first"] = preset_field(
        "all of a document's samples, or only the first, which has the passage in its prompt (the official code)."
    )
    samples_per_document: int | None = Field(
        default=None, ge=1, description="At most so many samples of each document in an epoch. Empty: all."
    )
    lambda_pred: float = Field(default=1.0, ge=0, description="Weight of L_pred, the language-modelling loss.")
    lambda_mse: float = Field(default=100.0, ge=0, description="Weight of L_mse, between the LoRA matrices.")
    lambda_kl: float = Field(default=0.01, ge=0, description="Weight of L_kl, between the token distributions.")
    seed: int = Field(default=0, description="Seed of the initial weights and the sample order.")
    validation: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the training documents kept aside to see when to stop."
    )
    validate_every: int = Field(default=100, ge=1, description="Steps between two looks at them.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many looks without a better loss. Empty: never."
    )

    basic: ClassVar[tuple[str, ...]] = ("learned", "learning_rate", "epochs")
    immaterial: ClassVar[frozenset[str]] = frozenset(
        {"official", "learned", "retrain", "retrain_loss", "tune"}
    )  # the first two's bytes count

    @property
    def given(self) -> bool:
        """Whether the translator comes from elsewhere and is not trained here."""
        return self.official is not None or self.learned is not None

    @model_validator(mode="after")
    def _one_source(self) -> "TranslatorSettings":
        if self.official is not None and self.learned is not None:
            raise ValueError("there can be one translator only (set official or learned, not both)")
        return self

    @model_validator(mode="after")
    def _documents_to_look_at(self) -> "TranslatorSettings":
        if self.patience is not None and not self.validation:
            raise ValueError("patience needs documents kept aside (set validation, too, to 0.1 for example)")
        return self


class LearnSettings(Section):
    """A translator learned from documents and what is asked about them, with no trained adapter as its target."""

    kind: Literal["attentive", "hypernetwork"] = Field(
        default="attentive",
        description="attentive: reads all tokens of a document; hypernetwork: the paper's, from the last one's state.",
    )
    rank: int = Field(default=8, ge=1, description="Rank of the adapters that it makes.")
    first_layer: int = Field(default=10, ge=0, description="attentive: the layers before it are not adapted.")
    sources: int = Field(default=4, ge=1, description="attentive: of how many layers the states are read.")
    width: int = Field(default=288, ge=1, description="attentive: width of a slot; hypernetwork: its p.")
    heads: int = Field(default=8, ge=1, description="attentive: heads of its attention.")
    blocks: int = Field(default=2, ge=1, description="attentive: blocks of attention.")
    copy_tokens: bool = Field(default=True, description="attentive: slots also point at tokens and copy them.")
    spread: bool = Field(
        default=True, description="attentive: slots begin spread over the document, each with a stretch of its own."
    )
    normalize: bool = Field(default=True, description="hypernetwork: layer norm on the document's embedding.")
    init_std: float = Field(default=1e-3, gt=0, description="hypernetwork: of the initial up-projection.")
    residual: bool = Field(default=True, description="hypernetwork: predict the difference from one initial adapter.")
    alpha: float = Field(default=8.0, gt=0, description="LoRA's alpha of the adapters that it makes.")
    closed: int = Field(default=8000, ge=0, description="Invented documents with facts of closed vocabularies.")
    open: int = Field(default=8000, ge=0, description="Invented documents with new names, dates and numbers.")
    real: int | None = Field(
        default=None, ge=0, description="Real passages with questions made by rules, from `data`. Empty: all there are."
    )
    blanks: int = Field(default=1, ge=0, description="Sentences with a blank among a real passage's questions.")
    gaps: int = Field(default=0, ge=0, description="Further sentences with a gap, as augmentation asks them.")
    data: str | None = Field(default=None, description="The data sets' folder. Empty: invented documents only.")
    steps: int = Field(default=1500, ge=1, description="Optimizer steps.")
    documents: int = Field(default=8, ge=1, description="Documents in a step.")
    questions: int = Field(default=4, ge=1, description="At most so many questions about each of them.")
    row_tokens: int = Field(
        default=115, ge=1, description="Tokens of a document's questions in a step, unless the first has more."
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="AdamW's learning rate after the warm-up.")
    warmup: int = Field(default=50, ge=0, description="Steps in which it rises.")
    decay: float = Field(default=0.3, ge=0, le=1, description="Share of the steps, at the end, in which it falls to 0.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of a step's gradient.")
    lambda_pred: float = Field(default=1.0, ge=0, description="Weight of the right answers' loss.")
    lambda_teacher: float = Field(
        default=0.0, ge=0, description="Weight of the KL towards the base model with the passage in its prompt."
    )
    lambda_unrelated: float = Field(
        default=1.0, ge=0, description="Weight of the KL towards the plain base model on other documents' questions."
    )
    unrelated: float = Field(default=0.25, ge=0, le=1, description="Share of documents asked such a question too.")
    seed: int = Field(default=0, description="Seed of the initial weights, the documents and their order.")
    start: str | None = Field(
        default=None,
        description="A translator of the same sizes to begin with: a folder that `output` or the store holds, or "
        "'packaged'. Empty: a fresh one.",
    )
    output: str | None = Field(
        default=None, description="A folder that takes the translator, in bfloat16, and its model card. Empty: none."
    )

    basic: ClassVar[tuple[str, ...]] = (
        "kind", "data", "closed", "open", "real", "steps", "learning_rate", "rank", "start", "output",
    )  # fmt: skip
    # the lessons and the first weights stand for where they are from
    immaterial: ClassVar[frozenset[str]] = frozenset({"data", "start", "output"})


class RecallSettings(Section):
    """The fact-recall benchmark: documents that no translator has seen, asked about without the passage."""

    closed: int = Field(default=80, ge=0, description="Invented documents with facts of closed vocabularies.")
    open: int = Field(default=80, ge=0, description="Invented documents with new names, dates and numbers.")
    popqa: int = Field(default=250, ge=0, description="PopQA's paragraphs, where learn.data holds them.")
    multihop: int = Field(
        default=40, ge=0, description="Paragraphs of HotpotQA and of 2WikiMultihopQA each, where learn.data holds them."
    )
    people: str | None = Field(
        default=None,
        description="Folder of files NAME.jsonl.gz with passages and people's questions. Empty: these are left out.",
    )
    human: int = Field(default=200, ge=0, description="Passages kept from training, where recall.people holds them.")
    kinds: int = Field(default=80, ge=0, description="Passages of sets that no training reads, likewise.")
    everyday: int = Field(default=30, ge=0, le=30, description="Everyday documents that come with the package.")
    questions: int = Field(default=4, ge=1, description="At most so many questions about each document.")
    parametrized: int = Field(
        default=8, ge=0, description="Documents of each band that get an adapter of their own, trained: PRAG's ceiling."
    )

    basic: ClassVar[tuple[str, ...]] = ("closed", "open", "everyday", "people", "parametrized")


class EvaluateSettings(Section):
    """Stage 3: answering the test questions with each method (§3.3)."""

    methods: tuple[Method, ...] = Field(
        default=("vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine"), description="Methods compared."
    )
    passages: int = Field(default=3, ge=1, description="Documents retrieved per question (the paper's c).")
    prag_merge: Merge = preset_field(
        "How PRAG merges the retrieved documents' adapters: sum or mean of the deltas, weighted (by the softmax of "
        "the retrieval scores), or matrices (mean of the A's and mean of the B's, as the official code)."
    )
    dyprag_merge: Merge = preset_field("How DyPRAG merges them.")
    strength: float = preset_field(
        "What an injected adapter's delta is multiplied by where no passages are in the prompt. 0: no adapter.", ge=0
    )
    combine_strength: float = preset_field("The same beside passages, in the Combine methods.", ge=0)
    combine_when: Literal["always", "borne-out"] = preset_field(
        "When an adapter is injected beside passages: always, or where the answer that it gives without them stands in "
        "them (borne-out)."
    )
    max_new_tokens: int = preset_field("Maximum length of an answer in tokens.", ge=1)
    passage_order: Literal["best-first", "best-last"] = preset_field(
        "Order of the passages in the prompt; best-last puts the best one next to the question."
    )
    prompt_passages: int | None = preset_field(
        "Passages in the prompt: the best of those that were retrieved. The paper's preset shows all.", ge=1
    )
    prompt_tokens: int | None = Field(
        default=None,
        ge=32,
        description="Longest prompt in tokens; passages are cut at the end of a sentence to fit. Empty: the model's "
        "context, less the answer.",
    )
    ask_for: Literal["plain", "instruction", "examples", "sentence"] = preset_field(
        "How an answer is asked for: plain (it begins with 'The answer is:'), with an instruction to be short, with "
        "two examples before it, or as a sentence (the model begins as it likes). An adapter alone is always "
        "asked as it was trained: plain."
    )
    reasoning: bool = preset_field("Answer the multi-hop data sets by chain of thought (§4.1).")
    reasoning_tokens: int = Field(default=128, ge=1, description="Longest answer by chain of thought, in tokens.")
    batch_size: int = Field(
        default=16, ge=1, description="Questions answered together, and kept together: a stopped run repeats no more."
    )
    controls: tuple[ControlKind, ...] = Field(
        default=("wrong", "zero"),
        description="Controls of each method with adapters: those of wrong documents, the documents' mean, a generic "
        "one trained on other documents' pairs, zero. An experiment uses all of them where this is left as it is.",
    )
    most_questions: dict[Method, PositiveInt] = Field(
        default={}, description="At most so many questions of each data set for a costly method, as {flare: 50}."
    )
    flare_threshold: float | None = Field(
        default=None, ge=0, le=1, description="Probability of a token below which FLARE retrieves. Empty: as half of "
        "the alignment questions would; without any, its authors' rule for a sentence's mean."
    )  # fmt: skip
    dragin_threshold: float | None = Field(
        default=None, ge=0, description="Weighted entropy above which DRAGIN retrieves. Empty: as half of the "
        "alignment questions would; without any, its authors' 0.8."
    )  # fmt: skip

    basic: ClassVar[tuple[str, ...]] = ("methods", "passages", "max_new_tokens", "strength", "combine_strength")
    immaterial: ClassVar[frozenset[str]] = frozenset({
        "methods", "batch_size", "prag_merge", "dyprag_merge", "reasoning", "reasoning_tokens", "controls",
        "most_questions", "flare_threshold", "dragin_threshold",
    })  # fmt: skip

    def gate_of(self, method: str) -> "Gate | None":
        """When a method's adapter is held back: beside passages that do not bear out its own answer."""
        gated = self._beside_passages(method) and self.combine_when == "borne-out"
        if not (gated and self.combine_strength and self.strength):
            return None
        from dyprag.methods.gate import Gate

        return Gate(self.strength / self.combine_strength)

    def form(self) -> "PromptForm":
        """How questions are put beside their passages."""
        from dyprag.model.prompts import PromptForm

        return PromptForm(self.passage_order, self.ask_for, self.prompt_passages, self.prompt_tokens)

    def strength_of(self, method: str) -> float:
        """What a method's adapter is multiplied by: another number beside passages than without them."""
        return self.combine_strength if self._beside_passages(method) else self.strength

    def answer_length(self, question: "Question") -> int:
        """The longest answer to a question, in tokens."""
        return self.reasoning_tokens if question.chain_of_thought else self.max_new_tokens

    @staticmethod
    def _beside_passages(method: str) -> bool:
        spec = spec_of(method)
        return spec.shows_passages and spec.injects != "nothing"


class DataSetSettings(Section):
    """One data set of an experiment, and how its questions are parted."""

    name: str = Field(description="Its name in tables.", pattern=r"^[^/]+$")
    format: DataSetName | None = Field(default=None, description="Its file format. Empty: that of the set of its name.")
    location: str | None = Field(
        default=None, description="Its file or folder, within experiment.data. Empty: the folder of its name."
    )
    passages: str | None = Field(
        default=None,
        description="What is retrieved from, within experiment.data: a JSONL file, a folder of texts, or DPR's "
        "psgs_w100.tsv. Empty: the set's own passages.",
    )
    questions: int = Field(default=300, ge=0, description="Test questions: the first so many (of each type).")
    tested: bool = Field(default=True, description="Ask the test questions; else they are only kept out of training.")
    alignment_questions: int = Field(
        default=200, ge=0, description="The next so many: their documents train the translator."
    )
    alignment_documents: int | None = Field(
        default=None, ge=0, description="So many documents for the translator: those of the alignment questions, then "
        "others that no test question needs. Empty: those of the alignment questions."
    )  # fmt: skip
    by_type: bool = Field(default=False, description="Count the questions for each of the set's types by itself.")
    gold: bool = Field(default=False, description="Take the annotated gold passages rather than retrieve any.")
    chain_of_thought: bool | None = Field(
        default=None, description="Answer step by step. Empty: the multi-hop sets if evaluate.reasoning says so."
    )
    methods: tuple[Method, ...] | None = Field(
        default=None, description="Of the experiment's methods only these, and their controls. Empty: all of them."
    )
    contradict: bool = Field(default=False, description="Alter the documents so that they contradict what is true.")


class ExperimentSettings(Section):
    """An experiment of the paper (§4), or one of these with other data sets: `dyprag evaluate --experiment NAME`."""

    name: ExperimentName | None = Field(default=None, description="The experiment to run.")
    data: str = Field(default="data", description="The folder that holds the data sets' folders.")
    sets: tuple[DataSetSettings, ...] = Field(default=(), description="Its data sets. Empty: the paper's.")
    widths: tuple[int, ...] = Field(default=(2, 4, 8, 16, 32), description="Widths p of the experiment 'width'.")
    sizes: tuple[int, ...] = Field(
        default=(480, 1200, 2400, 4800), description="Alignment documents of the experiment 'alignment-size'."
    )
    alignment: int | None = Field(
        default=None, ge=1, description="Train the translator on the first so many alignment documents. Empty: on all."
    )

    basic: ClassVar[tuple[str, ...]] = ("name", "data", "alignment")

    @field_validator("sets")
    @classmethod
    def _unlike_names(cls, sets: tuple[DataSetSettings, ...]) -> tuple[DataSetSettings, ...]:
        names = [one.name for one in sets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two data sets are named {twice.pop()!r} (give each a name of its own, and its format)")
        if "all" in names:
            raise ValueError("a data set is named 'all' (which stands for all of them; give it another name)")
        return sets


class JudgeSettings(Section):
    """An LLM that compares two methods' answers (§4, knowledge internalization)."""

    api: ApiSettings = Field(default=ApiSettings(), description="Its endpoint; without a model's name nobody judges.")
    pairs: tuple[tuple[Method, Method], ...] = Field(
        default=(("dyprag-combine", "rag"),), description="Which methods are compared."
    )
    tries: int = Field(default=3, ge=1, description="Times that a malformed verdict is asked for.")

    basic: ClassVar[tuple[str, ...]] = ("api",)


class RunSettings(Section):
    """How the work is run; nothing here changes a result."""

    retries: int = Field(default=2, ge=0, description="Times a document is tried again after a passing fault.")
    runner: Literal["threads", "processes", "dask", "ray"] = Field(
        default="threads",
        description="Where models run: in threads of the run's process, which share one model; in processes, each with "
        "a model or a GPU of its own; on a Dask or Ray cluster that sees the store (pip install dyprag[dask], [ray]).",
    )
    workers: int | None = Field(
        default=None, ge=1, description="Worker processes. Empty: one for each GPU, or without one for each core."
    )
    address: str | None = Field(
        default=None, description="The Dask scheduler's or Ray head's address. Empty: a cluster on this machine."
    )
    documents_per_task: int | None = Field(
        default=None,
        ge=1,
        description="Documents in one task. Empty: in threads one up to 2,000 documents and 64 to 250 beyond, which "
        "a Prefect server takes in easily; elsewhere up to 64, so that each worker gets some tasks.",
    )
    retry_delay: float = Field(default=2.0, ge=0, description="Seconds before the first retry; doubled each time.")
    on_failures: Literal["complete", "fail"] = Field(
        default="complete",
        description="Name of the state of a flow that finished while some documents failed: CompletedWithFailures "
        "(complete), or Failed (fail). Either is of Prefect's type Failed: the UI shows it red, and can retry it.",
    )

    basic: ClassVar[tuple[str, ...]] = ("runner", "on_failures")


class PipelineConfig(Section):
    """The whole pipeline's configuration."""

    preset: Literal["auto", "paper", "official", "smollm2-135m"] = Field(
        default="auto",
        description="Where empty settings come from. auto: the model's own preset, otherwise the paper's; official: "
        "the official code's.",
    )
    store: str = Field(
        default="artifacts",
        description="The folder of artifacts, catalogue and reports, or a URL such as s3://bucket/folder.",
    )
    model: ModelSettings = Field(default=ModelSettings(), description="The base model.")
    corpus: CorpusSettings = Field(default=CorpusSettings(), description="Documents and test questions.")
    augment: AugmentSettings = Field(default=AugmentSettings(), description="Stage 1a: augmentation.")
    lora: LoraSettings = Field(default=LoraSettings(), description="The adapters' shape.")
    parametrize: ParametrizeSettings = Field(default=ParametrizeSettings(), description="Stage 1b: parametrization.")
    translator: TranslatorSettings = Field(default=TranslatorSettings(), description="Stage 2: the translator.")
    learn: LearnSettings = Field(default=LearnSettings(), description="A translator learned without adapters.")
    recall: RecallSettings = Field(default=RecallSettings(), description="The fact-recall benchmark.")
    evaluate: EvaluateSettings = Field(default=EvaluateSettings(), description="Stage 3: answers and scores.")
    experiment: ExperimentSettings = Field(default=ExperimentSettings(), description="Data sets and grids.")
    judge: JudgeSettings = Field(default=JudgeSettings(), description="Comparison of answers by an LLM.")
    run: RunSettings = Field(default=RunSettings(), description="Where it runs, retries and end states.")

    basic: ClassVar[tuple[str, ...]] = (
        "corpus", "model", "store", "preset", "augment", "lora", "parametrize", "translator", "learn", "recall",
        "evaluate", "experiment", "judge", "run",
    )  # fmt: skip

    def resolved(self) -> "PipelineConfig":
        """The same with every empty setting filled in from the model's preset."""
        by_model = "smollm2-135m" if self.model.name == "smollm2-135m" else "paper"
        preset = PRESETS[by_model if self.preset == "auto" else self.preset]
        given = self.model_dump(exclude_none=True)
        for section, values in preset.items():
            given[section] = values | given[section]
        return PipelineConfig.model_validate(given)


# The paper's values (§4.1), for any model that has no preset of its own.
PAPER: dict[str, dict[str, Any]] = {
    "augment": {"rewrites": 1, "qa_pairs": 3, "least_pairs": 3},
    "parametrize": {"learning_rate": 3e-4, "epochs": 1, "batch_size": 1, "samples": "official", "shuffle": False},
    "translator": {
        "residual": False, "scaling": "lora", "init_std": 1e-7, "learning_rate": 1e-5, "epochs": 1, "batch_size": 1,
        "samples": "all",
    },
    "evaluate": {
        "prag_merge": "sum", "dyprag_merge": "mean", "max_new_tokens": 128, "reasoning": True, "strength": 1.0,
        "combine_strength": 1.0, "combine_when": "always", "passage_order": "best-first", "ask_for": "plain",
    },
}  # fmt: skip

# The official code's choices, to study its results and its published translators: the delta added unscaled, the mean
# of A and of B taken apart, the first sample only, all weights N(0, 1e-7). (The paper's preset shares its loss weights
# and its loss on all tokens.) It also takes the KL over padding, which is not repeated here.
OFFICIAL: dict[str, dict[str, Any]] = {
    **PAPER,
    "translator": {**PAPER["translator"], "scaling": "none", "init_std_down": 1e-7, "samples": "first"},
    "evaluate": {**PAPER["evaluate"], "dyprag_merge": "matrices"},
}

# A model of 135M parameters learns nothing at the paper's rate and writes poor rewrites: larger steps, more pairs.
SMOLLM2: dict[str, dict[str, Any]] = {
    "augment": {"rewrites": 1, "qa_pairs": 14, "least_pairs": 3},
    "parametrize": {"learning_rate": 5e-3, "epochs": 3, "batch_size": 2, "samples": "closed-book", "shuffle": True},
    "translator": {
        "residual": True, "scaling": "lora", "init_std": 1e-3, "learning_rate": 2e-4, "epochs": 1, "batch_size": 2,
        "samples": "all",
    },
    "evaluate": {
        "prag_merge": "weighted", "dyprag_merge": "weighted", "max_new_tokens": 64, "reasoning": False,
        "strength": 1.0, "combine_strength": 0.5, "combine_when": "borne-out", "passage_order": "best-last",
        "ask_for": "examples", "prompt_passages": 1,
    },
}  # fmt: skip

PRESETS = {"paper": PAPER, "official": OFFICIAL, "smollm2-135m": SMOLLM2}

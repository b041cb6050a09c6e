"""Settings of the translator and its training by alignment, stage 2 (§3.2)."""

from typing import ClassVar, Literal

from pydantic import model_validator

from dyprag.config.base import PRESET, Section, basic, expert


class TranslatorSettings(Section):
    """Stage 2: the hypernetwork and its training (§3.2)."""

    official: str | None = expert(
        None,
        "Use a translator saved by the official code (epoch_N.pt) instead of training one. lora.rank has to be "
        "its adapters' rank; preset=official merges and answers as that code does.",
    )
    learned: str | None = basic(
        None,
        "Use this translator instead of training one: a folder written by dyprag learn, or 'packaged' for the one "
        "that comes with smollm2-135m.",
    )
    retrain: float = expert(
        0.2,
        "Share of new documents from which the translator is trained again. Below it the last translator trained "
        "for this corpus with the same settings is kept. 0: train after every change.",
        ge=0,
        le=1,
    )
    retrain_loss: float | None = expert(
        None,
        "Also train again when the loss on new documents exceeds the loss on the training documents by this share "
        "(0.1: by a tenth). Empty: never for this reason.",
        ge=0,
    )
    tune: bool = expert(
        False,
        "Train again from the last translator's weights, on all documents, instead of from scratch.",
    )
    width: int = expert(32, "Intermediate width p of the hypernetwork.", ge=1)
    layers: Literal["own", "shared"] = expert(
        "own", "own: each layer has its own weights; shared: all layers share one set, which reads the layer's index."
    )
    residual: bool = expert(
        PRESET, "Predict the difference from the shared initial adapter instead of the matrices themselves."
    )
    scaling: Literal["lora", "none"] = expert(
        PRESET,
        "Scale of the generated weight change. lora: alpha / rank, as for trained adapters; none: 1, as in the "
        "official code.",
    )
    init_std: float = expert(PRESET, "Standard deviation of the initial weights of the up-projection.", gt=0)
    init_std_down: float | None = expert(
        None, "Standard deviation of the initial weights of the down-projection. Empty: 1 / √(its inputs).", gt=0
    )
    learning_rate: float = basic(PRESET, "AdamW's learning rate.", gt=0)
    epochs: int = basic(PRESET, "Number of passes over the documents' samples.", ge=1)
    batch_size: int = expert(PRESET, "Number of samples in a step, from any documents.", ge=1)
    samples: Literal["all", "first"] = expert(
        PRESET,
        "all: every sample of a document; first: only the first, which has the passage in its prompt (the "
        "official code).",
    )
    samples_per_document: int | None = expert(
        None, "Maximum number of samples of each document in an epoch. Empty: all.", ge=1
    )
    lambda_pred: float = expert(1.0, "Weight of L_pred, the language-modelling loss.", ge=0)
    lambda_mse: float = expert(100.0, "Weight of L_mse, between the LoRA matrices.", ge=0)
    lambda_kl: float = expert(0.01, "Weight of L_kl, between the token distributions.", ge=0)
    seed: int = expert(0, "Seed of the initial weights and the sample order.")
    validation: float = expert(0.0, "Share of the training documents held out for early stopping.", ge=0, lt=1)
    validate_every: int = expert(100, "Number of steps between two validations.", ge=1)
    patience: int | None = expert(None, "Stop after this many validations without a better loss. Empty: never.", ge=1)

    # the key contains the files that `official` and `learned` name, not their paths
    immaterial: ClassVar[frozenset[str]] = frozenset({"official", "learned", "retrain", "retrain_loss", "tune"})

    @property
    def given(self) -> bool:
        """Whether an existing translator is used instead of training one."""
        return self.official is not None or self.learned is not None

    @model_validator(mode="after")
    def _check_source(self) -> "TranslatorSettings":
        if self.official is not None and self.learned is not None:
            raise ValueError("only one translator can be used (set official or learned, not both)")
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> "TranslatorSettings":
        if self.patience is not None and not self.validation:
            raise ValueError("patience requires validation documents (set validation, for example to 0.1)")
        return self

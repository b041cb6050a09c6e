"""Settings of the base model."""

from typing import ClassVar, Literal

from dyprag.config.base import Section, basic, expert


class ModelSettings(Section):
    """The frozen base model, which augmentation, parametrization and answering share."""

    name: str = basic(
        "smollm2-135m",
        "An embedded model (smollm2-135m), a Hugging Face id, or a local folder.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = expert(
        "auto",
        "Number format of the model. auto: bfloat16 on an accelerator, and on a CPU where it is faster; else float32.",
    )
    device: str = expert("auto", "cpu, cuda, cuda:1 or mps. auto: the first accelerator, or else the CPU.")

    immaterial: ClassVar[frozenset[str]] = frozenset({"name", "device"})

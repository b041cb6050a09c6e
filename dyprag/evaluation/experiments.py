"""The paper's experiments (§4) as named configurations: data sets, methods, and what is varied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dyprag.config import (
    DataSetSettings,
    EvaluateSettings,
    PipelineConfig,
)
from dyprag.methods.spec import KINDS, Method

SIX: tuple[Method, ...] = ("vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine")
TRANSLATED: tuple[Method, ...] = ("vanilla", "rag", "dyprag", "dyprag-combine")
# §4.1: of each sub-data-set, the first 300 questions are for testing, the next 200 for alignment.
PAPER = (
    DataSetSettings(name="2wikimultihopqa", by_type=True),
    DataSetSettings(name="hotpotqa", by_type=True),
    DataSetSettings(name="popqa"),
    DataSetSettings(name="complexwebquestions"),
)
OUT_OF_DISTRIBUTION = tuple(
    DataSetSettings(name=name, alignment_questions=0, gold=True) for name in ("strategyqa", "iirc")
)
DEFAULT = EvaluateSettings()


@dataclass(frozen=True)
class Variant:
    """One configuration of an experiment's grid. `label` is empty if it is the only one."""

    label: str
    config: PipelineConfig


def variants(config: PipelineConfig) -> list[Variant]:
    """Return the configurations of the experiment named in `config.experiment`.

    Data sets, methods and controls that are set in `config` replace those of the experiment.

    Args:
        config: the resolved configuration.
    """
    name = config.experiment.name
    if name is None:
        return [Variant("", config)]
    experiment = EXPERIMENTS[name]
    sets = config.experiment.sets or experiment.sets
    chosen = config.evaluate.methods if config.evaluate.methods != DEFAULT.methods else experiment.methods
    controls = config.evaluate.controls if config.evaluate.controls != DEFAULT.controls else KINDS
    base = _with(
        config,
        experiment={"sets": sets},
        evaluate={"methods": chosen, "controls": controls, **experiment.evaluate},
    )
    return [Variant(label, _with(base, **changes)) for label, changes in experiment.grid(config)]


@dataclass(frozen=True)
class _Experiment:
    sets: Sequence[DataSetSettings]
    methods: tuple[Method, ...]
    grid: Callable[[PipelineConfig], list[tuple[str, dict[str, dict[str, Any]]]]]
    evaluate: dict[str, Any]


def _single(_: PipelineConfig) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    return [("", {})]


def _widths(config: PipelineConfig) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    return [(str(width), {"translator": {"width": width}}) for width in config.experiment.widths]


def _sizes(config: PipelineConfig) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    return [(str(size), {"experiment": {"alignment": size}}) for size in config.experiment.sizes]


def _losses(_: PipelineConfig) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    return [
        ("all losses", {}),
        ("without L_mse", {"translator": {"lambda_mse": 0.0}}),
        ("without L_kl", {"translator": {"lambda_kl": 0.0}}),
        ("L_pred only", {"translator": {"lambda_mse": 0.0, "lambda_kl": 0.0}}),
    ]


EXPERIMENTS: dict[str, _Experiment] = {
    "main": _Experiment(PAPER, SIX, _single, {}),
    # the translator of the main experiment, on data sets without alignment documents
    "out-of-distribution": _Experiment(
        (*(s.model_copy(update={"tested": False}) for s in PAPER), *OUT_OF_DISTRIBUTION), TRANSLATED, _single, {}
    ),
    "width": _Experiment(PAPER, TRANSLATED, _widths, {}),
    "alignment-size": _Experiment(PAPER, TRANSLATED, _sizes, {}),
    "losses": _Experiment(PAPER, TRANSLATED, _losses, {}),
    # documents that contradict the truth: which methods follow them?
    "conflict": _Experiment(
        (DataSetSettings(name="popqa-altered", format="popqa", passages="popqa/passages.jsonl", contradict=True),),
        SIX, _single, {},
    ),
    "answer-length": _Experiment(PAPER, ("vanilla", "rag", "dyprag", "dyprag-combine"), _single,
                                 {"max_new_tokens": 512, "reasoning_tokens": 512}),
    # one question at a time, as in interactive use
    "cost": _Experiment(PAPER, SIX, _single, {"batch_size": 1}),
    "internalization": _Experiment(
        (*(s.model_copy(update={"tested": False}) for s in PAPER),
         DataSetSettings(name="ragtruth", questions=100, alignment_questions=0, gold=True)),
        ("rag", "dyprag", "dyprag-combine"), _single, {"max_new_tokens": 256},
    ),
}  # fmt: skip


def _with(config: PipelineConfig, **sections: dict[str, Any]) -> PipelineConfig:
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    )

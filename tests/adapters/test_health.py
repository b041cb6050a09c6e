"""Failed trainings are detected by their losses, and repeated at smaller learning rates."""

from typing import Any

import pytest
import torch
from parametrization import AUGMENTATION, DOCUMENT, LORA
from parametrization import settings as rates

from dyprag.adapters.health import fault
from dyprag.adapters.parametrize import Parametrized, parametrize
from dyprag.adapters.samples import Sample, document_samples
from dyprag.config import PipelineConfig
from dyprag.model.base import BaseModel, load_model

# Losses of a real document of the demo: three epochs of eight steps, with a temporary spike.
SOUND = [5.08, 2.65, 2.56, 1.96, 1.08, 1.44, 2.38, 1.26, 0.57, 4.57, 0.29, 0.51, 0.46, 0.77, 0.52, 1.27, 0.17, 0.36,
         0.33, 0.44, 0.25, 0.53, 0.68, 0.19]  # fmt: skip


def test_a_training_with_a_falling_loss_has_no_fault():
    assert fault(SOUND, 3, 0.3) == ""
    assert fault([3.0, 2.9, 2.8, 2.9, 2.7], 1, 2.9) == ""  # five steps at the paper's rate
    assert (
        fault([2.9, 2.1, 3.4, 2.8, 2.0, 3.3], 2, 2.8) == ""
    )  # two epochs of different samples with a slight improvement
    assert fault([0.0], 1, 0.0) == ""  # a sample of one token: nothing to learn
    assert fault([], 1, float("nan")) == ""


@pytest.mark.parametrize("after", [5.08, 6.0, float("inf"), float("nan")])
def test_a_loss_that_did_not_fall_is_a_fault(after: float):
    assert "did not fall" in fault(SOUND, 3, after)
    assert "did not fall" in fault([5.08], 1, after)


def test_a_loss_that_rose_again_is_a_fault_even_below_its_start():
    assert "rose again" in fault([*SOUND[:16], 0.17, 0.36, 6.1, 4.0, 3.1, 2.8, 2.5, 2.51], 3, 2.5)
    assert "rose again" in fault([*SOUND[:22], 4.9, 3.0], 3, 2.6)  # in the last two steps
    assert "rose again" in fault(SOUND, 3, 4.9)  # in the last update, which is not visible in any step's loss


@pytest.fixture(scope="module")
def samples(base: BaseModel) -> list[Sample]:
    return document_samples(base, DOCUMENT, AUGMENTATION, "short", "official")


def train(base: BaseModel, documents: list[list[Sample]], **given) -> dict[int, Parametrized]:
    made = dict(parametrize(base, documents, LORA, rates(**given)))
    assert all(isinstance(one, Parametrized) for one in made.values())
    return made  # type: ignore[return-value]


def test_a_failed_training_is_repeated_with_a_smaller_rate(
    base: BaseModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.parametrize.SMALLER", (0.5, 2**-17))
    made = train(base, [samples, samples[:2]], epochs=4, learning_rate=4096.0)
    plain = train(base, [samples, samples[:2]], epochs=4, learning_rate=0.03125)
    for number, mended in made.items():
        assert (mended.trainings, mended.fault, mended.learning_rate) == (3, "", 0.03125)
        assert (plain[number].trainings, plain[number].fault) == (1, "")
        assert mended.losses == plain[number].losses
        tensors = plain[number].adapter.tensors()
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in mended.adapter.tensors().items())


def test_if_all_rates_fail_the_lowest_loss_is_kept_with_its_fault(
    base: BaseModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.parametrize.fault", lambda losses, epochs, after: "the loss rose again")
    (made,) = train(base, [samples], epochs=4, learning_rate=0.09).values()
    assert (made.trainings, made.fault) == (3, "the loss rose again; learning rates tried: 0.09, 0.03, 0.01")
    monkeypatch.undo()
    each = [train(base, [samples], epochs=4, learning_rate=rate)[0].after for rate in (0.09, 0.03, 0.01)]
    assert made.after == pytest.approx(min(each))


def test_a_nan_loss_at_every_rate_is_a_fault(base: BaseModel, samples: list[Sample]):
    (made,) = train(base, [samples], epochs=4, learning_rate=1e37).values()
    assert made.diverged
    assert made.fault.startswith("the loss became NaN or infinite; learning rates tried: 1e+37")


@pytest.mark.slow  # several trainings of the embedded model
@pytest.mark.real_model
def test_too_high_a_rate_for_the_real_model_is_detected_and_corrected():
    base = load_model("smollm2-135m")
    real = document_samples(base, DOCUMENT, AUGMENTATION, "short", "closed-book")
    (made,) = train(base, [real], epochs=4, learning_rate=0.045, shuffle=True).values()
    assert made.trainings > 1
    assert made.fault == ""
    assert made.learning_rate < 0.045
    assert made.after < made.losses[0] / 2


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_document_whose_training_failed_is_partial_with_the_reason(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from dyprag.flows.augment import augment
    from dyprag.flows.ingest import ingest
    from dyprag.flows.parametrize import parametrize as parametrize_flow
    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue

    config = PipelineConfig.model_validate(settings)
    ingest(config)
    augment(config)
    calls = iter(range(100))
    monkeypatch.setattr(
        "dyprag.adapters.parametrize.fault", lambda *_: "the loss rose again" if next(calls) % 3 == 0 else ""
    )
    monkeypatch.setattr("dyprag.adapters.parametrize.SMALLER", ())
    summary = parametrize_flow(config, return_state=True).result()[0]
    assert (summary["done"], summary["partial"], summary["failed"]) == (3, 1, 0)
    catalogue = Catalogue(Store(config.store))
    (row,) = catalogue.query("SELECT document_id, stage, reason FROM partial WHERE stage = 'parametrize'")
    assert "the loss rose again" in row["reason"]
    assert "parametrize.learning_rate" in row["reason"]
    found = parametrize_flow(config, return_state=True).result()[0]  # reused, but still reported as partial
    assert (found["done"], found["cached"], found["partial"]) == (3, 3, 1)
    assert catalogue.query("SELECT document_id FROM partial WHERE stage = 'parametrize'") == [
        {"document_id": row["document_id"]}
    ]

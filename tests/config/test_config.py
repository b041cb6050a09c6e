"""Settings: presets fill in empty settings, and unknown settings are rejected."""

from typing import Any

import pytest
from pydantic import ValidationError

from dyprag.config import OFFICIAL, PAPER, PRESETS, SMOLLM2, PipelineConfig

SECTIONS = ("augment", "parametrize", "translator", "evaluate")


def values(config: PipelineConfig, preset: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a configuration's values of the settings that a preset defines."""
    return {section: {name: getattr(getattr(config, section), name) for name in preset[section]} for section in preset}


@pytest.mark.parametrize(("name", "preset"), [("smollm2-135m", SMOLLM2), ("Qwen/Qwen2.5-1.5B-Instruct", PAPER)])
def test_the_models_preset_fills_in_empty_settings(name: str, preset: dict):
    config = PipelineConfig.model_validate({"model": {"name": name}})
    assert config.augment.qa_pairs is None
    assert values(config.resolved(), preset) == preset


def test_an_unknown_model_gets_the_papers_values():
    config = PipelineConfig.model_validate({"model": {"name": "some/other-model"}}).resolved()
    assert values(config, PAPER) == PAPER
    assert (config.augment.rewrites, config.augment.qa_pairs, config.augment.temperature) == (1, 3, 0.7)
    assert (config.lora.rank, config.lora.alpha, config.translator.width) == (2, 32, 32)
    assert (config.parametrize.learning_rate, config.parametrize.batch_size, config.parametrize.epochs) == (
        3e-4,
        1,
        1,
    )
    assert (config.translator.learning_rate, config.translator.init_std) == (1e-5, 1e-7)
    assert (config.translator.lambda_mse, config.translator.lambda_kl) == (100, 0.01)
    assert (config.evaluate.passages, config.evaluate.dyprag_merge) == (3, "mean")


def test_only_optional_settings_are_empty_after_resolving():
    config = PipelineConfig().resolved()
    empty = {f"{section}.{name}" for section in SECTIONS for name, v in getattr(config, section) if v is None}
    assert empty == {
        "augment.prompts", "augment.writer", "parametrize.documents", "translator.official", "translator.learned",
        "translator.retrain_loss", "translator.init_std_down", "translator.samples_per_document",
        "translator.patience",
        "evaluate.flare_threshold", "evaluate.dragin_threshold", "evaluate.prompt_tokens",
    }  # fmt: skip


def test_a_training_that_starts_from_a_translated_adapter_has_a_lower_rate_and_fewer_epochs():
    given = {"translator": {"learned": "packaged"}, "parametrize": {"start": "translated", "epochs": 2}}
    warm = PipelineConfig.model_validate(given).resolved().parametrize
    cold = PipelineConfig().resolved().parametrize
    assert warm.learning_rate < cold.learning_rate
    assert warm.epochs == 2
    assert (warm.samples, warm.shuffle) == (cold.samples, cold.shuffle)
    paper = PipelineConfig.model_validate({**given, "preset": "paper"}).resolved().parametrize
    assert paper.learning_rate == PAPER["parametrize"]["learning_rate"]


def test_a_given_value_overrides_the_preset():
    given = {"augment": {"qa_pairs": 7}, "translator": {"residual": False}, "evaluate": {"dyprag_merge": "matrices"}}
    config = PipelineConfig.model_validate(given).resolved()
    assert config.augment.qa_pairs == 7
    assert config.translator.residual is False
    assert config.evaluate.dyprag_merge == "matrices"
    assert config.augment.rewrites == SMOLLM2["augment"]["rewrites"]


def test_null_means_not_given():
    nulls = {"store": None, "model": {"name": None}, "lora": None, "parametrize": {"epochs": None, "seed": None}}
    assert PipelineConfig.model_validate(nulls) == PipelineConfig()


def test_resolving_is_idempotent():
    once = PipelineConfig.model_validate({"parametrize": {"epochs": 4}}).resolved()
    assert once.resolved() == once


@pytest.mark.parametrize(
    "given",
    [{"modle": {}}, {"lora": {"rnak": 2}}, {"evaluate": {"methods": ["ragg"]}}, {"lora": {"rank": 0}},
     {"parametrize": {"learning_rate": 0}}, {"corpus": {"held_out": 1}}, {"model": {"dtype": "float16"}}],
)  # fmt: skip
def test_unknown_keys_and_invalid_values_are_errors(given: dict):
    with pytest.raises(ValidationError):
        PipelineConfig.model_validate(given)


def test_a_configuration_is_immutable():
    with pytest.raises(ValidationError):
        PipelineConfig().lora.rank = 3  # type: ignore[misc]


def test_every_setting_has_a_description():
    schema = PipelineConfig.model_json_schema()
    objects = {"": schema} | schema["$defs"]
    settings = {f"{o}.{name}": field for o, s in objects.items() for name, field in s.get("properties", {}).items()}
    assert len(settings) > 50
    assert [name for name, field in settings.items() if not field.get("description", "").strip()] == []


def test_settings_that_do_not_affect_results_are_not_material():
    first = PipelineConfig.model_validate({"augment": {"batch_documents": 1}, "model": {"device": "cpu"}})
    second = PipelineConfig.model_validate({"augment": {"batch_documents": 9}, "model": {"device": "cuda"}})
    assert first.augment.material_of("rewrites") == second.augment.material_of("rewrites")
    assert first.model.material() == second.model.material()
    other = PipelineConfig.model_validate({"augment": {"seed": 1}})
    assert first.augment.material_of("rewrites") != other.augment.material_of("rewrites")


def test_patience_requires_validation_documents():
    with pytest.raises(ValidationError, match="set validation"):
        PipelineConfig.model_validate({"translator": {"patience": 3}})
    PipelineConfig.model_validate({"translator": {"patience": 3, "validation": 0.1}})


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("model", ["smollm2-135m", "some/model"])
def test_a_preset_chosen_by_name_overrides_the_models_preset(preset: str, model: str):
    config = PipelineConfig.model_validate({"preset": preset, "model": {"name": model}})
    assert values(config.resolved(), PRESETS[preset]) == PRESETS[preset]


def test_the_official_preset_has_the_official_codes_choices():
    config = PipelineConfig.model_validate({"preset": "official"}).resolved()
    translator = config.translator
    assert (translator.scaling, translator.samples, translator.layers) == ("none", "first", "own")
    assert (translator.init_std, translator.init_std_down, translator.residual) == (1e-7, 1e-7, False)
    assert (translator.lambda_pred, translator.lambda_mse, translator.lambda_kl) == (1, 100, 0.01)
    assert (translator.learning_rate, translator.epochs, translator.batch_size) == (1e-5, 1, 1)
    assert (config.evaluate.prag_merge, config.evaluate.dyprag_merge) == ("sum", "matrices")
    assert (config.parametrize.loss_on, config.parametrize.samples, config.parametrize.shuffle) == (
        "all",
        "official",
        False,
    )
    assert {s: set(v) for s, v in OFFICIAL.items() if s != "translator"} == {
        s: set(v) for s, v in PAPER.items() if s != "translator"
    }


def test_a_setting_of_one_product_does_not_affect_the_other():
    augment = PipelineConfig().resolved().augment
    rewrites, pairs = augment.material_of("rewrites"), augment.material_of("qa_pairs")
    other = augment.model_copy(update={"qa_pairs": 5, "answer_support": 0.5, "batch_documents": 1, "tries": 9})
    assert other.material_of("rewrites") == rewrites
    assert other.material_of("qa_pairs") != pairs
    assert "qa_pairs" not in rewrites


def test_an_endpoints_address_and_limits_are_not_material():
    def material(**api: Any) -> dict[str, Any]:
        given = {"backend": "api", "api": {"model": "m", **api}}
        return PipelineConfig.model_validate({"augment": given}).resolved().augment.material_of("qa_pairs")

    elsewhere = material(
        base_url="http://localhost:1/v1", concurrency=1, requests_per_minute=5, max_tokens=9, batch=True
    )
    assert elsewhere == material()
    assert material(model="other") != material()
    assert material(extra_body={"top_k": 5}) != material()
    assert "top_k" not in material()  # a setting of the local model


@pytest.mark.parametrize(
    ("augment", "reason"),
    [
        ({"backend": "api"}, "augment.api.model must be set"),
        ({"api": {"model": "m", "max_cost": 1}}, "max_cost requires the price of 'm'"),
        ({"api": {"base_url": "http://me:secret@host/v1"}}, "contains a user name or password"),
    ],
)
def test_an_unusable_endpoint_is_rejected(augment: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        PipelineConfig.model_validate({"augment": augment})

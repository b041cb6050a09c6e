"""Run forms: the JSON schema of each flow, the values that it accepts, and the resulting configuration."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.hydration import hydrate
from prefect.utilities.schema_tools.validation import ValidationError, validate

from dyprag.config import PipelineConfig, Section
from dyprag.config.files import configuration, section_of, to_write
from dyprag.config.form import OWN, _drawn, read_form
from dyprag.errors import ConfigError
from dyprag.flows.automations import FLOWS

STAGES = ("ingest", "augment", "parametrize", "train_translator", "learn", "learn_augmenter", "evaluate", "pipeline",
          "experiment")  # fmt: skip
UNTOUCHED_JSON = {"__prefect_kind": "json"}  # what both UIs send for an empty field of JSON


def schema_of(flow: str) -> dict[str, Any]:
    """Return the schema of a deployment of this flow."""
    module = __import__(f"dyprag.flows.{flow}", fromlist=[flow])
    return parameter_schema(getattr(module, flow).fn).model_dump_for_openapi()


def drawn(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all fields and sections of a form, with their names."""
    for name, field in schema.get("properties", {}).items():
        yield place + name, field
        yield from drawn(field, f"{place}{name}.")


def sections(section: type[Section] = PipelineConfig) -> Iterator[type[Section]]:
    yield section
    for name in section.model_fields:
        if inner := section_of(section, name):
            yield from sections(inner)


def test_there_is_a_form_for_every_flow():
    assert {flow.replace("-", "_") for flow in FLOWS} == set(STAGES)


def test_basic_settings_exist_and_can_be_drawn():
    for section in sections():
        assert set(section.basic) <= set(section.model_fields), section
        fields = section.model_json_schema()["properties"]
        for name in section.basic:
            kinds = {one.get("type") for one in fields[name].get("anyOf", [fields[name]])}
            assert section_of(section, name) or kinds <= {"string", "integer", "number", "boolean", "array", "null"}


@pytest.mark.parametrize("flow", STAGES)
def test_a_form_has_no_defaults_and_no_nullable_fields(flow: str):
    schema = schema_of(flow)
    fields = dict(drawn(schema))
    assert schema["properties"]["config"]["default"] == {}
    for name, field in fields.items():
        assert name == "config" or "default" not in field, f"{name} would be sent untouched"
        assert "anyOf" not in field, f"{name} would be drawn with a tab for null"
        assert field.get("type") in ("string", "integer", "number", "array", "object", None), name
        assert "type" in field or field["enum"] == ["yes", "no", True, False], f"{name} would be drawn as JSON"
        assert field["title"], name
        assert field["description"], name
        places = [inner["position"] for inner in field.get("properties", {}).values()]
        assert places == sorted(set(places)), f"{name} is in disorder on PostgreSQL"
    assert list(fields)[-2:] == [f"config.{name}" for name in OWN]
    assert 5 < len(fields) < 40, "a form that nobody reads to its end"


@pytest.mark.parametrize("flow", STAGES)
@pytest.mark.parametrize("sent", [{}, {"config": {}}, {"config": {"settings": UNTOUCHED_JSON}}])
def test_an_empty_form_gives_the_command_lines_default_configuration(flow: str, sent: dict[str, Any]):
    parameters = hydrate(sent)
    validate(parameters, schema_of(flow), raise_on_error=True)
    config = read_form(parameters.get("config", {}))
    assert config == PipelineConfig()
    assert config.resolved().parametrize.shuffle is True, "the preset's"


@pytest.mark.parametrize(
    ("default", "words"),
    [(1, "1"), (0, "0"), (True, "yes"), (False, "no"), (["rag", "prag"], "rag, prag"), (0.25, "0.25")],
)
def test_descriptions_mention_defaults(default: Any, words: str):
    drawn_field = _drawn({"description": "It.", "type": "boolean" if default is True else "string", "default": default})
    assert drawn_field["description"] == f"It. Default: {words}."
    assert "default" not in drawn_field


def test_further_settings_typed_as_json_are_read():
    typed = {"config": {"settings": {**UNTOUCHED_JSON, "value": '{"lora.alpha": 16, "run": {"retries": 0}}'}}}
    parameters = hydrate(typed)
    validate(parameters, schema_of("pipeline"), raise_on_error=True)
    config = read_form(parameters["config"])
    assert (config.lora.alpha, config.run.retries) == (16, 0)


@pytest.mark.parametrize("flow", STAGES)
def test_a_deployment_may_set_any_known_setting_and_no_other(flow: str):
    schema = schema_of(flow)
    config = PipelineConfig.model_validate({"run": {"workers": 2}, "experiment": {"name": "main"}}).resolved()
    everything = config.model_dump(mode="json")
    validate({"config": everything}, schema, raise_on_error=True)
    assert read_form(everything).resolved() == config
    validate({"config": {"parametrize": {"shuffle": True}, "judge": {"tries": 4}}}, schema, raise_on_error=True)
    validate({"config": {"corpus": {"questions": None, "overlap": None}}}, schema, raise_on_error=True)
    for wrong in ({"modle": {}}, {"lora": {"rnak": 2}}, {"judge": {"tries": 0}}, {"parametrize": {"epochs": 0}},
                  {"parametrize": {"shuffle": "perhaps"}}, {"evaluate": {"methods": ["ragg"]}}):  # fmt: skip
        with pytest.raises(ValidationError):
            validate({"config": wrong}, schema, raise_on_error=True)


def test_each_form_has_the_settings_that_its_flow_uses():
    shown = {flow: {name for name, _ in drawn(schema_of(flow)["properties"]["config"])} for flow in STAGES}
    top = {flow: {name for name in names if "." not in name} - set(OWN) for flow, names in shown.items()}
    assert top["ingest"] == {"corpus", "model", "store"}
    assert top["learn_augmenter"] == {"writer", "model", "store", "preset", "run"}
    assert top["learn"] == {"learn", "recall", "model", "store", "preset", "run"}
    assert top["augment"] == {"corpus", "model", "store", "preset", "augment", "run"}
    assert top["experiment"] >= {"experiment", "evaluate", "judge"}
    assert "corpus.held_out" in shown["train_translator"] - shown["ingest"]
    assert "lora" in top["parametrize"]


def test_the_form_overrides_the_file_and_further_settings_override_both(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("lora: {rank: 4, alpha: 8}\nparametrize: {shuffle: false, epochs: 2}\nstore: file\n")
    sent = {
        "config_file": str(file), "store": "form", "lora": {"rank": 3}, "parametrize": {"shuffle": "yes"},
        "settings": {"lora.alpha": 16, "evaluate": {"controls": []}, "augment.api.extra_body": {"top_k": 5}},
    }  # fmt: skip
    config = read_form(sent)
    assert (config.store, config.lora.rank, config.lora.alpha) == ("form", 3, 16)
    assert (config.parametrize.shuffle, config.parametrize.epochs) == (True, 2)
    assert config.evaluate.controls == ()
    assert config.augment.api.extra_body == {"top_k": 5}
    assert read_form(config) is config


def test_a_relative_path_starts_at_the_runs_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine.toml").write_text("[lora]\nrank = 5\n")
    monkeypatch.chdir(tmp_path)
    assert read_form({"config_file": "mine.toml"}).lora.rank == 5


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"config_file": "absent.yaml"}, "configuration absent.yaml: it cannot be read"),
        ({"settings": {"lora.rnak": 2}}, "setting 'lora.rnak': there is no such setting. Did you mean 'lora.rank'?"),
        ({"settings": {"store.rank": 2}, "store": "a"}, "setting 'store'"),
        ({"lora": {"rank": 0}}, "setting 'lora.rank': Input should be greater than or equal to 1 (given: 0)"),
        ({"config_file": __file__}, "it cannot be read"),
        ([1], "parameter 'config': it is not a mapping of settings"),
        ({"settings": [1]}, "setting 'settings': it is not a mapping of settings"),
        ({"config_file": 3}, "setting 'config_file'"),
    ],
)
def test_invalid_input_raises_one_clear_error(sent: Any, words: str):
    with pytest.raises(ConfigError) as error:
        read_form(sent)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_dict_settings_are_replaced_and_not_merged(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("evaluate: {most_questions: {flare: 5}}\n")
    config = read_form({"config_file": str(file), "evaluate": {"most_questions": {"dragin": 6}}})
    assert config.evaluate.most_questions == {"dragin": 6}


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(
    "given", [{}, {"lora": {"seed": 7}}, {"model": {"name": "some/model"}, "translator": {"residual": True}}]
)
def test_a_written_configuration_is_read_back_unchanged(given: dict[str, Any], everything: bool):
    config = PipelineConfig.model_validate(given)
    written = yaml.safe_load(yaml.safe_dump(to_write(config, everything)))
    assert configuration(written).resolved() == config.resolved()
    assert everything == ("weight_decay" in written["parametrize"])

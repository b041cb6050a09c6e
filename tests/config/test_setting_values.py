"""Values of settings: text settings keep the typed text, and all others are parsed by their type."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dyprag.cli.main import read_config
from dyprag.config import PipelineConfig
from dyprag.config.files import to_write
from dyprag.errors import ConfigError
from dyprag.flows.overview import retry_command

TYPED = st.text(
    st.characters(exclude_characters="\0"), min_size=1
)  # any text that a user or a shell variable can provide
ODD = [
    "minutes #4", "#letters", "no", "On", "~", "null", "0042", "1_000", "2023-11-30", "12:30", "1e5", "0x1F", ".inf",
    "=", "a: b", "a = b", "[draft].txt", "{x}", "'quoted'", '"quoted"', " spaced ", "*", "&a", "!x", "%", "@", "`",
    "- a", "? b", "|", ">", "s3://bucket/2024", "C:\\new", "two\nlines", "\ttab", "café", "資料", "...", "---", "<<",
]  # fmt: skip


def set_to(*overrides: str) -> dict[str, Any]:
    return read_config(None, list(overrides)).model_dump()


@pytest.mark.parametrize("text", ODD)
def test_a_text_setting_keeps_the_typed_text(text: str):
    made = set_to(
        f"corpus.documents={text}", f"model.name={text}", f"augment.api.model={text}", f"augment.prompts={text}"
    )
    assert (made["corpus"]["documents"], made["model"]["name"], made["augment"]["api"]["model"]) == (text, text, text)
    assert made["augment"]["prompts"] == (None if text == "null" else text)


@given(TYPED, TYPED)
def test_any_text_survives_a_command_a_file_and_the_retry_command(text: str, other: str):
    config = read_config(None, [f"corpus.documents={text}", f"augment.prompts={other}"])
    assert config.corpus.documents == text
    assert config.augment.prompts == (None if other == "null" else other)
    _, _, *words = shlex.split(retry_command(config, "augment"))
    assert read_config(None, words[1::2]) == config


@pytest.mark.parametrize("text", ODD)
def test_a_written_file_is_read_back_unchanged(tmp_path: Path, text: str):
    config = PipelineConfig.model_validate({"corpus": {"documents": text, "questions": text}})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(to_write(config, everything=True)))
    assert read_config(tmp_path / "c.yaml", None).corpus == config.corpus


def test_an_unquoted_text_in_a_file_is_kept_as_written(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(
        "store: 2023-11-30\ncorpus: {documents: 0042, questions: no}\naugment:\n  prompts: ~\n  api:\n"
        "    prices: {7: {input: 1, output: 2.5}}\n    extra_body: {top_k: 5, on_time: true, day: 2023-11-30}\n"
        "model: &m {name: 12:30}\nexperiment:\n  sets: [{name: jsonl, passages: 1e5, questions: 010}]\n"
    )
    made = read_config(tmp_path / "c.yaml", None)
    assert (made.store, made.corpus.documents, made.corpus.questions) == ("2023-11-30", "0042", "no")
    assert (made.augment.prompts, made.model.name) == (None, "12:30")
    assert made.augment.api.prices["7"].output == 2.5
    assert made.augment.api.extra_body == {"top_k": 5, "on_time": True, "day": "2023-11-30"}
    assert (made.experiment.sets[0].passages, made.experiment.sets[0].questions) == ("1e5", 10)


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("lora.rank", {"4": 4, " 4 ": 4, "010": 10, "4 # as of old": 4, "null": None, "": None, "~": None}),
        ("parametrize.learning_rate", {"1e-4": 1e-4, ".5": 0.5, "3": 3.0, "1.5e+1": 15.0, "null": None}),
        ("parametrize.shuffle", {"no": False, "Off": False, "true": True, "1": True, "null": None}),
        ("corpus.questions", {"null": None, "": None, "Null": "Null"}),
        ("corpus.max_documents", {"5": 5, "null": None, "": None}),
        ("evaluate.methods", {"[rag, vanilla]": ("rag", "vanilla"), '["rag"]': ("rag",)}),
        ("evaluate.most_questions", {"{rag: 5}": {"rag": 5}}),
        ("evaluate.most_questions.rag", {"5": 5}),
        ("experiment.widths", {"[2, 4]": (2, 4)}),
        ("model.dtype", {"float32": "float32", " float32": "float32", "'float32'": "float32"}),
        ("augment.api.extra_body", {"{a: 1, b: x, c: '1', d: ~}": {"a": 1, "b": "x", "c": "1", "d": None}, "null": {}}),
        ("augment.api.extra_body.stop", {"#": "#", "'5'": "5", "5": 5, "a #b": "a #b", "2023-11-30": "2023-11-30"}),
    ],
)  # fmt: skip
def test_other_settings_are_parsed_by_their_type(key: str, typed: dict[str, Any]):
    for text, wanted in typed.items():
        value: Any = set_to(f"{key}={text}")
        for name in key.split("."):
            value = value[name]
        assert value == wanted, text
        assert type(value) is type(wanted), text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("corpus.documents=", "there is no value after '='. Add a value, or remove it."),
        ("store=", "there is no value after '='"),
        ("lora.rank=1:30", "given: '1:30'"),
        ("lora.rank=true", "given: 'true'"),
        ("lora.rank=[4", r"given: '\[4'"),
        ("experiment.widths=&a [*a]", "experiment.widths"),
        ("corpus.documents.deep=x", "corpus.documents"),
        ("lora.rnak=2", "Did you mean 'lora.rank'"),
    ],
)
def test_an_invalid_value_is_rejected_as_it_was_typed(override: str, words: str):
    with pytest.raises(ConfigError, match=words):
        read_config(None, [override])


def test_the_error_for_a_toml_date_in_a_text_setting_suggests_quotes(tmp_path: Path):
    (tmp_path / "c.toml").write_text("[corpus]\ndocuments = 2023-11-30\n")
    with pytest.raises(ConfigError, match="Write it in quotes"):
        read_config(tmp_path / "c.toml", None)

"""The command line: invalid input gives a one-line error with a remedy and a non-zero exit code, before any work."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import write_jsonl
from typer.testing import CliRunner, Result

from dyprag.cli.main import app, read_config
from dyprag.errors import ConfigError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import write_embedding


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def config_file(tmp_path: Path, settings: dict) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def dyprag(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_error(result: Result) -> str:
    """The single line on stderr of a refused command."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_describes_every_command():
    text = dyprag("--help").output
    for command in (
        "run",
        "ingest",
        "augment",
        "parametrize",
        "train-translator",
        "evaluate",
        "ask",
        "status",
        "verify",
        "report",
        "export",
        "import",
    ):
        assert command in text
        assert dyprag(command, "--help").exit_code == 0
    assert "corpus.documents=" in text


def run_module(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process, as a shell does."""
    code = "import sys; sys.argv[0] = 'dyprag'; from dyprag.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_the_version_is_that_of_the_package():
    assert dyprag("--version").output == f"dyprag {metadata.version('dyprag')}\n"


@pytest.mark.parametrize(
    ("words", "place", "completed"),
    [("dyprag eval", 1, ["evaluate"]), ("dyprag ask --doc", 2, ["--document"]), ("dyprag catalogue ", 2, ["rebuild"])],
)
def test_a_shell_completes_commands_and_options(words: str, place: int, completed: list[str]):
    asked = {"_DYPRAG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    done = run_module(asked)
    assert (done.returncode, done.stdout.split()) == (0, completed), done.stderr


def test_completion_can_be_installed(tmp_path: Path):
    shell = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_module(shell, "--install-completion", "bash")
    assert done.returncode == 0, done.stderr
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "_DYPRAG_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


BAD_CORPORA = {
    "missing": (None, "there is no such file or folder", "Check the path"),
    "empty": (b"", "it contains no documents", "Add documents to it"),
    "not UTF-8": ('{"id": "a", "text": "caf\u00e9"}'.encode("latin1"), "it is not UTF-8", "Convert it"),
    "not JSON": (b"hello\n", "line 1: it is not JSON", "Write one JSON object per line"),
}


@pytest.mark.parametrize(("content", "reason", "remedy"), BAD_CORPORA.values(), ids=BAD_CORPORA)
def test_a_bad_corpus_is_refused_with_name_reason_and_remedy(
    tmp_path: Path, config_file: Path, content: bytes | None, reason: str, remedy: str
):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    error = one_error(dyprag("run", "-c", config_file, "--set", f"corpus.documents={path}"))
    assert str(path) in error
    assert reason in error
    assert remedy in error


def test_an_unknown_model_is_refused(config_file: Path):
    error = one_error(dyprag("run", "-c", config_file, "--set", "model.name=no/such-model"))
    assert "model 'no/such-model'" in error
    assert "smollm2-135m" in error


def test_a_model_without_a_gated_ffn_is_refused(tmp_path: Path, tiny_model: str, config_file: Path):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=600)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    error = one_error(dyprag("run", "-c", config_file, "--set", f"model.name={folder}"))
    assert "it has no gated FFN" in error
    assert "LLaMA-, Qwen2/3- or Gemma-like" in error


def test_an_unknown_setting_is_refused_with_the_nearest_name(config_file: Path):
    error = one_error(dyprag("run", "-c", config_file, "--set", "lora.rnk=4"))
    assert "setting 'lora.rnk': there is no such setting. Did you mean 'lora.rank'?" in error


def test_an_invalid_value_is_refused(config_file: Path):
    assert "setting 'lora.rank'" in one_error(dyprag("run", "-c", config_file, "--set", "lora.rank=zero"))
    assert "it has no '='" in one_error(dyprag("run", "-c", config_file, "--set", "lora.rank"))


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path, config_file: Path):
    (tmp_path / "file").write_text("")
    error = one_error(dyprag("run", "-c", config_file, "--set", f"store={tmp_path / 'file' / 'store'}"))
    assert "it cannot be written" in error
    assert "Choose another folder" in error


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("a: [1")
    assert "it cannot be read" in one_error(dyprag("run", "-c", tmp_path / "bad.yaml"))
    assert "it cannot be read" in one_error(dyprag("run", "-c", tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "it contains no settings" in one_error(dyprag("run", "-c", tmp_path / "list.yaml"))


def test_status_and_report_before_a_run_say_what_to_do(config_file: Path):
    assert "Run the pipeline first: dyprag run;" in one_error(dyprag("status", "-c", config_file))
    assert "dyprag run;" in one_error(dyprag("report", "-c", config_file))


def test_verify_names_the_documents_whose_artifacts_are_damaged(config_file: Path, settings: dict):
    assert "Run the pipeline first: dyprag run;" in one_error(dyprag("verify", "-c", config_file))
    store = Store(settings["store"])
    record = store.write(
        Record("adapter", "ab" * 16, [], {}, "dk", "the lamp"), lambda folder: write_embedding(folder, [1])
    )
    catalogue = Catalogue(store)
    catalogue.prepare()
    whole = dyprag("verify", "-c", config_file)
    assert (whole.exit_code, whole.output) == (0, "Sound: 1 adapter\n")
    os.truncate(store.folder("adapter", record.key) / "embedding.parquet", 9)
    damaged = dyprag("verify", "-c", config_file)
    assert damaged.exit_code == 1
    assert "the lamp" in damaged.output
    assert "embedding.parquet is missing or truncated" in damaged.output
    rebuilt = dyprag("catalogue", "rebuild", "-c", config_file)
    assert rebuilt.exit_code == 0
    assert "artifacts" in rebuilt.output
    (fault,) = json.loads(dyprag("verify", "-c", config_file, "--json").output)["faults"]
    assert (fault["key"], fault["document_id"]) == (record.key, "the lamp")


def test_ask_before_a_run_and_with_an_unknown_method(config_file: Path):
    assert "dyprag ingest" in one_error(dyprag("ask", "Who?", "-c", config_file))
    assert "Choose one of vanilla" in one_error(dyprag("ask", "Who?", "-m", "magic", "-c", config_file))


def test_yaml_toml_and_overrides_combine_into_one_configuration(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("lora: {rank: 4}\nstore: here\n")
    (tmp_path / "c.toml").write_text('store = "here"\n[lora]\nrank = 4\n')
    from_yaml = read_config(tmp_path / "c.yaml", ["parametrize.learning_rate=1e-3", "evaluate.methods=[vanilla, rag]"])
    assert from_yaml.lora.rank == 4
    assert from_yaml.parametrize.learning_rate == 1e-3
    assert from_yaml.evaluate.methods == ("vanilla", "rag")
    assert read_config(tmp_path / "c.toml", None) == read_config(tmp_path / "c.yaml", None)
    with pytest.raises(ConfigError, match="is not a section"):
        read_config(None, ["store=a", "store.b=c"])


def test_the_output_of_config_can_be_read_again(tmp_path: Path):
    given = ["--set", "lora.rank=3", "--set", "lora.seed=7"]
    everything, basic = dyprag("config", "--all", *given).output, dyprag("config", *given).output
    (tmp_path / "all.yaml").write_text(everything)
    again = read_config(tmp_path / "all.yaml", None)
    assert again == again.resolved()
    assert (again.lora.rank, again.lora.seed) == (3, 7)
    (tmp_path / "basic.yaml").write_text(basic)
    assert read_config(tmp_path / "basic.yaml", None).resolved() == again, "what is given is there, basic or not"
    assert len(basic.splitlines()) < 80 < len(everything.splitlines())
    assert "weight_decay" in everything
    assert "weight_decay" not in basic


def test_the_installed_command_exits_with_the_error_and_no_traceback(tmp_path: Path):
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"id": "a"}])
    process = subprocess.run(
        [
            *(sys.executable, "-m", "dyprag.cli.main", "run"),
            *("--set", f"corpus.documents={bad}", "--set", f"store={tmp_path / 's'}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: corpus")
    assert "document 'a' has no 'text' string" in process.stderr
    assert "Traceback" not in process.stderr
    assert json.dumps(process.stdout) == '""'


def test_a_prefect_server_that_does_not_answer_is_one_clear_error(tmp_path: Path, config_file: Path):
    environment = {
        **os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_CLIENT_MAX_RETRIES": "0", "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    words = [sys.executable, "-m", "dyprag.cli.main", "ingest", "--config", str(config_file)]
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("error: Prefect server http://127.0.0.1:9/api: it does not answer (")
    assert "Start it, or unset PREFECT_API_URL" in line


def test_failed_documents_are_no_error_but_a_run_that_stopped_early_is():
    from prefect.states import Failed

    from dyprag.cli.flow_runs import summaries
    from dyprag.config import PipelineConfig
    from dyprag.errors import DypragError, StoreError
    from dyprag.flows.summary import Summary, end_state

    ends = [Summary("ingest", done=1, failed=1), Summary("augment", waiting=1, reason="the budget is spent.")]
    for summary, name in zip(ends, ("CompletedWithFailures", "Stopped"), strict=True):
        state = end_state(PipelineConfig(), [summary])
        assert (state.type.value, state.name) == ("FAILED", name)
        assert summaries("pipeline", state)[0]["stage"] == summary.stage
    state = end_state(PipelineConfig(), [Summary("ingest", done=1)])
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    with pytest.raises(StoreError, match="it is full"):
        summaries("ingest", Failed(data=StoreError("store", "it is full", "Make room.")))
    with pytest.raises(DypragError, match=r"flow ingest: it failed \(ZeroDivisionError: by zero\)"):
        summaries("ingest", Failed(data=ZeroDivisionError("by zero")))

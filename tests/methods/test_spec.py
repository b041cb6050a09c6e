"""The registry of methods: their properties and controls, and the addition of a method by one registration."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import outcome
from pydantic import ValidationError

from dyprag.config import EvaluateSettings, PipelineConfig
from dyprag.evaluation.gains import control_name
from dyprag.methods import spec as registry
from dyprag.methods.spec import methods, parametric, spec_of, specs
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue

# One file: a class that answers like PRAG in upper case, and its registration.
NINTH = """
from dataclasses import dataclass, replace

from dyprag.methods.prag import PRAG
from dyprag.methods.protocol import answer_questions
from dyprag.methods.spec import MethodSpec, register


@dataclass(frozen=True)
class Shouting:
    prag: PRAG
    name: str = "shouting"

    def answer(self, base, asked, sampling, batch_size):
        answers = answer_questions(base, self.prag, asked, sampling, batch_size)
        return [replace(answer, text=answer.text.upper() + "!") for answer in answers]


def build(spec, resources):
    return Shouting(PRAG(resources.trained, "mean", spec.shows_passages, resources.settings.strength_of(spec.name)))


register(MethodSpec("shouting", "Shouting PRAG", __name__, "trained", shows_passages=True))
"""


def test_controls_show_passages_like_their_method() -> None:
    assert spec_of("prag").compared_with == ["prag-wrong", "prag-mean", "generic", "zero"]
    assert spec_of("dyprag-combine").compared_with == [
        "dyprag-combine-wrong", "dyprag-combine-mean", "generic-combine", "zero-combine", "rag",
    ]  # fmt: skip
    assert spec_of("rag").compared_with == spec_of("vanilla").compared_with == []
    assert spec_of("prag").controls(["wrong", "zero"]) == ["prag-wrong", "zero"]
    assert spec_of("prag-combine").controls(["wrong", "zero"]) == [
        "prag-combine-wrong"
    ]  # its zero control would be RAG
    assert spec_of("prag-wrong").controls() == []
    for spec in parametric():
        for name in (name for name in spec.compared_with if name != "rag"):
            control = spec_of(name)
            assert control.is_control
            assert control.shows_passages == spec.shows_passages
            assert control.asks_as_trained == spec.asks_as_trained


def test_the_paper_s_methods_are_registered_in_its_order() -> None:
    names = ["vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine", "flare", "dragin"]
    assert [spec.name for spec in methods()][: len(names)] == names
    assert [spec.name for spec in methods() if spec.needs_no_store] == ["vanilla", "rag", "dyprag", "dyprag-combine"]
    assert {spec.name for spec in specs() if spec.uses_translator} == {
        f"dyprag{beside}{control}" for beside in ("", "-combine") for control in ("", "-wrong", "-mean")
    }
    assert control_name("prag-combine-mean") == "mean adapter with passages"
    assert control_name("rag") == "RAG"


def test_an_unknown_method_is_an_error_that_lists_the_known_names() -> None:
    with pytest.raises(ValidationError, match=r"methods\.0\n.*'vanilla', 'rag', .* or 'generic-combine'"):
        EvaluateSettings.model_validate({"methods": ["vanila"]})


@pytest.fixture
def ninth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A ninth method, installed as a module."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "shouting_method.py").write_text(NINTH)
    monkeypatch.syspath_prepend(str(folder))
    __import__("shouting_method")
    yield "shouting"
    registry.forget("shouting")
    sys.modules.pop("shouting_method")


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_a_ninth_method_is_one_file_and_one_registration(ninth: str, settings: dict[str, Any]) -> None:
    from dyprag.flows.evaluate import evaluate
    from dyprag.flows.pipeline import pipeline

    methods = {"methods": ["vanilla", "rag", "prag", ninth], "controls": ["wrong"], "passages": 2}
    given = {**settings, "evaluate": settings["evaluate"] | methods}

    def evaluated(**changes: Any) -> dict[str, Any]:
        changed = {**given, "evaluate": given["evaluate"] | changes}
        flow = evaluate if changes else pipeline
        summaries = outcome(flow(PipelineConfig.model_validate(changed), return_state=True))
        return {summary["stage"]: summary for summary in summaries}["evaluate"]

    first = evaluated()
    assert (first["done"], first["cached"], first["failed"]) == (6, 0, 0)  # planned, with its control
    assert evaluated()["cached"] == 6  # keyed
    # It shows passages, so retrieval, the prompt form and the strength enter its key.
    assert evaluated(passages=1)["cached"] == 1  # only vanilla shows none
    assert evaluated(passage_order="best-last")["cached"] == 2  # prag and its control are asked as trained
    assert evaluated(combine_strength=0.25)["cached"] == 4

    catalogue = Catalogue(Store(given["store"]))
    run_id = first["run_id"]
    rows = {row["method"]: row for row in catalogue.query("SELECT * FROM results WHERE run_id = ?", [run_id])}
    assert rows.keys() >= {ninth, f"{ninth}-wrong"}  # scored
    assert rows[ninth]["retrieval_recall"] is not None
    report = next((Path(given["store"]) / "reports" / run_id).glob("*.md")).read_text()
    assert "Shouting PRAG" in report  # reported, with its gain over the controls
    keys = {row["key"] for row in catalogue.scores(run_id) if row["method"] == ninth}
    from dyprag.storage.tables import read_rows

    folder = Store(given["store"]).folder("prediction", keys.pop())
    answers = [row["answer"] for row in read_rows(folder / "predictions.parquet")]
    assert answers == [answer.upper() for answer in answers]
    assert all(answer.endswith("!") for answer in answers)

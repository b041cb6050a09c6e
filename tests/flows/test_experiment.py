"""Experiments from official files on a real Prefect server with a tiny model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import llm_server
import pyarrow.parquet as pq
import pytest
from conftest import outcome, write_jsonl
from llm_server import Behaviour, LLMServer
from typer.testing import CliRunner

from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.tasks.report import reported_answers

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]
TOWNS = (
    "Ostrel",
    "Brevik",
    "Quarn",
    "Dunmere",
    "Halden",
    "Torvik",
    "Selby",
    "Marn",
    "Ulvik",
    "Corran",
    "Weir",
    "Ashby",
)
BUILDERS = ("Greta Olm", "Tom Reil", "Mara Vell", "Ivo Brandt", "Lena Ortiz", "Karl Munk", "Ada Finch", "Nils Berg",
            "Rosa Quill", "Emil Stark", "Vera Holt", "Otto Lang")  # fmt: skip


def town(number: int) -> tuple[str, str]:
    """A town's title and a passage about it."""
    name = TOWNS[number % len(TOWNS)] + ("" if number < len(TOWNS) else " Bay")
    return name, f"The lighthouse of {name} was built in {1800 + number} by {BUILDERS[number % len(BUILDERS)]}."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small files in the official layouts of four data sets."""
    root = tmp_path / "data"
    for name in ("hotpotqa", "popqa", "strategyqa", "ragtruth"):
        (root / name).mkdir(parents=True)
    hotpot = [
        {"_id": f"h{n}", "question": f"Who built the lighthouse of {town(n)[0]}?", "answer": BUILDERS[n % 12],
         "type": ("bridge", "comparison")[n % 2], "level": "easy", "supporting_facts": [[town(n)[0], 0]],
         "context": [[town(m)[0], [town(m)[1]]] for m in (n, (n + 1) % 8)]}
        for n in range(8)
    ]  # fmt: skip
    (root / "hotpotqa" / "hotpot_dev_distractor_v1.json").write_text(json.dumps(hotpot))
    columns = ["id", "subj", "prop", "obj", "subj_id", "prop_id", "obj_id", "s_aliases", "o_aliases", "s_uri", "o_uri",
               "s_wiki_title", "o_wiki_title", "s_pop", "o_pop", "question", "possible_answers"]  # fmt: skip
    lines = ["\t".join(columns)]
    for n in range(8, 20):
        values = dict.fromkeys(columns, "0") | {
            "id": str(n), "subj": town(n)[0], "prop": "builder", "obj": BUILDERS[n % 12], "s_aliases": "[]",
            "o_aliases": "[]", "s_wiki_title": town(n)[0], "question": f"Who built the lighthouse of {town(n)[0]}?",
            "possible_answers": json.dumps([BUILDERS[n % 12]]).replace('"', '""').join('""'),
        }  # fmt: skip
        lines.append("\t".join(values[column] for column in columns))
    (root / "popqa" / "popQA.tsv").write_text("\n".join(lines) + "\n")
    write_jsonl(root / "popqa" / "passages.jsonl",
                [{"id": n, "title": town(n)[0], "text": town(n)[1]} for n in range(8, 24)])  # fmt: skip
    strategy = [
        {"qid": f"s{n}", "term": "x", "description": "y", "question": f"Is {town(n)[0]} older than 1810?",
         "answer": n % 2 == 0, "facts": [town(n)[1]], "decomposition": [], "evidence": []}
        for n in range(4)
    ]  # fmt: skip
    (root / "strategyqa" / "strategyqa_train.json").write_text(json.dumps(strategy))
    write_jsonl(root / "ragtruth" / "source_info.jsonl", [
        {"source_id": str(n), "task_type": "QA", "source": "MARCO", "prompt": "p", "source_info": {
            "question": f"Who built the lighthouse of {town(n)[0]}?",
            "passages": f"passage 1:{town(n)[1]}\n\npassage 2:{town(n + 1)[1]}\n\npassage 3:{town(n + 2)[1]}\n\n"}}
        for n in range(3)
    ])  # fmt: skip
    return root


POPQA = {"name": "popqa", "passages": "popqa/passages.jsonl", "questions": 4, "alignment_questions": 2,
         "alignment_documents": 5}  # fmt: skip
HOTPOT = {"name": "hotpotqa", "questions": 2, "by_type": True, "alignment_questions": 1}


def configured(settings: dict[str, Any], data: Path, name: str, sets: list[dict] | None = None, **more: Any) -> dict:
    """Settings for an experiment on these data sets."""
    experiment = {"name": name, "data": str(data), "sets": sets or [HOTPOT, POPQA], **more.pop("experiment", {})}
    evaluate = {"max_new_tokens": 4, "reasoning_tokens": 6, "reasoning": True, **more.pop("evaluate", {})}
    return {**settings, "corpus": {}, "experiment": experiment, "evaluate": evaluate, **more}


def run(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the experiment. Returns the summaries of its stages."""
    from dyprag.flows.experiment import experiment

    state = experiment(PipelineConfig.model_validate(settings), return_state=True)
    assert state.is_completed(), state.message
    return outcome(state)


def made(summaries: list[dict[str, Any]], stage: str) -> int:
    return sum(s["done"] - s["cached"] for s in summaries if s["stage"] == stage)


def rows_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    return Catalogue(Store(settings["store"])).results()


def test_the_main_experiment_runs_from_official_files_and_a_second_run_makes_nothing(settings: dict, data: Path):
    every = ["vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine", "flare", "dragin"]
    config = configured(
        settings, data, "main", evaluate={"methods": every, "most_questions": {"flare": 2, "dragin": 1}}
    )
    first = run(config)
    rows = rows_of(config)
    shown = {(row["dataset"], row["method"]) for row in rows}
    controls = {f"{m}-{kind}" for m in every[2:6] for kind in ("wrong", "mean")} | {
        "generic",
        "generic-combine",
        "zero",
    }
    assert shown == {(d, m) for d in ("hotpotqa", "popqa", "all") for m in [*every, *controls]}
    counts = {(r["dataset"], r["method"]): r["questions"] for r in rows if (r["type"], r["split"]) == ("all", "all")}
    assert counts["hotpotqa", "vanilla"] == 4  # two of each type
    assert counts["popqa", "prag-wrong"] == 4
    assert (counts["popqa", "flare"], counts["popqa", "dragin"]) == (2, 1)
    assert {row["type"] for row in rows if row["dataset"] == "hotpotqa"} == {"all", "bridge", "comparison"}
    assert made(run(config), "evaluate") == 0
    assert made(first, "evaluate") == len(list(Path(config["store"]).glob("prediction/*/*")))

    store = Store(config["store"])
    (corpus,) = [record for record in store.records() if record.kind == "corpus"]
    folder = store.folder("corpus", corpus.key)
    questions = pq.read_table(folder / "questions.parquet").to_pylist()
    documents = {row["id"]: row for row in pq.read_table(folder / "documents.parquet").to_pylist()}
    uses = {use: {q["id"] for q in questions if q["use"] == use} for use in ("test", "alignment")}
    assert len(uses["test"]) == 8
    assert len(uses["alignment"]) == 4
    assert not uses["test"] & uses["alignment"]
    aligned = {row["key"] for row in documents.values() if row["alignment"]}
    needed = {documents[i]["key"] for q in questions if q["use"] == "test" for i in [*q["found"], *q["documents"]]
              if i in documents}  # fmt: skip
    assert aligned
    assert not aligned & needed
    assert all(q["found"] for q in questions)

    page = (store.reports / "latest" / "report.html").read_text(encoding="utf-8")
    assert "survive" in page or "gains nothing" in page
    assert "So the answer is" in page  # the prompt of a multi-hop question


def test_a_prediction_contains_everything_it_was_made_from(settings: dict, data: Path):
    config = configured(settings, data, "main", [POPQA], evaluate={"methods": ["rag", "prag"], "controls": ["wrong"]})
    run(config)
    catalogue = Catalogue(Store(config["store"]))
    report = catalogue.results()[0]["run_id"]
    answers = reported_answers(catalogue.store, catalogue, report)
    by_method = {m: [a for a in answers if a.method == m] for m in ("rag", "prag", "prag-wrong")}
    assert [len(found) for found in by_method.values()] == [4, 4, 4]
    for rag, prag, wrong in zip(*by_method.values(), strict=True):
        assert rag.question_id == prag.question_id == wrong.question_id
        assert all(passage.text in rag.prompt for passage in rag.passages)
        assert prag.passages == rag.passages
        assert not any(passage.text in prag.prompt for passage in prag.passages)
        assert not {p.id for p in wrong.passages} & {p.id for p in prag.passages}
        assert [p.score for p in wrong.passages] == [p.score for p in prag.passages]
        assert rag.retrieval in (0.0, 1.0)
    run_row = catalogue.run(report)
    assert run_row["versions"]["torch"]
    assert run_row["config"]["experiment"]["name"] == "main"


def test_out_of_distribution_uses_gold_passages_and_a_translator_trained_on_other_sets(settings: dict, data: Path):
    sets = [{**POPQA, "questions": 0}, {"name": "strategyqa", "questions": 3, "alignment_questions": 0, "gold": True}]
    config = configured(settings, data, "out-of-distribution", sets)
    run(config)
    rows = rows_of(config)
    assert {row["dataset"] for row in rows} == {"strategyqa"}
    assert {row["method"] for row in rows} >= {"vanilla", "rag", "dyprag", "dyprag-combine", "dyprag-wrong", "generic"}
    assert {row["retrieval_recall"] for row in rows if row["method"] == "rag"} == {100.0}


@pytest.mark.parametrize(
    ("name", "more", "labels"),
    [
        ("width", {"experiment": {"widths": [2, 4]}}, ["2", "4"]),
        pytest.param("alignment-size", {"experiment": {"sizes": [2, 4]}}, ["2", "4"], marks=pytest.mark.slow),
        pytest.param(
            "losses", {}, ["all losses", "without L_mse", "without L_kl", "L_pred only"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_grid_shares_artifacts_of_its_configurations(
    settings: dict, data: Path, name: str, more: dict, labels: list[str]
):
    config = configured(settings, data, name, [POPQA], evaluate={"methods": ["vanilla", "rag", "dyprag"]}, **more)
    summaries = run(config)
    rows = rows_of(config)
    assert list(dict.fromkeys(row["variant"] for row in rows)) == labels
    assert made(summaries, "train-translator") == len(labels)
    assert made(summaries, "parametrize") == len({r.key for r in Store(config["store"]).records()
                                                 if r.kind == "adapter" and r.document_id})  # fmt: skip
    predictions = [r.measures["method"] for r in Store(config["store"]).records() if r.kind == "prediction"]
    assert predictions.count("vanilla") == predictions.count("rag") == 1
    assert predictions.count("dyprag") == len(labels)


def test_conflict_counts_answers_that_follow_altered_documents(settings: dict, data: Path):
    sets = [{**POPQA, "contradict": True}]
    config = configured(settings, data, "conflict", sets, evaluate={"methods": ["vanilla", "rag"]})
    run(config)
    catalogue = Catalogue(Store(config["store"]))
    answers = reported_answers(catalogue.store, catalogue, catalogue.results()[0]["run_id"])
    assert answers
    for answer in answers:
        assert answer.believed
        assert not set(answer.believed) & set(answer.answers)
        if answer.method == "rag" and any(p.gold for p in answer.passages):
            assert any(answer.answers[0] in p.text for p in answer.passages if p.gold)
    assert "altered" in (catalogue.store.reports / "latest" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [pytest.param("answer-length", marks=pytest.mark.slow), "cost"])
def test_the_other_experiments_run_too(settings: dict, data: Path, name: str):
    config = configured(settings, data, name, [POPQA], evaluate={"methods": ["vanilla", "rag"]})
    summaries = run(config)
    assert made(summaries, "evaluate") == {"answer-length": 2, "cost": 8}[name]  # cost asks one question at a time
    assert all(row["memory"] > 0 and row["first_token"] > 0 for row in rows_of(config))


def test_a_stopped_experiment_repeats_at_most_one_batch(settings: dict, data: Path, tmp_path: Path):
    config = configured(settings, data, "main", [{**POPQA, "questions": 8}],
                        evaluate={"methods": ["vanilla", "rag"], "batch_size": 2, "max_new_tokens": 60})  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    program = (
        "import json, sys\nfrom dyprag.config import PipelineConfig\nfrom dyprag.flows.experiment import experiment\n"
        "experiment(PipelineConfig.model_validate(json.load(open(sys.argv[1]))))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], stderr=subprocess.DEVNULL, env=os.environ)
    predictions = Path(config["store"]) / "prediction"
    until = time.monotonic() + 120
    while len(list(predictions.glob("*/*/record.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in predictions.glob("*/[!.]*")}  # not what was being written
    assert 3 <= len(kept) <= 8
    assert made(run(config), "evaluate") == 8 - len(kept)
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in predictions.glob("*/*")}.items()


def test_an_experiment_without_documents_to_train_a_translator_on_is_refused_before_its_work(
    settings: dict, data: Path
):
    from dyprag.tasks.experiment import store_experiment

    def stored(methods: list[str], **more: Any) -> Record:
        sets = [{**HOTPOT, "questions": 300, "alignment_questions": 200}]
        values = configured(settings, data, "main", sets, evaluate={"methods": methods}, **more)
        config = PipelineConfig.model_validate(values).resolved()
        return store_experiment(Store(config.store), config)

    with pytest.raises(ConfigError, match=r"no document was chosen to train the translator on \(there are 8 test"):
        stored(["rag", "dyprag"])
    for record in (stored(["rag", "prag"]), stored(["rag", "dyprag"], translator={"learned": "packaged"})):
        assert record.measures["questions"] == 8


def test_internalization_measures_unsupported_words(settings: dict, data: Path):
    sets = [{**POPQA, "questions": 0}, {"name": "ragtruth", "questions": 3, "alignment_questions": 0, "gold": True}]
    config = configured(settings, data, "internalization", sets, evaluate={"methods": ["rag", "dyprag-combine"]})
    run(config)
    rows = [row for row in rows_of(config) if row["method"] == "rag"]
    assert [(row["f1"], row["presence"]) for row in rows] == [(None, None)] * len(rows)
    assert all(0 <= row["unsupported"] <= 100 for row in rows)


def test_a_judge_compares_answers_without_gold_and_is_paid_once(
    settings: dict, data: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[dict] = []
    spoiled = llm_server.completion

    def completion(name: str, about: Any, body: dict) -> dict:
        whole = spoiled("empty" if name == "good" else name, about, body)
        if name == "good":
            asked.append(body)
            whole["choices"][0]["message"]["content"] = json.dumps({"reason": "It is first.", "better": "1"})
        return whole

    monkeypatch.setattr(llm_server, "completion", completion)
    sets = [{**POPQA, "questions": 0}, {"name": "ragtruth", "questions": 3, "alignment_questions": 0, "gold": True}]
    with LLMServer() as server:
        server.behaviour = Behaviour(not_json=0.3, seed=1)
        api = {"model": "judge", "base_url": server.url, "retries": 2, "give_up_after": 20}
        judge = {"api": api, "pairs": [["dyprag-combine", "rag"]], "tries": 5}
        methods = ["rag", "dyprag-combine"]
        config = configured(settings, data, "internalization", sets, evaluate={"methods": methods, "controls": []},
                            judge=judge)  # fmt: skip
        run(config)
        paid = len(asked)
        assert paid == 6  # three pairs in both orders
        run(config)
        store = Store(config["store"])
        (record,) = [record for record in store.records() if record.kind == "judgement"]
        for path in store.folder("judgement", record.key).iterdir():
            path.unlink()  # a stop before it was stored: the answers themselves are kept
        run(config)
        assert len(asked) == paid
    # whoever is shown first wins, so the orders never agree: three ties
    assert (record.measures["ties"], record.measures["agreement"]["value"]) == (3, 0.0)
    assert "Judged by an LLM" in (store.reports / "latest" / "report.md").read_text(encoding="utf-8")


def test_two_runs_are_compared_and_an_older_report_can_be_shown(settings: dict, data: Path, tmp_path: Path):
    reports = []
    for length in (4, 1):
        config = configured(settings, data, "main", [POPQA], evaluate={"methods": ["vanilla", "rag"],
                                                                       "max_new_tokens": length})  # fmt: skip
        run(config)
        reports.append(rows_of(config)[0]["run_id"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    command = CliRunner()
    same = command.invoke(app, ["compare", reports[0], reports[0][:20], "--json", "-c", str(file)])
    changed = command.invoke(app, ["compare", *reports, "--json", "-c", str(file)])
    assert (same.exit_code, changed.exit_code) == (0, 0), same.output + changed.output
    for change in json.loads(same.stdout):
        assert (change["right"], change["wrong"]) == (0, 0)
    assert {(c["dataset"], c["method"]) for c in json.loads(changed.stdout)} == {("popqa", "vanilla"), ("popqa", "rag")}
    text = command.invoke(app, ["compare", *reports, "-c", str(file)])
    assert "popqa" in text.stdout
    older = command.invoke(app, ["report", reports[0], "-c", str(file)])
    assert reports[0] in older.stdout
    unknown = command.invoke(app, ["report", "nothing", "-c", str(file)])
    assert unknown.exit_code == 1

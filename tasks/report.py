"""Score the stored predictions of an evaluation, put the results into the catalogue, and write the report."""

import base64
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from dyprag.documents import Question
from dyprag.evaluation.metrics import Score, score
from dyprag.evaluation.statistics import bootstrap_interval
from dyprag.report import Report, ReportData
from dyprag.report import write_report as render
from storage.artifacts import Store
from storage.catalogue import Catalogue
from storage.tables import read_rows
from tasks.evaluate import AnswerJob, Sources
from tasks.plan import Plan

LATEST = "latest"


@dataclass(frozen=True)
class Evaluated:
    """One scored prediction."""

    question: Question
    method: str
    split: str
    answer: str
    seconds: float
    score: Score


@dataclass(frozen=True)
class WrittenReport:
    """The report's files, its result rows, and its Markdown with the pictures in it."""

    report: Report
    rows: list[dict[str, Any]]

    @property
    def markdown_with_pictures(self) -> str:
        """For a place that cannot reach the files beside it."""

        def embed(match: re.Match[str]) -> str:
            data = base64.b64encode((self.report.folder / match[2]).read_bytes()).decode()
            return f"![{match[1]}](data:image/png;base64,{data})"

        return re.sub(r"!\[([^\]]*)\]\(([\w.-]+\.png)\)", embed, self.report.markdown_text)


def write_report(
    store: Store, catalogue: Catalogue, plan: Plan, run_id: str, jobs: Sequence[AnswerJob], sources: Sources
) -> WrittenReport:
    """Score, record and report an evaluation. What failed to be answered is left out, and shows as fewer questions."""
    evaluated = _evaluated(store, plan, jobs)
    rows = result_rows(evaluated, _bytes_per_document(store, plan, sources), Path(plan.config.corpus.documents).stem)
    catalogue.add_results(run_id, rows)
    data = ReportData(
        title=f"DyPRAG on {plan.config.corpus.documents}",
        created=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        model=plan.config.model.name,
        config=plan.config.model_dump(mode="json"),
        rows=rows,
        examples=_examples(evaluated),
        translator_curve=_curve(store, "translator", sources.translator),
        adapter_curves={
            d.id: [step["loss"] for step in _curve(store, "adapter", sources.adapters[d.key])]
            for d in plan.documents[:12]
            if d.key in sources.adapters
        },
        stages=catalogue.progress(),
        failures=catalogue.query("SELECT document_id, stage, error FROM failures"),
        augmentations=catalogue.augmentations([k for d in plan.documents for k in plan.product_keys(d).values()]),
    )
    report = render(data, store.reports / run_id)
    latest = store.reports / LATEST
    latest.unlink(missing_ok=True)
    latest.symlink_to(run_id)
    return WrittenReport(report, rows)


def result_rows(evaluated: Sequence[Evaluated], sizes: dict[str, float], dataset: str) -> list[dict[str, Any]]:
    """A row for each method and split ("all", "seen", "unseen"); scores in per cent, with the F1's 95 % interval."""
    groups: dict[tuple[str, str], list[Evaluated]] = defaultdict(list)
    for item in evaluated:
        groups[item.method, "all"].append(item)
        if item.split in ("seen", "unseen"):
            groups[item.method, item.split].append(item)
    order = {"all": 0, "seen": 1, "unseen": 2}
    methods = list(dict.fromkeys(item.method for item in evaluated))
    rows = []
    for method, split in sorted(groups, key=lambda group: (methods.index(group[0]), order[group[1]])):
        items = groups[method, split]
        low, high = bootstrap_interval([item.score.f1 for item in items])
        percent = {m: 100 * mean(getattr(item.score, m) for item in items) for m in ("em", "f1", "precision", "recall")}
        rows.append({
            "method": method, "dataset": dataset, "split": split, "questions": len(items), "em": percent["em"],
            "f1": percent["f1"], "f1_low": 100 * low, "f1_high": 100 * high, "precision": percent["precision"],
            "recall": percent["recall"], "seconds_per_answer": mean(item.seconds for item in items),
            "bytes_per_document": sizes[method],
        })  # fmt: skip
    return rows


def _evaluated(store: Store, plan: Plan, jobs: Sequence[AnswerJob]) -> list[Evaluated]:
    questions = {question.id: question for question in plan.corpus.questions}
    evaluated = []
    for job in jobs:
        if store.find("prediction", job.key) is None:
            continue
        for row in read_rows(store.folder("prediction", job.key) / "predictions.parquet"):
            question = questions[row["question_id"]]
            judged = score(row["answer"], question.answers)
            split = plan.split(question)
            evaluated.append(Evaluated(question, job.method, split, row["answer"], row["seconds"], judged))
    return evaluated


def _bytes_per_document(store: Store, plan: Plan, sources: Sources) -> dict[str, float]:
    """What must be stored to answer from a document: its text, its adapter, or its embedding and a share of the
    translator."""
    count = max(1, len(plan.documents))
    text = sum(len(d.passage.encode()) for d in plan.documents) / count
    adapters = [_file_bytes(store, "adapter", key, "adapter_model.safetensors") for key in sources.adapters.values()]
    adapter = mean(adapters) if adapters else 0.0
    embeddings = [_file_bytes(store, "embedding", key, "embedding.parquet") for key in sources.embeddings.values()]
    translator = _file_bytes(store, "translator", sources.translator, "translator.safetensors")
    dyprag = (mean(embeddings) if embeddings else 0.0) + translator / count
    return {
        "vanilla": 0.0, "rag": text, "prag": adapter, "prag-combine": adapter + text, "dyprag": dyprag,
        "dyprag-combine": dyprag + text,
    }  # fmt: skip


def _file_bytes(store: Store, kind: str, key: str, name: str) -> int:
    path = store.folder(kind, key) / name
    return path.stat().st_size if path.exists() else 0


def _curve(store: Store, kind: str, key: str) -> list[dict[str, Any]]:
    path = store.folder(kind, key) / "curve.parquet"
    return read_rows(path) if path.exists() else []


def _examples(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    examples: dict[str, dict[str, Any]] = {}
    for item in evaluated:
        question = item.question
        example = examples.setdefault(question.id, {
            "question": question.question, "answers": list(question.answers), "type": question.type,
            "split": item.split, "by_method": {},
        })  # fmt: skip
        example["by_method"][item.method] = {"answer": item.answer, "f1": item.score.f1}
    # a spread over the corpus says more than its beginning
    step = max(1, len(examples) // 8)
    return list(examples.values())[::step]

"""Score an evaluation's stored predictions, record the results in the catalogue, and write the report."""

import base64
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from dyprag.config import PipelineConfig
from dyprag.corpora.documents import Found
from dyprag.corpora.retrieval import recall
from dyprag.evaluation.grounding import unsupported
from dyprag.evaluation.metrics import answer_presence, score
from dyprag.evaluation.report import Report, ReportData, augmentation_table, brief_table
from dyprag.evaluation.report import write_report as render
from dyprag.evaluation.results import Judged, Shown, result_rows
from dyprag.methods.spec import spec_of
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import read_rows
from dyprag.tasks.planning.answers import AnswerJob
from dyprag.tasks.planning.plan import Plan

LATEST = "latest"
CURVES = 12  # maximum number of adapters whose learning curves are shown


def augmentation_summary(catalogue: Catalogue, products: Sequence[str]) -> str | None:
    """Results and cost of an augmentation, as a Markdown table; None if nothing was stored."""
    rows = catalogue.augmentations(products)
    return augmentation_table(rows) if rows else None


def translator_picture(curve: Sequence[dict[str, Any]]) -> bytes:
    """A translator's losses by step, as a PNG."""
    from dyprag.evaluation.report.plots import picture, translator_chart

    return picture(translator_chart, curve)


def adapter_picture(curves: dict[str, list[float]]) -> bytes:
    """The losses of documents' adapters by step, as a PNG."""
    from dyprag.evaluation.report.plots import adapter_chart, picture

    return picture(adapter_chart, curves)


@dataclass(frozen=True)
class WrittenReport:
    """A report's files, its result rows, and its Markdown with embedded pictures."""

    report: Report
    rows: list[dict[str, Any]]

    @property
    def brief(self) -> str:
        """The main figures of each method, as a Markdown table."""
        return brief_table(self.rows)

    @property
    def markdown_with_pictures(self) -> str:
        """The Markdown with pictures as data URLs, for places that cannot read the report's folder."""

        def embed(match: re.Match[str]) -> str:
            data = base64.b64encode((self.report.folder / match[2]).read_bytes()).decode()
            return f"![{match[1]}](data:image/png;base64,{data})"

        return re.sub(r"!\[([^\]]*)\]\(([\w.-]+\.png)\)", embed, self.report.markdown_text)


def score_run(
    store: Store,
    catalogue: Catalogue,
    plan: Plan,
    run_id: str,
    jobs: Sequence[AnswerJob],
    found: Mapping[str, Found],
    judgements: Sequence[Record] = (),
) -> None:
    """Score a run's answers, and store the scores and the other figures of its report in the catalogue.

    Questions that could not be answered are left out, so that the report shows fewer questions.
    """
    splits = {question.id: plan.split(question) for question in plan.corpus.questions}
    rows = []
    for job in jobs:
        if store.find("prediction", job.key) is None:
            continue
        for answer in _answers(store, job.key):
            judged = _judged(answer, "", splits[answer["question_id"]], {}, ())
            scored = vars(judged.score) if judged.score else dict.fromkeys(("em", "f1", "precision", "recall"))
            rows.append({
                "key": job.key, "method": job.method, "dataset": _dataset(plan, job.dataset),
                "question_id": judged.question_id, "type": judged.type, "split": judged.split,
                **{name: scored[name] for name in ("em", "f1", "precision", "recall")}, "present": judged.present,
                "tokens": judged.tokens, "seconds": judged.seconds, "first_token": judged.first_token,
            })  # fmt: skip
    catalogue.add_scores(run_id, rows)
    corpus = store.find("corpus", plan.corpus_key)
    sample = {d.id: plan.adapter_key(d) for d in plan.parametrized[:CURVES]}
    catalogue.note_measures(run_id, {
        "bytes": _bytes_per_document(store, plan, jobs), "memory": _memory(store, jobs),
        "retrieved": {question: [identity for identity, _ in retrieved] for question, retrieved in found.items()},
        "translator": next((job.translator for job in jobs if job.translator), ""),
        "adapters": {name: key for name, key in sample.items() if store.find("adapter", key)},
        "products": [key for d in plan.parametrized for key in plan.product_keys(d).values()],
        "notes": corpus.measures.get("notes", {}) if corpus else {},
        "judgements": [record.measures for record in judgements],
    })  # fmt: skip


def write_report(
    store: Store, catalogue: Catalogue, report_id: str, config: PipelineConfig, runs: Mapping[str, str]
) -> WrittenReport:
    """Write the report of one run, or of all runs of an experiment.

    Args:
        report_id: The run that the results are recorded under.
        config: The configuration to show.
        runs: Run ids with the label of their configuration in the grid; "" for a single run.
    """
    measures = {run_id: catalogue.run(run_id)["measures"] for run_id in runs}
    judged = {run_id: judged_answers(store, catalogue, run_id, label) for run_id, label in runs.items()}
    rows = [row for run_id, items in judged.items()
            for row in result_rows(items, measures[run_id]["bytes"], measures[run_id]["memory"])]  # fmt: skip
    catalogue.add_results(report_id, rows)
    if report_id not in runs:
        catalogue.note_measures(report_id, {"runs": dict(runs)})
    last_measures = measures[list(runs)[-1]]
    title = config.experiment.name or config.corpus.documents
    data = ReportData(
        title=f"DyPRAG on {title}" if config.experiment.name is None else f"Experiment {title}",
        created=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        model=config.model.name,
        config=config.model_dump(mode="json"),
        versions=catalogue.run(report_id)["versions"],
        judged=[item for items in judged.values() for item in items],
        rows=rows,
        translator_curve=_curve(store, "translator", last_measures["translator"]),
        adapter_curves={
            name: [step["loss"] for step in _curve(store, "adapter", key)]
            for name, key in last_measures["adapters"].items()
        },
        stages=catalogue.progress(),
        failures=catalogue.query("SELECT document_id, stage, error FROM failures"),
        augmentations=catalogue.augmentations(last_measures["products"]),
        judgements=[{"variant": runs[run_id], **one} for run_id in runs for one in measures[run_id]["judgements"]],
        notes=[f"{name}: {note}" for name, notes in last_measures["notes"].items() for note in notes],
    )
    latest = store.reports / LATEST
    report = render(data, store.reports / report_id, latest)
    link = latest.with_name(f".{LATEST}-{report_id}")  # replaced atomically, since two runs may end at once
    link.unlink(missing_ok=True)
    link.symlink_to(report_id)
    link.replace(latest)
    return WrittenReport(report, rows)


def judged_answers(store: Store, catalogue: Catalogue, run_id: str, variant: str = "") -> list[Judged]:
    """A run's scored answers, without those whose predictions were deleted."""
    retrieved = catalogue.run(run_id)["measures"].get("retrieved", {})
    scores = catalogue.scores(run_id)
    stored = {key: {answer["question_id"]: answer for answer in _answers(store, key)}
              for key in dict.fromkeys(row["key"] for row in scores) if store.find("prediction", key)}  # fmt: skip
    rows = [(row, stored[row["key"]][row["question_id"]]) for row in scores if row["key"] in stored]
    evidence: dict[str, dict[str, None]] = {}  # passages that any method had, by question
    for _, answer in rows:
        if spec_of(answer["method"]).kind != "wrong":
            evidence.setdefault(answer["question_id"], {}).update({p["text"]: None for p in answer["passages"]})
    return [
        _judged({**answer, "dataset": row["dataset"]}, variant, row["split"], retrieved,
                list(evidence.get(row["question_id"], ())))
        for row, answer in rows
    ]  # fmt: skip


def reported_answers(store: Store, catalogue: Catalogue, report_id: str) -> list[Judged]:
    """The scored answers of a report: those of a single run, or of all runs of an experiment."""
    run = catalogue.run(report_id)
    runs = run["measures"].get("runs", {run["run_id"]: ""})
    return [item for run_id, label in runs.items() for item in judged_answers(store, catalogue, run_id, label)]


def _dataset(plan: Plan, dataset: str) -> str:
    """A data set's name, or the corpus' own if its questions belong to no data set."""
    return dataset or re.sub(r"\.\w+$", "", plan.config.corpus.documents.rstrip("/").rsplit("/", 1)[-1])


def _judged(
    answer: dict[str, Any], variant: str, split: str, retrieved: Mapping[str, Sequence[str]], evidence: Sequence[str]
) -> Judged:
    """A stored prediction with its scores. `evidence` are the passages that can support an answer."""
    gold, answers = set(answer["documents"]), tuple(answer["answers"])
    passages = [Shown(p["id"], p["title"], p["text"], p["score"], p["id"] in gold) for p in answer["passages"]]
    scored = score(answer["answer"], answers, chain_of_thought=answer["chain_of_thought"]) if answers else None
    return Judged(
        answer["dataset"], variant, answer["method"], answer["question_id"], answer["question"], answers,
        answer["type"], split, answer["answer"], answer["tokens"], answer["seconds"], answer["first_token"],
        answer["retrievals"], answer["prompt"], passages, _recall(answer, retrieved), scored,
        answer_presence(answer["answer"], answers) if answers else None,
        None if answers else unsupported(answer["answer"], evidence, answer["question"]).token_share,
        answer.get("cut"), tuple(answer["believed"]),
    )  # fmt: skip


def _recall(answer: dict[str, Any], retrieved: Mapping[str, Sequence[str]]) -> float | None:
    """The share of gold documents among those that the method had; None if the method uses no documents."""
    spec = spec_of(answer["method"])
    if spec.retrieves:  # such a method retrieves by itself, under the data set's ids
        own = [name for p in answer["passages"] for name in (p["id"], f"{answer['dataset']}/{p['id']}")]
        return recall(own, answer["documents"]) if own else None
    if spec.is_control or not (spec.shows_passages or spec.injects_documents):
        return None
    return recall(retrieved.get(answer["question_id"], ()), answer["documents"])


def _answers(store: Store, key: str) -> list[dict[str, Any]]:
    return read_rows(store.folder("prediction", key) / "predictions.parquet")


def _memory(store: Store, jobs: Sequence[AnswerJob]) -> dict[str, int]:
    """Peak memory in bytes per method."""
    peaks: dict[str, int] = {}
    for job in jobs:
        if record := store.find("prediction", job.key):
            peaks[job.method] = max(peaks.get(job.method, 0), record.measures["peak_bytes"])
    return peaks


def _bytes_per_document(store: Store, plan: Plan, jobs: Sequence[AnswerJob]) -> dict[str, float]:
    """Bytes that each method has to store per document: its text, its adapter, or its embedding (its text for a
    translator that reads tokens) and a share of the translator."""
    count = max(1, len(plan.documents))
    text = sum(len(d.passage.encode()) for d in plan.documents) / count
    used = {kind: {key for job in jobs for key in getattr(job, kind).values()} for kind in ("adapters", "embeddings")}
    files = (("adapters", "adapter", "adapter_model.safetensors"), ("embeddings", "embedding", "embedding.parquet"))
    size = {}
    for name, kind, file in files:
        sizes = [_file_bytes(store, kind, key, file) for key in sorted(used[name])[:100]]
        size[name] = mean(sizes) if sizes else 0.0
    translator = next((job.translator for job in jobs if job.translator), "")
    share = _file_bytes(store, "translator", translator, "translator.safetensors") / count if translator else 0.0
    totals = {}
    for method in dict.fromkeys(job.method for job in jobs):
        spec = spec_of(method)
        parameters = {"prag": size["adapters"], "dyprag": size["embeddings"] + share}.get(spec.merging or "", 0.0)
        reads = spec.shows_passages or spec.retrieves or (spec.merging == "dyprag" and not plan.embedded)
        totals[method] = parameters + (text if reads else 0.0)
    return totals


def _file_bytes(store: Store, kind: str, key: str, name: str) -> int:
    path = store.folder(kind, key) / name
    return path.stat().st_size if path.exists() else 0


def _curve(store: Store, kind: str, key: str) -> list[dict[str, Any]]:
    path = store.folder(kind, key) / "curve.parquet"
    return read_rows(path) if key and path.exists() else []

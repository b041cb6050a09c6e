"""An experiment (§4): store its data sets as one corpus, run the pipeline for each configuration of its grid, and
report on all of them. Artifacts that configurations share are made once."""

from collections.abc import Sequence
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from dyprag.config import PipelineConfig
from dyprag.errors import ConfigError
from dyprag.flows.checks import check_before_work
from dyprag.flows.endings import interruptible
from dyprag.flows.forms import UNTOUCHED, ExperimentForm
from dyprag.flows.overview import run_name
from dyprag.flows.page import Page, run_page, show_report
from dyprag.flows.pipeline import pipeline
from dyprag.flows.stage import stage
from dyprag.flows.summary import Summary, completing, end_state, summaries_of
from dyprag.storage.artifacts import Record, Store
from dyprag.storage.guard import in_use
from dyprag.tasks.experiment import Configured, configurations, store_experiment
from dyprag.tasks.planning.sources import PREPARED
from dyprag.tasks.report import write_report
from dyprag.tasks.ui import publish


@flow(name="experiment", flow_run_name=run_name)
@interruptible
def experiment(config: ExperimentForm = UNTOUCHED) -> State[Any]:
    """Run a named experiment: augmentation, adapters and translator as its methods need them, answers, and a report."""
    if config.experiment.name is None:
        raise ConfigError(
            "setting 'experiment.name'", "it is empty", "Set it to the name of an experiment, such as main."
        )
    check_before_work("experiment", config.resolved())
    grid = configurations(config.resolved())
    with in_use(Store(config.store)), run_page(config, "experiment", [variant.name for variant in grid]) as page:
        return _run_variants(config, grid, page)


def _run_variants(config: PipelineConfig, grid: Sequence[Configured], page: Page) -> State[Any]:
    summaries: list[Summary] = []
    runs: dict[str, str] = {}
    stored: dict[str, Record] = {}
    for variant in grid:
        page.begun(variant.name, "")
        same = variant.config.experiment.model_dump_json()
        record = stored[same] = stored.get(same) or store_experiment(Store(variant.config.store), variant.config)
        corpus = variant.config.corpus.model_copy(update={"documents": PREPARED + record.key, "questions": None})
        prepared = variant.config.model_copy(update={"corpus": corpus})
        summaries += summaries_of(pipeline(completing(prepared), return_state=True))
        runs |= {summary.run_id: variant.label for summary in summaries[-1:] if summary.stage == "evaluate"}
    if runs:
        with stage(prepared, "report") as run:
            report = write_report(run.store, run.catalogue, run.run_id, prepared, runs)
        show_report(report.report.folder, run.run_id, report.brief)
        description = "Results of the experiment"
        publish(create_markdown_artifact, report.markdown_with_pictures, key="report", description=description)
        publish(create_table_artifact, report.rows, key="results", description="Scores by data set, method and type")
    return end_state(config, summaries)

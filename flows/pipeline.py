"""The whole pipeline, as in the paper's figure: ingest, augment, parametrize, train the translator, evaluate."""

import logging
from typing import Any

from prefect import State, flow

from dyprag.config import PipelineConfig
from dyprag.flows.augment import augment
from dyprag.flows.checks import check_before_work
from dyprag.flows.endings import interruptible
from dyprag.flows.evaluate import evaluate
from dyprag.flows.forms import UNTOUCHED, PipelineForm
from dyprag.flows.ingest import ingest
from dyprag.flows.overview import run_name
from dyprag.flows.page import Page, run_page
from dyprag.flows.parametrize import parametrize
from dyprag.flows.summary import Summary, completing, end_state, summaries_of
from dyprag.flows.train_translator import train_translator
from dyprag.storage.artifacts import Store
from dyprag.storage.guard import in_use
from dyprag.tasks.corpora import corpus_of, with_stored_corpus
from dyprag.tasks.planning.plan import Plan

logger = logging.getLogger("dyprag.flows")


@flow(name="pipeline", flow_run_name=run_name)
@interruptible
def pipeline(config: PipelineForm = UNTOUCHED) -> State[Any]:
    """Run all stages, from documents to a table of results. Existing artifacts are reused.

    Each stage is a sub-flow. A document that fails in a stage does not hold up the others. Stages without work are left
    out: the evaluation without questions, later stages without an augmented document, and in an experiment the training
    of adapters that no method uses.
    """
    config, message = with_stored_corpus(config, ingests=True)
    if message:
        logger.info("%s", message)
    check_before_work("pipeline", config.resolved())
    with in_use(store := Store(config.store)), run_page(config, "pipeline", ["ingest"]) as page:
        return end_state(config, _run_stages(config, store, page))


def _run_stages(config: PipelineConfig, store: Store, page: Page) -> list[Summary]:
    summaries = _results(ingest, config)
    plan = Plan(resolved := config.resolved(), corpus_of(resolved, store)[1])
    stages = []
    if plan.parametrized:
        stages += [augment, parametrize]
    if plan.translated:
        stages += [train_translator]
    if plan.corpus.questions:
        stages.append(evaluate)
    names = [stage_flow.name for stage_flow in stages]
    page.expect([name for flow_name in names for name in (*_before(flow_name, plan), flow_name)])
    for stage_flow in stages:
        summaries += _results(stage_flow, config)
        if stage_flow is augment and summaries[-1].done == 0:  # all documents failed, or wait for an endpoint
            break
    return summaries


def _before(flow_name: str, plan: Plan) -> list[str]:
    """Stages that a flow runs before the one that it is named after."""
    return ["embed"] if flow_name == "train-translator" and plan.embedded else []


def _results(stage_flow: Any, config: PipelineConfig) -> list[Summary]:
    return summaries_of(stage_flow(completing(config), return_state=True))

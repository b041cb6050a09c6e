"""The checks at the start of a flow or stage; see dyprag/tasks/checks.py."""

from dyprag.config import PipelineConfig
from dyprag.flows.page import current_page
from dyprag.tasks.checks import check_settings


def check_before_work(name: str, config: PipelineConfig) -> None:
    """Check the settings of a flow or stage that starts. A stage inside another run was checked with that run.

    Raises:
        DypragError: See `check_settings`.
    """
    if current_page() is None:
        check_settings(name, config)

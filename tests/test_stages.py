"""The registry of stages: whatever the flows open and the tasks store has its entry."""

import re
from pathlib import Path

from dyprag.config.stages import FLOWS, FORMS, KINDS, STAGES, spec_of

ROOT = Path(__file__).resolve().parents[1]
NAMES = {spec.name for spec in STAGES}


def written(pattern: str, *folders: str) -> set[str]:
    """What a pattern finds in the source of some folders."""
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return {name for path in files for name in re.findall(pattern, path.read_text(encoding="utf-8"))}


def test_every_stage_that_a_flow_opens_or_shows_progress_of_has_its_entry():
    opened = written(r"\bstage(?:_progress)?\(\s*(?:config, |prepared, )?\"([a-z-]+)\"", "flows")
    assert {"ingest", "embed", "controls", "report"} <= opened <= NAMES


def test_every_kind_of_artifact_that_is_stored_is_a_stage_s():
    kinds = written(r"\bRecord\(\s*\"([a-z_]+)\"", "tasks", "flows")
    assert {"corpus", "passages", "adapter", "embedding"} <= kinds <= set(KINDS)


def test_a_stage_is_run_again_by_a_flow_that_has_a_form():
    assert {spec.command for spec in STAGES} <= set(FLOWS) == set(FORMS)
    assert all(FORMS.values())


def test_a_name_that_no_stage_has_is_its_own_command():
    assert (spec_of("embed").command, spec_of("run").command) == ("train-translator", "run")
    assert (spec_of("embed").kind, spec_of("augment").kind, spec_of("run").kind) == ("embedding", "", "")

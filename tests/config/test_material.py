"""The exact settings in artifacts' keys: a change here would recompute every stored artifact."""

import json
from pathlib import Path
from typing import Any

import pytest

from dyprag.config import PipelineConfig, Section

GOLDEN: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("material.json").read_text(encoding="utf-8"))


def material_of(config: PipelineConfig) -> dict[str, Any]:
    """Return the settings that each section, and each product of augmentation, adds to a key."""
    sections = {name: getattr(config, name) for name in PipelineConfig.model_fields}
    material: dict[str, Any] = {
        n: section.material() for n, section in sections.items() if isinstance(section, Section)
    }
    material["experiment.sets"] = [data_set.material() for data_set in config.experiment.sets]
    material["augment.api"] = config.augment.api.material()
    for product in ("rewrites", "qa_pairs"):
        material[f"augment: {product}"] = config.augment.material_of(product)
    return material


@pytest.mark.parametrize("name", GOLDEN)
def test_material_settings_are_exactly_as_recorded(name: str):
    config = PipelineConfig.model_validate(GOLDEN[name]["given"])
    material = material_of(config if "not resolved" in name else config.resolved())
    assert material.keys() == GOLDEN[name]["material"].keys()
    for section, expected in GOLDEN[name]["material"].items():
        assert json.dumps(material[section]) == json.dumps(expected), section


def test_all_sections_are_recorded():
    sections = {name for name in PipelineConfig.model_fields if isinstance(getattr(PipelineConfig(), name), Section)}
    assert all(sections <= entry["material"].keys() for entry in GOLDEN.values())
    assert len(sections) == 13

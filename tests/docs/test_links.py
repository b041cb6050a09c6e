"""Every relative link and picture of the documentation exists, with its anchor; pages keep their bounds."""

import re
from pathlib import Path

import pytest
import yaml
from documentation import DOCS, PAGES, ROOT, documentation_script, without_blocks

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_relative_link_leads_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    wrong = []
    for target in LINK.findall(without_blocks(text)):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", path):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            wrong.append(target)
    assert wrong == []


def test_every_picture_is_shown():
    shown = {Path(target).name for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))}
    assert {path.name for path in (DOCS / "pictures").iterdir()} <= shown


def test_every_page_is_in_the_navigation():
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(navigation)))
    written = {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents}
    assert listed == written | {*documentation_script("reference").PAGES}


def test_the_readme_stays_short_and_names_the_test_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "\nmake test " in text


def test_the_demos_table_has_its_markers_where_it_is_written():
    tables = documentation_script("tables")
    for page in (tables.README, tables.RESULTS):
        text = page.read_text(encoding="utf-8")
        assert text.count(tables.BEGIN) == text.count(tables.END) == 1


def test_the_demos_table_is_replaced_between_its_markers(tmp_path: Path):
    tables = documentation_script("tables")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.replace_demo(page, r"| new \1 |")
    assert page.read_text() == f"before\n{tables.BEGIN}\n\n| new \\1 |\n\n{tables.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="are not there once each"):
        tables.replace_demo(page, "new")


GUIDES = [page for page in PAGES if page.stem in ("CONTRIBUTING", "architecture", "add-a-method", "add-a-data-set")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_file_that_a_guide_to_the_code_names_exists(page: Path):
    text = without_blocks(page.read_text(encoding="utf-8"))
    named = re.findall(r"`((?:cli|flows|tasks|storage|dyprag|tests|docs|benchmarks|examples)/[\w/.-]*)`", text)
    invented = {"dyprag/methods/shouting.py"}
    assert named
    assert [path for path in named if path not in invented and not (ROOT / path).exists()] == []

"""`dyprag sql`: read-only queries of the catalogue."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dyprag.cli.main import app
from dyprag.storage.artifacts import Store
from dyprag.storage.catalogue import Catalogue, Work


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """A catalogue with one failed and one finished document."""
    made = Catalogue(Store(tmp_path / "store"))
    made.prepare()
    failed = Work("lamp, left", "k1", "failed", attempts=2, error_type="DocumentError", error="it has [no] text.")
    made.record_work("run", "ingest", [failed, Work("bridge", "k2", "done")])
    return made


def sql(catalogue: Catalogue, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["sql", *arguments, "--set", f"store={catalogue.store.root}"])


def test_rows_are_printed_as_a_table_json_or_csv(catalogue: Catalogue):
    shown = sql(catalogue, "SELECT document_id, error, NULL AS nothing FROM failures")
    assert shown.stdout.split() == ["document_id", "error", "nothing", "lamp,", "left", "it", "has", "[no]", "text."]
    asked = sql(catalogue, "SELECT document_id, attempts, updated FROM failures", "--json")
    (row,) = json.loads(asked.stdout)
    assert (row["document_id"], row["attempts"], row["updated"][:2]) == ("lamp, left", 2, "20")
    asked = sql(catalogue, "FROM failures", "--csv")
    (row,) = csv.DictReader(io.StringIO(asked.stdout))
    assert (row["document_id"], row["stage"]) == ("lamp, left", "ingest")
    none = sql(catalogue, "SELECT stage, error FROM failures WHERE false", "--csv")
    assert none.stdout == "stage,error\n"
    assert json.loads(sql(catalogue, "FROM failures WHERE false", "--json").stdout) == []


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM work", "read-only"),
        ("CREATE TABLE mine (a INT)", "read-only"),
        ("SELEC 1", "syntax error"),
        ("FROM failure", "failure"),
        ("SELECT missing FROM failures", "missing"),
    ],
)
def test_writes_and_invalid_sql_are_refused_in_one_line(catalogue: Catalogue, statement: str, reason: str):
    refused = sql(catalogue, statement)
    assert refused.exit_code == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: SQL {statement!r}: ")
    assert reason in line
    assert len(catalogue.query("FROM work")) == 2


def test_without_a_catalogue_the_error_says_how_to_create_one(tmp_path: Path):
    refused = CliRunner().invoke(app, ["sql", "FROM failures", "--set", f"store={tmp_path}"])
    assert refused.exit_code == 1
    assert "it does not exist yet" in refused.stderr


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout) == (0, f"dyprag {version('dyprag')}\n")

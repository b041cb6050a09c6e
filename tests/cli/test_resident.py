"""The process that stays after a question: found again, replaced, ended, and never in the way."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import TEXTS, wait_for
from typer.testing import CliRunner

from dyprag.cli import resident
from dyprag.cli.main import app

# A process that stays and needs no model: it writes the question and who it is to its standard output.
ECHO = """
import os, sys, time
import typer
import dyprag.cli.ask as ask
try:
    import a_method  # of a package that the user is working on
except ImportError:
    pass
from dyprag.cli.resident import stay
from dyprag.runtime.interruption import pause

def answer(question, seconds=0.0):
    print(os.getpid(), question, os.environ.get("PAPER"), file=sys.stderr if question == "error" else sys.stdout)
    if question == "slow":
        pause(60)
    if question == "die":
        os._exit(9)
    if question == "error":
        raise typer.Exit(3)

ask.answer = answer
stay(int(sys.argv[1]), sys.argv[2])
"""
Ask = Callable[..., tuple[int | None, list[str]]]


def processes(private: Path) -> list[psutil.Process]:
    """The processes that stay, of the tests with this folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "cli.resident" in " ".join(process.cmdline()) and process.environ().get("XDG_RUNTIME_DIR") == str(
                private
            ):
                found.append(process)
    return found


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the socket of this test alone; what stays is ended after it."""
    folder = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    for process in processes(folder):
        process.kill()


@pytest.fixture
def ask(private: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Ask a process that echoes; returns the exit code and the words that it wrote, its process id first."""
    monkeypatch.setattr(resident, "CODE", ECHO)

    def ask(question: str, minutes: float = 1.0) -> tuple[int | None, list[str]]:
        capfd.readouterr()
        code = resident.ask_resident({"question": question}, minutes)
        written = capfd.readouterr()
        return code, (written.out or written.err).split()

    return ask


def test_the_next_question_finds_the_process(ask: Ask, private: Path, monkeypatch: pytest.MonkeyPatch):
    code, (process, *rest) = ask("first")
    assert (code, rest) == (0, ["first", "None"])
    assert int(process) != os.getpid()
    descriptors = psutil.Process(int(process)).num_fds()
    monkeypatch.setenv("PAPER", "white")  # decides nothing about what is loaded, but is seen
    assert ask("second") == (0, [process, "second", "white"])
    assert ask("error") == (3, [process, "error", "white"])
    assert len(processes(private)) == 1
    for _ in range(4):
        ask("again")
    wait_for("files to be closed", lambda: psutil.Process(int(process)).num_fds() <= descriptors, 20)


@pytest.mark.parametrize("change", ["folder", "folder made again", "environment", "code"])
def test_what_decides_about_loading_starts_another(
    ask: Ask, private: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
):
    (tmp_path / "a_method.py").touch()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    _, (first, *_) = ask("first")
    if change == "folder":
        monkeypatch.chdir(tmp_path)
    elif change == "folder made again":
        (tmp_path / "work").rename(tmp_path / "old")  # kept, so that its inode is not given away again
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
    elif change == "environment":
        monkeypatch.setenv("DYPRAG_CACHE", str(tmp_path))
    else:
        os.utime(tmp_path / "a_method.py", (1, 1))
    code, (second, *_) = ask("second")
    assert code == 0
    assert second != first
    wait_for("the end of the first", lambda: [str(process.pid) for process in processes(private)] == [second], 20)
    assert ask("third")[1][0] == second


def test_it_ends_when_nobody_asks(ask: Ask, private: Path):
    ask("first", minutes=2 / 60)
    wait_for("its end", lambda: not processes(private), 20)
    assert not list(private.glob("*/ask.sock"))
    assert ask("second")[0] == 0


def test_it_ends_when_told_to(ask: Ask, private: Path):
    resident.end_resident()
    ask("first")
    resident.end_resident()
    wait_for("its end", lambda: not processes(private), 20)
    assert not list(private.glob("*/ask.sock"))


def test_a_killed_one_is_replaced(ask: Ask, private: Path):
    _, (first, *_) = ask("first")
    os.kill(int(first), signal.SIGKILL)
    wait_for(
        "the kill", lambda: not psutil.pid_exists(int(first)) or psutil.Process(int(first)).status() == "zombie", 20
    )
    code, (second, *_) = ask("second")
    assert (code, second != first) == (0, True)


def test_when_it_dies_with_the_question_nobody_waits_for_ever(ask: Ask):
    code, _ = ask("die")
    assert code is None
    assert ask("next")[0] == 0


def test_whoever_goes_away_stops_the_work(ask: Ask, private: Path):
    _, (process, *_) = ask("first")
    code = (
        f"from dyprag.cli import resident; resident.CODE = {ECHO!r}; resident.ask_resident({{'question': 'slow'}}, 1)"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    wait_for(
        "the question", lambda: psutil.Process(int(process)).num_threads() > 1, 20
    )  # one watches for the end of the question
    assert asking.poll() is None
    asking.kill()
    asking.wait()
    start = time.monotonic()
    assert ask("second")[1][0] == process  # not after the minute that the first question takes
    assert time.monotonic() - start < 10


def test_modules_of_the_current_folder_are_not_imported(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("typer", "json", "a_method"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    assert ask("first")[0] == 0


def test_what_could_not_be_written_is_not_in_the_next_answer(ask: Ask, private: Path):
    command = f"from dyprag.cli import resident; resident.CODE = {ECHO!r}; import os; "
    command += "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); "
    command += "os._exit(resident.ask_resident({'question': 'lost'}, 1))"
    done = subprocess.run([sys.executable, "-c", command], check=False, capture_output=True, timeout=60)
    assert done.returncode == 1
    code, (_, *rest) = ask("second")
    assert (code, rest[0]) == (0, "second")


@pytest.mark.usefixtures("private")
def test_a_terminal_shows_the_answer_before_where_it_came_from():
    both = ECHO.replace('if question == "slow"', "print('from', file=sys.stderr)\n    if question == 'slow'")
    command = (
        f"from dyprag.cli import resident; resident.CODE = {both!r}; resident.ask_resident({{'question': 'q'}}, 1)"
    )
    master, side = pty.openpty()
    subprocess.run([sys.executable, "-c", command], stdout=side, stderr=side, check=False, timeout=60)
    lines = os.read(master, 10_000).decode().splitlines()
    os.close(side)
    os.close(master)
    assert lines[0].split()[1:] == ["q", "None"]
    assert lines[1:] == ["from", "The model stays loaded for 1 min (--keep)."]


def test_a_folder_that_others_can_enter_is_not_used(ask: Ask, private: Path):
    folder = private / f"dyprag-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    assert ask("first")[0] is None
    assert list(folder.iterdir()) == []


def test_the_command_answers_alike_with_it_and_without(
    private: Path, tiny_model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = {
        "model": {"name": tiny_model, "dtype": "float32", "device": "cpu"},
        "translator": {"learned": str(folder)},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "lamp.txt").write_text(TEXTS["lamp"])

    line = ["ask", "Who built the Ostrel lamp?", "-d", "lamp.txt", "-c", "config.yaml"]

    def command(*options: str) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", "dyprag.cli.main", *line, *options]
        return subprocess.run(start, capture_output=True, text=True, timeout=120, check=False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYPRAG_KEEP", "1")
    told = [command("--json"), command("--json")]
    (stays,) = processes(private)
    assert not any(file.path.endswith((".duckdb", "lamp.txt")) for file in stays.open_files())
    unknown = command("-m", "magic")
    assert unknown.returncode == 1
    assert "there is no such method" in unknown.stderr
    alone = CliRunner().invoke(app, [*line, "--json", "--keep", "0"])
    wait_for("its end", lambda: not processes(private), 20)
    first, *others = ({**json.loads(done.stdout), "seconds": 0} for done in (*told, alone))
    assert others == [first, first]

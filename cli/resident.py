"""A process that stays after `dyprag ask`, with the model loaded, and answers the next questions in its place.

Loading takes most of the time of a single question. So the first `ask` starts this process and hands its question to
it, and later ones find it by its socket. It gets the file descriptors of the asking process and prints to them what
that process would have printed.

It ends when nobody has asked for some minutes, when it is told to, and when somebody asks from another folder,
environment or version of the code, since these decide what is loaded. Each user has at most one. Whenever it cannot be
reached, `ask` answers by itself.
"""

import fcntl
import gc
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

import dyprag
from dyprag.runtime.interruption import check, interrupt, on_interruption, renew

Request = dict[str, Any]
MINUTES = 5.0  # that the process stays after an answer, unless the user says otherwise
CODE = "import sys; from dyprag.cli.resident import stay; stay(int(sys.argv[1]), sys.argv[2])"
HEADER = 8  # bytes that hold a message's length
ENDED = 255  # the reply, in place of an exit code, of a process that ends without answering
# What is loaded, and from where, depends on the variables that begin like this.
DECISIVE = ("CUDA", "DYPRAG", "GOMP", "HF_", "HOME", "LANG", "LC_", "LD_", "MKL", "OMP", "PYTHON", "PYTORCH", "TORCH",
            "TRANSFORMERS", "XDG")  # fmt: skip


def ask_resident(request: Request, minutes: float | None) -> int | None:
    """Let the resident process run the command; start it if there is none.

    Args:
        request: the arguments of `dyprag.cli.ask.answer`, as JSON can hold them.
        minutes: how long the process stays after its answer. None: `MINUTES`, or 0 if the model is on a GPU, whose
            memory others need.

    Returns:
        The exit code of the command; None if no process could be reached, or it ended before its answer.

    Raises:
        Interrupted: this process was interrupted while it waited.
    """
    message = {"identity": _identity(), "environment": dict(os.environ), "request": request, "minutes": minutes}
    for start in (False, True):
        with suppress(OSError):
            if (connection := _reach(start)) is not None:
                with connection, on_interruption(lambda: connection.shutdown(socket.SHUT_RDWR)):
                    reply = _exchange(connection, message)
                check()
                if reply != ENDED:
                    return reply
    return None


def end_resident() -> None:
    """End the resident process, if there is one, after the answer that it is working on."""
    with suppress(OSError):
        if (connection := _reach(start=False)) is not None:
            with connection:
                _exchange(connection, {"identity": ""})


def _identity() -> str:
    """Name everything that decides what a process loads: code, interpreter, folder, environment and cores."""
    package = Path(dyprag.__file__).parent  # in a checkout, some of its folders are links, which rglob does not follow
    roots = [package, *(path for path in package.iterdir() if path.is_symlink())]
    code = max(file.stat().st_mtime_ns for root in roots for file in root.rglob("*.py"))
    variables = sorted((name, value) for name, value in os.environ.items() if name.startswith(DECISIVE))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    parts = [str(package), code, sys.executable, os.getcwd(), variables, cores]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _folder() -> Path:
    """The folder of the socket, which only this user can enter.

    Raises:
        OSError: it cannot be created, or somebody else can enter it.
    """
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(parent) / f"dyprag-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"{folder} is not private")
    return folder


@contextmanager
def _locked() -> Iterator[Path]:
    """Hold the lock on the socket; yields its path."""
    folder = _folder()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / "ask.sock"


def _reach(start: bool) -> socket.socket | None:
    """Connect to the resident process. If there is none, start one, or return None if `start` is not set.

    Raises:
        OSError: the socket cannot be used, or the process cannot be started.
    """
    with _locked() as path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            if not start:
                connection.close()
                return None
        path.unlink(missing_ok=True)  # left by a process that was killed
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            _start(listener)
        connection.connect(str(path))
        return connection


def _start(listener: socket.socket) -> None:
    """Start the process on a listening socket, apart from this one's terminal and pipes."""
    command = [sys.executable, "-c", CODE, str(listener.fileno()), _identity()]
    subprocess.Popen(
        command, pass_fds=[listener.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _exchange(connection: socket.socket, message: dict[str, Any]) -> int | None:
    """Send a message with this process's standard streams; return the reply, None if the other side has gone."""
    text = json.dumps(message).encode()
    socket.send_fds(connection, [len(text).to_bytes(HEADER, "big")], [0, 1, 2])
    connection.sendall(text)
    reply = connection.recv(1)
    return reply[0] if reply else None


def stay(listening: int, identity: str) -> None:
    """Answer requests, one at a time, until nobody has asked for some minutes.

    Args:
        listening: the file descriptor of the listening socket.
        identity: see `_identity`; a request with another one ends the process.
    """
    minutes, answered = MINUTES, 0
    with socket.socket(fileno=listening) as listener:
        own = os.stat(listener.getsockname()).st_ino
        while minutes > 0 and (connection := _accepted(listener, 60 * minutes, own)) is not None:
            with connection, suppress(OSError):  # the other side may have gone
                message, streams = _received(connection)
                code, minutes = ENDED, 0
                if message["identity"] == identity:
                    with _in_place_of(connection, streams, message["environment"]):
                        code = _run(message["request"])
                        minutes = _staying(message["minutes"])
                        if minutes > 0 and not answered and sys.stderr.isatty():
                            print(f"The model stays loaded for {minutes:g} minutes; see --keep.", file=sys.stderr)
                    answered += 1
                if minutes <= 0:
                    with _locked() as path:
                        _unlink(path, own)
                connection.sendall(bytes([code]))
            gc.unfreeze()  # imports freeze all that exists, and with it what this answer has left
            gc.collect()


def _accepted(listener: socket.socket, seconds: float, own: int) -> socket.socket | None:
    """The next connection; None if none came in time, and then none can come."""
    with suppress(TimeoutError):
        listener.settimeout(seconds)
        return listener.accept()[0]
    with _locked() as path:  # one may have come just now; whoever connects holds the lock
        listener.settimeout(0)
        with suppress(BlockingIOError):
            return listener.accept()[0]
        _unlink(path, own)
    return None


def _unlink(path: Path, own: int) -> None:
    """Remove the socket's file, unless it belongs to a process that was started later."""
    with suppress(FileNotFoundError):
        if path.stat().st_ino == own:
            path.unlink()


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A message and the standard streams that came with it.

    Raises:
        OSError: the message is incomplete.
    """
    connection.setblocking(True)
    header, streams, _, _ = socket.recv_fds(connection, HEADER, 3)
    left, parts = int.from_bytes(header, "big"), list[bytes]()
    while left:
        parts.append(connection.recv(min(left, 1 << 16)))
        if not parts[-1]:
            raise OSError("the message is incomplete")
        left -= len(parts[-1])
    return json.loads(b"".join(parts)), streams


@contextmanager
def _in_place_of(connection: socket.socket, streams: list[int], environment: dict[str, str]) -> Iterator[None]:
    """Use the standard streams and the environment of the asking process; stop working when it goes away."""
    nowhere, own_environment, done = os.open(os.devnull, os.O_RDWR), dict(os.environ), threading.Event()

    def use(sources: list[int]) -> None:
        for target, source in enumerate(sources):
            os.dup2(source, target)

    def watch() -> None:
        with suppress(OSError):
            connection.recv(1)  # nothing is sent after the message: this waits for the end of the connection
        if not done.is_set():
            use([nowhere] * 3)  # its terminal may show something else by now
            interrupt(passing=True)

    use(streams)
    for stream in streams:
        os.close(stream)
    _replace_environment(environment)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with suppress(OSError):  # a full disk or a closed pipe behind the asking process's streams
            sys.stdout.flush()
            sys.stderr.flush()
        done.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
        watcher.join()
        use([nowhere] * 3)
        os.close(nowhere)
        _replace_environment(own_environment)


def _replace_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _run(request: Request) -> int:
    """Run the command; returns its exit code."""
    from dyprag.cli.ask import answer

    renew()
    try:
        answer(**request)
    except typer.Exit as end:
        return end.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _staying(minutes: float | None) -> float:
    """The minutes to stay after an answer."""
    if minutes is not None:
        return minutes
    import torch

    return 0 if torch.cuda.is_initialized() else MINUTES

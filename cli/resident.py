"""A process that stays after `dyprag ask`, with the model loaded, and answers the next questions in its place.

Loading takes most of the time of a single question. So the first `ask` starts this process and hands its question to
it, and later ones find it by its socket. It gets the file descriptors of the asking process and prints to them what
that process would have printed.

It ends when nobody has asked for some minutes, when it is told to, when the code that it has loaded has changed, and
when somebody asks from another folder or environment, since these decide what is loaded. Whenever it cannot be reached,
`ask` answers by itself.
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
MOST_MINUTES = 7 * 24 * 60.0
CODE = "import sys; from dyprag.cli.resident import stay; stay(int(sys.argv[1]), sys.argv[2])"
HEADER = 8  # bytes that hold a message's length
ENDED = 255  # the reply, in place of an exit code, of a process that ends without answering
# What is loaded, and from where, depends on the variables that begin like this, except for one.
RELEVANT = ("AWS_", "AZURE_", "CUDA", "DYPRAG", "GOMP", "GOOGLE_", "HF_", "HOME", "LANG", "LC_", "LD_", "MKL", "OMP",
            "PYTHON", "PYTORCH", "TORCH", "TRANSFORMERS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # fmt: skip
IRRELEVANT = "DYPRAG_KEEP"


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
    for start in (False, True):
        with suppress(OSError):
            identity = _identity()
            message = {"identity": identity, "environment": dict(os.environ), "request": request, "minutes": minutes}
            if (connection := _reach(identity if start else None)) is not None:
                reply = _exchange(connection, message)
                if reply != ENDED:
                    return reply
    return None


def end_resident() -> None:
    """End the resident process, if there is one, after the answer that it is working on.

    Raises:
        Interrupted: this process was interrupted while it waited.
    """
    with suppress(OSError):
        if (connection := _reach(None)) is not None:
            _exchange(connection, {"identity": ""})


def _identity() -> str:
    """Return a name for what a process loads: it depends on package, interpreter, folder, environment and cores.

    Raises:
        OSError: the current folder does not exist any more.
    """
    variables = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith(RELEVANT) and name != IRRELEVANT
    )
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    here = os.stat(".")  # a folder that was made again under its old name is another one
    parts = [dyprag.__file__, sys.executable, os.getcwd(), here.st_dev, here.st_ino, variables, cores]
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


def _reach(identity: str | None) -> socket.socket | None:
    """Connect to the resident process. If there is none, start one with this identity, or return None without one.

    Raises:
        OSError: the socket cannot be used, or the process cannot be started.
    """
    with _locked() as path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            if identity is None:
                connection.close()
                return None
        path.unlink(missing_ok=True)  # left by a process that was killed
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            _start(listener, identity)
        connection.connect(str(path))
        return connection


def _start(listener: socket.socket, identity: str) -> None:
    """Start the process on a listening socket, apart from this one's terminal and pipes."""
    # -P: without it, Python would import from the current folder first
    command = [sys.executable, "-P", "-c", CODE, str(listener.fileno()), identity]
    subprocess.Popen(
        command, pass_fds=[listener.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _exchange(connection: socket.socket, message: dict[str, Any]) -> int | None:
    """Send a message with this process's standard streams, wait for the reply, and close the connection.

    Returns:
        The reply; None if the other side has gone.

    Raises:
        Interrupted: this process was interrupted while it waited.
        OSError: the other side went away before it had read the message.
    """
    text = json.dumps(message).encode()
    with connection, on_interruption(lambda: connection.shutdown(socket.SHUT_RDWR)):
        socket.send_fds(connection, [len(text).to_bytes(HEADER, "big")], [0, 1, 2])
        connection.sendall(text)
        reply = connection.recv(1)
    check()
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
        loaded: dict[str, float] = {}
        while minutes > 0 and (connection := _accepted(listener, 60 * minutes, own)) is not None:
            with connection, suppress(OSError):  # the other side may have gone
                message, streams = _received(connection)
                code, minutes = ENDED, 0
                if message["identity"] == identity and not _is_stale(loaded):
                    with _in_place_of(connection, streams, message["environment"]):
                        code = _run(message["request"])
                        minutes = _staying(message["minutes"])
                        if minutes > 0 and code == 0 and not answered and sys.stderr.isatty():
                            print(f"The model stays loaded for {minutes:g} min (--keep).", file=sys.stderr)
                    answered += code == 0
                    loaded |= {path: time for path, time in _module_files().items() if path not in loaded}
                if minutes <= 0:
                    with _locked() as path:
                        _unlink(path, own)
                connection.sendall(bytes([code]))
            gc.unfreeze()  # imports freeze all that exists, and with it what this answer has left
            gc.collect()


def _module_files() -> dict[str, float]:
    """The files of all modules that this process has imported, with the times of their last change."""
    found: dict[str, float] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        with suppress(OSError, ValueError):
            if isinstance(path, str):
                found[path] = os.stat(path).st_mtime
    return found


def _is_stale(loaded: dict[str, float]) -> bool:
    """Whether a file of an imported module has changed since, or is gone."""
    now = _module_files()
    return any(now.get(path) != time for path, time in loaded.items())


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
    while left and (part := connection.recv(min(left, 1 << 16))):
        parts.append(part)
        left -= len(part)
    if left or len(streams) != 3:
        for stream in streams:
            os.close(stream)
        raise OSError("the message is incomplete")
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
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]  # it was opened on no terminal
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
        watcher.join()
        use([nowhere] * 3)
        _flushed()  # what could not be written is dropped: it is not the next question's
        os.close(nowhere)
        _replace_environment(own_environment)


def _replace_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _run(request: Request) -> int:
    """Run the command; returns its exit code, which is not 0 if its output could not be written."""
    from dyprag.cli.ask import answer

    renew()
    code = 0
    try:
        answer(**request)
    except typer.Exit as end:
        code = end.exit_code
    except BrokenPipeError:  # whoever read the output has ended
        code = 1
    except BaseException:
        code = 1
        with suppress(OSError):
            traceback.print_exc()
    return code if _flushed() else code or 1


def _flushed() -> bool:
    """Write what the standard streams hold; returns whether that was possible (a disk is full, a pipe closed)."""
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            written = False
    return written


def _staying(minutes: float | None) -> float:
    """The minutes to stay after an answer."""
    if minutes is not None:
        return max(0.0, min(minutes, MOST_MINUTES))
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and (torch.cuda.is_initialized() or torch.backends.mps.is_available())
    return 0.0 if on_gpu else MINUTES

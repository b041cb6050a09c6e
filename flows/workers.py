"""Where a stage's tasks are worked on: `run.runner`, and how many documents a task is worth there."""

import math
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any
from urllib.parse import urlsplit

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from dyprag.config import MOST_TOGETHER, PipelineConfig
from dyprag.errors import ConfigError
from dyprag.flows.stage import with_retries
from dyprag.tasks.processes import devices, processes, worker_count

FEW = 2000  # task runs that a server takes in without dropping any
MANY = 160  # of more documents, so many tasks
SHARD = (64, 250)  # documents in one of those: more threads at work than the machine can follow slow each other down
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Workers:
    """Workers for the tasks of one stage. A cluster is begun, or connected to, with the first task: a run that finds
    everything made needs none."""

    def __init__(self, config: PipelineConfig, here: bool = False) -> None:
        self._config, self._here = config, here or config.run.runner == "threads"
        self._cluster: TaskRunner[Any] | None = None
        self._told: AbstractContextManager[Any] = nullcontext()
        self._open = ExitStack()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)
        if self._config.run.runner == "processes" and not self._here:
            processes(self._config).end_idle()  # the next stage may want their memory in this process

    def together(self, documents: int, quick: int = 0) -> int:
        """How many documents one task takes.

        Args:
            quick: so many in this process, for work so quick that a task for each would take longer.
        """
        if self._config.run.documents_per_task:
            return self._config.run.documents_per_task
        if self._here and quick:
            return quick
        if self._here:
            least, most = SHARD
            return 1 if documents <= FEW else min(most, max(least, math.ceil(documents / MANY)))
        return min(MOST_TOGETHER, max(1, math.ceil(documents / (4 * worker_count(self._config)))))

    def ahead(self, busy: int, together: int) -> int:
        """How many tasks are submitted that have not ended.

        Args:
            busy: documents that keep this process busy.
        """
        return math.ceil(busy / together) + 1 if self._here else 2 * worker_count(self._config)

    def submit(self, task: Task[Any, Any], **parameters: Any) -> PrefectFuture[Any]:
        """Submit a task, with the configured retries, to where it is worked on."""
        task = with_retries(task, self._config)
        if self._here or self._config.run.runner == "processes":  # a thread of ours waits for the process
            return task.submit(**parameters)
        if self._cluster is None:
            self._cluster = self._open.enter_context(cluster(self._config))
            self._told = server_told(self._config.run.address)
            if self._config.run.runner == "ray":
                from prefect_ray.context import remote_options

                self._open.enter_context(remote_options(**ray_options(self._config)))
        with self._told:  # a task takes the settings along
            return self._cluster.submit(task, parameters)


def cluster(config: PipelineConfig) -> TaskRunner[Any]:
    """The Dask or Ray cluster of a configuration.

    Raises:
        ConfigError: the package for it is not installed.
    """
    runner, address, count = config.run.runner, config.run.address, worker_count(config)
    try:
        if runner == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            if address:
                return DaskTaskRunner(address=address)
            return DaskTaskRunner(
                cluster_kwargs={"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
            )
        from prefect_ray.task_runners import RayTaskRunner

        if address:
            return RayTaskRunner(address=address)
        gpus = len(devices(config))
        return RayTaskRunner(init_kwargs={"num_cpus": count, "num_gpus": gpus, "include_dashboard": False})
    except ImportError as error:
        raise ConfigError(
            "setting 'run.runner'", f"the package prefect-{runner} is not installed",
            f"Run: pip install 'dyprag[{runner}]', or choose threads or processes.",
        ) from error  # fmt: skip


def server_told(address: str | None) -> AbstractContextManager[Any]:
    """Settings that name the server which this process started for its run: from those that name none, each worker of a
    cluster would start one of its own. A cluster on other machines could not reach it, as it listens on this one alone.

    Args:
        address: of the cluster; None where it is begun on this machine.
    """
    now = get_settings_context()
    host = urlsplit(address if not address or "//" in address else f"//{address}").hostname
    if now.settings.api.url or (host and host not in THIS_MACHINE):
        return nullcontext()
    url = str(get_client(sync_client=True).api_url).rstrip("/")
    api = now.settings.api.model_copy(update={"url": url})
    return SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"api": api}))


def ray_options(config: PipelineConfig) -> dict[str, Any]:
    """What a task asks a Ray cluster for: its share of a GPU where there are any, since Ray shows none to a task that
    asks for none (one each, or with more workers than GPUs a fraction); and to be begun again but once where its worker
    dies, as those that die over a document are found by halving."""
    import ray

    gpus = ray.cluster_resources().get("GPU", 0) if config.model.device in ("auto", "cuda") else 0
    share = {"num_gpus": min(1, gpus / (config.run.workers or gpus))} if gpus else {}
    return {"max_retries": 1, **share}

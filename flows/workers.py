"""Where a stage's tasks run (`run.runner`), and how many documents one task takes."""

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

FEW = 2000  # task runs that a server records without dropping any
MANY = 160  # number of tasks for more documents than that
SHARD = (64, 250)  # fewest and most documents in one of these tasks, since too many threads slow each other down
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Workers:
    """The workers of one stage. A cluster is started or connected to with the first task, so that a run without work
    needs none."""

    def __init__(self, config: PipelineConfig, here: bool = False) -> None:
        self._config, self._here = config, here or config.run.runner == "threads"
        self._cluster: TaskRunner[Any] | None = None
        self._settings: AbstractContextManager[Any] = nullcontext()
        self._open = ExitStack()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)
        if self._config.run.runner == "processes" and not self._here:
            processes(self._config).end_idle()  # the next stage may need their memory

    def together(self, documents: int, quick: int = 0) -> int:
        """The number of documents per task.

        Args:
            quick: The number to use in this process for work that takes less time than a task costs.
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
        """The maximum number of submitted tasks that have not ended.

        Args:
            busy: The number of documents that keep this process busy.
        """
        return math.ceil(busy / together) + 1 if self._here else 2 * worker_count(self._config)

    def submit(self, task: Task[Any, Any], **parameters: Any) -> PrefectFuture[Any]:
        """Submit a task with the configured retries."""
        task = with_retries(task, self._config)
        if (
            self._here or self._config.run.runner == "processes"
        ):  # a thread of this process waits for the worker process
            return task.submit(**parameters)
        if self._cluster is None:
            self._cluster = self._open.enter_context(cluster(self._config))
            self._settings = server_settings(self._config.run.address)
            if self._config.run.runner == "ray":
                from prefect_ray.context import remote_options

                self._open.enter_context(remote_options(**ray_options(self._config)))
        with self._settings:  # the settings are sent with the task
            return self._cluster.submit(task, parameters)


def cluster(config: PipelineConfig) -> TaskRunner[Any]:
    """The Dask or Ray cluster of a configuration.

    Raises:
        ConfigError: Its package is not installed.
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


def server_settings(address: str | None) -> AbstractContextManager[Any]:
    """Settings that include the URL of the server that this process started for its run.

    Without the URL, each worker of a cluster would start its own server. Workers on other machines could not reach the
    server, which listens on this machine only.

    Args:
        address: The cluster's address; None if it is started on this machine.
    """
    context = get_settings_context()
    host = urlsplit(address if not address or "//" in address else f"//{address}").hostname
    if context.settings.api.url or (host and host not in THIS_MACHINE):
        return nullcontext()
    url = str(get_client(sync_client=True).api_url).rstrip("/")
    api = context.settings.api.model_copy(update={"url": url})
    return SettingsContext(profile=context.profile, settings=context.settings.model_copy(update={"api": api}))


def ray_options(config: PipelineConfig) -> dict[str, Any]:
    """The resources that a task requests from a Ray cluster.

    It requests a share of a GPU if there are any, since Ray hides GPUs from tasks that request none: a whole one, or a
    fraction if there are more workers than GPUs. It is retried only once when its worker dies, because documents that
    kill workers are found by halving.
    """
    import ray

    gpus = ray.cluster_resources().get("GPU", 0) if config.model.device in ("auto", "cuda") else 0
    share = {"num_gpus": min(1, gpus / (config.run.workers or gpus))} if gpus else {}
    return {"max_retries": 1, **share}

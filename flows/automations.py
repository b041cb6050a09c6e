"""Set up a Prefect server for deployments: a work pool for one run at a time, and automations that mark dead runs as
crashed and send notifications of failures."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL
from prefect.types import SecretDict
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr

from dyprag.config.stages import FLOWS
from dyprag.errors import DypragError

SILENCE = timedelta(seconds=120)  # four heartbeats of 30 seconds
POOL = "dyprag"
ENDS = ("Completed", "CompletedWithFailures", "Stopped", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
WATCH, TELL, BLOCK = "dyprag: mark dead runs as crashed", "dyprag: tell of failures", "dyprag-notify"
TEXT = (
    '"dyprag: " ~ flow_run.name ~ ", " ~ flow_run.state.name ~ ". " ~ (flow_run.state.message or "") ~ " " ~ '
    "(flow_run | ui_url)"
)


def watch() -> Automation:
    """Mark runs as crashed when their heartbeats stop, because the worker or machine that would report their end is
    gone."""
    return Automation(
        name=WATCH,
        description=f"Marks a run as crashed after {SILENCE.seconds} s without a heartbeat. A retry continues it.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": [*FLOWS]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                force=False,
                message="The run sends no more heartbeats: its process is gone.",
            )
        ],
    )


def tell(webhook: Any | None) -> Automation:
    """Send a notification when a deployment's run failed, crashed, stopped at a limit, or ended with failed documents.

    Args:
        webhook: The id of the webhook block; None: the automation only appears in the UI's event feed.
    """
    payload = f'{{"text": {{{{ ({TEXT}) | tojson }}}}}}'
    return Automation(
        name=TELL,
        description="Sends a notification when a run failed, crashed, stopped, or ended with failed documents.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{end}" for end in ("CompletedWithFailures", "Stopped", "Failed", "Crashed")},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "deployment"},  # not for a pipeline's stages
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=payload) if webhook else DoNothing()],
    )


def create_automations(notify: str | None = None) -> list[str]:
    """Create or update the automations on the current server, and create the work pool if it is missing. Returns the
    automations' names.

    Args:
        notify: A webhook that accepts {"text": …}, such as those of Slack, Mattermost and Google Chat. Empty: the
            webhook of the last call, if there was one.

    Raises:
        DypragError: The server does not answer or ends with this process, or the webhook's URL is invalid.
    """
    if notify and not notify.startswith(("http://", "https://")):
        raise DypragError("NOTIFY", "it is not an http:// or https:// URL", "Set it to the webhook's URL, or unset it.")
    if not PREFECT_API_URL.value():
        raise DypragError(
            "PREFECT_API_URL", "it is not set, and automations need a permanent server",
            "Start one (make server) and set it, such as http://127.0.0.1:4200/api.",
        )  # fmt: skip
    try:
        with get_client(sync_client=True) as client:
            _pool(client)
            automations = [watch(), tell(_webhook(notify))]
            for automation in automations:
                if existing := client.read_automations_by_name(name=automation.name):
                    automation.id, automation.enabled = existing[0].id, existing[0].enabled
                    automation.update()
                else:
                    automation.create()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DypragError(
            f"Prefect server {PREFECT_API_URL.value()}", f"it rejected an automation ({reason[:200]})",
            "Start it (make server), or set PREFECT_API_URL.",
        ) from None  # fmt: skip
    return [automation.name for automation in automations]


def _webhook(url: str | None) -> Any | None:
    """The id of the block that stores the webhook's URL as a secret."""
    if url:
        block = Webhook(url=SecretStr(url), headers=SecretDict({"Content-Type": "application/json"}))
        return block.save(BLOCK, overwrite=True)
    try:
        existing: Any = Webhook.load(BLOCK)
    except ValueError:  # there is none
        return None
    return existing._block_document_id


def _pool(client: SyncPrefectClient) -> None:
    """Create the work pool of prefect.yaml. An existing one is kept, with the limit that it was given."""
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", concurrency_limit=1, base_job_template=template)
        )

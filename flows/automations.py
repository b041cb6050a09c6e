"""What a Prefect server needs for the runs of deployments: a work pool that takes one at a time, and automations that
mark those that died and tell when documents failed."""

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

SILENCE = timedelta(seconds=120)  # four heartbeats, of which one comes every 30 seconds
POOL = "dyprag"
ENDS = ("Completed", "CompletedWithFailures", "Stopped", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
WATCH, TELL, BLOCK = "dyprag: mark dead runs as crashed", "dyprag: tell of failures", "dyprag-notify"
TEXT = (
    '"dyprag: " ~ flow_run.name ~ ", " ~ flow_run.state.name ~ ". " ~ (flow_run.state.message or "") ~ " " ~ '
    "(flow_run | ui_url)"
)


def watch() -> Automation:
    """A run whose heartbeats stop has died with its worker, or its machine: nobody else would ever end it."""
    return Automation(
        name=WATCH,
        description=f"No heartbeat for {SILENCE.seconds} seconds: the run's process is gone. Retry goes on from there.",
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
                message="No heartbeat any more: its process is gone.",
            )
        ],
    )


def tell(webhook: Any | None) -> Automation:
    """Tells when a run of a deployment failed, crashed, stopped at a limit, or ended with failed documents.

    Args:
        webhook: the id of the block to call; without one the automation only shows in the UI's event feed.
    """
    payload = f'{{"text": {{{{ ({TEXT}) | tojson }}}}}}'
    return Automation(
        name=TELL,
        description="A run ended with failed documents, or did not end well itself.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{end}" for end in ("CompletedWithFailures", "Stopped", "Failed", "Crashed")},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "deployment"},  # a stage tells nothing beside its pipeline
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=payload) if webhook else DoNothing()],
    )


def create_automations(notify: str | None = None) -> list[str]:
    """Create the automations on the server in use, or bring those of the same names up to date, and the work pool if
    it is not there; gives the automations' names.

    Args:
        notify: a webhook that takes {"text": …}, as Slack's, Mattermost's and Google Chat's do. Empty: that of last
            time, if there was one.

    Raises:
        DypragError: the server does not answer, or is one that ends with this process; or that is no webhook's URL.
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
            made = [watch(), tell(_webhook(notify))]
            for automation in made:
                if known := client.read_automations_by_name(name=automation.name):
                    automation.id, automation.enabled = known[0].id, known[0].enabled
                    automation.update()
                else:
                    automation.create()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DypragError(
            f"Prefect server {PREFECT_API_URL.value()}", f"it rejected an automation ({reason[:200]})",
            "Start it (make server), or set PREFECT_API_URL.",
        ) from None  # fmt: skip
    return [automation.name for automation in made]


def _webhook(url: str | None) -> Any | None:
    """The id of the block that holds the webhook's URL, as a secret."""
    if url:
        block = Webhook(url=SecretStr(url), headers=SecretDict({"Content-Type": "application/json"}))
        return block.save(BLOCK, overwrite=True)
    try:
        known: Any = Webhook.load(BLOCK)
    except ValueError:  # there is none
        return None
    return known._block_document_id


def _pool(client: SyncPrefectClient) -> None:
    """The work pool of prefect.yaml. One that is there keeps the limit that somebody may have given it."""
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", concurrency_limit=1, base_job_template=template)
        )

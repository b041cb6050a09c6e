"""How interrupted flows end, in this process."""

import threading
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from dyprag.config import PipelineConfig
from dyprag.errors import Interrupted
from dyprag.runtime import interruption


@pytest.fixture(autouse=True)
def renewed() -> Iterator[None]:
    yield
    interruption._passing = True
    interruption.renew()


def test_an_interruption_calls_registered_callbacks_and_ends_pauses():
    called, ended = [], threading.Event()

    def wait() -> None:
        with pytest.raises(Interrupted):
            interruption.pause(60)
        ended.set()

    with interruption.on_interruption(lambda: called.append(1)):
        thread = threading.Thread(target=wait)
        thread.start()
        interruption.interrupt()
        thread.join(5)
    assert ended.is_set()
    interruption.interrupt()  # a second time is none
    assert called == [1]
    with interruption.on_interruption(lambda: called.append(2)):
        assert called == [1, 2], "who comes late is called as well"


def test_work_can_start_again_after_a_passing_interruption_only():
    interruption.interrupt(passing=True)
    with pytest.raises(Interrupted):
        interruption.check()
    interruption.renew()
    interruption.check()
    interruption.interrupt()
    interruption.renew()
    assert interruption.interrupted()


def test_an_interrupted_model_computes_nothing_more(base: Any):
    from dyprag.adapters.embedding import embed
    from dyprag.adapters.generation import Sampling, generate

    interruption.interrupt()
    with pytest.raises(Interrupted):
        embed(base, ["Lamp"])
    with pytest.raises(Interrupted):
        generate(base, [[1, 2]], Sampling(4))


def test_flows_can_be_sent_to_a_cluster():
    from dyprag.flows.endings import _notes, _runs
    from dyprag.flows.pipeline import pipeline

    _runs.append(threading.Lock())  # type: ignore[arg-type]  # what an open run holds cannot be pickled either
    try:
        assert cloudpickle.dumps(pipeline.fn)
    finally:
        _runs.clear()
    assert _notes == []


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_an_interrupted_flow_is_cancelled_and_its_documents_wait(settings: dict[str, Any], monkeypatch: Any):
    from dyprag.flows.pipeline import pipeline
    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue

    config = PipelineConfig.model_validate(settings)
    from dyprag.tasks import parametrize

    trained = parametrize._store

    def store_and_interrupt(*arguments: Any) -> Any:
        interruption.interrupt(passing=True)
        return trained(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(parametrize, "_store", store_and_interrupt)
        state = pipeline(config, return_state=True)
    assert state.is_cancelled()
    catalogue = Catalogue(Store(settings["store"]))
    (last,) = catalogue.query("SELECT flow, state FROM runs ORDER BY started DESC LIMIT 1")
    assert last == {"flow": "parametrize", "state": "cancelled"}
    assert catalogue.query("SELECT * FROM failures") == []
    assert pipeline(config, return_state=True).is_completed(), "what was interrupted in this process is over"

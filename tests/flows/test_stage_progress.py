"""What a stage says about its progress: shares, rates and the time left."""

import time

import pytest

import dyprag.flows.progress as shown
from dyprag.flows.progress import _Meter
from dyprag.tasks.work import training_progress


class Clock:
    """The time that a meter reads, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shown.time, "monotonic", clock.monotonic)
    return clock


@pytest.mark.parametrize("done_before", [0, 500])
def test_the_time_left_of_a_resumed_training_counts_only_its_own_steps(clock: Clock, done_before: int):
    meter = _Meter("learn", 1, began=0.0)
    with training_progress("loss") as report:
        for step in range(1, 41):
            clock.now = 5.0 * step
            report(done_before + step, 1000, 0.5)
            meter.update()
        assert meter.share == pytest.approx((done_before + 40) / 1000)
        assert meter.left == pytest.approx(5.0 * (1000 - done_before - 40), rel=0.1)
    assert f"step {done_before + 40} of 1000, loss 0.500" in str(meter)
    assert "left" in str(meter)


def test_there_is_no_estimate_before_the_first_step(clock: Clock):
    meter = _Meter("learn", 1, began=0.0)
    with training_progress("loss"):
        clock.now = 60.0
        meter.update()
    assert meter.left is None
    assert time.monotonic() == 60.0

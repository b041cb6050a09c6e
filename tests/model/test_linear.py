"""Products with few rows: another order of computation, the same result."""

import pytest
import torch
from torch import nn

from dyprag.model import linear
from dyprag.model.linear import MOST_ROWS, FewRowsLinear, columns_are_faster, speed_up_few_rows


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 1), (2, 5), (1, MOST_ROWS), (MOST_ROWS + 1,), (0,), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_the_result_is_that_of_a_linear_layer(shape: tuple[int, ...], bias: bool):
    plain = nn.Linear(12, 7, bias, dtype=torch.float64)
    few = FewRowsLinear(12, 7, bias, dtype=torch.float64)
    few.load_state_dict(plain.state_dict())
    x = torch.randn(*shape, 12, dtype=torch.float64)
    with torch.no_grad():
        result = few(x)
    assert result.is_contiguous()
    torch.testing.assert_close(result, plain(x).detach())


def test_gradients_are_those_of_a_linear_layer():
    plain, few = nn.Linear(12, 7), FewRowsLinear(12, 7)
    few.load_state_dict(plain.state_dict())
    gradients = []
    for layer in (plain, few):
        x = torch.linspace(-1, 1, 36).view(3, 12).requires_grad_()
        layer(x).square().sum().backward()
        gradients.append((x.grad, layer.weight.grad, layer.bias.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("faster", [True, False])
def test_layers_are_changed_only_where_that_is_faster(monkeypatch: pytest.MonkeyPatch, faster: bool):
    class Odd(nn.Linear):
        """A layer of a class that may compute something else."""

    model = nn.Sequential(nn.Linear(4, 4), Odd(4, 4))
    monkeypatch.setattr(linear, "columns_are_faster", lambda dtype: faster)
    speed_up_few_rows(model)
    assert [type(layer) for layer in model] == [FewRowsLinear if faster else nn.Linear, Odd]


def test_the_measurement_is_made_once():
    assert columns_are_faster(torch.float32) in (True, False)
    assert columns_are_faster(torch.float32) == columns_are_faster(torch.float32)
    assert columns_are_faster.cache_info().hits >= 1

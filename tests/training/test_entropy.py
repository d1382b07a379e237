import pytest
import torch
from torch.nn import functional

from tunesmith.training import entropy


@pytest.fixture(params=["small parts", "one part"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loss be computed over one row at a time, or all at once."""
    monkeypatch.setattr(entropy, "PART", 1 if request.param == "small parts" else 2**20)


@pytest.mark.usefixtures("parts")
def test_the_loss_and_its_gradient_are_those_of_cross_entropy() -> None:
    """For logits of either type, weighed or not."""
    torch.manual_seed(0)
    labels = torch.tensor([3, 0, 11, 5])
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0])
    for dtype, close in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        logits = (torch.randn(4, 12) * 5).to(dtype)
        found = []
        for loss_of in (
            lambda given: functional.cross_entropy(given.float(), labels, reduction="none"),
            lambda given: entropy.CrossEntropy.apply(given, labels),  # type: ignore[no-untyped-call]
        ):
            given = logits.clone().requires_grad_(True)
            loss = loss_of(given)
            (loss * weights).sum().backward()
            assert given.grad is not None
            found.append((loss, given.grad.float()))
        torch.testing.assert_close(found[0], found[1], rtol=close, atol=close)


def test_a_label_that_is_sure_keeps_its_small_gradient() -> None:
    """A share of all but 3e-4 is one in bfloat16; the label's gradient, one less, is not lost with it."""
    logits = torch.tensor([[8.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    loss: torch.Tensor = entropy.CrossEntropy.apply(logits, torch.tensor([0]))  # type: ignore[no-untyped-call]
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad[0, 0]) == pytest.approx(-3.35e-4, rel=0.01)

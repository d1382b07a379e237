import pytest
import torch
from torch.nn import functional

from tunesmith.training import pieces


@pytest.fixture(params=["small parts", "one part"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pieces be computed over one row at a time, or all at once."""
    monkeypatch.setattr(pieces, "PART", 1 if request.param == "small parts" else 2**20)


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
            lambda given: pieces.CrossEntropy.apply(given, labels),  # type: ignore[no-untyped-call]
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
    loss: torch.Tensor = pieces.CrossEntropy.apply(logits, torch.tensor([0]))  # type: ignore[no-untyped-call]
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad[0, 0]) == pytest.approx(-3.35e-4, rel=0.01)


@pytest.mark.usefixtures("parts")
def test_norm_gate_and_rotation_have_the_gradients_of_autograd() -> None:
    """Each backward by hand is what autograd makes of the same formula, in double precision's stead: float32."""
    torch.manual_seed(0)
    rows = torch.randn(5, 6, requires_grad=True)
    weight, grad, more = torch.rand(6) + 0.5, torch.randn(5, 6), torch.randn(5, 6)
    plain = rows * (rows.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
    out, inverse = pieces.normed(rows.detach(), weight, 1e-5)
    torch.testing.assert_close(out, plain.detach())
    [expected] = torch.autograd.grad(plain, rows, grad)
    found = pieces.normed_backward(grad, rows.detach(), inverse, weight, None)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        pieces.normed_backward(grad, rows.detach(), inverse, weight, more), expected + more
    )

    both = torch.randn(5, 9, requires_grad=True)
    plain = functional.silu(both[:, :4]) * both[:, 4:8]
    torch.testing.assert_close(pieces.gated(both.detach(), 4), plain.detach())
    [expected] = torch.autograd.grad(plain, both, grad[:, :4])
    found, hidden = pieces.gated_backward(grad[:, :4].contiguous(), both.detach(), 4)
    torch.testing.assert_close((found[:, :8], hidden), (expected[:, :8], plain.detach()))

    x = torch.randn(2, 3, 5, 4)
    angles = torch.rand(2, 5, 2)
    cos, sin = (torch.cat([each, each], -1) for each in (angles.cos(), angles.sin()))
    turned = pieces.rotated(x, cos, sin)
    torch.testing.assert_close(pieces.rotated(turned, cos, sin, back=True), x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("rows", [1, 7])
def test_inputs_are_left_as_they_were(rows: int) -> None:
    """Nothing is written into what the gradient still needs."""
    x, both = torch.randn(rows, 6), torch.randn(rows, 9)
    kept = x.clone(), both.clone()
    _, inverse = pieces.normed(x, torch.ones(6), 1e-5)
    pieces.normed_backward(x, x, inverse, torch.ones(6), x)
    pieces.gated_backward(pieces.gated(both, 4), both, 4)
    assert torch.equal(x, kept[0])
    assert torch.equal(both, kept[1])

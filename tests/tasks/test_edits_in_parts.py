"""Training where a device runs out of memory: half as many edits together, and the gradients of all at once."""

import copy
import warnings

import pytest
import torch
from torch import Tensor

from editable.data.edits.edit_streams import Edits
from editable.editing import Editor, RMSProp
from editable.models import cifar_resnet
from editable.tasks import EditableTrainingTask
from editable.tasks.edits_in_parts import EditsInParts
from tests.fake_cuda.device import fake_cuda, limit_memory
from tests.tasks.reference import LAYERS, NUM_CLASSES, images_and_labels, loader, small_network

WARNING = "the device has no memory for 5 edits of a training step at once: from here on at most 2 are computed"


class FullBackward(torch.autograd.Function):
    """A device on which the backward pass of more than some number of edits does not fit."""

    @staticmethod
    def forward(ctx, losses: Tensor, most: int) -> Tensor:
        ctx.fits = len(losses) <= most
        return losses.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if not ctx.fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return gradient, None


class SmallMemory(Editor):
    """Makes at most so many edits at once, going forward and going backward."""

    forward_most = backward_most = 100

    def edit_many(self, forward, params, inputs, targets, differentiable=False):
        if len(targets) > self.forward_most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        result = super().edit_many(forward, params, inputs, targets, differentiable)
        return result._replace(loss=FullBackward.apply(result.loss, self.backward_most))


class FiveEdits(EditableTrainingTask):
    def draw_edits(self, batch_size, num_classes, batch_idx):
        return Edits(torch.arange(5), torch.tensor([0, 1, 2, 3, 0]))


def make_task(network=None, dtype=torch.float64, **settings):
    editor = SmallMemory(RMSProp(0.02, 0.4, learn_learning_rate=True, learn_decay=True), 3).to(dtype)
    settings = {"c_edit": 0.7, "c_loc": 1.3, "edits_per_batch": 5, **settings}
    return FiveEdits(network or small_network(dtype), editor, LAYERS, **settings).train()


def step(task, batch, scale=1.0):
    """Return what a step logs, and its gradients."""
    values = {}
    task.log_training = lambda terms, num_images: values.update(terms)
    (scale * task.training_step(batch, 0)).backward()
    gradients = {name: param.grad for name, param in task.named_parameters()}
    task.zero_grad()
    return values, gradients


@pytest.mark.parametrize("most", [{"forward_most": 2}, {"backward_most": 2}, {"forward_most": 2, "backward_most": 1}])
@pytest.mark.parametrize("settings", [{}, {"locality_share": "own"}, {"detach_base": False, "locality_fraction": 0.7}])
def test_gradients_are_those_of_the_undisturbed_step(most, settings):
    batch = images_and_labels(12)
    task = make_task(**settings)
    short = copy.deepcopy(task)
    expected = [step(task, batch, scale=3.0) for _ in range(2)]  # a step of a scaled loss, as Lightning's
    vars(short.editor).update(most)
    with pytest.warns(UserWarning, match=WARNING) as said:
        found = [step(short, batch, scale=3.0) for _ in range(2)]
    assert len([some for some in said if "no memory" in str(some.message)]) == 1
    for (values, gradients), (ours, own) in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, values)
        # Where a gradient is small, the derivative of g/√(s + ε) enlarges rounding by up to 1/√ε.
        torch.testing.assert_close(own, gradients, rtol=1e-6, atol=1e-9)
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in own.values())


def test_one_edit_alone_for_which_there_is_no_memory_is_an_error():
    task = make_task()
    task.editor.forward_most = 0
    with pytest.warns(UserWarning, match=WARNING), pytest.raises(torch.OutOfMemoryError):
        step(task, images_and_labels(12))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_goes_on_with_fewer_at_once(precision, make_trainer):
    """Gradients accumulate over batches, in mixed precision too, of which each pass has its own casts."""

    def fit(most):
        task = make_task(
            small_network(torch.float32), torch.float32, optimizer=lambda params: torch.optim.SGD(params, lr=0.1)
        )
        task.editor.backward_most = most
        settings = {"accumulate_grad_batches": 2, "precision": precision, "gradient_clip_val": 1.0}
        images, labels = images_and_labels(32, torch.float32)
        make_trainer(max_epochs=1, **settings).fit(task, loader(images, labels))
        return task

    start = make_task(small_network(torch.float32), torch.float32).state_dict()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no memory")
        whole = fit(100)
    with pytest.warns(UserWarning, match=WARNING):
        halved = fit(2)
    changed = {name for name, value in whole.state_dict().items() if not torch.equal(value, start[name])}
    assert {name for name, _ in whole.named_parameters()} <= changed
    torch.testing.assert_close(halved.state_dict(), whole.state_dict(), rtol=1e-3, atol=1e-4)


def test_a_sum_of_squares_is_differentiated_in_parts_again_and_again():
    """Σ (a·xᵢ)² for four x, of which three do not fit: 2a Σ xᵢ² and 2a²xᵢ, also of a second backward pass."""
    factor, values = torch.tensor(3.0, requires_grad=True), torch.arange(1.0, 5.0, requires_grad=True)
    other, seen = torch.ones(1, requires_grad=True), []

    def work(part, inputs):
        if part.stop - part.start > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append((part.start, part.stop))
        return (factor * inputs[0][part]).square().sum(), part

    with pytest.warns(UserWarning, match="no memory for 4"):
        total, parts = EditsInParts(4).sum(work, 4, (values,), [factor, other])
    assert parts == [slice(0, 2), slice(2, 4)]
    assert total.item() == 9 * 30
    for _ in range(2):
        gradients = torch.autograd.grad(total, [factor, values, other], retain_graph=True, allow_unused=True)
        assert gradients[0].item() == 6 * 30
        assert gradients[1].tolist() == [18, 36, 54, 72]
        assert gradients[2] is None
    assert seen == [(0, 2), (2, 4)] * 3


@pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
def test_a_device_whose_memory_is_small():
    card = torch.device("cuda")

    def gradients(number):
        torch.manual_seed(0)
        network = cifar_resnet(NUM_CLASSES, 8, (1, 1, 1, 1), 2).double()
        editor = Editor(RMSProp(0.02), 4).double()
        task = FiveEdits(network, editor, ["layer3"], edits_per_batch=number).to(card).train()
        found = step(task, tuple(some.to(card) for some in images_and_labels(8)))
        return [gradient for gradient in found[1].values() if gradient is not None]

    expected = gradients(5)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gradients(1)  # begins with one at a time
    least = torch.cuda.max_memory_allocated() - before
    torch.cuda.reset_peak_memory_stats()
    gradients(5)
    most = torch.cuda.max_memory_allocated() - before
    assert most > 1.3 * least
    with limit_memory((least + most) // 2), pytest.warns(UserWarning, match="no memory for"):
        found = gradients(5)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)

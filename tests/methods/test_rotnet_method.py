import pytest
import torch
from every_method import losses_of, pretext_given
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.methods.pretrain.rotnet import Method, Settings
from sslpipe.views.geometry import all_rotations
from sslpipe.views.policies import ViewSettings


def test_quarter_turns_are_numpys_image_by_image():
    images = torch.rand(3, 2, 5, 5)
    rotated = all_rotations(images)
    for turns in range(4):
        for image in range(3):
            expected = torch.from_numpy(images[image].numpy().copy()).rot90(turns, (1, 2))
            assert torch.equal(rotated[3 * turns + image], expected)


def test_the_loss_is_that_of_all_four_rotations(digits, network):
    method = Method(Settings(views=ViewSettings(policy="plain")), pretext_given(digits, network)).eval()
    index = torch.arange(10)
    terms = losses_of(method, Batch(image=digits[0][index], index=index), torch.Generator().manual_seed(0))
    losses, right = [], []
    for turns in range(4):
        logits = network((digits[0][index].float() / 255).rot90(turns, (2, 3)))
        losses.append(F.cross_entropy(logits, torch.full((10,), turns)))
        right.append((logits.argmax(dim=1) == turns).float().mean())
    torch.testing.assert_close(terms["loss"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["rotation_acc"], torch.stack(right).mean())


def test_the_loss_of_equal_logits_is_the_value_at_chance(digits, network):
    method = Method(Settings(), pretext_given(digits, network))
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.zero_()
    index = torch.arange(10)
    loss = losses_of(method, Batch(image=digits[0][index], index=index), torch.Generator().manual_seed(0))["loss"]
    assert method.loss_at_chance() == {"loss": pytest.approx(loss.item())}


def test_views_by_default_are_crops_of_images_padded_with_four_zeros_of_32(digits, network):
    method = Method(Settings(), pretext_given(digits, network))
    image = torch.randint(1, 256, (1, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = method.views(image.expand(300, -1, -1, -1), torch.Generator().manual_seed(0))
    padded = F.pad(image / 255, (4, 4, 4, 4))
    crops = torch.stack([padded[0, :, y : y + 32, x : x + 32] for y in range(9) for x in range(9)])
    both = torch.cat([crops, crops.flip(-1)])
    which = (views[:, None] == both).flatten(2).all(2)
    assert (which.sum(1) == 1).all()  # a mirrored crop is the crop of the mirrored image
    assert which.any(0).sum() > 100  # of 162

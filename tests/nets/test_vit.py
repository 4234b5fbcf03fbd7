"""Vision transformers against plain loops, published parameter counts and what their parts claim."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets import vit
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.nets.vit import Attention, Block, DropPath, VisionTransformer, position_embedding


def tiny(*, channels=1, drop_path=0.0, depth=2):
    torch.manual_seed(0)
    return VisionTransformer(patch=2, width=8, depth=depth, heads=2, drop_path=drop_path, channels=channels)


def shaken(module):
    """In double precision, with weights large enough that every part is seen in the result."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.double().parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
    return module


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_vit_small_has_the_published_number_of_parameters():
    # DeiT's and DINO's ViT-S/16 without a head: 21,665,664, of which 197 × 384 are its learned positions.
    backbone = BackboneSettings(name="vit_small_16").build(3)
    assert parameters(backbone) + (224 // 16 * 224 // 16 + 1) * 384 == 21_665_664


@pytest.mark.parametrize(("name", "width", "depth"), [("vit_tiny_4", 192, 12), ("vit_mini_4", 96, 4)])
def test_the_others_count_as_their_shape_says(name, width, depth):
    block = 4 * width + (3 * width**2 + 3 * width) + (width**2 + width) + (8 * width**2 + 5 * width)
    patches_token_norm = (3 * 4 * 4 * width + width) + width + 2 * width
    backbone = BackboneSettings(name=name).build(3)
    assert parameters(backbone) == patches_token_norm + depth * block


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_small_16", (32, 32)), ("vit_small_16", (96, 48)), ("vit_tiny_4", (32, 32)), ("vit_tiny_4", (4, 4))]
    + [("vit_mini_4", size) for size in [(8, 8), (16, 16), (12, 20)]],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_multiple_of_the_patch_gives_features(name, size, channels):
    backbone = BackboneSettings(name=name).build(channels)
    with torch.no_grad():
        assert backbone(torch.rand(2, channels, *size)).shape == (2, backbone.dimension)


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 18), (2, 4)])
def test_a_size_that_is_no_multiple_is_one_line(height, width):
    backbone = BackboneSettings(name="vit_mini_4").build(1)
    with pytest.raises(UserError, match=rf"^network.name: .*{height} × {width} px found, expected multiples of 4 px"):
        backbone(torch.rand(1, 1, height, width))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), quarter=st.integers(1, 5))
def test_position_embedding_is_the_literal_one(rows, columns, quarter):
    found = position_embedding(rows, columns, 4 * quarter)
    assert found.shape == (rows * columns, 4 * quarter)
    for y in range(rows):
        for x in range(columns):
            for i in range(quarter):
                frequency = 1 / 10_000 ** (i / quarter)
                waves = [f(place * frequency) for place in (x, y) for f in (math.sin, math.cos)]
                assert found[y * columns + x, i::quarter].tolist() == pytest.approx(waves, abs=1e-6)


def test_every_patch_has_a_position_of_its_own():
    assert len(position_embedding(14, 14, 16).unique(dim=0)) == 14 * 14


def cubic(x):
    """Keys' kernel with a = -0.75, torch's bicubic."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def literal_resize(embedding, size, to):
    """[size, size, width] to [to, to, width]: Keys' kernel around the centre of each patch, the border repeated."""
    weights = torch.zeros(to, size, dtype=torch.double)
    for target in range(to):
        center = (target + 0.5) * size / to - 0.5
        for near in range(math.floor(center) - 1, math.floor(center) + 3):
            weights[target, min(max(near, 0), size - 1)] += cubic(center - near)
    return torch.einsum("as,bt,std->abd", weights, weights, embedding.double())


@pytest.mark.parametrize(("size", "to"), [(14, 6), (14, 5), (4, 2), (4, 1), (3, 7)])
def test_a_crop_has_the_whole_images_positions_interpolated(size, to):
    backbone = VisionTransformer(patch=2, width=8, depth=1, heads=2, drop_path=0.0, channels=1)
    backbone.whole_side = 2 * size
    found = backbone.positions(to, to, torch.device("cpu"))
    embedding = position_embedding(size, size, 8)
    image = embedding.view(1, size, size, 8).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(image, (to, to), mode="bicubic").permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected.reshape(to * to, 8))
    literal = literal_resize(embedding.view(size, size, 8), size, to)
    torch.testing.assert_close(found.view(to, to, 8).double(), literal, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 9), side=st.integers(0, 1))
def test_whole_images_have_the_embedding_itself(size, side):
    # A side that is no multiple of the patch's counts its whole patches.
    backbone = VisionTransformer(patch=2, width=8, depth=1, heads=2, drop_path=0.0, channels=1)
    backbone.whole_side = 2 * size + side
    found = backbone.positions(size, size, torch.device("cpu"))
    assert torch.equal(found, position_embedding(size, size, 8))


def test_a_crop_spans_the_whole_grid_and_not_its_corner():
    # The middle patch of 3 × 3 is in the middle of 9 × 9; the mean position of a crop is that of the whole image.
    backbone = VisionTransformer(patch=2, width=16, depth=1, heads=2, drop_path=0.0, channels=1)
    backbone.whole_side = 18
    whole = position_embedding(9, 9, 16).view(9, 9, 16)
    crop = backbone.positions(3, 3, torch.device("cpu")).view(3, 3, 16)
    torch.testing.assert_close(crop[1, 1], whole[4, 4])
    torch.testing.assert_close(crop, whole[1::3, 1::3])


def test_without_a_side_every_size_is_a_whole_image():
    found = tiny().positions(3, 5, torch.device("cpu"))
    assert torch.equal(found, position_embedding(3, 5, 8))


def test_a_network_places_crops_in_its_images_grid():
    info = StoreInfo(
        size=16, channels=1, mean=(0.5,), std=(0.25,), train=9, held_out=0, test=0, protocol="split", fingerprint=""
    )
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="vit_mini_4"), info)
    crops = torch.rand(2, 1, 8, 8)
    whole = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        expected = [network.features(images) for images in (crops, whole)]
        copied = copy.deepcopy(network)
        network.backbone.whole_side = None
        assert torch.equal(network.features(whole), expected[1])
        assert (network.features(crops) - expected[0]).abs().max() > 1e-3
        assert torch.equal(copied.features(crops), expected[0])


def shuffle_patches(images, order, patch):
    """Cut square images into patches and put these in another order."""
    patches = nn.functional.unfold(images, patch, stride=patch)[:, :, order]
    return nn.functional.fold(patches, images.shape[2:], patch, stride=patch)


def test_only_the_position_embedding_tells_the_order_of_the_patches(monkeypatch):
    backbone = shaken(tiny())
    images = torch.rand(3, 1, 6, 6, dtype=torch.double)
    shuffled = shuffle_patches(images, torch.tensor([4, 2, 0, 8, 1, 7, 3, 6, 5]), 2)
    with torch.no_grad():
        assert (backbone(images) - backbone(shuffled)).abs().max() > 0.01
        monkeypatch.setattr(vit, "position_embedding", lambda rows, columns, width, device: torch.zeros(1, width))
        torch.testing.assert_close(backbone(images), backbone(shuffled))


def literal_attention(x, attention, heads):
    """One image, [N, D]: appendix A's equations, head by head and token by token."""
    width = x.shape[1]
    size = width // heads
    weight, bias = attention.queries_keys_values.weight, attention.queries_keys_values.bias
    results = torch.zeros_like(x)
    for head in range(heads):
        rows = [slice(part * width + head * size, part * width + (head + 1) * size) for part in range(3)]
        queries, keys, values = (x @ weight[r].T + bias[r] for r in rows)
        for n in range(len(x)):
            similarity = torch.stack([queries[n] @ key / size**0.5 for key in keys])
            share = similarity.exp() / similarity.exp().sum()
            results[n, head * size : (head + 1) * size] = sum(s * v for s, v in zip(share, values, strict=True))
    return results @ attention.output.weight.T + attention.output.bias


def literal_norm(x, norm):
    center = x - x.mean(dim=-1, keepdim=True)
    return center / (center.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


def literal_block(x, block, heads):
    """Eq. 2 and 3 for one image, [N, D]."""
    norm, attention = block.attention
    x = x + literal_attention(literal_norm(x, norm), attention, heads)
    norm, inner, _, outer = block.perceptron
    hidden = literal_norm(x, norm) @ inner.weight.T + inner.bias
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return x + hidden @ outer.weight.T + outer.bias


@pytest.mark.parametrize("heads", [1, 2, 4])
@torch.no_grad()
def test_attention_and_block_are_plain_loops(heads):
    x = torch.randn(3, 5, 8, dtype=torch.double)
    attention, block = shaken(Attention(8, heads)), shaken(Block(8, heads, 0.0))
    torch.testing.assert_close(attention(x), torch.stack([literal_attention(image, attention, heads) for image in x]))
    torch.testing.assert_close(block(x), torch.stack([literal_block(image, block, heads) for image in x]))


@torch.no_grad()
def test_the_whole_is_patches_positions_token_blocks_and_norm():
    backbone = shaken(tiny(channels=3))
    images = torch.rand(2, 3, 4, 6, dtype=torch.double)
    expected = []
    for image in images:
        tokens = [backbone.token]
        for y in range(2):
            for x in range(3):
                patch = image[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                content = backbone.patches.weight.flatten(1) @ patch.flatten() + backbone.patches.bias
                tokens.append(content + position_embedding(2, 3, 8)[3 * y + x])
        stacked = torch.stack(tokens)
        for block in backbone.blocks:
            stacked = literal_block(stacked, block, 2)
        expected.append(literal_norm(stacked, backbone.norm)[0])
    torch.testing.assert_close(backbone(images), torch.stack(expected))


def test_start_values_are_narrow_normals_and_the_patches_keep_torchs():
    backbone = BackboneSettings(name="vit_tiny_4").build(3)
    for layer in backbone.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    assert backbone.token.std().item() == pytest.approx(0.02, rel=0.3)
    assert backbone.patches.weight.std().item() == pytest.approx((1 / (3 * 3 * 4 * 4)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_drop_path_drops_whole_images_and_keeps_the_expectation(rate):
    torch.manual_seed(0)
    found = DropPath(rate)(torch.ones(20_000, 2, 3)).flatten(1)
    assert torch.equal(found.amin(dim=1), found.amax(dim=1))
    values = found[:, 0]
    kept = values > 0
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.015)
    torch.testing.assert_close(values[kept], torch.full_like(values[kept], 1 / (1 - rate) if rate < 1 else 0.0))
    if rate < 1:
        assert values.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_drop_path_in_eval_mode_or_at_rate_zero_is_the_branch_and_draws_nothing(rate, training):
    branch = torch.randn(4, 2, 3)
    state = torch.get_rng_state()
    assert DropPath(rate).train(training)(branch) is branch
    assert torch.equal(torch.get_rng_state(), state)


def test_drop_path_rises_linearly_with_depth():
    backbone = BackboneSettings(name="vit_mini_4", drop_path=0.3).build(1)
    assert [block.drop.rate for block in backbone.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_both_branches_of_a_block_drop_and_each_by_its_own_draw():
    torch.manual_seed(0)
    block = Block(8, 2, 0.5)
    x = torch.randn(1, 3, 8).expand(64, 3, 8)
    attended = x + 2 * block.attention(x)
    outcomes = [x, attended, x + 2 * block.perceptron(x), attended + 2 * block.perceptron(attended)]
    found = block(x)
    kinds = [(found - outcome).abs().amax(dim=(1, 2)) < 1e-5 for outcome in outcomes]
    assert torch.stack(kinds).sum(dim=0).eq(1).all()
    assert all(kind.any() for kind in kinds)


def test_drop_path_follows_the_global_seed_and_reaches_training_only():
    backbone, plain = tiny(drop_path=0.9), tiny()
    images = torch.rand(16, 1, 4, 4)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(backbone(images))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    assert torch.equal(backbone.eval()(images), plain(images))


def test_every_weight_gets_a_gradient():
    backbone = tiny(drop_path=0.1).eval()
    backbone(torch.rand(4, 1, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())

"""Every architecture against the published sizes, its refusals, and a plain derivation of the reference network."""

import pytest
import torch
from torch.nn import functional as F

from attar.errors import UsageError
from attar.nets import build, names
from attar.nets.convnet import ConvNet, default_depth
from attar.nets.resnet import ResNet
from attar.seeds import Seeds

ALL = [name for name, _ in names()]


def net(spec, channels=3, side=32, classes=10):
    return build(spec, channels=channels, size=(side, side), classes=classes)


@pytest.mark.parametrize(
    ("spec", "channels", "side", "classes", "parameters", "million_macs"),
    [
        ("convnet", 3, 32, 10, 320_010, 50.75),
        ("convnet", 1, 28, 10, 317_706, 48.4),
        ("convnet", 3, 32, 100, 504_420, 50.9),
        ("convnet", 3, 64, 200, 857_160, 212.8),
        ("convnet", 3, 128, 10, 615_690, 859),
    ],
)
def test_convnet_has_the_published_size(spec, channels, side, classes, parameters, million_macs):
    found = net(spec, channels, side, classes)
    assert found.n_parameters == parameters
    assert found.macs / 1e6 == pytest.approx(million_macs, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "channels", "side", "parameters"),
    [
        ("mlp", 3, 32, 3072 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("mlp", 1, 28, 784 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("lenet", 1, 28, 61_706),  # LeCun et al. 1998 with dense second maps
        ("lenet", 3, 32, 62_006),
        ("alexnet", 3, 32, 9_728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),
        ("alexnet:width=64", 3, 32, 4_864 + 153_696 + 110_720 + 110_688 + 83_040 + 15_370),
        ("vgg11", 3, 32, 9_231_114),
        ("resnet8", 3, 32, 432 + 32 + 4_672 + 13_952 + 55_552 + 650),
        ("resnet18", 3, 32, 11_173_962),
        ("resnet18", 1, 28, 11_172_810),
    ],
)
def test_other_networks_have_the_published_size(spec, channels, side, parameters):
    assert net(spec, channels, side).n_parameters == parameters


def test_vit_has_the_size_of_its_description():
    layer = 2 * 512 + 512 * 3 * 512 + 512 * 512 + 512 + 2 * 512 + 2 * (512 * 512 + 512)
    around = (48 * 512 + 512) + 512 + 65 * 512 + 2 * 512 + 5130
    assert net("vit").n_parameters == 6 * layer + around
    per_token = 512 * 1536 + 512 * 512 + 2 * 512 * 512
    attention = 2 * 8 * 65 * 65 * 64
    assert net("vit").macs == 64 * 48 * 512 + 6 * (65 * per_token + attention) + 5120


def plain_convnet(params, x, depth):
    """Convolution, per-image and per-channel standardisation, ReLU and mean of 2x2 windows, written out."""
    for block in range(depth):
        weight, bias = params[f"body.{4 * block}.weight"], params[f"body.{4 * block}.bias"]
        x = F.conv2d(x, weight, bias, padding=3 if block == 0 and x.shape[1] == 1 else 1)
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        x = x * params[f"body.{4 * block + 1}.weight"].view(1, -1, 1, 1) + params[f"body.{4 * block + 1}.bias"].view(
            1, -1, 1, 1
        )
        x = x.clamp(min=0)
        h, w = x.shape[2] // 2, x.shape[3] // 2
        x = sum(x[:, :, i : 2 * h : 2, j : 2 * w : 2] for i in (0, 1) for j in (0, 1)) / 4
    features = x.reshape(len(x), -1)
    return features, features @ params["classifier.weight"].T + params["classifier.bias"]


@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (1, (28, 28)), (2, (17, 33)), (1, (9, 12))])
def test_convnet_is_its_plain_derivation(channels, size):
    found = build("convnet:width=6:depth=2", channels=channels, size=size, classes=4)
    params = {k: v.double() for k, v in found.init(Seeds(3)).items()}
    for name in params:  # scale and shift that differ from 1 and 0, so that forgetting them shows
        params[name] = params[name] + torch.randn_like(params[name]) * 0.1
    x = torch.randn(3, channels, *size, dtype=torch.float64)
    features, logits = plain_convnet(params, x, 2)
    torch.testing.assert_close(found.features(params, x), features)
    torch.testing.assert_close(found(params, x), logits)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (1, (28, 28)), (4, (41, 33)), (1, (64, 64))])
def test_every_network_takes_any_shape(name, channels, size):
    found = build(name, channels=channels, size=size, classes=7)
    params, x = found.init(Seeds(0)), torch.randn(2, channels, *size)
    logits, features = found(params, x, train=False), found.features(params, x, train=False)
    assert logits.shape == (2, 7)
    weight, bias = params["classifier.weight"], params["classifier.bias"]
    torch.testing.assert_close(features @ weight.T + bias, logits)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", range(8, 34))
def test_every_size_works_or_is_refused_with_the_smallest_that_does(name, channels, side):
    def tried(s):
        return build(name, channels=channels, size=(s, s), classes=2)

    try:
        found = tried(side)
    except UsageError as e:
        smallest = int(str(e).split("at least ")[1].split("x")[0])
        assert side < smallest
        assert f"{side}x{side}" in str(e)
        tried(smallest)
        with pytest.raises(UsageError, match="at least"):
            tried(smallest - 1)
        return
    if side in (8, 9, 12, 16):  # a forward of every small size would take minutes
        assert found(found.init(Seeds(0)), torch.randn(2, channels, side, side), train=False).shape == (2, 2)


@pytest.mark.parametrize(
    "spec", ["resnet18:width=8", "resnet10:width=8", "vgg11", "convnet:width=8", "alexnet:norm=layer"]
)
def test_without_batch_norm_an_image_is_processed_alone(spec):
    found = net(spec)
    params, x = found.init(Seeds(1)), torch.randn(4, 3, 32, 32)
    together = found(params, x)
    alone = torch.cat([found(params, image) for image in x.split(1)])
    assert not found.has_batch_statistics
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", ["convnet:norm=batch:width=8", "alexnet:norm=batch", "vgg11:norm=batch"])
def test_batch_norm_couples_the_images_of_a_batch(spec):
    found = net(spec)
    params, x = found.init(Seeds(1)), torch.randn(4, 3, 32, 32)
    assert found.has_batch_statistics
    assert not torch.allclose(found(params, x)[:2], found(params, x[:2]), atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "instance", "group"])
@pytest.mark.parametrize("act", ["relu", "sigmoid", "leaky", "swish"])
@pytest.mark.parametrize("pool", ["none", "max", "avg"])
def test_the_settings_of_the_search_space(norm, act, pool):
    for width in (4, 8):
        for depth in (1, 2, 3, 4):
            found = build(
                f"convnet:width={width}:depth={depth}:norm={norm}:act={act}:pool={pool}",
                channels=3,
                size=(16, 16),
                classes=3,
            )
            side = 16 if pool == "none" else 16 >> depth
            params = found.init(Seeds(0))
            assert params["classifier.weight"].shape == (3, width * side * side)
            assert found(params, torch.randn(2, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("act", "plain"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("sigmoid", lambda x: 1 / (1 + torch.exp(-x))),
        ("leaky", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("swish", lambda x: x / (1 + torch.exp(-x))),
    ],
)
def test_activations(act, plain):
    module = ConvNet(channels=3, size=(8, 8), classes=2, depth=1, width=2, norm="none", act=act, pool="none").double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(module.features(x), plain(module.body[0](x)).flatten(1))


def test_norms_are_over_the_right_axes():
    shapes = {"layer": (1, 2, 3), "instance": (2, 3), "batch": (0, 2, 3)}
    for norm, axes in shapes.items():
        module = ConvNet(channels=3, size=(8, 8), classes=2, depth=1, width=8, norm=norm, pool="none", act="leaky")
        x = module.body[:2](torch.randn(5, 3, 8, 8))
        torch.testing.assert_close(x.mean(axes), torch.zeros_like(x.mean(axes)), atol=1e-5, rtol=0)
    group = ConvNet(channels=3, size=(8, 8), classes=2, depth=1, width=8, norm="group", pool="none")
    x = group.body[:2](torch.randn(5, 3, 8, 8)).unflatten(1, (4, 2))
    torch.testing.assert_close(x.mean((2, 3, 4)), torch.zeros(5, 4), atol=1e-5, rtol=0)
    assert x.mean((3, 4)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("channels", "side", "depth"),
    [
        *((3, 8, 3), (3, 32, 3), (1, 28, 3), (3, 48, 3), (3, 49, 4), (3, 64, 4), (3, 96, 4), (3, 97, 5), (3, 128, 5)),
        *((3, 191, 5), (3, 192, 6), (3, 224, 6), (3, 4, 2), (1, 4, 3), (3, 2, 1)),
    ],
)
def test_default_depth(channels, side, depth):
    assert default_depth(channels, (side, side)) == depth


def test_default_depth_keeps_a_pixel_of_narrow_images():
    assert default_depth(3, (8, 200)) == 3
    build("convnet:width=4", channels=3, size=(8, 200), classes=2)


def test_a_convnet_deeper_than_its_images_is_refused():
    with pytest.raises(
        UsageError, match="depth 6 needs images of at least 64x64 pixels but these are 32x32; lower depth"
    ):
        net("convnet:depth=6")
    with pytest.raises(UsageError, match="at least 60x60"):
        net("convnet:depth=6", channels=1, side=59)
    net("convnet:depth=6:width=4", channels=1, side=60)


def test_an_instance_norm_never_meets_a_single_pixel():
    with pytest.raises(UsageError, match="9x9"):
        net("resnet18", side=8)
    found = net("resnet18:width=4", side=9)
    params = found.init(Seeds(0))
    a, b = (found.features(params, torch.randn(1, 3, 9, 9)) for _ in range(2))
    assert (a - b).abs().max() > 1e-2


def test_three_blocks_a_stage_are_the_network_of_20_layers_of_the_paper():
    found = ResNet(channels=3, size=(32, 32), classes=10, blocks=(3, 3, 3), width=16, norm="batch", shortcut="pad")
    assert sum(p.numel() for p in found.parameters()) == 269_722  # 0.27 million in table 6 of He et al. 2016
    assert sum(isinstance(m, torch.nn.Conv2d) for m in found.modules()) + 1 == 20


class PlainResNet8(torch.nn.Module):
    """The network of 8 layers, written out; evaluation mode."""

    def __init__(self, width, classes):
        super().__init__()
        shapes = [(3, width), *((w, w) for w in (width, width)), (width, 2 * width), (2 * width, 2 * width)]
        shapes += [(2 * width, 4 * width), (4 * width, 4 * width)]
        self.convs = torch.nn.ModuleList([torch.nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in shapes])
        self.norms = torch.nn.ModuleList([torch.nn.BatchNorm2d(b) for _, b in shapes])
        self.last = torch.nn.Linear(4 * width, classes)

    def layer(self, i, x, stride=1):
        x = F.conv2d(x, self.convs[i].weight, stride=stride, padding=1)
        return self.norms[i](x)

    def forward(self, x):
        x = self.layer(0, x).clamp(min=0)
        x = (x + self.layer(2, self.layer(1, x).clamp(min=0))).clamp(min=0)
        for i in (3, 5):
            thin = x[:, :, ::2, ::2]
            beside = torch.cat([thin, torch.zeros_like(thin)], 1)
            x = (beside + self.layer(i + 1, self.layer(i, x, 2).clamp(min=0))).clamp(min=0)
        return self.last(x.mean((2, 3)))


@pytest.mark.parametrize("size", [(32, 32), (17, 30)])
def test_resnet8_is_its_plain_derivation(size):
    found = build("resnet8:width=4", channels=3, size=size, classes=5)
    params = {k: v.double() if v.is_floating_point() else v for k, v in found.init(Seeds(2)).items()}
    for value in params.values():  # scales, shifts and statistics that differ from those at the start
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    plain = PlainResNet8(4, 5).double().eval()
    kept = [v for k, v in params.items() if not k.endswith("num_batches_tracked")]
    learned, counted = kept[: len(found.trainable)], kept[len(found.trainable) :]
    theirs = {n: p for n, p in plain.named_parameters()}
    order = [n for i in range(7) for n in (f"convs.{i}.weight", f"norms.{i}.weight", f"norms.{i}.bias")]
    with torch.no_grad():
        for name, value in zip([*order, "last.weight", "last.bias"], learned, strict=True):
            theirs[name].copy_(value)
        names = [f"norms.{i}.running_{s}" for i in range(7) for s in ("mean", "var")]
        for name, value in zip(names, counted, strict=True):
            plain.get_buffer(name).copy_(value)
    x = torch.randn(3, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(found(params, x, train=False), plain(x))
    plain.train()
    torch.testing.assert_close(found(params, x, update=False), plain(x))


def test_the_ap_form_pools_and_keeps_the_whole_last_map():
    found = net("resnet18:shrink=avg:width=8")
    params = found.init(Seeds(0))
    assert params["classifier.weight"].shape == (10, 64 * 4 * 4)
    assert (
        net("resnet18:shrink=avg:width=8", channels=1, side=28).init(Seeds(0))["classifier.weight"].shape[1] == 64 * 9
    )
    assert found(params, torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_vit_pads_what_its_patches_do_not_cover():
    found = build("vit:dim=16:depth=1:heads=2:head_dim=4:mlp=8", channels=3, size=(10, 13), classes=3)
    params, x = found.init(Seeds(0)), torch.randn(2, 3, 10, 13)
    wide = build("vit:dim=16:depth=1:heads=2:head_dim=4:mlp=8", channels=3, size=(12, 16), classes=3)
    torch.testing.assert_close(found(params, x, train=False), wide(params, F.pad(x, (0, 3, 0, 2)), train=False))
    changed = x.clone()
    changed[:, :, -1, -1] += 5
    assert not torch.allclose(found(params, x, train=False), found(params, changed, train=False))


def test_vit_attention_is_that_of_torch():
    from attar.nets.vit import Attention

    ours = Attention(dim=12, heads=3, head_dim=4, dropout=0.0).double()
    theirs = torch.nn.MultiheadAttention(12, 3, bias=True, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.out[0].weight)
        theirs.out_proj.bias.copy_(ours.out[0].bias)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    y = ours.norm(x)
    torch.testing.assert_close(ours(x), theirs(y, y, y)[0])


def test_vit_drops_in_training_only():
    found = net("vit:dim=16:depth=1:heads=2:head_dim=4:mlp=8")
    params, x = found.init(Seeds(0)), torch.randn(2, 3, 32, 32)
    assert torch.equal(found(params, x, train=False), found(params, x, train=False))
    assert not torch.equal(found(params, x), found(params, x))

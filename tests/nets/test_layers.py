"""Layers of a network: what stands after each activation, with the features, in one forward."""

import pytest
import torch
from torch import nn

from attar.errors import UsageError
from attar.nets import build
from attar.seeds import Seeds


def small(spec, side=32):
    return build(spec, channels=3, size=(side, side), classes=4)


@pytest.mark.parametrize(
    ("spec", "maps"),
    [
        ("convnet:width=4", [(4, 32, 32), (4, 16, 16), (4, 8, 8)]),
        ("convnet:width=4:depth=2:norm=batch:act=swish:pool=max", [(4, 32, 32), (4, 16, 16)]),
        ("convnet:width=4:depth=2:act=sigmoid:pool=none", [(4, 32, 32), (4, 32, 32)]),
        ("alexnet", [(128, 32, 32), (192, 16, 16), (256, 8, 8), (192, 8, 8), (192, 8, 8)]),
        ("vgg11", [(64, 32, 32), (128, 16, 16), *[(256, 8, 8)] * 2, *[(512, 4, 4)] * 2, *[(512, 2, 2)] * 2]),
    ],
)
def test_maps_stand_before_the_pooling_and_the_features_are_those_of_a_forward(spec, maps):
    net = small(spec)
    params, x = net.init(Seeds(1)), torch.randn(2, 3, 32, 32)
    found, features = net.layers(params, x, train=False)
    assert [tuple(m.shape) for m in found] == [(2, *m) for m in maps]
    assert torch.equal(features, net.features(params, x, train=False))


def test_maps_are_those_of_the_module_cut_off_after_each_activation():
    net = small("convnet:width=4:act=leaky")
    with Seeds(3).globally():
        module = net.make()
    x = torch.randn(2, 3, 32, 32)
    found, _ = net.layers(net.init(Seeds(3)), x)
    ends = [i for i, part in enumerate(module.body) if isinstance(part, nn.LeakyReLU)]
    assert len(found) == len(ends) == 3
    for end, maps in zip(ends, found):
        assert torch.equal(maps, module.body[: end + 1](x))


def test_batch_norms_are_left_alone_on_request():
    net = small("convnet:width=4:norm=batch", side=8)
    params, x = net.init(Seeds(0)), torch.randn(5, 3, 8, 8)
    before = {k: v.clone() for k, v in params.items()}
    net.layers(params, x, update=False)
    assert all(torch.equal(params[k], v) for k, v in before.items())
    net.layers(params, x)
    assert not torch.equal(params["body.1.running_mean"], before["body.1.running_mean"])


@pytest.mark.parametrize("spec", ["mlp", "lenet", "resnet10:width=4", "vit:dim=8:depth=1:heads=2:head_dim=4:mlp=8"])
def test_a_network_without_layers_is_refused_by_name(spec):
    net = small(spec)
    assert not net.has_layers
    with pytest.raises(UsageError, match=f"network {spec.split(':')[0]}.* offers no layers .* take convnet"):
        net.layers(net.init(Seeds(0)), torch.randn(1, 3, 32, 32))


class Own(nn.Module):
    """A user's network that says what its layers are."""

    def __init__(self, channels, classes):
        super().__init__()
        self.first, self.head = nn.Conv2d(channels, 2, 3), nn.Linear(2, classes)

    def layers(self, x):
        maps = self.first(x).tanh()
        return (maps,), maps.mean((2, 3))

    def forward(self, x):
        return self.head(self.layers(x)[1])


class Listed(nn.Module):
    """``layers`` is a module, as it often is, and not a way to look inside."""

    def __init__(self, channels, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))

    def forward(self, x):
        return self.layers(x)


def test_a_users_network_may_offer_its_layers():
    net = small(Own, side=8)
    params, x = net.init(Seeds(0)), torch.randn(3, 3, 8, 8)
    (maps,), features = net.layers(params, x)
    assert torch.equal(features, net.features(params, x))
    assert torch.allclose(maps.mean((2, 3)), features)
    assert not small(Listed, side=8).has_layers

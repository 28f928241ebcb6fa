"""Net as a pure function: its tensors, its modes, and the transforms it must survive."""

import copy

import pytest
import torch
from torch.func import grad, hessian, jvp, vmap

from attar.nets import build, names
from attar.nets.fit import prefixed, unprefixed
from attar.nets.net import hollow
from attar.seeds import Seeds

SMALL = [
    "convnet:width=4:depth=2",
    "convnet:width=4:depth=2:norm=batch:pool=max",
    "mlp:width=8",
    "lenet",
    "resnet10:width=4",
    "resnet10:width=4:norm=batch:shrink=avg",
    "vit:dim=8:depth=2:heads=2:head_dim=4:mlp=8:dropout=0",
]


def small(spec, classes=3):
    return build(spec, channels=3, size=(16, 16), classes=classes)


def doubled(net, seed=0):
    return {k: v.double() if v.is_floating_point() else v for k, v in net.init(Seeds(seed)).items()}


@pytest.mark.parametrize("spec", [name for name, _ in names()] + SMALL)
def test_a_call_equals_the_module_itself(spec):
    net = build(spec, channels=3, size=(32, 32), classes=5)
    with Seeds(4).globally():
        module = net.make()
    params, x = net.init(Seeds(4)), torch.randn(3, 3, 32, 32)
    assert dict(module.named_parameters()).keys() == set(net.trainable)
    assert params.keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(params[name], value), name
    module.eval()
    assert torch.equal(net(params, x, train=False), module(x))
    assert torch.equal(net.features(params, x, train=False), module.features(x))
    if "vit" not in spec or "dropout=0" in spec:
        assert torch.equal(net(params, x), module.train()(x))


@pytest.mark.parametrize("spec", ["convnet", "resnet10:norm=batch", "vit"])
def test_init_is_a_pure_function_of_the_seed(spec):
    net = build(spec, channels=3, size=(32, 32), classes=5)
    before = torch.default_generator.get_state()
    a, b, other = net.init(Seeds(1).at("net")), net.init(Seeds(1).at("net")), net.init(Seeds(1).at("net", 2))
    assert torch.equal(torch.default_generator.get_state(), before)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["classifier.weight"], other["classifier.weight"])
    assert all(a[k].data_ptr() != b[k].data_ptr() for k in a)
    assert not any(v.requires_grad for v in a.values())


def test_init_has_torchs_default_ranges():
    params = build("convnet", channels=3, size=(32, 32), classes=10).init(Seeds(0))
    bound = (128 * 9) ** -0.5  # Kaiming uniform with a = sqrt 5 is U[-1, 1] / sqrt fan_in
    for name in ("body.4.weight", "body.4.bias"):
        assert params[name].abs().max() <= bound
        assert params[name].abs().max() > 0.9 * bound
    assert torch.equal(params["body.5.weight"], torch.ones(128))
    assert torch.equal(params["body.5.bias"], torch.zeros(128))


def test_building_has_no_effect_on_the_global_generator():
    before = torch.default_generator.get_state()
    net = build("convnet:width=5:depth=2", channels=3, size=(20, 20), classes=2)
    _ = net.macs
    assert torch.equal(torch.default_generator.get_state(), before)


@pytest.mark.parametrize("spec", SMALL)
def test_gradient_of_the_weights_equals_backward_through_the_module(spec):
    net = small(spec)
    params, x = doubled(net), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    weights = {k: params[k] for k in net.trainable}
    with Seeds(0).globally():
        module = net.make().double()
    module(x).square().sum().backward()
    found = grad(lambda w: net({**params, **w}, x).square().sum())(weights)
    for name, p in module.named_parameters():
        torch.testing.assert_close(found[name], p.grad)


@pytest.mark.parametrize("spec", SMALL)
def test_double_backward_to_the_images(spec):
    net = small(spec)
    params, v = doubled(net), doubled(net, seed=1)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    weights = {k: params[k] for k in net.trainable}

    def inner(w, x):
        return net({**params, **w}, x, update=False).logsumexp(1).sum()

    def matched(x):  # what gradient matching differentiates
        g = grad(inner)(weights, x)
        return sum((g[k] * v[k]).sum() for k in g)

    functional = grad(matched)(x)
    leaves = {k: w.clone().requires_grad_() for k, w in weights.items()}
    y = x.clone().requires_grad_()
    g = torch.autograd.grad(inner(leaves, y), list(leaves.values()), create_graph=True)
    classic = torch.autograd.grad(sum((a * v[k]).sum() for a, k in zip(g, leaves)), y)[0]
    torch.testing.assert_close(functional, classic)
    if "max" not in spec:  # max pooling has no forward-mode rule for its second derivative
        direction = torch.randn_like(x)
        step = 1e-6
        slope = (matched(x + step * direction) - matched(x - step * direction)) / (2 * step)
        torch.testing.assert_close((functional * direction).sum(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", SMALL)
def test_a_stack_of_networks_under_vmap(spec):
    net = small(spec)
    several = [net.init(Seeds(s)) for s in range(3)]
    stacked = {k: torch.stack([p[k] for p in several]) for k in several[0]}
    x = torch.randn(4, 3, 16, 16)
    for kind in ({"train": False}, {"train": True, "update": False}, {"train": True}):
        found = vmap(lambda p, kind=kind: net(p, x, **kind))(stacked)
        one_by_one = torch.stack([net(p, x, **kind) for p in several])
        torch.testing.assert_close(found, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", SMALL)
def test_per_image_gradients_under_vmap_of_grad(spec):
    net = small(spec)
    params, x = net.init(Seeds(0)), torch.randn(3, 2, 3, 16, 16)  # three batches of two
    weights = {k: params[k] for k in net.trainable}

    def loss(w, x):
        return net({**params, **w}, x, update=False).square().mean()

    found = vmap(grad(loss), (None, 0))(weights, x)
    for i in range(3):
        for name, value in grad(loss)(weights, x[i]).items():
            torch.testing.assert_close(found[name][i], value, rtol=1e-3, atol=1e-5)


def test_forward_mode_and_hessian():
    net = small("convnet:width=2:depth=1")
    params, x = doubled(net), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    bias = params["classifier.bias"]

    def loss(b):
        return net({**params, "classifier.bias": b}, x).logsumexp(1).sum()

    h = hessian(loss)(bias)
    slope = jvp(grad(loss), (bias,), (torch.ones_like(bias),))[1]
    torch.testing.assert_close(h.sum(1), slope)
    p = net(params, x).softmax(1)
    torch.testing.assert_close(h, torch.diag_embed(p).sum(0) - p.T @ p)


@pytest.mark.parametrize("spec", [SMALL[0], SMALL[1], SMALL[6]])
def test_compiled_without_a_break(spec):
    net = small(spec)
    params, x = net.init(Seeds(0)), torch.randn(4, 3, 16, 16)
    weights = {k: params[k] for k in net.trainable}

    def gradient(w, p, x):
        found = build(spec, channels=x.shape[1], size=tuple(x.shape[2:]), classes=3)
        return grad(lambda w: found({**p, **w}, x).square().sum() + found.features({**p, **w}, x).sum())(w)

    expected = gradient(weights, copy.deepcopy(params), x)
    found = torch.compile(gradient, backend="aot_eager", fullgraph=True)(weights, params, x)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


class TestBatchNorm:
    net = build("convnet:width=4:depth=1:norm=batch", channels=3, size=(8, 8), classes=3)
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def expected(self, params):
        maps = torch.nn.functional.conv2d(self.x, params["body.0.weight"], params["body.0.bias"], padding=1)
        mean, var = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=1)
        return 0.1 * mean, 0.9 + 0.1 * var

    def moved_rightly(self, params, start):
        mean, var = self.expected(start)
        torch.testing.assert_close(params["body.1.running_mean"], mean)
        torch.testing.assert_close(params["body.1.running_var"], var)

    def test_a_training_call_moves_the_statistics_in_place(self):
        params = self.net.init(Seeds(0))
        mean = params["body.1.running_mean"]
        self.net(params, self.x)
        self.moved_rightly(params, params)
        assert params["body.1.running_mean"] is mean

    def test_no_other_call_moves_them(self):
        params = self.net.init(Seeds(0))
        before = copy.deepcopy(params)
        self.net(params, self.x, train=False)
        self.net(params, self.x, update=False)
        self.net.features(params, self.x, train=False)
        assert all(torch.equal(params[k], before[k]) for k in params)

    def test_update_does_not_change_the_result(self):
        params = self.net.init(Seeds(0))
        assert torch.equal(self.net(params, self.x, update=False), self.net(params, self.x))

    def test_evaluation_uses_the_statistics_of_the_call(self):
        params = self.net.init(Seeds(0))
        a = self.net(params, self.x, train=False)
        params["body.1.running_mean"] += 1
        assert not torch.allclose(a, self.net(params, self.x, train=False))

    def test_statistics_move_under_a_gradient_that_captures_them(self):
        params = self.net.init(Seeds(0))
        weights = {k: params[k] for k in self.net.trainable}
        grad(lambda w: self.net({**params, **w}, self.x).sum())(weights)
        self.moved_rightly(params, params)

    def test_statistics_move_under_a_gradient_that_is_given_them(self):
        params = self.net.init(Seeds(0))
        grad(lambda x, p: self.net(p, x).sum())(self.x, params)
        self.moved_rightly(params, params)

    def test_statistics_move_in_a_compiled_step(self):
        params = self.net.init(Seeds(0))
        torch.compile(lambda p, x: self.net(p, x), backend="aot_eager", fullgraph=True)(params, self.x)
        self.moved_rightly(params, params)

    def test_each_of_a_stack_moves_its_own(self):
        several = [self.net.init(Seeds(s)) for s in range(2)]
        stacked = {k: torch.stack([p[k] for p in several]) for k in several[0]}
        vmap(lambda p: self.net(p, self.x))(stacked)
        for i, params in enumerate(several):
            self.net(params, self.x)
            torch.testing.assert_close(stacked["body.1.running_var"][i], params["body.1.running_var"])


def test_nets_are_equal_where_their_recipe_is():
    a = build("convnet", channels=3, size=(32, 32), classes=10)
    assert a is build("convnet", channels=3, size=(32, 32), classes=10)
    assert a == build("convnet:width=128", channels=3, size=[32, 32], classes=10)
    assert hash(a) == hash(build("convnet:width=128", channels=3, size=(32, 32), classes=10))
    assert a != build("convnet", channels=3, size=(32, 32), classes=11)
    assert a != build("convnet:width=64", channels=3, size=(32, 32), classes=10)


def test_a_hollow_copy_holds_no_numbers_and_keeps_shared_tensors_shared():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.register_buffer("count", torch.ones(2))

    copied = hollow(Tied())
    assert copied.b.weight is copied.a.weight
    assert all(t.is_meta for t in [*copied.parameters(), *copied.buffers()])


@pytest.mark.parametrize("spec", SMALL)
def test_a_state_gives_back_all_parameters_and_no_moments(spec) -> None:
    net = small(spec)
    params = {name: t for name, t in net.init(Seeds(0)).items() if name in net.trainable}
    state = prefixed(params) | {f"net.{name}.momentum": torch.zeros_like(t) for name, t in params.items()}
    assert unprefixed(state).keys() == params.keys()

"""Networks of the user, by object and by path, and what is said of those that cannot be used."""

import pytest
import torch
from torch import nn

from attar.errors import UsageError
from attar.nets import build
from attar.seeds import Seeds

SHAPE = {"channels": 3, "size": (8, 8), "classes": 4}


def mine(spec):
    return build(spec, **SHAPE)


def x(n=5):
    return torch.randn(n, 3, 8, 8)


class Shaped(nn.Module):
    def __init__(self, *, channels, size, classes):
        super().__init__()
        self.hidden = nn.Linear(channels * size[0] * size[1], 6)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        return self.head(self.hidden(x.flatten(1)).relu())


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.head = nn.Linear(16, 4)

    def features(self, x):
        return self.body(x)  # four axes: flattened by the Net

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Torchvisionlike(nn.Module):
    """``features`` is a module, as in torchvision, and not what the last linear layer sees."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(72, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Reversed(nn.Module):
    """The layer that runs last is registered first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.first = nn.Linear(192, 6)

    def forward(self, x):
        return self.head(self.first(x.flatten(1)))


class NoLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8)

    def forward(self, x):
        return self.conv(x).flatten(1)


def test_a_class_gets_the_shape_it_asks_for():
    net = mine(Shaped)
    params = net.init(Seeds(0))
    assert net.name == f"{__name__}:Shaped"
    assert set(params) == {"hidden.weight", "hidden.bias", "head.weight", "head.bias"}
    assert net(params, x()).shape == (5, 4)


@pytest.mark.parametrize("source", [Plain, lambda: Plain(), lambda **kw: Shaped(**kw), lambda classes: Plain()])
def test_classes_and_functions_of_all_or_no_keywords(source):
    net = mine(source)
    assert net(net.init(Seeds(0)), x()).shape == (5, 4)


def test_the_users_features_are_flattened_and_feed_the_head():
    net = mine(Plain)
    params, images = net.init(Seeds(0)), x()
    found = net.features(params, images, train=False)
    assert found.shape == (5, 16)
    assert net.has_batch_statistics
    torch.testing.assert_close(found @ params["head.weight"].T + params["head.bias"], net(params, images, train=False))


@pytest.mark.parametrize(("source", "head"), [(Shaped, "head"), (Torchvisionlike, "classifier.3"), (Reversed, "head")])
def test_without_features_the_input_of_the_last_linear_layer_is_taken(source, head):
    net = mine(source)
    params, images = net.init(Seeds(0)), x()
    found = net.features(params, images, train=False)
    logits = found @ params[f"{head}.weight"].T + params[f"{head}.bias"]
    torch.testing.assert_close(logits, net(params, images, train=False))


def test_tapped_features_are_a_function_under_transforms():
    net = mine(Shaped)
    params, images = net.init(Seeds(0)), x()
    expected = images.flatten(1) @ params["hidden.weight"].T + params["hidden.bias"]
    several = {k: torch.stack([v, 2 * v]) for k, v in params.items()}
    found = torch.func.vmap(lambda p: net.features(p, images))(several)
    torch.testing.assert_close(found, torch.stack([expected.relu(), (2 * expected).relu()]))
    slope = torch.func.grad(lambda y: net.features(params, y).sum())(images)
    torch.testing.assert_close(slope.flatten(1), (expected > 0).float() @ params["hidden.weight"])
    compiled = torch.compile(net.features, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(params, images), expected.relu())
    net(params, images)
    torch.testing.assert_close(net.features(params, images), expected.relu())


def test_a_network_without_linear_layers_has_logits_but_no_features():
    net = mine(NoLinear)
    params = net.init(Seeds(0))
    assert net(params, x()).shape == (5, 4)
    with pytest.raises(UsageError, match="features"):
        net.features(params, x())


def test_a_module_is_drawn_anew():
    module = Plain()
    module.body[1].running_mean += 3
    before = {k: v.clone() for k, v in module.state_dict().items()}
    net = mine(module)
    a, b, other = net.init(Seeds(0)), net.init(Seeds(0)), net.init(Seeds(1))
    assert torch.equal(a["head.weight"], b["head.weight"])
    assert not torch.equal(a["head.weight"], other["head.weight"])
    assert not torch.equal(a["head.weight"], before["head.weight"])
    assert torch.equal(a["body.1.running_mean"], torch.zeros(4))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    with Seeds(0).globally():
        drawn = Plain()
    for name, value in drawn.state_dict().items():
        assert a[name].shape == value.shape


def test_a_module_with_torchs_attention_is_drawn_anew():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(192, 4)

        def forward(self, x):
            x = x.reshape(len(x), 24, 8)
            return self.head(self.attend(x, x, x)[0].flatten(1))

    net = mine(Attentive())
    assert not torch.equal(net.init(Seeds(0))["attend.in_proj_weight"], net.init(Seeds(1))["attend.in_proj_weight"])


def test_a_module_that_cannot_be_drawn_anew_is_refused():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1))
            self.head = nn.Linear(192, 4)

        def forward(self, x):
            return self.head(x.flatten(1)) + self.token

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Token()

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(UsageError, match="pass the class"):
        mine(Token())
    with pytest.raises(UsageError, match=r"'inner' \(Token\)"):
        mine(Around())
    assert mine(Token)(mine(Token).init(Seeds(0)), x()).shape == (5, 4)


def test_different_objects_of_one_name_are_different_networks():
    def source(width):
        class Local(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.Linear(width, 4))

            def forward(self, x):
                return self.head(x)

        return Local

    a, b = source(2), source(3)
    assert mine(a) == mine(a)
    assert mine(a) != mine(b)
    assert mine(a).n_parameters != mine(b).n_parameters


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(192, 192), nn.Linear(192, 192)
            self.b.weight = self.a.weight
            self.head = nn.Linear(192, 4)

        def forward(self, x):
            return self.head(self.b(self.a(x.flatten(1))))

    net = mine(Tied)
    params = net.init(Seeds(0))
    assert "b.weight" not in params
    images = x()
    hidden = images.flatten(1) @ params["a.weight"].T + params["a.bias"]
    hidden = hidden @ params["a.weight"].T + params["b.bias"]
    torch.testing.assert_close(net.features(params, images), hidden)


def test_plain_tensors_of_a_module_survive():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = torch.arange(192.0)
            self.register_buffer("hidden", torch.ones(192), persistent=False)
            self.head = nn.Linear(192, 4)

        def forward(self, x):
            return self.head(x.flatten(1) * self.mask * self.hidden)

    net = mine(Masked)
    params, images = net.init(Seeds(0)), x()
    torch.testing.assert_close(net.features(params, images), images.flatten(1) * torch.arange(192.0))
    assert "hidden" in params


def write(path, text):
    path.write_text("from torch import nn\n" + text)
    return path


class InPlace(nn.Module):
    """Leans on a ReLU that overwrites what it is given, and on one that is watched."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(192, 6), nn.Linear(6, 4)
        self.outer, self.act = nn.ReLU(), nn.ReLU(inplace=True)
        self.outer.register_forward_hook(lambda module, args, out: 2 * out)

    def forward(self, x):
        h = self.hidden(self.outer(x.flatten(1)))
        self.act(h)
        return self.head(h)


def test_networks_that_keep_nothing_of_a_batch_are_the_same_function():
    net, images = mine(InPlace), x()
    params = net.init(Seeds(0))
    with Seeds(0).globally():
        assert torch.equal(net(params, images, update=False), net.make()(images))
    assert torch.equal(net(params, images, update=False), net(params, images))


CODE = """
class MyNet(nn.Module):
    def __init__(self, *, channels, size, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

    def forward(self, x):
        return self.net(x)

def small(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2), nn.Linear(2, classes))

ready = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
number = 3
"""


def test_by_path(tmp_path):
    file = write(tmp_path / "my.py", CODE)
    net = mine(f"{file}:MyNet")
    assert net.name == f"{file}:MyNet"
    assert net is mine(f"{file}:MyNet")
    assert net.n_parameters == 192 * 4 + 4
    assert mine(f"{file}:small").n_parameters == 192 * 2 + 2 + 8 + 4
    assert mine(f"{file}:ready")(mine(f"{file}:ready").init(Seeds(0)), x()).shape == (5, 4)


def test_by_relative_path_and_by_module(tmp_path, monkeypatch):
    write(tmp_path / "my_own_nets.py", CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert mine("my_own_nets.py:small").n_parameters == mine("my_own_nets:small").n_parameters


def test_files_of_one_name_do_not_shadow_each_other(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a = write(tmp_path / "a" / "net.py", "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))\n")
    b = write(
        tmp_path / "b" / "net.py",
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Linear(1, 4))\n",
    )
    assert mine(f"{a}:make").n_parameters != mine(f"{b}:make").n_parameters


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (CODE, "MyNt", "did you mean 'MyNet'"),
        (CODE, "number", "got int"),
        ("import nothing_of_this_name", "MyNet", "cannot be imported (ModuleNotFoundError"),
        ("def broken(:", "broken", "cannot be imported (SyntaxError"),
        ("def make(width): return nn.Linear(1, 1)", "make", "width"),
        ("def make(): return 3", "make", "gave int; it must give a torch.nn.Module"),
        ("def make(): return nn.Linear(7, 7)", "make", "fails on images of 3x8x8"),
        ("def make(): return nn.Flatten()", "make", "gives (2, 192) for 2 images of 4 classes; it must give (2, 4)"),
        ("def make(): raise ValueError('no width')", "make", "no width"),
        ("def make(): return nn.LazyLinear(4)", "make", "lazy"),
    ],
)
def test_what_is_said_of_files_that_cannot_be_used(tmp_path, text, name, said):
    file = write(tmp_path / "net.py", text)
    with pytest.raises(UsageError) as e:
        mine(f"{file}:{name}")
    assert said in str(e.value)


def test_what_is_said_of_missing_files_and_other_things(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        mine(f"{tmp_path}/none.py:Net")
    with pytest.raises(UsageError, match="cannot be imported"):
        mine("no.such.module:Net")
    with pytest.raises(UsageError, match="got int"):
        mine(3)

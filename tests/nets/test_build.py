"""Specs: settings by name and type, canonical names, and what is said of wrong ones."""

import pytest

from attar.errors import UsageError
from attar.nets import build, names


def net(spec, side=32):
    return build(spec, channels=3, size=(side, side), classes=10)


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("convnet", "convnet"),
        ("convnet:norm=batch:depth=2", "convnet:depth=2:norm=batch"),
        ("convnet:width=128:norm=instance", "convnet"),
        ("vit:dropout=0.0:depth=2", "vit:depth=2:dropout=0.0"),
        ("vit:dropout=.1", "vit"),
        ("resnet18:norm=batch:width=8", "resnet18:width=8:norm=batch"),
    ],
)
def test_canonical_names_build_the_same_network(spec, canonical):
    found = net(spec)
    assert found.name == canonical
    assert net(found.name) == found


def test_settings_reach_the_network():
    assert net("convnet:depth=1:width=7").n_parameters == 7 * 27 + 7 + 14 + 10 * 7 * 256 + 10


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("convet", "did you mean 'convnet'"),
        ("zzz", "known: alexnet, convnet, lenet"),
        ("convnet:dept=4", "did you mean 'depth'"),
        ("convnet:depth", "'depth' without a value; write depth=VALUE"),
        ("convnet:depth=four", "convnet:depth=four is not of type int"),
        ("convnet:depth=", "convnet:depth= is not of type int"),
        ("convnet:depth=3.5", "not of type int"),
        ("convnet:norm=bach", "did you mean 'batch'"),
        ("convnet:depth=3,width=8", "settings are parted by colons"),
        ("convnet:depth=0", "depth 0"),
        ("convnet:width=-1", "width -1"),
        ("convnet:norm=group:width=6", "4 groups"),
        ("convnet:channels=5", "no setting 'channels=5'"),
        ("convnet:", "no setting ''"),
        ("lenet:width=3", "it has no settings"),
        ("mlp:depth=0", "depth 0"),
        ("vit:dropout=1.5", "dropout=1.5"),
        ("vit:heads=0", "heads=0"),
        ("resnet18:width=0", "width 0"),
        ("alexnet:width=7", "take an even width"),
        ("", "there is no network ''"),
        ("my.py", "or give my.py:MyNet"),
    ],
)
def test_wrong_specs_say_what_is_wrong(spec, said):
    with pytest.raises(UsageError) as e:
        net(spec)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("channels", "size", "classes"), [(0, (8, 8), 2), (3, (0, 8), 2), (3, (8, 8), 0)])
def test_empty_shapes_are_refused(channels, size, classes):
    with pytest.raises(UsageError, match="at least"):
        build("convnet", channels=channels, size=size, classes=classes)


def test_the_table_has_a_line_for_every_network():
    assert [name for name, _ in names()] == [
        "convnet",
        "mlp",
        "lenet",
        "alexnet",
        "vgg11",
        "resnet8",
        "resnet10",
        "resnet18",
        "vit",
    ]
    assert all(line and "\n" not in line for _, line in names())


def test_a_setting_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="has 'depth' twice"):
        build("convnet:depth=1:depth=2", channels=1, size=(8, 8), classes=2)

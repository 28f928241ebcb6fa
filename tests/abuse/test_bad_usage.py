"""Whatever a user mistypes: one sentence on stderr with the remedy, the right exit code, and nothing written or lost."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import attar
from attar.cli.main import run
from attar.errors import nearest
from attar.io import png

TINY = "--net convnet:width=8:depth=1 --steps 3 --batch 4"
QUICK = "--nets convnet:width=8:depth=1 --epochs 1 --seeds 1"

Refuse = Callable[..., str]

CLASH = """
from dataclasses import dataclass
from attar.method import Method


@dataclass(frozen=True, kw_only=True)
class Clash(Method):
    steps: int = 3
    seed: int = 7
"""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good set, a spoilt one, and much that is neither."""
    home = tmp_path_factory.mktemp("abuse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(home / "cache"))
        settings = {"steps": 3, "batch": 4, "net": "convnet:width=8:depth=1"}
        attar.distill("digits", ipc=1, out=home / "here" / "good", **settings)
        attar.distill("digits", ipc=(1, 2), out=home / "here" / "several", **settings)
    here = home / "here"
    for name in ("spoilt", "lying"):
        shutil.copytree(here / "good", here / name)
    rows = here / "spoilt" / "data" / "train.parquet"
    rows.write_bytes(rows.read_bytes()[:-9] + b"x" + rows.read_bytes()[-8:])
    page = here / "lying" / "condensed.json"
    page.write_bytes(page.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    (here / "file.txt").write_text("a file\n")
    (here / "empty").mkdir()
    (here / "foreign").mkdir()
    (here / "foreign" / "precious.txt").write_text("not attar's\n")
    (here / "wrong.py").write_text("def broken(:\n")
    (here / "clash.py").write_text(CLASH)
    (here / "other.py").write_text("import attar\n\n\nclass Other:\n    pass\n")
    (here / "raising.py").write_text("raise OSError('the disk of my.py is on fire')\n")
    g = np.random.default_rng(0)
    np.savez(here / "colour.npz", images=g.integers(0, 256, (20, 8, 8, 3), np.uint8), labels=np.arange(20) % 10)
    np.savez(here / "two.npz", images=g.integers(0, 256, (20, 8, 8, 1), np.uint8), labels=np.arange(20) % 2)
    np.savez(here / "words.npz", images=g.integers(0, 256, (20, 8, 8, 1), np.uint8), labels=np.array(list("ab" * 10)))
    return home


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working folder."""
    monkeypatch.setenv("ATTAR_CACHE", str(home / "cache"))
    monkeypatch.chdir(home / "here")
    return home / "here"


def content(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def refuse(here: Path, capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that must be refused; gives the sentence."""

    def refused(command: str, code: int) -> str:
        before = content(here)
        capfd.readouterr()
        assert run(command.split() if isinstance(command, str) else command) == code
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("attar: ") and err.count("\n") == 1 and err.endswith("\n")
        assert "Traceback" not in err and len(err) < 500
        assert content(here) == before, "something was written or lost"
        return err.removeprefix("attar: ").strip()

    return refused


USAGE = {
    # what exists already
    f"distill digits {TINY} --out file.txt": "file.txt exists already; choose another --out, or remove it",
    f"distill digits {TINY} --out foreign": "foreign exists already; choose another --out, or remove it",
    f"distill digits {TINY} --out empty": "empty exists already; choose another --out, or remove it",
    f"distill digits {TINY} --lr-img 2 --out good": "good exists already and was made with other settings; choose another",
    f"distill digits {TINY} --ipc 2 --out good": "good exists already and was made with other settings; choose another",
    f"distill digits {TINY} --seed 1 --out good": "good exists already; choose another --out, or remove it",
    "select digits --out good": "good exists already; choose another --out, or remove it",
    f"compare digits --methods random {QUICK} --out file.txt": "file.txt is a file; choose another --out",
    "export good --to file.txt --format pt": "file.txt exists already; choose another --to or remove it",
    "export good --to foreign": "foreign exists already; choose another --to or remove it",
    "report good --out file.txt": "file.txt exists already and is no page; choose another --out or remove it",
    "report good --out good/report.html": "good/report.html belongs to the set good; choose another --out",
    "report good --out good/README.md": "good/README.md belongs to the set good; choose another --out",
    # unknown names
    "frobnicate": "there is no command 'frobnicate'; known: cache, compare, distill",
    "distil digits": "there is no command 'distil'; did you mean 'distill'?",
    "--frobnicate": "there is no option --frobnicate without a command; see attar --help",
    "distill digits --method zzz": "there is no method 'zzz'; known: ",
    "distill digits --method": "--method needs a value; see attar distill --help",
    "distill digits --method :": "module '' cannot be imported",
    "distill digits --method no.such:Thing": "module 'no.such' cannot be imported (No module named 'no')",
    "distill digits --method attar.distill.dm:DMM": "attar.distill.dm has no method class 'DMM'; did you mean 'DM'?",
    "distill digits --stepz 3": "unknown option: --stepz. Did you mean --steps?",
    "distill digits --net convnot --steps 3": "there is no network 'convnot'; did you mean 'convnet'?",
    "distill digits --net convnet:wide=3 --steps 3": "did you mean 'width'",
    "distill digits --net convnet:width=x --steps 3": "convnet:width=x is not of type int",
    "distill digits --net convnet:width=0 --steps 3": "and width 0 is empty; both must be at least 1",
    "distill digits --start zeros": "start 'zeros' is unknown; use real or noise",
    "distill digits --augment colour --steps 3": "did you mean 'color'?",
    "select digits --features fixed": "features 'fixed' are unknown; did you mean 'pixels'?",
    "evaluate good --protocol dcc": "there is no protocol 'dcc'; did you mean 'dc'?",
    "evaluate good --nets convnet,nope": "there is no network 'nope'; known: ",
    "evaluate good --nets convnet,": "there is no network ''; known: ",
    "evaluate good --augment colour": "did you mean 'color'?",
    "distill digits --device tpu --steps 3": "device 'tpu' is unknown; use cpu, cuda, cuda:N or mps",
    "evaluate good --device tpu": "device 'tpu' is unknown; use cpu, cuda, cuda:N or mps",
    "distill digits --dtype int8": 'invalid value "int8" for --dtype. Choose from: "float32", "bfloat16"',
    "export good --to x --format zip": 'invalid value "zip" for --format. Choose from: "folder", "npz", "pt"',
    "distill digits --resize stretch": 'invalid value "stretch" for --resize. Choose from: "crop", "squash", "pad"',
    "methods foo": "there is no method 'foo'; known: ",
    "cache --purge foo": "has no kind 'foo'; ",
    # budgets
    "select digits --ipc 0": "ipc=0 must be a whole number of at least 1",
    "select digits --ipc -1": "ipc=-1 must be a whole number of at least 1",
    "select digits --ipc abc": "ipc=abc is not a whole number or a list as in 1,10,50",
    "select digits --ipc 1,,2": "ipc=1,,2 is not a whole number or a list as in 1,10,50",
    "select digits --ipc 1.5": "ipc=1.5 is not a whole number or a list as in 1,10,50",
    "select digits --ipc 1,0": "ipc=0 must be a whole number of at least 1",
    "select digits --rows 0": "rows=0 must be a whole number of at least 1",
    "select digits --rows x": 'invalid value for --rows: unable to convert "x" into int; see attar select --help',
    "select digits --keep 0": "keep=0.0 is not a share in (0, 1]; try 0.1",
    "select digits --keep 2": "keep=2.0 is not a share in (0, 1]; try 0.1",
    "select digits --keep nan": "keep=nan is not a share in (0, 1]; try 0.1",
    "select digits --bytes 3": "bytes=3 is less than one example of 64 bytes; raise it to 64",
    "select digits --ipc 1 --rows 2": "ipc=1 and rows=2 are 2 budgets; give one of them",
    "select digits --rows 3 --keep .1": "rows=3 and keep=0.1 are 2 budgets; give one of them",
    "compare digits --methods random --ipc 0 --out c": "ipc=0 must be a whole number of at least 1",
    # settings out of range
    "distill digits --steps 0": "steps=0 must be at least 1",
    "distill digits --steps -5": "steps=-5 must be at least 1",
    "distill digits --lr-img 0": "lr_img=0.0 must be a positive number",
    "distill digits --lr-img -1": "lr_img=-1.0 must be a positive number",
    "distill digits --lr-img nan": "lr_img=nan must be a positive number",
    "distill digits --lr-img inf": "lr_img=inf must be a positive number",
    "distill digits --method datadam --power 0.5": "power=0.5 has no slope where an activation is 0; it must be at least 1",
    "distill digits --method dc --lr-net nan": "lr_net=nan must be a positive number",
    "distill digits --momentum 1": "momentum=1.0 is not in [0, 1); try 0.5",
    "distill digits --momentum nan": "momentum=nan is not in [0, 1); try 0.5",
    "distill digits --batch 0": "batch=0 must be a whole number of at least 1",
    "distill digits --method dsa --batch-net 0": "batch_net=0 must be a whole number of at least 1",
    "distill digits --method dc --outer 0": "outer=0 must be at least 1",
    "select digits --method kmeans --rounds 0": "rounds=0 must be a whole number of at least 1",
    "select digits --features trained --epochs 0": "epochs=0 trains nothing; it must be at least 1",
    "select digits --steps 3": "unknown option: --steps",
    "distill digits --minutes 0": "minutes=0.0 must be a positive number",
    "distill digits --minutes nan": "minutes=nan must be a positive number",
    "distill digits --minutes inf": "minutes=inf must be a positive number",
    "distill digits --threads 0 --steps 3": "threads=0 must be at least 1",
    "distill digits --seed x": 'invalid value for --seed: unable to convert "x" into int',
    "distill digits --size 0": "size=0 is out of range; give a side, or (height, width), from 1 to 4096",
    "distill digits --size 8x": "size=8x is neither a side nor HEIGHTxWIDTH; try --size 64",
    "distill digits --test-fraction 1": "test fraction 1.0 is not between 0 and 1; try 0.2",
    "distill digits --group who --steps 3": "digits has no column 'who' to keep groups together",
    "evaluate good --seeds 0": "seeds=0 trains no network; it must be at least 1",
    "evaluate good --epochs 0": "epochs=0 must be a whole number of at least 1",
    "compare digits --methods random --seeds 0 --out c": "seeds=0 trains no network",
    "compare digits --methods random --epochs 0 --out c": "epochs=0 must be a whole number of at least 1",
    "compare digits --methods random --protocol foo --out c": "there is no protocol 'foo'",
    "compare digits --methods random --nets foo --out c": "there is no network 'foo'",
    "compare digits --methods random,foo --out c": "there is no method 'foo'",
    "compare digits --methods matchin --out c": "there is no method 'matchin'; did you mean 'matching'?",
    "distill digits --method ncfm --layers 2_9": "layers=2_9 name block 9, but the network has 3; take blocks from 1 to 3",
    "distill digits --method ncfm --layers first": "layers='first' is neither last nor blocks of the network from 1",
    "compare digits --methods random,random --out c": "methods names 'random' twice",
    "compare digits --methods dm:wide=3 --out c": "method 'dm' has no setting 'wide'",
    "compare digits --methods dm:steps=x --out c": "dm:steps=x is not of type int",
    "compare digits --methods dm:steps --out c": "'dm:steps' gives 'steps' no value; write dm:steps=VALUE",
    "compare digits --methods random --steps 3 --out c": "none of the methods has a setting 'steps'",
    # words missing or too many
    "distill": "SOURCE is missing; see attar distill --help",
    "distill digits more": "'more' is one word too many; see attar distill --help",
    "verify": "FOLDER is missing; see attar verify --help",
    "verify good more": "'more' is one word too many; see attar verify --help",
    "export good": "--to needs a value; see attar export --help",
    "distill digits --steps 3 --steps 4": "parameter --steps specified multiple times; see attar distill --help",
    # what is not there
    "distill nowhere --steps 3": "there is nothing at nowhere; ",
    "distill nowhere --steps 3 --out a/deep/folder": "there is nothing at nowhere; ",
    "distill fil.txt --steps 3": "there is nothing at fil.txt; did you mean 'file.txt'?",
    "compare nowhere --methods random --out c": "there is nothing at nowhere; ",
    "evaluate good --real nowhere": "there is nothing at nowhere; ",
    "report good --real nowhere": "there is nothing at nowhere; ",
    # methods of the other verb, and methods of one's own
    "select digits --method dm": "method 'dm' is for attar distill, not attar select",
    "distill digits --method kcenter": "method 'kcenter' is for attar select, not attar distill",
    "distill digits --method my.py:Mine": "there is no file my.py; give the path of a Python file, as in my.py:MyMethod",
    "distill digits --method wrong.py:Mine": "wrong.py cannot be imported (SyntaxError: ",
    "distill digits --method raising.py:Mine": "raising.py cannot be imported (OSError: the disk of my.py is on fire)",
    "distill digits --method other.py:Mine": "other.py has no method class 'Mine'; it has none",
    "distill digits --method other.py:Other": "other.py has no method class 'Other'; it has none",
    "distill digits --method clash.py:Clash": "Clash has a setting 'seed', as attar itself has; rename it in the method",
    "distill digits --net my.py:Net --steps 3": "there is no file 'my.py'; give the path from the current folder",
    "evaluate good --net wrong.py:Net": "'wrong.py' of 'wrong.py:Net' cannot be imported (SyntaxError: ",
    "evaluate good --net other.py:Nothing": "'other.py' has no 'Nothing'; ",
    "methods my.py:Mine": "there is no file my.py",
    # what cannot be done with what is there
    "evaluate small.pt": "small.pt does not tell its real data; give them, as in --real path/to/data",
}


def test_a_close_name_is_all_that_is_told() -> None:
    known = ["dm", "dc", "random"]
    assert nearest("rndom", known, own="my.py:Mine") == "did you mean 'random'?"
    assert nearest("dm.py", known, own="my.py:Mine") == "known: dc, dm, random, or give my.py:Mine"
    assert nearest("zzz", known, most=1, own="my.py:Mine") == "known: dc and 2 others, or give my.py:Mine"


@pytest.mark.parametrize("command", USAGE)
def test_usage(refuse: Refuse, command: str) -> None:
    assert USAGE[command] in refuse(command, 2)


DATA = {
    "select digits --ipc 1000": "ipc=1000 asks for 1000 examples of every class but class '0' has 142; lower --ipc to 139",
    "select digits --rows 5000": "rows 5000 asks for 5000 examples but there are 1438; lower it",
    f"distill digits {TINY} --ipc 1000": "asks for 1000 examples of every class but class '0' has 142",
    "distill file.txt --steps 3": "file.txt is not a kind of file that can be read; give a folder of class folders",
    "distill empty --steps 3": "empty holds no images; put the images of each class in a sub-folder",
    "distill foreign --steps 3": "foreign holds no images; put the images of each class in a sub-folder",
    f"evaluate good --real colour.npz {QUICK}": "'colour' has images of 3 x 8 x 8",
    f"evaluate good --real two.npz {QUICK}": "'two' has 2 classes (0, 1)",
    f"evaluate good --real words.npz {QUICK}": "'words' has 2 classes (a, b)",
    "verify several": "it holds sets, give one of them, as in several/ipc-1",
}


@pytest.mark.parametrize("command", DATA)
def test_data(refuse: Refuse, command: str) -> None:
    assert DATA[command] in refuse(command, 3)


@pytest.mark.parametrize("command", ["verify {}", "evaluate {}", "report {}", "export {} --to x", "rerun {} --out x"])
@pytest.mark.parametrize(
    ("folder", "code", "sentence"),
    [
        ("nothing", 2, "there is nothing at nothing; give a folder that attar wrote"),
        ("empty", 3, "empty is not a condensed set: it has no condensed.json; give a folder that attar wrote"),
        ("foreign", 3, "foreign is not a condensed set: it has no condensed.json; give a folder that attar wrote"),
        ("file.txt", 3, "file.txt is not a condensed set: it has no condensed.json; give a folder that attar wrote"),
        ("spoilt", 3, "train.parquet was changed after it was written (its checksum differs); restore the folder"),
        ("lying", 3, "condensed.json was changed after it was written; restore the folder from a copy"),
    ],
)
def test_folders_that_are_none(refuse: Refuse, command: str, folder: str, code: int, sentence: str) -> None:
    if command.startswith("rerun") and folder == "spoilt":
        pytest.skip("its manifest is whole, so that it can be made again")
    assert sentence in refuse(command.format(folder), code)


REFUSED = {
    f"distill digits {TINY} --out file.txt/deep/x": "writing file.txt/deep/x failed",
    f"distill digits {TINY} --out file.txt/x": "writing file.txt/x failed",
    f"distill digits {TINY} --out /proc/x": "writing /proc/x failed",
    f"compare digits --methods random --ipc 1 {QUICK} --out /proc/x": "writing /proc/x/random failed",
    "export good --to file.txt/x": "writing file.txt/x failed",
    "export good --to file.txt/x.npz --format npz": "writing file.txt/x.npz failed",
    "report good --out file.txt/x.html": "writing file.txt/x.html failed",
    "report good --out foreign": "writing foreign failed",
    f"distill digits {TINY} --out {'n' * 300}": "the name is too long; choose a shorter one",
}


@pytest.mark.parametrize("command", REFUSED, ids=lambda c: c[-40:])
def test_places_that_cannot_be_written_to(refuse: Refuse, command: str) -> None:
    sentence = refuse(command, 4)
    assert REFUSED[command] in sentence
    assert ".attar-tmp-" not in sentence


def test_a_device_that_is_not_there(refuse: Refuse) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    for command in (f"distill digits {TINY} --device cuda", f"evaluate good {QUICK} --device cuda:3"):
        assert "is not available on this machine; use --device cpu" in refuse(command, 4)


class Bomb:
    """A pickle that leaves a mark where it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("kind", ["torch.save", "pickle", "text"])
def test_a_hostile_file_in_place_of_a_published_set(refuse: Refuse, here: Path, kind: str) -> None:
    path = here / "evil.pt"
    try:
        if kind == "torch.save":
            torch.save([torch.zeros(10, 1, 8, 8), Bomb()], path)
        else:
            path.write_bytes(pickle.dumps([Bomb()]) if kind == "pickle" else b"import os")
        assert "evil.pt" in refuse(f"evaluate evil.pt --real digits {QUICK}", 3)
        assert not (here / "pwned").exists()
    finally:
        path.unlink()


def test_a_run_that_breaks_names_the_step_and_leaves_nothing(refuse: Refuse) -> None:
    for steps in (3, 30):
        sentence = refuse(
            f"distill digits --net convnet:width=8:depth=1 --batch 4 --steps {steps} --lr-img 1e30 --out broken", 1
        )
        assert f"at step 2 of {steps}" in sentence and sentence.endswith("lower the learning rate")


LATE = """
from dataclasses import dataclass
import torch
from attar.method import Method, Rows
from attar.optim import Opt
from attar.params import pixels


@dataclass(frozen=True, kw_only=True)
class Late(Method):
    \"\"\"Breaks at step 61.\"\"\"

    steps: int = 100
    "Updates."

    @property
    def learn(self):
        return {"image": Opt(lr=0.1)}

    def init(self, real, budget, seeds, res):
        return pixels.start(real, budget, seeds, kind="noise")

    def draw(self, real, seeds, res, step):
        return {"factor": torch.tensor(float("nan") if step == 60 else 1.0)}

    def loss(self, state, batch):
        return (state["image"] ** 2).mean() * batch["factor"]

    def finish(self, state, res):
        return Rows(columns={"image": state["image"], "label": state["label"]})
"""


def test_a_run_that_breaks_late_keeps_its_last_good_state_and_says_where(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(home / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("late.py").write_text(LATE)
    with pytest.raises(attar.AttarError) as e:
        attar.distill("digits", method="late.py:Late", ipc=1, out="late", save_every=0.0)
    assert e.value.exit_code == 1
    assert str(e.value) == (
        "the loss is nan at step 61 of 100; the state saved before it is kept in late.attar-run; lower the learning rate"
    )
    assert list(Path("late.attar-run").glob("state-000000060-*")) and not Path("late").exists()
    assert (
        run(["distill", "digits", "--method", "late.py:Late", "--ipc", "1", "--out", "late"]) == 1
    )  # goes on at step 60
    assert "at step 61 of 100" in capfd.readouterr().err


NAMES = (
    "a\nb",
    "[bold]x[∕bold]",
    "<script>alert(1)<∕script>",
    ":smile: `x` | y",
    "\x1b[31mred",
    "$(touch pwned)",
    "---",
)


def test_names_are_only_names(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(home / "cache"))
    monkeypatch.chdir(tmp_path)
    source = Path("set [red]\n<b>")
    g = torch.Generator().manual_seed(0)
    for name in NAMES:
        (source / name).mkdir(parents=True)
        for i in range(3):
            (source / name / f"{i}.png").write_bytes(
                png.encode(torch.randint(0, 256, (1, 8, 8), generator=g, dtype=torch.uint8))
            )
    for words in (
        ["select", str(source), "--method", "random", "--ipc", "1"],
        ["evaluate", "set-red-b-random-ipc1", *QUICK.split()],
        ["verify", "set-red-b-random-ipc1"],
        ["report", "set-red-b-random-ipc1", "--out", "page.html"],
        ["export", "set-red-b-random-ipc1", "--to", "exported"],
        ["rerun", "set-red-b-random-ipc1", "--out", "again"],
        ["compare", str(source), "--methods", "random", "--ipc", "1", *QUICK.split()],
    ):
        assert run(words) == 0, words
        out, err = capfd.readouterr()
        assert err == "" and "\x1b" not in out and "<b>\n" not in out
    assert attar.open("set-red-b-random-ipc1").class_names == tuple(sorted(NAMES))
    assert len(os.listdir("exported")) == len(NAMES) == len(attar.load("exported").train.class_names)
    for page in ("page.html", "set-red-b-compare/compare.html", "set-red-b-random-ipc1/report.html"):
        text = Path(page).read_text()
        assert "<script" not in text and "\n<b>" not in text and "\x1b" not in text
    assert not list(tmp_path.rglob("pwned"))
    assert run(["select", "nothing\nhere\x1b[31m"]) == 2
    assert capfd.readouterr().err.startswith("attar: there is nothing at nothing\\nhere\\x1b[31m; ")


def test_a_name_that_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in (b"\xff\xfe", b"fine"):
        os.makedirs(b"source/" + name)
        picture = png.encode(torch.zeros(1, 8, 8, dtype=torch.uint8))
        Path(os.fsdecode(b"source/" + name + b"/0.png")).write_bytes(picture)
    assert run(["select", "source", "--out", "x"]) == 3
    assert "is not valid UTF-8; rename it" in capfd.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_errors_as_json_say_the_same(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command, code in (("verify nothing --json", 2), ("verify spoilt --json", 3), ("distill --json", 2)):
        assert run(command.split()) == code
        out, err = capfd.readouterr()
        page = json.loads(out)
        assert page == {"error": err.removeprefix("attar: ").strip(), "exit_code": code}

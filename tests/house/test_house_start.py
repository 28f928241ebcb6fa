"""Starting is cheap: importing the package or asking for help loads neither torch nor anything else that is slow."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import attar
from attar.cli.front import VERBS

SLOW = ("torch", "numpy", "pyarrow", "sklearn", "PIL", "matplotlib", "jinja2", "datasets")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import attar",
        "import attar; attar.__version__, dir(attar)",
        "from attar.cli.main import run; assert run(['--help']) == 0",
        "from attar.cli.main import run; assert run([]) == 0",
        "from attar.cli.main import run; assert run(['--version']) == 0",
        "from attar.cli.main import run; assert run(['frobnicate', '--help']) == 2",
    ],
)
def test_nothing_slow_is_loaded(code: str) -> None:
    loaded = python(f"{code}\nimport sys\nprint('loaded:', *sys.modules)").rpartition("loaded:")[2].split()
    assert not set(SLOW) & set(loaded)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["--version"]])
def test_the_front_door_loads_no_command_line(words: list[str]) -> None:
    code = f"""
        import sys
        from attar.cli.front import main
        try:
            main({words})
        except SystemExit as e:
            assert e.code == 0
        print('loaded:', *sys.modules)
    """
    said, _, loaded = python(textwrap.dedent(code)).rpartition("loaded:")
    assert not {*SLOW, "cyclopts", "rich", "argparse", "asyncio"} & set(loaded.split())
    if words == ["--version"]:
        assert said.strip() == attar.__version__
    else:
        assert all(f"\n  {verb} " in said for verb in VERBS)


def test_help_into_a_pipe_that_is_closed_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m attar --help | true", shell=True, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rooms_that_share_a_name_with_a_verb_stay_callable() -> None:
    code = """
        import attar, inspect
        import attar.distill.dm, attar.select.random, attar.evaluate.protocol, attar.report.page
        from attar.distill import dm
        assert attar.distill.dm is dm
        for room in (attar.distill, attar.select, attar.evaluate, attar.report):
            assert callable(room) and inspect.signature(room).parameters
        assert 'method' in inspect.signature(attar.distill).parameters
        kept = attar.select("digits", method="random", ipc=1)
        print(len(kept))
    """
    assert python(textwrap.dedent(code)).strip() == "10"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attar", "frobnicate"], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("attar: there is no command 'frobnicate'; known: cache,")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{sys.executable}' -m attar --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr

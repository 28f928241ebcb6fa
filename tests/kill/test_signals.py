"""SIGINT and SIGTERM through the command line: the step is finished, the state saved, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trials import kept, saved_step, stale
from zygote import Zygote

METHOD = '''
import os
from dataclasses import dataclass

from attar.distill.dm import DM


def signalled(step):
    """Sends this process the signals of $SIGNALS at step $AT."""
    if step == int(os.environ.get("AT", "-1")):
        for number in os.environ.pop("SIGNALS", "").split():
            os.kill(os.getpid(), int(number))


@dataclass(frozen=True, kw_only=True)
class Signalled(DM):
    def draw(self, real, seeds, res, step):
        signalled(step)
        return super().draw(real, seeds, res, step)


@dataclass(frozen=True, kw_only=True)
class AtStart(DM):
    def init(self, real, budget, seeds, res):
        signalled(0)
        return super().init(real, budget, seeds, res)
'''
STEPS = 8


@pytest.fixture
def words(home: Path) -> list[str]:
    """A command line for the home it is called in."""
    (home / "own.py").write_text(METHOD)
    return [
        *("distill", "digits", "--method", "own.py:Signalled", "--ipc", "1", "--steps", str(STEPS), "--batch", "4"),
        *("--net", "convnet:width=8:depth=1", "--device", "cpu", "--threads", "1", "--out", "set"),
    ]


def attar(home: Path, words: list[str], signals: str, at: int) -> subprocess.CompletedProcess[str]:
    """The command as a user calls it."""
    env = {**os.environ, "SIGNALS": signals, "AT": str(at), "OMP_NUM_THREADS": "1", "ATTAR_CACHE": str(home / "cache")}
    return subprocess.run([sys.executable, "-m", "attar", *words], cwd=home, env=env, capture_output=True, text=True)


def undisturbed(zygote: Zygote, home: Path, words: list[str]) -> dict[str, str]:
    """What a run without signals gives."""
    assert zygote.run("command", home, words=[*words[:-1], "other"]).ended == 0
    found = {name.removeprefix("other/"): value for name, value in kept(home).items() if name.startswith("other/")}
    assert "data/train.parquet" in found
    return found


def again(zygote: Zygote, home: Path, words: list[str]) -> dict[str, str]:
    """What the same command gives when it is called again."""
    child = zygote.run("command", home, words=words)
    assert child.ended == 0, child.said
    assert stale(home) == []
    return {name.removeprefix("set/"): value for name, value in kept(home).items() if name.startswith("set/")}


def bits(found: dict[str, str]) -> dict[str, str]:
    """Without the log, whose lines depend on where the run was stopped."""
    return {name: value for name, value in found.items() if name != "log.jsonl"}


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_saves_and_tells_how_to_go_on(
    zygote: Zygote, home: Path, words: list[str], number: int, code: int
) -> None:
    ended = attar(home, words, str(number), 3)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    said = f"attar: stopped after step 4 of {STEPS}; the state is saved in set.attar-run; run the same command again to go on"
    assert " ".join(ended.stderr.split()) == said
    assert saved_step(home) == 4 and not (home / "set").exists()
    assert bits(again(zygote, home, words)) == bits(undisturbed(zygote, home, words))


def test_a_second_sigint_stops_at_once(zygote: Zygote, home: Path, words: list[str]) -> None:
    child = zygote.run("command", home, words=words, env={"SIGNALS": "2 2", "AT": "3"})
    assert child.ended == 130
    assert saved_step(home) == 0 and stale(home) == [], "no step was saved, so nothing stays"
    assert bits(again(zygote, home, words)) == bits(undisturbed(zygote, home, words))


@pytest.mark.parametrize(("signals", "method", "at"), [("2", "Signalled", STEPS - 1), ("15", "AtStart", 0)])
def test_a_signal_in_the_last_step_or_before_the_first_is_not_lost(
    zygote: Zygote, home: Path, words: list[str], signals: str, method: str, at: int
) -> None:
    words = [w.replace("Signalled", method) for w in words]
    child = zygote.run("command", home, words=words, env={"SIGNALS": signals, "AT": str(at)})
    assert child.ended == 128 + int(signals)
    assert saved_step(home) == (STEPS if at else 1) and not (home / "set").exists()
    assert bits(again(zygote, home, words)) == bits(undisturbed(zygote, home, words))


def test_a_second_sigterm_has_its_usual_effect(zygote: Zygote, home: Path, words: list[str]) -> None:
    child = zygote.run("command", home, words=words, env={"SIGNALS": "15 15", "AT": "3"})
    assert child.ended == -15
    assert bits(again(zygote, home, words)) == bits(undisturbed(zygote, home, words))

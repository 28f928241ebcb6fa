"""The saved state of a run: two generations, each whole or absent, the newest valid one found by checking."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attar.errors import DataError, ResourceError, UsageError
from attar.io import atomic, tensors

State = dict[str, torch.Tensor]


class Foreign(UsageError):
    """A run's folder holds the state of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with ``plan.json`` (what the run is) and ``state-STEP-DIGEST.safetensors`` (where it is).

    Args:
        folder: made when first written to.
    """

    folder: Path

    def claim(self, identity: dict[str, Any]) -> None:
        """Starts a run here, or makes sure that the run found here is the same one.

        Raises:
            Foreign: another run's state is here; names the first difference.
            DataError: what is here cannot be read.
        """
        atomic.sweep(self.folder)
        found, wanted = self._identity(), json.loads(json.dumps(identity))
        if found is None:
            for state in self._generations():  # of a run that was being removed: whose, nobody knows any more
                atomic.remove(state)
            atomic.write_json(self._plan, identity)
            return
        if found != wanted:
            key = next(k for k in [*wanted, *found] if found.get(k) != wanted.get(k))
            raise Foreign(
                f"{self.folder} holds an unfinished run with other settings ({key}: {_short(found.get(key))} there, "
                f"{_short(wanted.get(key))} now); repeat its command to finish it, or remove that folder to start anew"
            )

    def plan(self) -> dict[str, Any] | None:
        """The plan of the run found here, or None."""
        found = (self._identity() or {}).get("plan")
        return found if isinstance(found, dict) else None

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def _identity(self) -> dict[str, Any] | None:
        """What the run found here is, None where there is none."""
        if not self._plan.is_file():
            return None
        with atomic.named(self._plan, "reading"):
            data = self._plan.read_bytes()
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DataError(f"{self._plan} is damaged; remove the folder {self.folder} to start the run anew")
        return found

    def save(self, step: int, states: list[State], facts: dict[str, float]) -> None:
        """Writes a generation durably and drops all but the newest two.

        Args:
            step: steps done.
            states: one per budget.
            facts: numbers to keep beside (seconds so far ...).

        Raises:
            ResourceError: no space, no permission, or the folder was removed.
        """
        if not self._plan.is_file():
            raise ResourceError(f"{self.folder} was removed while its run went on; run the same command again")
        flat = {f"{i}/{name}": value for i, state in enumerate(states) for name, value in state.items()}
        data = tensors.encode(flat, {"step": str(step), "states": str(len(states)), "facts": json.dumps(facts)})
        atomic.write_bytes(self.folder / f"state-{step:09d}-{tensors.digest(data)[:16]}.safetensors", data)
        for old in self._generations()[2:]:
            atomic.remove(old)

    def latest(self) -> tuple[int, list[State], dict[str, float]] | None:
        """The newest generation whose content agrees with its name, or None; damaged ones are removed."""
        for path in self._generations():
            with atomic.named(path, "reading"):
                data = path.read_bytes()
            if tensors.digest(data)[:16] == path.stem.rsplit("-", 1)[1]:
                return _states(tensors.decode(data, path), _metadata(data))
            atomic.remove(path)  # it would stand in the place of a good one
        return None

    def _generations(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.safetensors"), reverse=True)

    def discard(self) -> None:
        """Removes the run's folder."""
        atomic.remove(self.folder)


def _states(flat: State, meta: dict[str, str]) -> tuple[int, list[State], dict[str, float]]:
    """What :meth:`Checkpoint.save` was given."""
    states: list[State] = [{} for _ in range(int(meta["states"]))]
    for key, value in flat.items():
        i, name = key.split("/", 1)
        states[int(i)][name] = value
    return int(meta["step"]), states, json.loads(meta["facts"])


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])["__metadata__"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."

"""A worker: does the units it is told on its standard input and answers each with a line of JSON.

``python -m attar.scale.worker FOLDER``. It ends when its input ends or, on Linux, when its parent dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
from threadpoolctl import threadpool_limits

from attar import errors
from attar.errors import AttarError
from attar.execute.signals import end_with
from attar.scale.memory import resident
from attar.scale.table import task
from attar.scale.work import Work

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # memory freed by one thread serves the others
    "MALLOC_TRIM_THRESHOLD_": "4194304",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others keep what is freed
}
"""Of a worker: one thread, so that sums are the same everywhere, and no memory that is only kept."""


def act(work: Work, step: str, unit: int) -> dict[str, Any]:
    """Does one unit and writes its part; nothing where it is there already.

    Returns:
        ``{}``, or what went wrong: ``error`` (class) and ``message``.
    """
    try:
        if not work.parts.has(step, unit):
            with threadpool_limits(1):
                arrays, facts = task(step)(work, step, unit)
            work.parts.write(step, unit, arrays, facts)
        return {}
    except AttarError as e:
        return {"error": type(e).__name__, "message": str(e)}
    except MemoryError:
        return {"error": "ResourceError", "message": "a worker's memory is used up; lower --workers or raise --memory"}
    except Exception:
        return {"error": "", "message": traceback.format_exc()}


def raised(answer: dict[str, Any]) -> None:
    """Raises what an answer of :func:`act` says."""
    if "error" in answer:
        kind = getattr(errors, answer["error"], RuntimeError) if answer["error"] else RuntimeError
        raise kind(answer["message"])


def prepare() -> bool:
    """One thread for arrow; on Linux the end with the parent, which may have come: whether it is still there."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    return end_with(os.getppid())


def main() -> None:
    """Answers until the input ends."""
    if not prepare():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    work = Work(Path(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    print(json.dumps({"resident": resident(os.getpid())}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = act(work, asked["step"], asked["unit"])
        print(json.dumps({**answer, "unit": asked["unit"]}), file=answers, flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks [NAME...]`: run some benchmarks, or all; each ends with a line of JSON.

Exit status: 0 every bar that could be measured holds, 1 one does not or a benchmark broke, 2 usage.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import benchmarks
from benchmarks._result import Result, Unavailable


def found() -> dict[str, Callable[[], Result]]:
    """All benchmarks: the modules of this package that have `run`."""
    names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in sorted(names)}
    return {name: module.run for name, module in modules.items() if hasattr(module, "run")}


def main(chosen: list[str]) -> int:
    """Run the benchmarks of these names."""
    known = found()
    if unknown := [name for name in chosen if name not in known]:
        print(f"benchmarks: no benchmark {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    code = 0
    for name in chosen or known:
        print(f"--- {name}", flush=True)
        try:
            result = known[name]()
        except Unavailable as reason:
            result = Result(name, None, "", "", None, [str(reason)])
        except Exception as error:
            traceback.print_exc()
            code, result = 1, Result(name, None, "", "", None, [f"broke: {type(error).__name__}: {error}"])
        for line in result.detail:
            print(f"  {line}")
        print(result.line(), flush=True)
        if result.holds is False:
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

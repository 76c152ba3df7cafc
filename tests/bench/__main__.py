"""Runs all benchmarks, or the named ones: `python -m tests.bench [bench_engine ...]`."""

from __future__ import annotations

import pathlib
import subprocess
import sys


def main() -> int:
    here = pathlib.Path(__file__).parent
    benchmarks = sorted(path.stem for path in here.glob("bench_*.py"))
    names = sys.argv[1:] or benchmarks
    unknown = sorted(set(names) - set(benchmarks))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; the benchmarks are {', '.join(benchmarks)}", file=sys.stderr)
        return 2
    code = 0
    for name in names:
        print(f"\n== {name}", flush=True)
        # A process for each, because imports and caches of one must not speed up the next.
        code = max(code, subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode)
    return code


if __name__ == "__main__":
    sys.exit(main())

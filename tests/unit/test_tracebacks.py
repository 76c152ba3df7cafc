"""The exception that ended a program: real programs of many shapes, interleaved output, and any text at all."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.runs import tracebacks
from tests import commands

MODULE = """\
def fail():
    try:
        {}["x"]
    except KeyError as error:
        raise ValueError("bad\\nsecond line") from error
"""
PROGRAMS: dict[str, tuple[str, str, str]] = {
    "one line": ("raise KeyError('price')", "KeyError: 'price'", "program.py:1"),
    "no message": ("def f():\n    assert 1 > 2\nf()", "AssertionError", "program.py:2, in f"),
    "in a module, chained, two lines": ("import module\nmodule.fail()", "ValueError: bad second line", "module.py:5, in fail"),
    "in a library": (
        "import json\njson.loads('{')",
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "program.py:2",
    ),
    "while another is handled": (
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    unknown",
        "NameError: name 'unknown' is not defined",
        "program.py:4",
    ),
    "a note": ("e = ValueError('dear')\ne.add_note('row 3')\nraise e", "ValueError: dear row 3", "program.py:3"),
    "syntax of the program": ("def f(:\n", "SyntaxError: invalid syntax", "program.py:1"),
    "syntax of a module": ("import broken", "SyntaxError: invalid syntax", "broken.py:1"),
    "recursion": (
        "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\nf(1)",
        "RecursionError: maximum recursion depth exceeded",
        "program.py:",
    ),
    "a group": (
        "raise ExceptionGroup('many', [ValueError('a'), KeyError('b')])",
        "ExceptionGroup: many (2 sub-exceptions): ValueError: a",
        "program.py:1",
    ),
    "a group in a group": (
        "import module\ntry:\n    module.fail()\nexcept ValueError as e:\n    raise ExceptionGroup('outer', [ExceptionGroup('inner', [e])])",
        "ExceptionGroup: outer (1 sub-exception): ValueError: bad",
        "module.py:5, in fail",
    ),
    "a group of twenty": (
        "raise ExceptionGroup('many', [ValueError(n) for n in range(20)])",
        "ExceptionGroup: many (20 sub-exceptions): ValueError: 0",
        "program.py:1",
    ),
    "a worker of a pool": (
        "import concurrent.futures as c\ndef f(x):\n    raise RuntimeError('in worker')\nif __name__ == '__main__':\n"
        "    with c.ProcessPoolExecutor(1) as pool:\n        list(pool.map(f, [1]))",
        "RuntimeError: in worker",
        "program.py:3, in f",
    ),
    "a program that it calls": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import module; module.fail()'], check=True)",
        "ValueError: bad second line",
        "module.py:5, in fail",
    ),
    "output of an exit handler": (
        "import atexit, sys\natexit.register(lambda: print('\\nView run brave-goat-1 at: http://x\\nbye', file=sys.stderr))\nraise OSError('disk')",
        "OSError: disk",
        "program.py:3",
    ),
    "another exception was handled before": (
        "import module, traceback\ntry:\n    module.fail()\nexcept ValueError:\n    traceback.print_exc()\nraise LookupError('the end')",
        "LookupError: the end",
        "program.py:6",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_exception_of_a_program_is_found_with_its_place(name: str, tmp_path: Path) -> None:
    program, error, place = PROGRAMS[name]
    for file, text in {"program.py": program, "module.py": MODULE, "broken.py": "x = =\n"}.items():
        (tmp_path / file).write_text(text)
    ended = commands.run([sys.executable, "program.py"], cwd=tmp_path, code=1)
    raised = tracebacks.last(ended.stderr, [str(tmp_path)])
    assert raised is not None, ended.stderr
    assert raised.error == error
    assert raised.place.startswith(place)


NOTEBOOK = """\
Executing:  50%|#####     | 1/2 [00:01<00:01]
Traceback (most recent call last):
  File "/opt/env/bin/papermill", line 8, in <module>
    sys.exit(papermill())
  File "/opt/env/lib/python3.11/site-packages/papermill/execute.py", line 251, in raise_for_execution_errors
    raise error
papermill.exceptions.PapermillExecutionError:
---------------------------------------------------------------------------
Exception encountered at "In [3]":
---------------------------------------------------------------------------
KeyError                                  Traceback (most recent call last)
Cell In[3], line 2
      1 frame = load()
----> 2 frame["price"]

File /opt/env/lib/python3.11/site-packages/pandas/core/frame.py:4102, in DataFrame.__getitem__(self, key)
   4101 if is_integer(indexer):
-> 4102     indexer = [indexer]

KeyError: 'price'

"""
MLFLOW_RUN = """\
2026/11/30 10:00:00 INFO mlflow.projects.backend.local: === Running command 'python train.py' in run with ID 'abc' ===
Traceback (most recent call last):
  File "/code/train.py", line 12, in <module>
    main()
  File "/code/train.py", line 9, in main
    frame["price"]
KeyError: 'price'
Traceback (most recent call last):
  File "/opt/env/bin/mlflow", line 8, in <module>
    sys.exit(cli())
  File "/opt/env/lib/python3.11/site-packages/mlflow/projects/__init__.py", line 471, in _wait_for
    raise ExecutionException("Run (ID '%s') failed" % run.run_id)
mlflow.exceptions.ExecutionException: Run (ID 'abc') failed
"""
RANKED = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "/code/src/train.py", line 7, in step
[rank1]:     loss.backward()
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""
INTERLEAVED = """\
Traceback (most recent call last):
Epoch 3: loss 0.2
  File "/code/train.py", line 12, in <module>
wandb: Waiting
    main()
WARNING:root:slow
  File "/code/train.py", line 9, in main
    frame["price"]
KeyError: 'price'
INFO:root:closing
2026-11-30 10:00:00 bye
the training command failed with exit code 1 after 2.0 s: python train.py
"""
CUT = """\
, in dispatch
    return handle()
  File "/code/train.py", line 9, in main
    frame["price"]
KeyError: 'price'
"""
SKIPPED = """\
Traceback (most recent call last):
  File "/code/train.py", line 9, in main
ValueError: first
the command exited with code 0 after 2.1 s
the training logged no model
"""


@pytest.mark.parametrize(
    ("log", "error", "place"),
    [
        pytest.param(NOTEBOOK, "KeyError: 'price'", "In[3]:2", id="a notebook"),
        pytest.param(MLFLOW_RUN, "KeyError: 'price'", "train.py:9, in main", id="mlflow run"),
        pytest.param(RANKED, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "src/train.py:7, in step", id="a prefix"),
        pytest.param(INTERLEAVED, "KeyError: 'price'", "train.py:9, in main", id="other lines in between"),
        pytest.param(INTERLEAVED.replace("\n", "\r\n"), "KeyError: 'price'", "train.py:9, in main", id="Windows' line ends"),
        pytest.param(CUT, "KeyError: 'price'", "train.py:9, in main", id="its begin is missing"),
        pytest.param(textwrap.indent(MLFLOW_RUN, "      "), "KeyError: 'price'", "train.py:9, in main", id="indented"),
        pytest.param(MLFLOW_RUN.replace("KeyError: 'price'", "\x1b[1;35mKeyError\x1b[0m: 'price'"), "KeyError: 'price'", "train.py:9, in main", id="coloured"),
        pytest.param('  File "/opt/env/lib/python3.11/site-packages/a.py", line 3, in f\nValueError: x', "ValueError: x", "", id="no frame of the user"),
        pytest.param('  File "/elsewhere/own.py", line 3, in f\nValueError: x', "ValueError: x", "/elsewhere/own.py:3, in f", id="another folder"),
    ],
)  # fmt: skip
def test_the_exception_is_found_in_a_log(log: str, error: str, place: str) -> None:
    assert tracebacks.last(f"before\n{log}", ["/code/", ""]) == tracebacks.Raised(error, place)


@pytest.mark.parametrize(
    "log",
    [
        pytest.param("", id="empty"),
        pytest.param("exited\nValueError: x\n", id="no traceback"),
        pytest.param(SKIPPED, id="the command succeeded"),
        pytest.param(MLFLOW_RUN + "epoch\n" * 100, id="the program went on"),
        pytest.param("Traceback (most recent call last):\n" + "other\n" * 10 + "ValueError: x\n", id="only a header"),
    ],
)
def test_a_program_that_ended_otherwise_has_no_exception(log: str) -> None:
    assert tracebacks.last(log) is None


@pytest.mark.parametrize(
    ("file", "loading"),
    [("/e/lib/python3.11/site-packages/mlflow/pyfunc/__init__.py", True), ("/e/lib/python3.11/site-packages/pandas/io.py", False)],
)
def test_an_exception_of_a_loaded_model_is_marked(file: str, loading: bool) -> None:
    raised = tracebacks.last(f'Traceback (most recent call last):\n  File "{file}", line 1, in load_model\nValueError: x')
    assert raised == tracebacks.Raised("ValueError: x", "", loading)


PIECES = [
    *("Traceback (most recent call last):", "  + Exception Group Traceback (most recent call last):", "  | ", "  +-+---------------- 1 ----------------"),
    *('  File "/code/a.py", line 3, in f', '  File "x", line 1', "    x = 1", "ValueError: x", "E", "KeyError", "Cell In[3], line 2", "File ~/a.py:3, in f"),
    *("ValueError      Traceback (most recent call last)", "the command exited with code 0 after 1.0 s", "[rank0]: Traceback (most recent call last):"),
    *("The above exception was the direct cause of the following exception:", "", "\r", "\x1b[0m", '"""', "-" * 90, "subprocess.CalledProcessError: x"),
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=60)), max_size=40).map("\n".join))
def test_any_text_is_read(log: str) -> None:
    raised = tracebacks.last(log, ["/code"])
    if raised is not None:
        assert raised.error
        assert "\n" not in raised.error + raised.place
        assert "\x1b" not in raised.error + raised.place


@pytest.mark.parametrize(
    "piece", ['  File "/code/a.py", line 3, in f\nValueError: x', "  + Exception Group Traceback (most recent call last):\n  | E: x", "x"]
)
def test_the_work_is_linear_in_the_number_of_lines(piece: str) -> None:
    def work(repetitions: int) -> float:
        log, started = f"{piece}\n" * repetitions, time.process_time()
        tracebacks.last(log, ["/code"])
        return time.process_time() - started

    # As in test_pattern_growth: 16 is linear growth, 256 quadratic.
    assert min(work(8_000) for _ in range(2)) < 64 * max(work(500) for _ in range(4))

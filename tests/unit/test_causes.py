"""The cause of a failed step: exception, place, advice, and whole words within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.runs import causes

FRAME = 'Traceback (most recent call last):\n  File "/code/train.py", line 3, in fit\n    x\n'
LOADING = 'Traceback (most recent call last):\n  File "/e/site-packages/mlflow/sklearn/__init__.py", line 1, in load_model\n    x\n'
NO_HINT = "KeyError: 'price' (train.py:3, in fit)"
SKOPS = (
    "mlflow.exceptions.MlflowException: The saved sklearn model references untrusted types. If you are sure loading these types is safe, set the"
    " 'skops_trusted_types' parameter when calling 'log_model' or 'save_model' to the list of trusted types."
    " Root error: Untrusted types found in the file: ['sklearn.tree._tree.Tree']."
)


@pytest.mark.parametrize(
    ("ended", "log", "cause"),
    [
        pytest.param("exited with code 1", f"{FRAME}KeyError: 'price'\n", NO_HINT, id="exception"),
        pytest.param("exited with code 3", f"{FRAME}KeyError: 'price'\n", f"exited with code 3: {NO_HINT}", id="own exit code"),
        pytest.param("exited with code 1", "", "exited with code 1", id="nothing"),
        pytest.param("exited with code 2", "a\nb\n\nc\nd\n", "exited with code 2: b\nc\nd", id="last lines"),
    ],
)
def test_the_cause_names_the_exception_and_its_place(ended: str, log: str, cause: str) -> None:
    assert causes.explain(ended, log, ["/code"]) == cause


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        (f"{FRAME}{SKOPS}", "; log the model with skops_trusted_types=['sklearn.tree._tree.Tree'], or with serialization_format='cloudpickle'"),
        (f"{FRAME}ModuleNotFoundError: No module named 'yaml'", "; add PyYAML to the requirements of the codeset"),
        (f"{FRAME}ModuleNotFoundError: No module named 'sklearn.svm'", "; add scikit-learn to the requirements of the codeset"),
        (f"{FRAME}ModuleNotFoundError: No module named 'acme.x'", "; add the package of 'acme' to the requirements of the codeset; a module"),
        (f"{LOADING}ModuleNotFoundError: No module named 'mine'", "; the model needs the module 'mine': log it with code_paths=[...]"),
        (f"{FRAME}AttributeError: Can't get attribute 'Net' on <module '__main__' (built-in)>", "; the class or function 'Net' of the model is not"),
        (f"{LOADING}AttributeError: module 'mine' has no attribute 'Net'", "; the class or function 'Net' of the model is not in this environment"),
        (f"{FRAME}mlflow.exceptions.MlflowException: Cannot start run with ID 3 because active experiment ID does not match environment run ID. "
         "Make sure --experiment-name", "; FuseML has started the MLflow run; remove set_experiment"),
        (f"{FRAME}mlflow.exceptions.RestException: INVALID_PARAMETER_VALUE: Changing param values is not allowed. Param with key='alpha'",
         "; the parameters of the MLproject are logged before"),
        (f"{FRAME}RuntimeError: No CUDA GPUs are available", "; the step sees no GPU; ask for one: resources: {limits: {nvidia.com/gpu: 1}}"),
        (f"{FRAME}torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "; the memory of the GPU is full"),
        (f"{FRAME}numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7 GiB for an array", "; give the step more memory"),
        (f"{FRAME}_pickle.UnpicklingError: invalid load key, 'v'.", "; the file is a pointer of Git LFS"),
        (f"{FRAME}ImportError: libGL.so.1: cannot open shared object file", "; use the distribution opencv-python-headless"),
        ("usage: train.py [-h]\ntrain.py: error: the following arguments are required: --alpha\n", "; pass it with the input 'mlflow-entrypoint-args'"),
        ("usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --beta\n", "; the command does not know it"),
        ("epoch 3\nthe training command failed with signal SIGKILL after 3.0 s: python train.py\n", "; give the step more memory"),
    ],
)  # fmt: skip
def test_a_known_trap_gets_advice(log: str, hint: str) -> None:
    cause = causes.explain("exited with code 1", log, ["/code"])
    assert hint in cause
    assert len(cause) < 900


def test_other_errors_get_no_advice() -> None:
    log = f"{FRAME}AttributeError: module 'numpy' has no attribute 'float'"
    assert (
        causes.explain("exited with code 1", log, ["/code"])
        == "AttributeError: module 'numpy' has no attribute 'float' (train.py:3, in fit)"
    )


@given(st.text(alphabet="ab \n", max_size=120), st.integers(4, 60))
def test_shortened_texts_end_with_a_whole_word(text: str, limit: int) -> None:
    short = causes.shorten(text, limit)
    assert len(short) <= limit
    if short == text:
        return
    kept = short.removesuffix("…")
    assert text.startswith(kept)
    assert text[len(kept)].isspace() or (" " not in kept.strip() and "\n" not in kept.strip())


@given(
    st.text(max_size=30),
    st.lists(st.sampled_from([FRAME, "ValueError: ", "word ", "x" * 500, "\n", "ö", "\x1b[31m"]), max_size=80).map("".join),
)
def test_a_cause_is_bounded_and_inert(ended: str, log: str) -> None:
    cause = causes.explain(ended, log, ["/code"])
    assert len(cause) <= len(ended) + 900
    assert "\x1b" not in cause.removeprefix(ended)


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=20), min_size=1, max_size=200))
def test_quoted_lines_begin_with_a_whole_word(words: list[str]) -> None:
    quote = causes.explain("exited with code 2", " ".join(words)).removeprefix("exited with code 2: ")
    assert quote.removeprefix("…").split() == words[len(words) - len(quote.split()) :]

"""Known traps of training code: the errors by which they are recognised, and the way out of each."""

from __future__ import annotations

import re

_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "IPython": "ipython",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pkg_resources": "setuptools<81",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
"""Module -> the distribution on PyPI that provides it, where the names differ."""

_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)")
_UNPICKLED = re.compile(r"AttributeError: (?:Can't get attribute '(\w{1,80})'|module '[\w.]*' has no attribute '(\w{1,80})')")
_UNTRUSTED = re.compile(r"references untrusted types")
_TYPES = re.compile(r"found in the file: (\[[^\]]{0,180}\])")
_FIXED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"could not be serialized in the skops serialization format"),
        "log the model with serialization_format='cloudpickle'",
    ),
    (
        re.compile(r"active (?:experiment|run) ID does not match environment run ID"),
        "FuseML has started the MLflow run; remove set_experiment from the code, and name the experiment in the input 'mlflow-experiment'",
    ),
    (
        re.compile(r"Changing param values is not allowed"),
        "the parameters of the MLproject are logged before the command starts; log this value under another name",
    ),
    (
        re.compile(r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|ResourceExhaustedError: OOM|\bOutOfMemoryError: CUDA"),
        "the memory of the GPU is full; use a smaller batch or model, or a GPU with more memory",
    ),
    (
        re.compile(r"No CUDA GPUs are available|no CUDA-capable device is detected|CUDA_ERROR_NO_DEVICE|No HIP GPUs are available"),
        "the step sees no GPU; ask for one: resources: {limits: {nvidia.com/gpu: 1}}, for AMD amd.com/gpu",
    ),
    (
        re.compile(r"\b_?(?:Array)?MemoryError\b|std::bad_alloc|\bSIGKILL\b|exit code 137\b"),
        "give the step more memory (resources.limits.memory), or load the data in parts",
    ),
    (
        re.compile(r"invalid load key, 'v'|version https://git-lfs\.github\.com"),
        "the file is a pointer of Git LFS instead of its content; push the content with `git lfs push`",
    ),
    (re.compile(r"libGL\.so\.1\b"), "use the distribution opencv-python-headless, which needs no display"),
    (
        re.compile(r"error: the following arguments are required|Error: Missing (?:option|argument|parameter)"),
        "pass it with the input 'mlflow-entrypoint-args' (name=value), or declare it with a default in the MLproject",
    ),
    (
        re.compile(r"error: unrecognized arguments|Error: No such option"),
        "the command does not know it; compare the entry point of the MLproject with the arguments that the code declares",
    ),
)


def hint(error: str, *, loading: bool = False) -> str:
    """Advice on the error, of at most 300 characters; empty for an error that is no known trap. `loading`: it arose while a model was loaded."""
    if module := _MODULE.search(error):
        return _missing(module[1], loading)
    unpickled = _UNPICKLED.search(error)
    if unpickled and (loading or unpickled[1]):
        return (
            f"the class or function {unpickled[1] or unpickled[2]!r} of the model is not in this environment; "
            "define it in a module, and log the model with code_paths=[...]"
        )
    if _UNTRUSTED.search(error):
        types = _TYPES.search(error)
        return f"log the model with skops_trusted_types={types[1] if types else '[...]'}, or with serialization_format='cloudpickle'"
    return next((advice for pattern, advice in _FIXED if pattern.search(error)), "")


def _missing(module: str, loading: bool) -> str:
    module = module[:80]
    top = module.partition(".")[0]
    known = _DISTRIBUTIONS.get(module) or _DISTRIBUTIONS.get(top)
    if known:
        return f"add {known} to the requirements of the codeset"
    if loading:
        return f"the model needs the module {top!r}: log it with code_paths=[...], or with its package among the requirements"
    return f"add the package of {top!r} to the requirements of the codeset; a module of the codeset must be beside the script"

"""The variables of the server's own environment that steps, model servers and MLflow receive: the network, the locale and the accelerators."""

from __future__ import annotations

import fnmatch
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY")
PROCESS = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
"""For processes of this machine; HOME and TMPDIR of a step are folders of its own."""
PROXIES = (*_PROXIES, *(name.lower() for name in _PROXIES))
CERTIFICATES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "NODE_EXTRA_CA_CERTS"),
    *("AWS_CA_BUNDLE", "PIP_CERT", "PIP_CLIENT_CERT", "SSL_CLIENT_CERT", "HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)
"""Files and folders, which steps may read."""
PACKAGES = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_PROXY", "PIP_TIMEOUT"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_CONFIG_FILE", "PIP_CONSTRAINT"),
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INDEX_STRATEGY"),
    *("UV_INDEX_*_USERNAME", "UV_INDEX_*_PASSWORD", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_TIMEOUT"),
    *("UV_HTTP_RETRIES", "UV_OFFLINE", "UV_CONFIG_FILE", "UV_PYTHON_INSTALL_MIRROR", "UV_PYPY_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS"),
    *("UV_CONCURRENT_*", "UV_TORCH_BACKEND", "CONDA_CHANNEL_ALIAS"),
)
LOCALE = ("TZ", "LANG", "LANGUAGE", "LC_*")
ACCELERATORS = (
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "CUDNN_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "GPU_*", "ZE_*", "ONEAPI_*", "SYCL_*"),
    *("TPU_*", "XLA_*", "JAX_PLATFORMS", "HABANA_*", "NEURON_*", "ASCEND_*", "PYTORCH_*ALLOC_CONF"),
    *("OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*", "VECLIB_*", "TF_NUM_*", "TF_FORCE_GPU_ALLOW_GROWTH"),
)
_PATHS = (*CERTIFICATES, "PIP_CONFIG_FILE", "PIP_CONSTRAINT", "PIP_FIND_LINKS", "UV_CONFIG_FILE", "UV_FIND_LINKS")
_SECRET = ("*PASSWORD*", "*PASSWD*", "*SECRET*", "*TOKEN*", "*KEY*", "*CREDENTIAL*")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def variables(environment: Mapping[str, str], more: Sequence[str], host: str) -> dict[str, str]:
    """The variables of `environment` to pass on: the listed ones, and those that match the patterns `more`.

    Where a proxy is set, loopback addresses and the server's own `host` are reached without it.
    """
    patterns = (*PROCESS, *PROXIES, *CERTIFICATES, *PACKAGES, *LOCALE, *ACCELERATORS, *more)
    kept = {name: value for name, value in environment.items() if _matches(name, patterns)}
    if any(name in kept for name in PROXIES if name.upper() != "NO_PROXY"):
        listed = [part.strip() for name in ("no_proxy", "NO_PROXY") for part in kept.get(name, "").split(",")]
        direct = ",".join(dict.fromkeys(part for part in (*listed, *_LOOPBACK, host.strip("[]")) if part))
        kept |= {"NO_PROXY": direct, "no_proxy": direct}
    return kept


def of_containers(kept: Mapping[str, str]) -> list[str]:
    """The names among `kept` that also have a meaning in a container."""
    return [name for name in kept if not _matches(name, (*PROCESS, *_PATHS))]


def secrets(kept: Mapping[str, str]) -> list[str]:
    """The secrets among the values: passwords in URLs, and values whose names say so."""
    found: list[str] = []
    for name, value in kept.items():
        if _matches(name, _SECRET) and name.upper() != "NO_PROXY":
            found.append(value)
        for word in value.replace(",", " ").split():
            password = _password(word.partition("=")[2] if "=" in word.partition("://")[0] else word)
            if password:
                found += (password, urllib.parse.unquote(password))
    return list(dict.fromkeys(found))


def files(kept: Mapping[str, str]) -> list[Path]:
    """The files and folders that the values name, as far as they exist."""
    words = [word for name, value in kept.items() if _matches(name, _PATHS) for word in (value, *value.split(os.pathsep), *value.split())]
    paths = [Path(word.removeprefix("file://")) for word in words]
    return list(dict.fromkeys(path for path in paths if path.is_absolute() and path.exists()))


def _password(url: str) -> str:
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    return user.partition(":")[2] or user


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

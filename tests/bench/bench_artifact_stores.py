"""Artifacts in a folder and in a bucket: 1 GiB up and down, against a plain copy and boto3's own transfer, with the peak memory of each process.

python -m tests.bench.bench_artifact_stores [MIB]. The bucket is at FUSEML_S3, or one of moto's server.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuseml import artifactstores
from fuseml.artifactstores import folders
from fuseml.contents import s3
from fuseml.domain.artifact import Address
from tests import s3_servers
from tests.contract import artifact_stores

MIB = 1 << 20


def _store(setting: dict[str, str]) -> artifactstores.ArtifactStore:
    if "folder" in setting:
        return artifactstores.connect(artifactstores.Connection("folder", Path(setting["folder"]).as_uri()))
    return artifact_stores.bucket_store(setting["bucket"], _account(setting))


def _account(setting: dict[str, str]) -> s3.Account:
    return s3.Account(**{name: setting[name] for name in ("endpoint", "region", "access_key", "secret_key")})


def upload(setting: dict[str, str], source: Path, _: Path) -> None:
    store = _store(setting)
    place = store.place("dataset", "bench", source.name)
    print(store.commit(place, store.write(place, folders.sources(source))), file=sys.stderr)


def download(setting: dict[str, str], source: Path, target: Path) -> None:
    store = _store(setting)
    [version] = store.versions("dataset", "bench", source.name).versions
    folders.download(store, Address("dataset", "bench", source.name, version.address.version), target)


def plain_upload(setting: dict[str, str], source: Path, _: Path) -> None:
    if "folder" in setting:
        _copy(source, Path(setting["folder"]) / "plain")
    else:
        artifact_stores.client_of(_account(setting)).upload_file(str(source), setting["bucket"], "plain")


def plain_download(setting: dict[str, str], _: Path, target: Path) -> None:
    if "folder" in setting:
        _copy(Path(setting["folder"]) / "plain", target)
    else:
        artifact_stores.client_of(_account(setting)).download_file(setting["bucket"], "plain", str(target))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write)
        write.flush()
        os.fsync(write.fileno())


OPERATIONS: dict[str, Callable[[dict[str, str], Path, Path], None]] = {
    "idle": lambda setting, source, target: None,
    "upload": upload,
    "plain upload": plain_upload,
    "download": download,
    "plain download": plain_download,
}


def measured(operation: str, setting: dict[str, str], source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and the peak MiB of the process."""
    command = [sys.executable, "-m", "tests.bench.bench_artifact_stores", operation, json.dumps(setting), str(source), str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(answer[0]), float(answer[1])


def _measure(operation: str, setting: dict[str, str], source: Path, target: Path) -> None:
    began = time.perf_counter()
    OPERATIONS[operation](setting, source, target)
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@contextlib.contextmanager
def settings(folder: Path) -> Iterator[dict[str, dict[str, str]]]:
    """The stores: a folder, and a bucket."""
    with contextlib.ExitStack() as stack:
        try:
            name, account = stack.enter_context(s3_servers.bucket())
        except pytest.skip.Exception:
            name, account = s3_servers.BUCKET, stack.enter_context(s3_servers.server(folder)).account
        fields = {name: getattr(account, name) for name in ("endpoint", "region", "access_key", "secret_key")}
        yield {"folder": {"folder": str(folder / "store")}, "bucket": {"bucket": name, **fields}}


def main() -> None:
    if len(sys.argv) > 2:
        _measure(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
        return
    size = int(sys.argv[1]) if sys.argv[1:] else 1024
    with tempfile.TemporaryDirectory() as temporary, settings(Path(temporary)) as stores:
        source = Path(temporary, f"{size}-mib.bin")
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        for kind, setting in stores.items():
            _, idle = measured("idle", setting, source, source)
            for direction in ("upload", "download"):
                own, plain = (
                    measured(operation, setting, source, Path(temporary, f"{kind} {operation}"))
                    for operation in (direction, f"plain {direction}")
                )
                print(
                    f"{kind} {direction} of {size} MiB: {own[0]:.1f} s, {own[0] / plain[0]:.2f} times the plain one ({plain[0]:.1f} s); "
                    f"peak {own[1]:.0f} MiB, plain {plain[1]:.0f} MiB, idle {idle:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""The image that an MLproject names in `docker_env`, with FuseML's steps in a layer on top: the training runs on its Python and packages.

The builder reads no file of an image, so it does not know the image's Python. The layer has a program `python`, first on the PATH, which finds
that Python; it starts FuseML's steps with `image_start` and everything else as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from fuseml.steps import carried, image_start, images, layers, mlproject, sdk

# The first Python on the PATH that is not this program. A step is the module behind `-m`.
_PYTHON = r"""#!/bin/sh
own=${0%/*}
real=
saved=$IFS
IFS=:
for folder in $PATH; do
  if [ "$folder" = "$own" ] || [ "$folder" = "@PROGRAMS@" ]; then continue; fi
  for name in python3 python; do
    if [ -z "$real" ] && [ -x "$folder/$name" ]; then real=$folder/$name; fi
  done
done
IFS=$saved
if [ -z "$real" ]; then
  echo "the image ${FUSEML_BASE_IMAGE:-of docker_env} has no Python on its PATH, and steps need 3.8 or newer: change the image of docker_env" >&2
  exit 127
fi
position=0 module=
for argument in "$@"; do
  position=$((position + 1))
  case $argument in
    -I | -P | -u) ;;
    -m) eval "module=\${$((position + 1)):-}"; break ;;
    *) break ;;
  esac
done
case $module in
  fuseml.steps.*)
    if ! "$real" -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
      echo "the image ${FUSEML_BASE_IMAGE:-of docker_env} has a Python older than 3.8 as $real: change the image of docker_env" >&2
      exit 1
    fi
    shift "$position"
    exec "$real" -E -s -u "$own/../image_start.py" "$@" ;;
esac
exec "$real" "$@"
"""
_RUN = """#!/bin/sh
exec "${0%/*}/python" -I -m fuseml.steps.mlflow_trainer "$@"
"""


def make(docker: mlproject.Docker, repository: str, *, plain: Sequence[str] = ()) -> str:
    """The image with the steps on top, by its digest. Builds it and pushes it to `repository` unless it exists. Raises StepError."""
    if docker.copied:
        sdk.say(
            f"note: docker_env.environment: {', '.join(docker.copied)}: nothing is copied from a host; give values in the step's inputs"
        )
    if docker.volumes:
        sdk.say("note: docker_env.volumes has no effect: a step sees its codeset and no folders of a host")

    def key(base: str) -> str:
        content = [base, docker.image, sorted(docker.variables.items()), _PYTHON, _RUN, _start(), carried.content()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    addition = images.Addition(f"the steps on {docker.image}", key, _fill, {**docker.variables, "FUSEML_BASE_IMAGE": docker.image})
    return images.add(addition, (docker.image, "the image of docker_env"), repository, plain=plain)


def _start() -> str:
    return Path(image_start.__file__).read_text(encoding="utf-8")


def _fill(root: Path, _: layers.Document) -> None:
    folder = root / images.ENVIRONMENT
    packages, programs = folder / "packages", folder / "bin"
    for made in (packages, programs):
        made.mkdir(parents=True)
    carried.copy(packages)
    shutil.copyfile(image_start.__file__, folder / "image_start.py")
    for name, text in (("python", _PYTHON.replace("@PROGRAMS@", images.PROGRAMS)), ("run", _RUN)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)

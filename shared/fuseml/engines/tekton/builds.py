"""The containers that build the image of a runnable (`fuseml.steps.image_builder`), one after the other in one pod.

The step's own container builds what needs no program. For another Dockerfile it leaves a request, which the privileged container with buildah
fulfils, and the last one pushes the image. Only the first and the last one have the account of the registry: instructions of the Dockerfile
run in the one between them.
"""

from __future__ import annotations

from fuseml.engines.tekton import amounts, settings
from fuseml.engines.tekton.values import Object

FOLDER = "/fuseml-build"
PRIVILEGED: Object = {"privileged": True, "runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}

# kaniko is archived. With chroot isolation and vfs, buildah needs neither a daemon nor a kernel module, but a privileged container.
BUILDAH = f"""\
in_storage() {{ buildah --root {FOLDER}/storage --runroot {FOLDER}/run --storage-driver vfs "$@"; }}
"""
BUILD = f"""\
#!/bin/sh
set -eu
if [ ! -f {FOLDER}/dockerfile ]; then exit 0; fi
if [ -f {FOLDER}/plain ]; then VERIFY_REGISTRY=false; fi
# Another user pushes the image.
umask 022
{BUILDAH}\
in_storage build --isolation chroot --network host --tls-verify="$VERIFY_REGISTRY" --ignorefile {FOLDER}/ignored \\
  --file "$(cat {FOLDER}/dockerfile)" --tag localhost/fuseml-build .
in_storage push localhost/fuseml-build oci:{FOLDER}/layout:image
"""


def containers(run: Object, settings: settings.Settings) -> tuple[list[Object], list[Object]]:
    """The containers of a step that builds, of which `run` is its own, and their volumes.

    Without `image_builds` no container is privileged, and the step refuses a Dockerfile that needs a program.
    """
    if not settings.image_builds:
        return [run], []
    mounts = [{"name": "build", "mountPath": FOLDER}]
    own = {**run, "env": [*run["env"], {"name": "FUSEML_BUILD_FOLDER", "value": FOLDER}], "volumeMounts": mounts}
    build = {
        "name": "build",
        "image": settings.build_image,
        "workingDir": run["workingDir"],
        "script": BUILD,
        "env": [{"name": "VERIFY_REGISTRY", "value": "true" if settings.verify_registry else "false"}],
        "volumeMounts": mounts,
        # A pod holds the devices of all its containers, and only the step's program needs them.
        "computeResources": amounts.without_devices(run["computeResources"]),
        "securityContext": PRIVILEGED,
    }
    push = {**own, "name": "push", "args": ["push"], "computeResources": amounts.AUXILIARY}
    return [own, build, push], [{"name": "build", "emptyDir": {}}]

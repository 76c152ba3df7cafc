"""Settings of an installation for the pods of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`git_image` has git and a shell; it clones codesets and checks outputs.

    The service account holds the credentials of image registries (see Tekton's documentation). `volume_size` and `storage_class` describe
    the volume that the steps of a run share; `group` owns it, so that steps may run as any user of that group. Set `verify_registry` to
    False for registries with plain HTTP or an unknown certificate. `variables` are for the built-in steps: every container of a step
    receives them, unless the workflow sets the same variable.
    """

    service_account: str = "fuseml-workloads"
    git_image: str = "docker.io/alpine/git:2.49.1"
    build_image: str = "quay.io/containers/buildah:v1.42.1"
    verify_registry: bool = True
    volume_size: str = "2Gi"
    storage_class: str | None = None
    group: int = 65532
    variables: Mapping[str, str] = field(default_factory=dict)

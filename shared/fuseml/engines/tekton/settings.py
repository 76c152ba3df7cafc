"""What an installation decides about the pods of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`git_image` has git and a shell, in which codesets are cloned and outputs looked at.

    Credentials of image registries hang on the service account, as Tekton's documentation has it. `volume_size` and `storage_class` are
    those of the volume that a run's steps share; `group` owns it, so that steps may run as any user of that group. `verify_registry`
    is off for registries that speak plain HTTP or bring a certificate that nobody knows. `variables` are for the built-in steps: the
    container of every step finds them, where the workflow does not say otherwise.
    """

    service_account: str = "fuseml-workloads"
    git_image: str = "docker.io/alpine/git:2.49.1"
    build_image: str = "quay.io/containers/buildah:v1.42.1"
    verify_registry: bool = True
    volume_size: str = "2Gi"
    storage_class: str | None = None
    group: int = 65532
    variables: Mapping[str, str] = field(default_factory=dict)

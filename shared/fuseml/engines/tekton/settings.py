"""Settings of an installation for the pods of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseml.runtime import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`git_image` has git and a shell; it clones codesets. `check_image` has this package; it checks outputs.

    The service account holds the credentials of image registries (see Tekton's documentation). `volume_size` and `storage_class` describe
    the volume that the steps of a run share. All containers run as `user` and its group, which owns the volume; only the container that
    builds images is privileged, and it exists only with `image_builds`. `memory_limit` bounds a step that declares no memory. Set
    `verify_registry` to False for registries with plain HTTP or an unknown certificate. FuseML's own images come from the `mirror`, if any.
    `variables` are for the built-in steps: every container of a step receives them, unless the workflow sets the same variable.
    """

    service_account: str = "fuseml-workloads"
    git_image: str = "docker.io/alpine/git:2.49.1"
    check_image: str = "ghcr.io/fuseml/functions:0.1.0"
    build_image: str = "quay.io/containers/buildah:v1.42.1"
    image_builds: bool = True
    verify_registry: bool = True
    volume_size: str = "2Gi"
    storage_class: str | None = None
    user: int = 65532
    memory_limit: str = "4Gi"
    mirror: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, installation: settings.Settings) -> Settings:
        """The settings of an installation. Raises PermanentError for a value that has no meaning."""
        given: dict[str, Any] = {
            "git_image": installation.git_image,
            "check_image": installation.functions_image,
            "build_image": installation.build_image,
            "memory_limit": installation.step_memory,
            "mirror": installation.registry,
        }
        return cls(
            image_builds=installation.flag("image_builds"),
            variables=installation.for_steps(),
            # A variable that is set and empty means the default.
            **{name: value for name, value in given.items() if value},
        )

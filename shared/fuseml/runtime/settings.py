"""Meaning of the environment variables. `main.py` of a function passes `os.environ`; no other module reads it."""

from __future__ import annotations

import dataclasses
import logging
import types
from collections.abc import Mapping
from dataclasses import dataclass, field

from fuseml.domain import errors

PREFIX = "FUSEML_"
_LOG = logging.getLogger(__name__)
ONCE_KEPT = "kept"
"""The value of FUSEML_ENGINE_DAYS for runs that the engine forgets as soon as their logs are kept."""


def _setting(name: str, text: str, default: str = "", *, secret: bool = False, steps: bool = False) -> str:
    metadata = {"variable": name, "text": text, "secret": secret, "steps": steps}
    value: str = field(default=default, metadata=metadata, repr=not secret)
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A function's configuration. Every field is text; an unset variable is empty. `DESCRIPTIONS` is the table for people."""

    database_url: str = _setting("FUSEML_DATABASE_URL", "SQLAlchemy URL of the database", secret=True)
    broker_url: str = _setting("K_SINK", "where events are sent; Knative's SinkBinding sets it")
    secret_keys: str = _setting("FUSEML_SECRET_KEYS", "Fernet keys, comma separated; the first seals, all unseal", secret=True)
    event_keys: str = _setting(
        "FUSEML_EVENT_KEYS",
        "keys that sign events, comma separated, the newest first; two are valid. `task deploy` derives them from `FUSEML_SECRET_KEYS`",
        secret=True,
    )
    unsigned_until: str = _setting(
        "FUSEML_UNSIGNED_UNTIL",
        "RFC 3339 time, at most an hour ahead, until which unsigned events are accepted. `task deploy` sets it for the upgrade from a version "
        "without signatures",
    )
    token_hashes: str = _setting(
        "FUSEML_TOKEN_HASHES",
        "SHA-256 of each accepted API token, comma separated: `name:admin:hash`, or without a name",
        secret=True,
    )
    public_url: str = _setting("FUSEML_PUBLIC_URL", "base address of the HTTP API as users and steps see it")
    zone: str = _setting("FUSEML_ZONE", "the control plane's own zone; records without a zone are in it")
    git_url: str = _setting("FUSEML_GIT_URL", "base address of the git host (Gitea, Forgejo), as users and steps see it")
    git_token: str = _setting(
        "FUSEML_GIT_TOKEN",
        "administrator's token of the git host; scopes write:admin, write:organization, write:repository, read:user",
        secret=True,
    )
    engine: str = _setting("FUSEML_ENGINE", "engine that executes runs on a cluster: `tekton`, or the name of a plugin", "tekton")
    log_format: str = _setting("FUSEML_LOG_FORMAT", "log lines as `json` (the default of a function) or as `text` for people")
    otlp_endpoint: str = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "base address of an OpenTelemetry collector (OTLP over HTTP) for spans; unset: no spans are sent"
    )
    openlineage_url: str = _setting(
        "FUSEML_OPENLINEAGE_URL",
        "base address of a server that receives lineage as OpenLineage events, at `/api/v1/lineage`; unset: none is sent",
    )
    openlineage_token: str = _setting("FUSEML_OPENLINEAGE_TOKEN", "its bearer token; unset: none", secret=True)
    openlineage_namespace: str = _setting("FUSEML_OPENLINEAGE_NAMESPACE", "namespace of the jobs in OpenLineage events", "fuseml")
    provenance_key: str = _setting(
        "FUSEML_PROVENANCE_KEY",
        "private key that signs the provenance of artifacts: Ed25519, in PEM (`openssl genpkey -algorithm ed25519`); unset: none is given, "
        "except by `fuseml up`, which derives a key from its own",
        secret=True,
    )
    contents_url: str = _setting(
        "FUSEML_CONTENTS_URL",
        "where the logs of runs stay: `s3://BUCKET/PREFIX` or `file:///FOLDER`; unset: with the pods, as long as these do",
    )
    engine_days: str = _setting(
        "FUSEML_ENGINE_DAYS",
        "when the engine forgets a finished run, on a cluster its PipelineRun with pods, volume and Secret: `kept`, as soon as its logs "
        "are in the contents (without contents after 7 days), or a number of days, to look at pods and volume meanwhile; 0: never",
        ONCE_KEPT,
    )
    log_days: str = _setting("FUSEML_LOG_DAYS", "days that the logs of finished runs are kept in the contents; 0: for ever", "365")
    s3_endpoint: str = _setting("AWS_ENDPOINT_URL_S3", "address of an S3 server; unset: Amazon's")
    s3_region: str = _setting("AWS_REGION", "region of the bucket", "us-east-1")
    s3_addressing: str = _setting(
        "FUSEML_S3_ADDRESSING", "how the bucket is named: `path` or `virtual` (in the host); unset: `path` where there is an address"
    )
    s3_access_key: str = _setting("AWS_ACCESS_KEY_ID", "account at the S3 server; unset: the identity of the process", secret=True)
    s3_secret_key: str = _setting("AWS_SECRET_ACCESS_KEY", "its secret", secret=True)
    s3_session_token: str = _setting("AWS_SESSION_TOKEN", "its token, where credentials are temporary", secret=True)
    functions_url: str = _setting(
        "FUSEML_FUNCTIONS_URL",
        "address of a function as the gateway sees it, with `{function}` for the name of its service",
        "http://{function}.fuseml.svc.cluster.local",
    )
    serving_image: str = _setting(
        "FUSEML_SERVING_IMAGE", "image of the model server, with which applications are served as Knative Services; unset: they are not"
    )
    mlserver_image: str = _setting(
        "FUSEML_MLSERVER_IMAGE",
        "image of MLServer with FuseML's steps, for applications whose model server is `mlserver`; unset: only images of codesets have it",
    )
    git_image: str = _setting(
        "FUSEML_GIT_IMAGE", "image with git and a shell, which clones codesets before the steps of a run", "docker.io/alpine/git:2.49.1"
    )
    functions_image: str = _setting(
        "FUSEML_FUNCTIONS_IMAGE",
        "image of the functions, which also checks the outputs of steps in their pods",
        "ghcr.io/fuseml/functions:0.1.0",
    )
    build_image: str = _setting(
        "FUSEML_BUILD_IMAGE",
        "image with buildah, which builds the image outputs of steps, and images of runnables with `RUN`",
        "quay.io/containers/buildah:v1.42.1",
    )
    image_builds: str = _setting(
        "FUSEML_IMAGE_BUILDS",
        "`yes`: steps may build images (`image` under an output, `RUN` in the Dockerfile of a runnable), in a privileged container, which "
        "Pod Security `restricted` refuses",
    )
    step_memory: str = _setting("FUSEML_STEP_MEMORY", "memory limit of a step that declares none, as a Kubernetes quantity", "4Gi")
    registry: str = _setting(
        "FUSEML_REGISTRY",
        "mirror, `HOST[:PORT][/PATH]`, from which runs pull the images that workflows name as `ghcr.io/fuseml/...`; unset: none",
    )
    trainer_image: str = _setting(
        "FUSEML_TRAINER_IMAGE",
        "image in which codesets are trained whose requirements the builder's own environment meets; of the same make as the builder's",
        "ghcr.io/fuseml/mlflow-trainer:v1",
        steps=True,
    )
    image_repository: str = _setting(
        "FUSEML_IMAGE_REPOSITORY",
        "where the builder puts images for other codesets, e.g. `registry.example.com/team/environments`; unset: they are refused",
        steps=True,
    )
    plain_registries: str = _setting(
        "FUSEML_PLAIN_REGISTRIES", "image registries that builders speak plain HTTP with, `HOST[:PORT]`, comma separated", steps=True
    )
    accelerator: str = _setting(
        "FUSEML_ACCELERATOR",
        "builds of PyTorch in environments of codesets: `cpu`, `cu128`, `rocm6.3`, ..., `index` for those of the package index; "
        "unset: those of the machine that builds; a step's input `accelerator` takes precedence",
        steps=True,
    )
    git_object_mib: str = _setting("FUSEML_GIT_OBJECT_MIB", "`fuseml up`: the largest file that a push may have, in MiB", "100")
    git_pack_mib: str = _setting(
        "FUSEML_GIT_PACK_MIB", "`fuseml up`: MiB of all files of one push, uncompressed, and of one file of Git LFS", "8192"
    )
    checkout_files: str = _setting("FUSEML_CHECKOUT_FILES", "`fuseml up`: files and folders of a commit that a run may check out", "200000")
    environments_gib: str = _setting(
        "FUSEML_ENVIRONMENTS_GIB",
        "`fuseml up`: GiB that environments of codesets may take; the least recently used ones that nothing needs are removed",
        "50",
    )
    checkout_mib: str = _setting("FUSEML_CHECKOUT_MIB", "`fuseml up`: MiB of the files of a commit that a run may check out", "16384")
    namespace: str = _setting("FUSEML_WORKLOADS_NAMESPACE", "namespace of the workloads", "fuseml-workloads")

    @staticmethod
    def from_env(env: Mapping[str, str]) -> Settings:
        """Read the known variables of `env`. A log record names unknown `FUSEML_` variables: typing errors, or of another version.

        They are no failure: during a deployment, pods of the previous version start with the new configuration.
        """
        fields = {f.metadata["variable"]: f.name for f in dataclasses.fields(Settings)}
        unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in fields)
        if unknown:
            _LOG.warning("settings %s are not known to this version and have no effect", ", ".join(unknown))
        return Settings(**{fields[name]: value for name, value in env.items() if name in fields})

    @staticmethod
    def known(env: Mapping[str, str]) -> Settings:
        """As `from_env`, for the environment of a user's process: its other `FUSEML_` variables belong to the command."""
        return Settings.from_env({name: value for name, value in env.items() if name in DESCRIPTIONS})

    def require(self, *names: str) -> Settings:
        """This object, if all the named fields are set. Raises PermanentError that names the missing variables."""
        missing = [f.metadata["variable"] for f in dataclasses.fields(self) if f.name in names and not getattr(self, f.name)]
        if missing:
            raise errors.PermanentError(f"missing settings: {', '.join(missing)}")
        return self

    def for_steps(self) -> dict[str, str]:
        """The settings of the built-in steps, as the environment of a step's container."""
        values = {f.metadata["variable"]: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["steps"]}
        return {variable: value for variable, value in values.items() if value}

    def days(self, name: str) -> int:
        """The named field as a number of days. Raises PermanentError that names the variable."""
        return self._number(name, "days")

    def bound(self, name: str, unit: str) -> int:
        """The named field as a bound, a number above 0 of `unit`. Raises PermanentError that names the variable."""
        return self._number(name, unit, 1)

    def _number(self, name: str, unit: str, least: int = 0) -> int:
        text: str = getattr(self, name)
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least):
            raise errors.PermanentError(
                f"{self._variable(name)} must be a number of {unit}{' above 0' if least else ''}, not {text[:80]!r}"
            )
        return int(text)

    def function_url(self, service: str) -> str:
        """The address of a function, named by its service."""
        return self.functions_url.replace("{function}", service)

    def engine_retention(self) -> int | None:
        """The days after which the engine forgets a run; None for as soon as its logs are kept. Raises PermanentError."""
        return None if self.engine_days == ONCE_KEPT else self.days("engine_days")

    def flag(self, name: str) -> bool:
        """The named field as a switch: `yes`, or empty. Raises PermanentError that names the variable."""
        text: str = getattr(self, name)
        if text not in ("", "yes"):
            raise errors.PermanentError(f"{self._variable(name)} must be `yes` or unset, not {text!r}")
        return text == "yes"

    def _variable(self, name: str) -> str:
        (variable,) = (str(f.metadata["variable"]) for f in dataclasses.fields(self) if f.name == name)
        return variable

    def keys(self) -> list[str]:
        """The secret keys, newest first."""
        return _listed(self.secret_keys)

    def keys_of_events(self) -> list[str]:
        """The keys that sign events, newest first."""
        return _listed(self.event_keys)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


DESCRIPTIONS: Mapping[str, str] = types.MappingProxyType({f.metadata["variable"]: f.metadata["text"] for f in dataclasses.fields(Settings)})
"""Environment variable -> its meaning."""

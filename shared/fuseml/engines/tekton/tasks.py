"""The tasks of a run: clone a codeset, run a step, build an image. FuseML's own scripts read their input from the environment."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence

from fuseml.domain import errors, images, labels, plans
from fuseml.domain.plans import combinations, image_building, transfers
from fuseml.engines import check
from fuseml.engines.tekton import amounts, artifacts, builds, events, names, settings, values
from fuseml.engines.tekton.values import Object

WORKSPACE = "source"
RESULTS = artifacts.RESULTS
DIGEST_SUFFIX = "-digest"
"""Suffix of the result with the digest of an image output."""

_SCRIPT_FOLDER = "/fuseml"
_FILES_FOLDER = "/fuseml-files"
_BUILD_FOLDER = builds.FOLDER
_SECRETS_FOLDER = "/fuseml-secrets"
_CLONE_RETRIES = 2


# A later step may run as a different user than the clone, hence the umask.
CLONE = """\
#!/bin/sh
set -eu
umask 0
find . -mindepth 1 -delete
git init --quiet .
# Not every git host serves a commit by its id; its branch or tag contains it, too.
git fetch --quiet --no-tags --depth 1 -- "$GIT_URL" "$GIT_COMMIT" || git fetch --quiet --no-tags -- "$GIT_URL" "$GIT_REF"
git checkout --quiet --detach "$GIT_COMMIT"
# Addresses of submodules and of Git LFS are relative to that of the codeset. The trainer reports empty submodules.
git config remote.origin.url "$GIT_URL"
if [ -f .gitmodules ]; then
  export GIT_ALLOW_PROTOCOL=https:http
  # One by one: git checks out none if it cannot fetch one of them.
  git config --file .gitmodules --get-regexp '[.]path$' | while read -r key path; do
    git submodule --quiet update --init --recursive --depth 1 -- "$path" || git submodule --quiet update --init --recursive -- "$path" \\
      || echo "the submodule $path cannot be fetched" >&2
  done
  unset GIT_ALLOW_PROTOCOL
fi
lfs_setting() { git config --file .lfsconfig "lfs.$1" || true; }
pointer='version https://git-lfs.github.com/spec/v1'
if git grep --quiet 'filter=lfs' -- '.gitattributes' '*/.gitattributes' && git grep --quiet --fixed-strings "$pointer"; then
  if ! git lfs version > /dev/null 2>&1; then
    echo "the codeset uses Git LFS, and the image of the setting FUSEML_GIT_IMAGE has no git-lfs: set one that has it" >&2
    exit 1
  fi
  git lfs install --local --skip-repo
  if ! git lfs pull; then
    # Only wanted files are looked at: a pointer stands for a content that is missing.
    missing=$(git lfs ls-files --include "$(lfs_setting fetchinclude)" --exclude "$(lfs_setting fetchexclude)" \\
      | sed -n 's/^[0-9a-f]* - //p' | head -n 1)
    way="push it with"
    case $(lfs_setting url) in
      '' | "$GIT_URL"*) ;;
      *) way="lfs.url in .lfsconfig names another server, which gets no credentials; remove it there and push the content with" ;;
    esac
    echo "the content of ${missing:-a file} (Git LFS) cannot be fetched: $way 'git lfs push --all $GIT_URL'," \\
      "or exclude it by lfs.fetchexclude in .lfsconfig" >&2
    exit 1
  fi
fi
git submodule --quiet foreach --recursive '
  if git grep --quiet "filter=lfs" -- ".gitattributes" "*/.gitattributes" && ! { git lfs install --local --skip-repo && git lfs pull; }; then
    echo "contents of Git LFS in the submodule $displaypath cannot be fetched: the files stay pointers" >&2
  fi
'
mkdir -p .fuseml
printf '%s' "$CODESET_PROJECT" > .fuseml/_org
printf '%s' "$CODESET_NAME" > .fuseml/_project
"""
_CHECK_FOLDERS = """\
printf '%s\\n' "$CODESET_FOLDERS" | while IFS= read -r folder; do
  if [ ! -d "$folder" ]; then echo "the codeset has no folder '$folder' at $GIT_COMMIT" >&2; exit 1; fi
done
"""
_CREDENTIAL_HELPER = """!f() { printf 'username=%s\\npassword=%s\\n' "$GIT_USERNAME" "$GIT_PASSWORD"; }; f"""

BUILD = f"""\
#!/bin/sh
set -eu
{builds.BUILDAH}\
if [ -z "$DOCKERFILE" ]; then DOCKERFILE=$(tail -n 1 {_BUILD_FOLDER}/output); fi
in_storage build --isolation chroot --network host --tls-verify="$VERIFY_REGISTRY" --file "$DOCKERFILE" --tag "$IMAGE" .
in_storage push --tls-verify="$VERIFY_REGISTRY" --digestfile {_BUILD_FOLDER}/digest "$IMAGE" "docker://$IMAGE"
printf '%s' "$IMAGE" > "{RESULTS}/$OUTPUT"
cat {_BUILD_FOLDER}/digest > "{RESULTS}/$OUTPUT{DIGEST_SUFFIX}"
"""
_CAPTURE = f'"$@" > {_BUILD_FOLDER}/output; cat {_BUILD_FOLDER}/output'


_CONFINED = artifacts.CONFINED
_HOME = artifacts.HOME
_USER = "fuseml"
"""The user's name: images do not know the user of the pod, and programs such as DVC end without a name."""


def clone(checkout: plans.Checkout, folders: Sequence[str], bundle: values.SecretBundle, settings: settings.Settings) -> Object:
    """The task that clones a codeset at its commit to the run's volume, with its identity files (step contract). It fails without one of
    the `folders` in which steps run: a container runtime would create an empty one.
    """
    configuration = {"safe.directory": "*"}
    credentials: list[Object] = []
    account = bundle.account(checkout)
    if account is not None:
        # Submodules of other hosts get no credentials.
        host = urllib.parse.urlsplit(checkout.url)
        configuration[f"credential.{host.scheme}://{host.netloc}.helper"] = _CREDENTIAL_HELPER
        for name, key in zip(("GIT_USERNAME", "GIT_PASSWORD"), account, strict=True):
            credentials.append({"name": name, "valueFrom": bundle.reference(key)})
    variables = {
        "GIT_URL": checkout.url,
        "GIT_COMMIT": checkout.commit,
        "GIT_REF": checkout.ref,
        "CODESET_PROJECT": checkout.project,
        "CODESET_NAME": checkout.codeset,
        **({"CODESET_FOLDERS": "\n".join(folders)} if folders else {}),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(configuration)),
    }
    for number, (key, value) in enumerate(configuration.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    writer = values.Writer(bundle, values.Parameters({}), {name: plans.text(value) for name, value in variables.items()})
    container = {
        "name": "clone",
        "image": settings.git_image,
        "workingDir": f"$(workspaces.{WORKSPACE}.path)",
        "script": CLONE + (_CHECK_FOLDERS if folders else ""),
        "env": credentials + writer.environment(),
        "computeResources": amounts.AUXILIARY,
        "securityContext": _CONFINED,
    }
    name = names.clone(checkout)
    return {
        "name": name,
        "workspaces": [{"name": WORKSPACE, "workspace": WORKSPACE, "subPath": name}],
        "retries": _CLONE_RETRIES,
        "taskSpec": {"workspaces": [{"name": WORKSPACE}], "steps": [container]},
    }


def step(
    step: plans.StepPlan,
    plan: plans.Plan,
    task: str,
    parameters: values.Parameters,
    bundle: values.SecretBundle,
    settings: settings.Settings,
) -> Object:
    """The task that runs a step or builds its image, without `runAfter` and `when`. Its artifacts are moved by containers of the same pod."""
    results = [output.name for output in step.outputs]
    built = next((output for output in step.outputs if output.image is not None), None)
    conversion = artifacts.converting(step, plan, parameters, bundle, settings)
    volumes: list[Object]
    if conversion:
        containers, volumes = [conversion], []
    elif built is not None and built.image is not None:
        containers, volumes = _build(step, built.name, built.image, parameters, bundle, settings)
        results.append(f"{built.name}{DIGEST_SUFFIX}")
    else:
        containers, volumes = _run(step, task, parameters, bundle, settings)
        if image_building.builds(step):
            containers, volumes = builds.containers(containers[0], settings)
    if (step.fetches or step.collects) and not conversion:
        containers, more = artifacts.around(step, plan, containers, parameters, bundle, settings)
        volumes += more
    if results:
        checking = artifacts.collecting(step, plan, parameters, bundle)
        types = {output.name: output.type for output in step.outputs if output.type}
        containers.append(_check(results, types, combinations.output_limit(step), bundle, settings, checking))
        volumes += _secrets(bundle)
    spec: Object = {
        "params": [{"name": name, "type": "string"} for name in parameters.results],
        "workspaces": [{"name": f"code-{index}", "mountPath": item.path} for index, item in enumerate(step.checkouts)],
        "results": [_result(name, number) for number, name in enumerate(results)] + _hints(step, results),
        "volumes": volumes,
        "steps": containers,
    }
    result: Object = {
        "name": task,
        "params": [{"name": name, "value": reference} for name, reference in parameters.results.items()],
        "workspaces": [
            {"name": f"code-{index}", "workspace": WORKSPACE, "subPath": names.clone(item)} for index, item in enumerate(step.checkouts)
        ],
        "retries": step.retries,
        # Without one Tekton ends a task after an hour; a training may take longer.
        "timeout": f"{step.timeout or 0}s",
        "taskSpec": {key: value for key, value in spec.items() if value},
    }
    return {key: value for key, value in result.items() if value}


def image_of(plan: plans.Plan, name: plans.Value) -> tuple[str, str]:
    """The step and output that build the image of this name. Raises PermanentError without one: in Tekton, a task must write each output."""
    for step in plan.steps:
        for output in step.outputs:
            if output.image is not None and output.image.name == name:
                return step.name, output.name
    raise errors.PermanentError(f"run {plan.run}: Tekton cannot combine texts in an output of the run; use the output of one step")


def _run(
    step: plans.StepPlan, task: str, parameters: values.Parameters, bundle: values.SecretBundle, settings: settings.Settings
) -> tuple[list[Object], list[Object]]:
    """The containers of a step and their volumes."""
    writer = values.Writer(bundle, parameters, _variables(step, settings))
    container = _container(step, writer, "run", settings)
    volumes: list[Object] = []
    mounts: list[Object] = []
    if step.files:
        # Tekton does not substitute variables there.
        keys = [{"key": bundle.file(task, item.name, item.text), "path": item.name} for item in step.files]
        volumes.append({"name": "files", "secret": {"secretName": bundle.name, "items": keys}})
        mounts.append({"name": "files", "mountPath": _FILES_FOLDER, "readOnly": True})
    _mount_credentials(step, bundle, volumes, mounts)
    is_mounted = bool(step.script) and values.needs_mount(step.script)
    if is_mounted:
        text = writer.plain(step.script)
        key = bundle.script(task, text if text.startswith("#!") else f"#!/bin/sh\nset -e\n{text}")
        items = [{"key": key, "path": "script", "mode": 0o555}]
        volumes.append({"name": "script", "secret": {"secretName": bundle.name, "items": items}})
        mounts.append({"name": "script", "mountPath": _SCRIPT_FOLDER, "readOnly": True})
    if mounts:
        container["volumeMounts"] = mounts
    if is_mounted:
        container["command"] = [f"{_SCRIPT_FOLDER}/script"]
    elif step.script:
        container["script"] = writer.plain(step.script)
    else:
        container["command"] = [writer.argument(value) for value in _command(step)]
    if step.args:
        container["args"] = [writer.argument(value) for value in step.args]
    container["env"] = writer.environment()
    return [container | {"computeResources": amounts.of_step(step, settings)}], volumes


def _build(
    step: plans.StepPlan,
    output: str,
    image: plans.ImageBuild,
    parameters: values.Parameters,
    bundle: values.SecretBundle,
    settings: settings.Settings,
) -> tuple[list[Object], list[Object]]:
    """The containers that build an image, and their volumes.

    As in the original (infra/platform-facts.md 6.3): without a Dockerfile, the program of the step runs first, and the last line of its
    output is the Dockerfile.
    """
    asked = amounts.of_step(step, settings)
    mounts: list[Object] = [{"name": "build", "mountPath": _BUILD_FOLDER}]
    volumes: list[Object] = [{"name": "build", "emptyDir": {}}]
    containers: list[Object] = []
    if not image.dockerfile:
        writer = values.Writer(bundle, parameters, _variables(step, settings))
        prepare = _container(step, writer, "prepare", settings)
        program = [writer.argument(value) for value in (*_command(step), *step.args)]
        own = [*mounts]
        _mount_credentials(step, bundle, volumes, own)
        prepare |= {"command": ["/bin/sh", "-ec", _CAPTURE, "prepare", *program], "env": writer.environment(), "volumeMounts": own}
        prepare["computeResources"] = asked
        containers.append(prepare)
    variables = {
        "IMAGE": image.name,
        "DOCKERFILE": image.dockerfile,
        "OUTPUT": plans.text(output),
        "VERIFY_REGISTRY": plans.text("true" if settings.verify_registry else "false"),
    }
    build = {
        "name": "build",
        "image": settings.build_image,
        "workingDir": step.checkouts[0].directory,
        "script": BUILD,
        "env": values.Writer(bundle, parameters, variables).environment(),
        "volumeMounts": mounts,
        # A pod holds the devices of all its containers, and only the step's program needs them.
        "computeResources": amounts.without_devices(asked) if containers else asked,
        "securityContext": builds.PRIVILEGED,
    }
    return [*containers, build], volumes


def _mount_credentials(step: plans.StepPlan, bundle: values.SecretBundle, volumes: list[Object], mounts: list[Object]) -> None:
    """Add the volume with the secrets that the step gets as files, and its mount in the container of the step's program."""
    items = [{"key": bundle.secret(part), "path": part.path, "mode": 0o400} for part in plans.secret_files(step)]
    if items:
        volumes.append({"name": "credentials", "secret": {"secretName": bundle.name, "items": items}})
        mounts.append({"name": "credentials", "mountPath": values.CREDENTIALS_FOLDER, "readOnly": True})


def _check(
    written: Sequence[str],
    types: Mapping[str, str],
    limit: int,
    bundle: values.SecretBundle,
    settings: settings.Settings,
    collecting: Object,
) -> Object:
    """The container that publishes the outputs, of at most `limit` bytes together, after it has stored the artifacts of the step by
    `collecting`, if there are any.

    Tekton reports the results of this container only: those of a task without a `value` are read from the files of every container, and so
    before a check.
    """
    accepted = [_accepted(number) for number in range(len(written))]
    files = [f"$(step.results.{name}.path)" for name in (events.PROBLEM, *accepted)]
    secrets = _SECRETS_FOLDER if bundle.secret_keys else ""
    container: Object = {
        "name": events.CHECK_CONTAINER,
        "image": settings.check_image,
        "command": ["python3", "-P", "-m", transfers.COLLECT_MODULE if collecting else check.MODULE],
        "args": check.arguments(RESULTS, secrets, files[0], list(zip(written, files[1:], strict=True)), types, limit),
        "results": [{"name": name, "type": "string"} for name in (events.PROBLEM, *accepted)],
        "computeResources": amounts.AUXILIARY,
        "securityContext": _CONFINED,
    }
    mounts = [*collecting.get("volumeMounts", []), *([{"name": "secrets", "mountPath": secrets, "readOnly": True}] if secrets else [])]
    return container | collecting | ({"volumeMounts": mounts} if mounts else {})


def _result(name: str, number: int) -> Object:
    return {"name": name, "type": "string", "value": f"$(steps.{events.CHECK_CONTAINER}.results.{_accepted(number)})"}


def _hints(step: plans.StepPlan, results: Sequence[str]) -> list[Object]:
    """The results by which Tekton Chains recognises what the step has made: the same texts under other names, which take no further room."""
    image = next((output.name for output in step.outputs if output.image is not None), None)
    named = (
        {"IMAGE_URL": image, "IMAGE_DIGEST": f"{image}{DIGEST_SUFFIX}"} if image else {"ARTIFACT_URI": "uri", "ARTIFACT_DIGEST": "digest"}
    )
    if not set(named.values()) <= set(results):
        return []
    return [_result(f"{labels.AUXILIARY_PREFIX}{hint}", results.index(str(name))) for hint, name in named.items()]


def _accepted(number: int) -> str:
    """The result of the checking container with the text of an output. A number, because the name of an output could be that of the problem."""
    return f"output-{number}"


def _secrets(bundle: values.SecretBundle) -> list[Object]:
    """The volume with all secrets of the run: an output of one step may contain the secret of another."""
    items = [{"key": key, "path": key} for key in bundle.secret_keys]
    return [{"name": "secrets", "secret": {"secretName": bundle.name, "items": items}}] if items else []


def _container(step: plans.StepPlan, writer: values.Writer, name: str, settings: settings.Settings) -> Object:
    image = images.installed(writer.plain(step.image), settings.mirror)
    container: Object = {"name": name, "image": image, "securityContext": _CONFINED}
    return container | {"workingDir": step.checkouts[0].directory} if step.checkouts else container


def _command(step: plans.StepPlan) -> Sequence[plans.Value]:
    return step.command or (plans.text("run"),)


def _variables(step: plans.StepPlan, settings: settings.Settings) -> dict[str, plans.Value]:
    installed = {
        "HOME": plans.text(_HOME),
        "USER": plans.text(_USER),
        **{name: plans.text(value) for name, value in settings.variables.items()},
    }
    return {
        **installed,
        **{variable.name: variable.value for variable in step.variables},
        **{item.variable: plans.text(f"{_FILES_FOLDER}/{item.name}") for item in step.files},
        "FUSEML_ENV_RESULTS": plans.text(RESULTS),
    }

"""Predictor step (`ghcr.io/fuseml/predictor`): registers the application that serves a model, and waits until it is ready.

FUSEML_PREVIEW is the name of a preview: the application gets it as a suffix, so that it replaces no other one.

Inputs: FUSEML_MODEL (model URI), FUSEML_APP_NAME (default `<project>-<codeset>-<workflow>`), FUSEML_RUNTIME (the model's environment, an
output of the builder; default the running one), FUSEML_PUBLIC (`true` or `false`: whether every caller gets predictions; default as before,
first not), FUSEML_FOLLOW (`true`: when the model's address moves to another version, the application follows), FUSEML_BATCH_SIZE (rows of
concurrent requests that are predicted together, default 1), FUSEML_BATCH_WAIT (milliseconds that a request waits for others), FUSEML_TIMEOUT
(seconds, default 300), FUSEML_FORMAT (of the model's files, by default found), FUSEML_PREDICTOR (the model server, default by the format),
FUSEML_RUNTIME_VERSION (its version), FUSEML_RESOURCES and FUSEML_RESOURCES_LIMITS (mappings in JSON or YAML), FUSEML_VERBOSE (`true`: log the
registration), FUSEML_SERVING_<SETTING> (settings of the tool that serves). From its prediction-serving extension: FUSEML_API_URL, FUSEML_API_TOKEN, and FUSEML_APPS_URL where the address of applications
is known before they are served (the embedded server); FUSEML_SERVING is the resource of the serving, default FuseML's own. From the
tracking extension: MLFLOW_TRACKING_URI and the variables of its clients (MLFLOW_TRACKING_..., AWS_..., AZURE_STORAGE_...), which the model
server gets too. Outputs: the prediction URL as the first one, `model-version` and `model-digest` of the served model, empty if unknown.

A URI that can move, such as `models:/wine@champion`, is resolved first: the application serves the version of that moment. The application
keeps its name from run to run, so its URL is stable and the new model replaces the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.parse

from fuseml.steps import model_digest, sdk, served_files, tracking
from fuseml.steps.application_state import ApiProbe, ClientProbe, wait_for

_LONGEST_NAME = 63
_OPTION = "FUSEML_SERVING_"
_HOST_RUNTIME = "fuseml.local/mlflow-trainer:host"
_LONGEST_WAIT = 60_000  # milliseconds, as the model server has it
# Variables of the clients of a tracking server and its artifact store; those of MLflow's own server are left out.
# The model server has an address and certificates of its own.
_OWN = ("MLFLOW_TRACKING_URI", "AWS_CA_BUNDLE")
_FORWARDED = ("MLFLOW_TRACKING_", "MLFLOW_S3_", "AWS_", "AZURE_STORAGE_")


def main() -> None:
    """Register the application and wait until it is ready."""
    context = sdk.context()
    requested = sdk.input("model")
    model = tracking.exact(requested, os.environ)
    preview = os.environ.get("FUSEML_PREVIEW", "")
    name = sdk.input("app-name", application_name(context.project, context.codeset or model_name(model), context.workflow))
    if name != application_name(name):
        raise sdk.StepError(
            f"the input 'app-name' is '{name}': use lower-case letters, digits and '-', at most {_LONGEST_NAME}, starting with a letter"
        )
    name = application_name(name, preview)
    serving = sdk.input("serving", served_files.OWN)
    api, token = _setting("FUSEML_API_URL"), os.environ.get("FUSEML_API_TOKEN") or None
    # The address of applications that FuseML serves itself.
    apps = os.environ.get("FUSEML_APPS_URL", "").rstrip("/") if serving == served_files.OWN else ""
    timeout = _seconds(sdk.input("timeout", "300"))
    application: dict[str, object] = {
        "name": name,
        "type": "predictor",
        "description": f"{model}, trained by {context.run or 'hand'} from {context.project}/{context.codeset}",
        "url": f"{apps}/{name}/v2/models/{name}/infer" if apps else "",
        "workflow": context.workflow,
        "k8s_namespace": "",
        "k8s_resources": [],
        "project": context.project,
        "codeset": context.codeset,
        "run": context.run,
        "model": model,
        "runtime": sdk.input("runtime", _HOST_RUNTIME),
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI", ""),
        "served_by": serving,
        "environment": {
            variable: value
            for variable, value in os.environ.items()
            # The step's own token ends with the step.
            if variable.startswith(_FORWARDED) and variable not in _OWN and value != token
        }
        | _batching(),
        **served_files.of_step(model, name, serving).fields(),
        **_server_settings(),
    }
    if preview:
        application["preview"] = preview
    follow = _switch("follow")
    if requested != model:
        application["requested"] = requested
    if follow:
        application["follow"] = True
    public = _switch("public")
    if public is not None:
        application["public"] = public
    digest = _digest(model)
    if digest:
        application["digest"] = digest
    named = f"{requested}, now {model}" if requested != model else model
    sdk.say(f"application {name}: {named}{f' ({digest})' if digest else ''}")
    if _switch("verbose"):
        sdk.say(json.dumps({key: value for key, value in application.items() if key != "environment"}))
    registered = sdk.http("POST", f"{api}/applications", application, token=token)
    record = ApiProbe(f"{api}/applications/{name}", name, _revision(registered), token)
    probe: ClientProbe | ApiProbe = record
    if apps:
        # The token is for the API: another host that serves applications must not get it.
        own = token if urllib.parse.urlsplit(api)[:2] == urllib.parse.urlsplit(apps)[:2] else None
        probe = ClientProbe(f"{apps}/{name}", name, record, own)
    wait_for(probe, name, model, timeout)
    prediction_url = probe.prediction_url()
    version = model.rpartition("/")[2] if model.startswith("models:/") else ""
    outputs = {"model-version": version, "model-digest": digest, sdk.first_output("prediction-url"): prediction_url}
    for output, value in outputs.items():
        sdk.output(output, value)
    sdk.say(f"ready: {prediction_url}")


def _digest(model: str) -> str:
    """The digest with which the model was registered; empty if the tracking server gives none: FuseML's own record counts.

    A model in another store has no version, so the digest of its present files stands for one.
    """
    try:
        return tracking.digest_of(model, os.environ) if model.startswith("models:/") else model_digest.of_address(model)
    except sdk.HttpError as error:
        sdk.say(f"note: the digest of {model} is not known here: {error}")
        return ""
    except Exception as error:  # of MLflow and its stores
        sdk.say(f"note: {model} is served without a check of its files, which cannot be read here: {type(error).__name__}: {error}")
        return ""


def model_name(model: str) -> str:
    """The name of a registered model, `models:/<name>/<version>`; empty for other addresses, which change with each version."""
    match = re.fullmatch(r"models:/([^/@]+)/[^/]+", model)
    return match[1] if match else ""


def application_name(*parts: str) -> str:
    """The parts as one DNS label: at most 63 lower-case letters, digits and `-`, beginning with a letter (RFC 1123, Kubernetes services).

    Empty parts are left out. A changed name ends in a hash of the original, which keeps the projects `a_b` and `a-b` apart.
    """
    whole = "-".join(part for part in parts if part)
    if re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", whole) and len(whole) <= _LONGEST_NAME:
        return whole
    name = re.sub(r"^(?![a-z])", "app-", re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-"))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def _revision(registered: object) -> int:
    revision = registered.get("revision") if isinstance(registered, dict) else None
    if not isinstance(revision, int):
        raise sdk.StepError(f"the API returned no revision of the application: {registered}")
    return revision


def _setting(name: str) -> str:
    value = os.environ.get(name, "").rstrip("/")
    if not value:
        raise sdk.StepError(f"{name} is not set: give the workflow step an extension with the service category prediction-serving")
    return value


def _switch(name: str) -> bool | None:
    """The input as a switch; None without a value."""
    text = sdk.input(name, "").lower()
    if text not in ("", "true", "false"):
        raise sdk.StepError(f"the input '{name}' must be true or false, not '{text}'")
    return None if not text else text == "true"


def _batching() -> dict[str, str]:
    """The variables of the model server for the inputs batch-size and batch-wait; none without values."""
    size, wait = sdk.input("batch-size", ""), sdk.input("batch-wait", "")
    if size and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise sdk.StepError(f"the input 'batch-size' must be a number of rows, not '{size}'")
    if wait and not (wait.isascii() and wait.isdigit() and int(wait) <= _LONGEST_WAIT):
        raise sdk.StepError(f"the input 'batch-wait' must be a number of milliseconds, at most {_LONGEST_WAIT}, not '{wait}'")
    given = {"FUSEML_BATCH_SIZE": size, "FUSEML_BATCH_WAIT": wait}
    return {variable: value for variable, value in given.items() if value}


def _server_settings() -> dict[str, object]:
    """The version and the resources of the model server, and settings of the tool that serves; none without values."""
    version = sdk.input("runtime-version", sdk.input("ovms-image-tag", ""))
    resources = {kind: amounts for kind, amounts in _amounts("resources").items() if kind in ("requests", "limits")}
    limits = _amounts("resources-limits")
    if limits:
        resources["limits"] = limits
    options = {
        variable[len(_OPTION) :].lower().replace("_", "-"): value
        for variable, value in os.environ.items()
        if variable.startswith(_OPTION) and value
    }
    given = {"runtime_version": version, "resources": resources, "options": options}
    return {name: value for name, value in given.items() if value}


def _amounts(name: str) -> dict[str, object]:
    """The input as a mapping, in JSON or YAML. The amounts of resources are text."""
    text = sdk.input(name, "")
    if not text:
        return {}
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise sdk.StepError(f"the input '{name}' must be a mapping in JSON or YAML, such as {{\"memory\": \"2Gi\"}}, not '{text[:100]}'")
    return {
        str(key): {str(resource): str(amount) for resource, amount in value.items()} if isinstance(value, dict) else str(value)
        for key, value in found.items()
    }


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise sdk.StepError(f"the input 'timeout' must be a number of seconds, not '{text}'")
    return seconds


if __name__ == "__main__":
    sdk.run(main)

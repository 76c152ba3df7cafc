"""Every warning, its remedy, and errors as findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseml.domain.registry.selector import Binding
from fuseml.domain.workflows import lint, loading
from tests.unit import workflow_examples as examples

USED = "inputs:\n- {name: p, value: '{{ inputs.predictor }}'}\n- {codeset: {name: code}}\n"


def warnings(body: str, bindings: dict[str, Binding] | None = None, *unresolved: lint.Unresolved, header: str | None = None) -> list[str]:
    text = examples.step(body) if header is None else examples.step(body, header=header)
    findings = lint.lint_text(text, {"train": bindings} if bindings else None, unresolved)
    assert all(finding.level == "warning" for finding in findings), findings
    return [f"{finding.path}: {finding.message}" for finding in findings]


@pytest.mark.parametrize("path", examples.SHIPPED, ids=lambda path: path.stem)
def test_shipped_workflows_have_no_warnings(path: Path) -> None:
    assert [finding for finding in lint.lint_text(path.read_text()) if finding.level != "note"] == []


def test_a_workflow_that_uses_its_inputs_has_no_warnings() -> None:
    assert warnings(USED) == []


def test_unused_inputs_are_named() -> None:
    assert warnings("") == ["inputs[0].name: no step uses the input 'predictor'", "inputs[1].name: no step uses the input 'code'"]


def test_a_name_of_a_matrix_that_the_step_does_not_read_is_named() -> None:
    found = warnings(
        "matrix: {values: {alpha: [1, 2], seed: [1, '{{ inputs.p }}']}}\nargs: ['{{ matrix.alpha }}']",
        header="inputs: [{name: p, default: 2}]",
    )
    assert found == [
        "steps[0].matrix.values.seed: the step does not read '{{ matrix.seed }}', so combinations differ in name only",
    ]


def test_every_kind_of_use_is_recognised() -> None:
    header = "inputs: [{name: a, default: 1}, {name: b, default: 1}, {name: code, type: codeset}]"
    assert (
        warnings(
            "script: 'echo {{ inputs.a }}'\nenv:\n- {name: B, value: inputs.b}\n- {name: C, value: '{{inputs.code.version}}'}",
            header=header,
        )
        == []
    )


def test_a_use_in_the_concurrency_group_is_recognised() -> None:
    header = 'inputs: [{name: stage, default: test}]\nconcurrency: {group: "gpu-{{ inputs.stage }}"}'
    assert warnings("", header=header) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("cache: true", []),
        ("cache: true\napproval: {}", ["steps[0].cache: the step requires an approval in every run, so it is never reused"]),
        ("approval: {}", []),
    ],
)
def test_a_cache_without_effect_is_reported(fields: str, expected: list[str]) -> None:
    assert warnings(fields, header="") == expected


@pytest.mark.parametrize("use", ["needs: [a]", 'env: [{name: X, value: "{{ steps.a.outputs.o }}"}]'])
@pytest.mark.parametrize(("fields", "is_reported"), [("", True), ("approval: {}, cache: true", True), ("cache: true", False)])
def test_a_cache_after_an_always_executed_step_is_reported(use: str, fields: str, is_reported: bool) -> None:
    text = (
        f"name: w\nsteps:\n- {{name: a, image: 'x:1', outputs: [{{name: o}}], {fields}}}\n- {{name: b, image: 'x:1', cache: true, {use}}}\n"
    )
    findings = [str(finding) for finding in lint.lint_text(text) if finding.path.startswith("steps[1]")]
    assert bool(findings) is is_reported
    assert all("the step waits for 'a', which every run executes" in line for line in findings)


@pytest.mark.parametrize(
    ("failure", "later", "is_reported"),
    [
        ("ask", "", True),
        ("ask", "approval: {message: '{{ steps.gate.outputs.passed }}?'}", True),
        ("ask", "approval: {when: [{input: '{{ steps.gate.outputs.passed }}', values: ['false']}]}", False),
        ("ask", "when: [{input: '{{ steps.gate.outputs.passed }}', values: ['true']}]", False),
        ("fail", "", False),
    ],
)
def test_a_failure_that_no_condition_reads_is_reported(failure: str, later: str, is_reported: bool) -> None:
    gate = f"{{name: gate, image: 'e:1', inputs: [{{name: on-failure, value: {failure}}}], outputs: [{{name: passed}}]}}"
    findings = [str(finding) for finding in lint.lint_text(f"name: w\nsteps:\n- {gate}\n- {{name: serve, image: 's:1', {later}}}\n")]
    assert [line for line in findings if "no condition reads the output 'passed' of 'gate'" in line] == findings
    assert bool(findings) is is_reported


def test_an_output_without_a_producer_is_reported() -> None:
    header = "outputs: [{name: url}, {name: model}]"
    assert warnings("outputs: [{name: model}]", header=header) == [
        "outputs[0].name: no step has an output named 'url', so this output of the workflow stays empty"
    ]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("python", "no tag"),
        ("registry:5000/team/trainer", "no tag"),
        ("python:latest", "the tag 'latest'"),
        ("python:3.12", None),
        ("registry:5000/team/trainer:1", None),
        ("python@sha256:0123", None),
        ("'{{ inputs.image }}'", None),
    ],
)
def test_an_image_without_a_fixed_tag_is_reported(image: str, reason: str | None) -> None:
    text = (
        f"name: x\ninputs: [{{name: image, default: a}}]\nsteps:\n- name: a\n  image: {image}\n  env: [{{name: I, value: inputs.image}}]\n"
    )
    messages = [finding.message for finding in lint.lint_text(text)]
    assert len(messages) == (1 if reason else 0)
    assert all(str(reason) in message for message in messages)


def test_a_secret_in_an_input_is_reported() -> None:
    body = (
        USED + "- {name: key, value: '{{ extension.store.cfg.AWS_SECRET_ACCESS_KEY }}'}\nextensions: [{name: store, service_resource: s3}]"
    )
    where = "steps[0].inputs[2].value: 'AWS_SECRET_ACCESS_KEY'"
    (guess,) = warnings(body)
    assert guess.startswith(f"{where} looks like a secret")
    (certain,) = warnings(body, {"store": examples.binding("store")})
    assert certain.startswith(f"{where} is a secret")
    assert warnings(body, {"store": examples.binding("store", secret_keys=[])}) == []


def test_a_secret_in_plain_text_is_reported() -> None:
    (warning,) = warnings(
        USED + "env:\n- {name: AWS_SECRET_ACCESS_KEY, value: hunter2}\n- {name: AWS_ACCESS_KEY_ID, value: x}\n- {name: TOKEN, value: ''}"
    )
    assert warning.startswith("steps[0].env[0].value: 'AWS_SECRET_ACCESS_KEY' looks like a secret")
    assert "hunter2" not in warning


def test_a_selector_without_criteria_is_reported() -> None:
    assert warnings(USED + "extensions: [{name: any}]") == [
        "steps[0].extensions[0]: the selector 'any' has no criteria, so it matches any service"
    ]


def test_withheld_credentials_are_reported() -> None:
    bound = examples.binding("store", withheld="it gives no credentials: it has some, and none apply to project demo")
    (warning,) = warnings(USED + "extensions: [{name: store, service_resource: s3}]", {"store": bound})
    assert (
        "the selector 'store' binds to mlflow-0001/mlflow-store: it gives no credentials: it has some, and none apply to project demo"
        in warning
    )


def test_an_ambiguous_selector_is_reported_with_its_ties() -> None:
    ambiguous = examples.binding("store", ambiguous_with=["minio-0002/s3"])
    (warning,) = warnings(USED + "extensions: [{name: store, service_resource: s3}]", {"store": ambiguous})
    assert "is ambiguous: only its id puts mlflow-0001/mlflow-store before minio-0002/s3" in warning
    assert "minio-0002/s3" in warning


def test_an_unresolved_selector_is_reported_with_its_explanation() -> None:
    messages = warnings(
        USED + "extensions: [{name: store, service_resource: s3}]",
        None,
        lint.Unresolved("train", "store", "no service has the resource s3"),
    )
    assert messages == ["steps[0].extensions[0]: the selector 'store' matches nothing now: no service has the resource s3"]


def test_conflicting_selectors_are_reported_unless_env_overrides_them() -> None:
    body = USED + "extensions:\n- {name: one, service_resource: s3}\n- {name: two, service_resource: s3}\n"
    one = examples.binding("one", configuration={"URL": "http://one", "SAME": "x"}, secret_keys=["TOKEN"])
    two = examples.binding("two", credentials_id="other", configuration={"URL": "http://two", "SAME": "x"}, secret_keys=["TOKEN"])
    bound = {"one": one, "two": two}
    assert warnings(body, bound) == [
        "steps[0].extensions[1]: 'two' and 'one' set TOKEN to different values; the later one, 'two', wins",
        "steps[0].extensions[1]: 'two' and 'one' set URL to different values; the later one, 'two', wins",
    ]
    assert warnings(body + "env:\n- {name: URL, value: x}\n- {name: TOKEN, value: inputs.predictor}", bound) == []
    assert warnings(body, {"one": one, "two": examples.binding("two", configuration={"URL": "http://one"}, secret_keys=["TOKEN"])}) == []


@pytest.mark.parametrize(
    ("resources", "found"),
    [
        ("limits: {nvidia.com/gpu: 0}", ["limits.nvidia.com/gpu: an amount of zero asks for no device"]),
        (
            "limits: {memory: 0Gi, cpu: '0.0'}",
            ["limits.memory: an amount of zero limits nothing", "limits.cpu: an amount of zero limits nothing"],
        ),
        ("requests: {cpu: 0m}", ["requests.cpu: an amount of zero reserves nothing"]),
        ("limits: {nvidia.com/gpu: '{{ inputs.predictor }}', cpu: 1n}", []),
    ],
)
def test_an_amount_of_zero_is_a_warning_and_no_note(resources: str, found: list[str]) -> None:
    findings = lint.lint_text(examples.step(f"{USED}resources: {{{resources}}}"))
    remedy = "remove it, or write the amount that the step needs"
    warned = [f"{item.path}: {item.message}" for item in findings if item.level == "warning"]
    assert warned == [f"steps[0].resources.{text}; {remedy}" for text in found]
    assert [item.level for item in findings if item.level == "note"] == (["note"] if "inputs" in resources else [])


def test_a_note_says_which_devices_a_step_has_alone() -> None:
    body = USED + "resources: {requests: {cpu: 1}, limits: {memory: 1Gi, nvidia.com/gpu: 1, amd.com/gpu: '{{ inputs.predictor }}'}}"
    notes = [str(finding) for finding in lint.lint_text(examples.step(body)) if "device" in finding.message]
    (note,) = notes
    assert note.endswith(
        "steps[0].resources.limits: note: the step waits until 1 nvidia.com/gpu, {{ inputs.predictor }} amd.com/gpu is free, and has it alone; "
        "steps that ask for no device see none"
    )


def test_findings_are_in_the_order_of_the_document() -> None:
    text = "name: x\ninputs:\n  - name: unused\n    default: 1\nsteps:\n  - name: a\n    image: python\n"
    findings = lint.lint_text(text)
    assert [(finding.line, finding.column) for finding in findings] == [(3, 5), (7, 5)]
    assert str(findings[0]) == "line 3, column 5: inputs[0].name: warning: no step uses the input 'unused'"


def test_errors_are_findings_and_hide_the_warnings() -> None:
    (finding,) = lint.lint_text("name: x\ninputs: [{name: unused}]\nsteps:\n- {name: a, imag: i, image: python}\n")
    assert (finding.level, finding.line, finding.suggestion) == ("error", 4, "image")
    assert str(finding) == "line 4, column 13: steps[0].imag: error: unknown key 'imag' (did you mean 'image'?)"


def test_without_positions_findings_keep_the_order_of_the_rules() -> None:
    workflow = loading.load("name: x\nsteps:\n- {name: a, image: python}\n")
    assert [finding.line for finding in lint.lint(workflow)] == [None]

"""Registry as code: `fuseml extension apply` as a command, against the application of the registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fuseml.domain import events
from tests.component import extensions_cli
from tests.component.extensions_app import Registry
from tests.component.extensions_cli import MINIO, MLFLOW, STORE, Run, error_output, ids, output, secrets_of, stored

registry, fuseml, folder = extensions_cli.registry, extensions_cli.fuseml, extensions_cli.folder


def test_a_folder_is_applied_and_applied_again_without_a_change(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml("apply", "-f", str(folder)) == 0
    lines = output(capsys).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "+ gitea is registered",
        "+ minio is registered",
        "+ mlflow is registered",
        "Done: 3 registered.",
    ]
    assert "    + version: 4.10" in lines
    assert "    + services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY: <hidden>" in lines
    assert secrets_of(registry) == {
        "AWS_ACCESS_KEY_ID": "canary-u",
        "AWS_SECRET_ACCESS_KEY": "canary-one",
        "NOTE": "${HOME} and $$ and ${other:thing} stay",
    }
    published = len(registry.published.events)
    assert fuseml("apply", "-f", str(folder)) == 0
    assert output(capsys).splitlines() == ["= gitea is unchanged", "= minio is unchanged", "= mlflow is unchanged", "Done: 3 unchanged."]
    assert {id: stored(registry, id)["revision"] for id in ("gitea", "minio", "mlflow")} == {"gitea": 1, "minio": 1, "mlflow": 1}
    assert len(registry.published.events) == published


def test_parts_that_a_file_no_longer_names_are_removed(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    fuseml("apply", "-f", str(folder))
    capsys.readouterr()
    changed = (
        MINIO.replace("      - url: http://minio.example.com\n", "").replace("4.10", "4.20").replace("    category: object-storage\n", "")
    )
    (folder / "tools.yaml").write_text(changed)
    (folder / "secrets/minio").write_text("canary-two")
    assert fuseml("apply", "-f", str(folder / "tools.yaml")) == 0
    assert output(capsys).splitlines() == [
        "~ minio is updated",
        "    ~ version: 4.10 -> 4.20",
        "    - services[s3].category: object-storage",
        "    - services[s3].endpoints[http://minio.example.com]",
        "    ~ services[s3].credentials[admin].configuration.AWS_SECRET_ACCESS_KEY: <hidden> (changed)",
        "Done: 1 updated.",
    ]
    assert stored(registry, "minio")["revision"] == 2
    assert secrets_of(registry)["AWS_SECRET_ACCESS_KEY"] == "canary-two"
    assert registry.published.events[-1].type == events.ExtensionUpdated.TYPE


def test_an_exported_record_can_be_applied(fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    fuseml("apply", "-f", str(folder))
    capsys.readouterr()
    assert fuseml("get", "minio", "-o", "yaml") == 0
    exported = output(capsys)
    assert yaml.safe_load(exported)["services"][0]["credentials"][0]["configuration"]["AWS_ACCESS_KEY_ID"] == "<hidden>"
    file = folder.parent / "exported.yaml"
    file.write_text(exported)
    before = stored(registry, "minio"), secrets_of(registry)
    assert fuseml("apply", "-f", str(file)) == 0
    assert output(capsys) == "= minio is unchanged\nDone: 1 unchanged.\n"
    file.write_text(exported.replace("version: '4.10'", "version: '4.11'"))
    assert fuseml("apply", "-f", str(file)) == 0
    assert "~ version: 4.10 -> 4.11" in output(capsys)
    assert (stored(registry, "minio")["version"], secrets_of(registry)) == ("4.11", before[1])


def test_a_dry_run_changes_nothing(fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    fuseml("register", "--id", "old")
    capsys.readouterr()
    assert fuseml("apply", "-f", str(folder), "--prune", "--dry-run") == 0
    lines = output(capsys).splitlines()
    assert "- old is deleted" in lines
    assert lines[-1] == "Dry run: 3 registered, 1 deleted."
    assert ids(registry) == ["fuseml", "old"]


def test_prune_deletes_other_records_except_the_servers_own(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    fuseml("register", "--id", "old")
    assert fuseml("apply", "-f", str(folder), "--prune", "--yes", "-o", "json") == 0
    assert ids(registry) == ["fuseml", "gitea", "minio", "mlflow"]
    printed = output(capsys).partition("\n")[2]
    assert [(item["extension_id"], item["change"]) for item in json.loads(printed)] == [
        ("gitea", "registers"),
        ("minio", "registers"),
        ("mlflow", "registers"),
        ("old", "removes"),
    ]


@pytest.mark.parametrize(("answer", "remaining"), [("y\n", []), ("n\n", ["old"]), ("", ["old"])])
def test_prune_asks_for_confirmation(answer: str, remaining: list[str], fuseml: Run, folder: Path, registry: Registry) -> None:
    fuseml("register", "--id", "old")
    assert fuseml.with_input(answer, "apply", "-f", str(folder / "more"), "--prune") == (1 if remaining else 0)
    assert ids(registry) == ["fuseml", *([] if remaining else ["gitea"]), *remaining]


def test_a_breaking_prune_is_refused_unless_forced(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    fuseml("apply", "-f", str(folder))
    registry.add_workflow("train", STORE)
    capsys.readouterr()
    more = str(folder / "more")
    assert fuseml("apply", "-f", more, "--prune", "--yes") == 1
    assert error_output(capsys).splitlines() == [
        "error: assigned workflows need extension minio: train/trainer 'store' would match nothing without it;"
        " use force to remove it anyway",
        "  train/trainer 'store' in project demo no longer resolves: the registry has no candidate for it",
    ]
    assert "minio" in ids(registry)
    assert fuseml("apply", "-f", more, "--prune", "--yes", "--force") == 0
    assert ids(registry) == ["fuseml", "gitea"]


def test_effects_on_workflows_are_listed_below_the_record(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add_workflow("train", STORE)
    fuseml("apply", "-f", str(folder))
    lines = output(capsys).splitlines()
    position = lines.index("  + train/trainer 'store' in project demo resolves now, to minio/s3 at http://minio.example.com as admin")
    assert lines[position + 1 : position + 4] == [
        "      + AWS_ACCESS_KEY_ID: <hidden>",
        "      + AWS_SECRET_ACCESS_KEY: <hidden>",
        "      + NOTE: <hidden>",
    ]


def test_missing_secrets_are_reported_with_file_and_field_before_any_change(
    fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "secrets/minio").unlink()
    file = folder / "tools.yaml"
    file.write_text(f"{MLFLOW}---\n{MINIO.replace('MINIO_USER', 'NOWHERE')}")
    assert fuseml("apply", "-f", str(folder)) == 1
    assert error_output(capsys).splitlines() == [
        f"error: {file} is not valid, 2 problems:",
        "  24:11: services[0].credentials[0].configuration.AWS_ACCESS_KEY_ID: minio: the environment variable 'NOWHERE' is not set",
        "  25:11: services[0].credentials[0].configuration.AWS_SECRET_ACCESS_KEY: minio: the file"
        f" {folder / 'secrets/minio'} cannot be read: No such file or directory",
    ]
    assert ids(registry) == ["fuseml"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("product: x\n", "1:1: id: is required: it identifies the record when the file is applied again"),
        ("id: gitea\n", "1:1: id: 'gitea' is already used in {folder}/more/gitea.json"),
        ("- id: x\n", "1:1: a record must be a mapping of keys to values"),
        ("---\nid: x\n---\nid: [\n", "5:1: "),
        (
            f"{MLFLOW}---\n{MINIO}        nonsense: ${{env:MINIO_USER}}\n",
            "27:9: services[0].credentials[0].nonsense: unknown key 'nonsense'",
        ),
        ("id: x\nservices: [{resource: s3}]\n", "2:12: services[0].id: is required in a record that replaces the stored one"),
    ],
)
def test_problems_of_a_file_are_reported_with_their_position_before_any_change(
    text: str, problem: str, fuseml: Run, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "tools.yaml"
    file.write_text(text)
    assert fuseml("apply", "-f", str(folder)) == 1
    assert error_output(capsys).startswith(f"error: {file}:{problem.format(folder=folder)}")
    assert ids(registry) == ["fuseml"]


def test_records_are_read_from_standard_input(fuseml: Run, registry: Registry) -> None:
    assert fuseml.with_input(MINIO.replace("file:secrets/minio", "env:MINIO_USER"), "apply", "-f", "-") == 0
    assert secrets_of(registry)["AWS_SECRET_ACCESS_KEY"] == "canary-u"


def test_a_folder_without_records_is_refused_even_with_prune(fuseml: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert fuseml("apply", "-f", str(tmp_path / "empty"), "--prune", "--yes") == 1
    assert "contains no record" in error_output(capsys)


def test_a_record_that_changed_meanwhile_is_not_overwritten(folder: Path, registry: Registry, fuseml: Run) -> None:
    fuseml("apply", "-f", str(folder))
    plan = registry.client.post("/extensions/plan?replace=true", json={"id": "gitea"}).get_json()
    registry.client.put("/extensions/gitea", json={"version": "1.2"})
    stale = registry.client.put("/extensions/gitea?replace=true", json={"id": "gitea"}, headers={"If-Match": f'"{plan["revision"]}"'})
    assert stale.status_code == 412

"""The builds of accelerator libraries that an environment gets."""

from __future__ import annotations

import pytest

from fuseml.steps import accelerators, sdk


@pytest.mark.parametrize(
    ("wanted", "index", "environment", "backend"),
    [
        ("cpu", "", {}, "cpu"),
        ("cu128", "https://mine.example", {"UV_TORCH_BACKEND": "cpu"}, "cu128"),
        ("rocm6.3", "", {}, "rocm6.3"),
        ("index", "", {"UV_TORCH_BACKEND": "cpu"}, ""),
        ("auto", "", {"UV_TORCH_BACKEND": "cu126"}, "cu126"),
        ("", "https://mine.example", {}, ""),
        ("", "none", {}, ""),
        ("", "", {"UV_DEFAULT_INDEX": "https://mine.example"}, ""),
    ],
)
def test_the_input_the_servers_setting_and_the_index_choose_in_this_order(
    wanted: str, index: str, environment: dict[str, str], backend: str
) -> None:
    assert accelerators.backend(wanted, index, environment) == backend


def test_without_a_choice_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "_DEVICES", ("/dev/null",))
    assert accelerators.backend("", "", {}) == "auto"
    monkeypatch.setattr(accelerators, "_DEVICES", ("/dev/no-such-gpu",))
    assert accelerators.backend("auto", "", {}) == "cpu"


@pytest.mark.parametrize("wanted", ["gpu", "cuda", "cu", "-r", "CPU"])
def test_an_unknown_build_is_refused(wanted: str) -> None:
    with pytest.raises(sdk.StepError, match=f"the input 'accelerator' is '{wanted}': use auto, index, cpu, or a build such as cu128"):
        accelerators.backend(wanted, "", {})


def test_libraries_of_gpus_are_left_out_only_for_the_processor_and_only_if_the_codeset_does_not_ask_for_them() -> None:
    assert accelerators.excluded("cpu", {"nvidia-nccl-cu12"}) == ["nvidia-nccl-cu13"]
    assert accelerators.excluded("auto", set()) == accelerators.excluded("", set()) == []

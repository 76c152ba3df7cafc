"""Search for the devices of a machine, and the user's choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fuseml.domain import errors
from fuseml.engines.local import device_search, devices
from fuseml.engines.local.devices import AMD, NVIDIA, Devices, Pool


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


INFORMATION = "Model: \t\t NVIDIA A2\nIRQ:   \t\t 189\nGPU UUID: \t GPU-{0}\nBus Type: \t PCIe\nDevice Minor: \t {0}\n"


def test_devices_of_nvidia_are_numbered_in_the_order_of_the_bus(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/driver/nvidia/gpus/0000:65:00.0/information": INFORMATION.format(0),
            "proc/driver/nvidia/gpus/0000:01:00.0/information": INFORMATION.format(1),
            **{f"dev/{name}": "" for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null")},
        },
    )
    pool = device_search.find({}, root)[NVIDIA]
    assert pool.ids == ("0", "1")
    assert pool.common == (f"{root}/dev/nvidia-uvm", f"{root}/dev/nvidiactl")
    assert pool.files_of(["0"])[-1] == pool.files_of(["GPU-1"])[-1] == f"{root}/dev/nvidia1"
    assert set(pool.files_of(["MIG-2"])) == set(pool.files)
    unused = "proc/driver/nvidia/gpus/0000:99:00.0/information"
    tree(tmp_path, {unused: "GPU UUID: \t GPU-????????-????\nDevice Minor: \t 2\n", "dev/nvidia2": ""})
    assert set(device_search.find({}, root)[NVIDIA].own) == {"0", "1", "2", "GPU-0", "GPU-1"}


@pytest.mark.parametrize(
    ("visible", "ids"),
    [("1", ("1",)), ("", ()), ("-1", ()), ("1,0", ("1", "0")), ("0,7,1", ("0",)), ("GPU-ab,1", ("GPU-ab", "1")), ("0,0", ("0",))],
)
def test_the_visible_devices_of_the_server_are_all_devices(tmp_path: Path, visible: str, ids: tuple[str, ...]) -> None:
    root = tree(tmp_path, {"dev/nvidia0": "", "dev/nvidia1": ""})
    assert device_search.find({"PATH": "", "CUDA_VISIBLE_DEVICES": visible}, root)[NVIDIA].ids == ids


@pytest.mark.parametrize(("code", "ids"), [(0, ("0", "1")), (9, ())])
def test_the_driver_lists_devices_that_have_no_files_of_their_own(tmp_path: Path, code: int, ids: tuple[str, ...]) -> None:
    program = tree(
        tmp_path, {"bin/nvidia-smi": f"#!/bin/sh\necho 'GPU 0: A (b) (UUID: GPU-1a)'; echo 'GPU 1: A (UUID: GPU-2b)'; exit {code}\n"}
    )
    (program / "bin/nvidia-smi").chmod(0o755)
    found = device_search.find({"PATH": f"{program}/bin:/bin"}, tree(tmp_path / "root", {"dev/dxg": ""}))
    assert found == ({NVIDIA: Pool(ids, (f"{tmp_path}/root/dev/dxg",))} if ids else {})


SMI = "#!/bin/sh\ntouch {0}/asked\necho 'GPU 0: A (UUID: GPU-1a)'\n"


@pytest.mark.parametrize(
    ("file", "on_path", "asked"),
    [
        (None, True, False),
        ("dev/null", True, False),
        ("dev/dxg", True, True),
        # A service of Windows' subsystem has no PATH to its programs.
        ("dev/dxg", False, True),
        ("dev/nvidia0", True, True),
        ("dev/nvidiactl", True, True),
    ],
)
def test_the_driver_is_asked_only_where_it_has_a_file(tmp_path: Path, file: str | None, *, on_path: bool, asked: bool) -> None:
    folder = "bin" if on_path else "usr/lib/wsl/lib"
    root = tree(tmp_path, {f"{folder}/nvidia-smi": SMI.format(tmp_path), **({file: ""} if file else {})})
    (root / folder / "nvidia-smi").chmod(0o755)
    found = device_search.find({"PATH": f"{root}/bin:/bin:/usr/bin"}, root)
    assert ((root / "asked").exists(), sorted(found)) == (asked, [NVIDIA] if asked else [])
    assert not asked or found[NVIDIA].ids == ("0",)


def test_a_driver_with_a_list_of_its_own_is_not_asked(tmp_path: Path) -> None:
    files = {"proc/driver/nvidia/gpus/0000:65:00.0/information": INFORMATION.format(0), "dev/nvidia0": ""}
    root = tree(tmp_path, {**files, "bin/nvidia-smi": SMI.format(tmp_path)})
    (root / "bin/nvidia-smi").chmod(0o755)
    assert device_search.find({"PATH": f"{root}/bin:/bin"}, root)[NVIDIA].ids == ("0",)
    assert not (root / "asked").exists()


@pytest.mark.parametrize("environment", [{}, {"PATH": ""}])
def test_without_a_path_no_program_of_the_working_folder_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    root = tree(tmp_path, {"dev/dxg": "", "nvidia-smi": SMI.format(tmp_path)})
    (root / "nvidia-smi").chmod(0o755)
    monkeypatch.chdir(root)
    assert device_search.find(environment, root) == {}
    assert not (root / "asked").exists()


def test_nodes_of_kfd_with_compute_units_are_devices_of_amd(tmp_path: Path) -> None:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    properties = {0: "simd_count 0", 2: "simd_count 64\ndrm_render_minor 128", 10: "simd_count 32\ndrm_render_minor 130"}
    files = {f"{nodes}/{number}/properties": f"cpu_cores_count 1\n{text}\n" for number, text in properties.items()}
    assert AMD not in device_search.find({"PATH": ""}, tree(tmp_path, files))
    pool = device_search.find({"PATH": ""}, tree(tmp_path, {"dev/kfd": ""}))[AMD]
    assert (pool.ids, pool.common) == (("0", "1"), (f"{tmp_path}/dev/kfd",))
    assert pool.own == {"0": f"{tmp_path}/dev/dri/renderD128", "1": f"{tmp_path}/dev/dri/renderD130"}


WITHHELD = "asks for 1 nvidia.com/gpu; this server hands out none (`fuseml up --devices`)"


def test_the_user_can_withhold_a_device_and_none_is_named_twice() -> None:
    found = {NVIDIA: Pool(("0", "1"), ("/c",), {"0": "/0", "1": "/1", "GPU-a": "/0"}), AMD: Pool(("0",))}
    chosen = devices.select(found, devices.parse([f"{NVIDIA}=1"]))
    assert (chosen.pools[NVIDIA].ids, chosen.pools[AMD].ids) == (("1",), ("0",))
    assert set(chosen.managed_files) == {"/c", "/0", "/1"}
    assert devices.select(found, devices.parse([f"{NVIDIA}="])).shortage({NVIDIA: 1}) == WITHHELD
    assert devices.select(found, devices.parse([devices.SHARED])).shortage({NVIDIA: 1}) == WITHHELD
    assert devices.select({}, devices.parse([])).shortage({NVIDIA: 1}) == WITHHELD
    assert devices.select(found, devices.parse([devices.SHARED])).shortage({}) == ""
    shared = devices.select(found, devices.parse([devices.SHARED]))
    assert shared.shortage({"example.com/fpga": 1}) == "asks for 1 example.com/fpga; this machine has none"
    assert devices.select(found, devices.parse([])) == Devices(found)
    assert str(devices.select(found, devices.parse([f"{AMD}="]))) == "nvidia.com/gpu 0, 1; amd.com/gpu none"
    assert devices.select(found, devices.parse([devices.SHARED])) == Devices()
    assert devices.select(found, devices.parse([f"{NVIDIA}=MIG-1,GPU-a"])).pools[NVIDIA].ids == ("MIG-1", "GPU-a")
    for text, problem in (
        (f"{NVIDIA}=0,5", "has no nvidia.com/gpu 5; it has 0, 1"),
        (f"{NVIDIA}=0,GPU-b", "has no nvidia.com/gpu GPU-b"),
        (f"{NVIDIA}=0,GPU-a", "one device twice"),
    ):
        with pytest.raises(errors.InvalidError, match=problem):
            devices.select(found, devices.parse([text]))


@pytest.mark.parametrize(
    "texts",
    [
        ["0,1"],
        ["gpu=0"],
        [f"{NVIDIA}=0,0"],
        [f"{NVIDIA}=0,00"],
        [f"{NVIDIA}=a b"],
        [f"{NVIDIA}=0", f"{NVIDIA}=1"],
        [devices.SHARED, f"{NVIDIA}=0"],
        ["x.y/z=1"],
    ],
)
def test_a_wrong_choice_of_devices_is_refused(texts: list[str]) -> None:
    with pytest.raises(errors.InvalidError):
        devices.parse(texts)

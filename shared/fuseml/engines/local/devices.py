"""The devices that this machine hands out to its steps, each to one running step at a time.

A step asks for devices as on a cluster, by its limit of an extended resource (`nvidia.com/gpu: 1`), and holds them while it runs. It sees
these devices by the variables of their vendor, and confined it can open no others. A step that asks for none sees none: a device in use has
one user only if the others cannot use it by accident, and a workflow finds the same devices here and on a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import errors

NVIDIA = "nvidia.com/gpu"
AMD = "amd.com/gpu"
KINDS = (NVIDIA, AMD)
"""The resources of this machine that can be handed out."""

SHARED = "shared"
"""The choice of a machine that hands out no device: every step sees all of them."""

_ID = re.compile(r"0|[1-9][0-9]{0,3}|[A-Za-z][A-Za-z0-9:._/-]{0,99}")

Allocation = Mapping[str, tuple[str, ...]]
"""Resource -> the ids of devices of it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The devices of one resource: the `ids` that are handed out, and the files in /dev, `common` ones and those of single devices.

    Ids are the numbers of `nvidia-smi` or of ROCm, or names of the vendor such as a UUID. `own` may have ids that are not handed out.
    """

    ids: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """All files of the devices, handed out or not."""
        return list(dict.fromkeys([*self.common, *self.own.values()]))

    def may_have(self, id: str) -> bool:
        """Whether the id is, or may be, that of a device: numbers and names are either known for all devices or for none."""
        known = {*self.ids, *self.own}
        return id in known or id.startswith("MIG-") or all(other.isdigit() != id.isdigit() for other in known)

    def free(self, held: Collection[str]) -> tuple[str, ...]:
        """The ids that are handed out and not `held`. An earlier server may have had other names for the same devices."""
        taken = [other for other in held if other not in self.ids]
        return tuple(id for id in self.ids if id not in held and not any(self._may_be(id, other) for other in taken))

    def _may_be(self, id: str, other: str) -> bool:
        """Whether two ids may name one device: a number and a name do unless their files are known and differ."""
        if id in self.own and other in self.own:
            return self.own[id] == self.own[other]
        return id.isdigit() != other.isdigit()

    def files_of(self, ids: Iterable[str]) -> list[str]:
        """The files that a step with these devices opens; those of all devices for an id whose file is not known."""
        own = [path for id in ids for path in ([self.own[id]] if id in self.own else self.own.values())]
        return list(dict.fromkeys([*self.common, *own]))


@dataclass(frozen=True, slots=True)
class OfContainer:
    """The devices of a container: `options` of its program, `variables` of the container, and those of the server that have no meaning in it."""

    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Devices:
    """The pools of this machine by resource. A resource without a pool is not managed: every step sees its devices, if any."""

    pools: Mapping[str, Pool] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(f"{resource} {', '.join(pool.ids) or 'none'}" for resource, pool in self.pools.items())

    def every(self, resources: Container[str]) -> Allocation:
        """All devices of those of the resources that are managed."""
        return {resource: pool.ids for resource, pool in self.pools.items() if resource in resources}

    def shortage(self, wanted: Mapping[str, int]) -> str:
        """The reason for which this machine can never give a step the wanted numbers of devices; empty if it can."""
        for resource, number in wanted.items():
            present = len(self.pools[resource].ids) if resource in self.pools else 0
            if not present and resource in KINDS and (resource in self.pools or not self.pools):
                return f"asks for {number} {resource}; this server hands out none (`fuseml up --devices`)"
            if number > present:
                return f"asks for {number} {resource}; this machine has {present or 'none'}"
        return ""

    def choose(self, wanted: Mapping[str, int], held: Allocation) -> Allocation | None:
        """The first free devices of the wanted numbers, all or none."""
        free = {resource: self.pools[resource].free(held.get(resource, ())) if resource in self.pools else () for resource in wanted}
        if any(len(free[resource]) < number for resource, number in wanted.items()):
            return None
        return {resource: free[resource][:number] for resource, number in wanted.items()}

    def wait(self, wanted: Mapping[str, int]) -> str:
        """The cause of the wait of a step for devices that others hold."""
        listed = ", ".join(f"{number} {resource} (this machine has {len(self.pools[resource].ids)})" for resource, number in wanted.items())
        return f"waits for {listed}: other steps use them, or wait for them already"

    def variables(self, allocated: Allocation) -> dict[str, str]:
        """The variables by which a process sees its devices of the managed resources, and no others."""
        found: dict[str, str] = {}
        for resource in self.pools:
            found |= _VARIABLES[resource](allocated.get(resource, ()))
        return found

    def of_container(self, allocated: Allocation, runtime: str) -> OfContainer:
        """The devices as a container program, podman or docker, passes them on. In a container they are numbered anew, so no variable but that
        of NVIDIA's container runtime names them.
        """
        nvidia = allocated.get(NVIDIA, ())
        options: list[str] = []
        if nvidia and runtime == "docker":
            # The quotes are docker's: its option is a list of fields.
            options = ["--gpus", f'"device={",".join(nvidia)}"']
        elif nvidia:
            options = [part for id in nvidia for part in ("--device", f"{NVIDIA}={id}")]
        if AMD in allocated:
            options += [part for path in self.files({AMD: allocated[AMD]}) for part in ("--device", path)]
        variables = {"NVIDIA_VISIBLE_DEVICES": ",".join(nvidia) or "void"} if NVIDIA in self.pools else {}
        return OfContainer(options, variables, frozenset(self.variables({})))

    def files(self, allocated: Allocation) -> list[str]:
        """The files in /dev of the allocated devices."""
        return [path for resource, ids in allocated.items() if resource in self.pools for path in self.pools[resource].files_of(ids)]

    @property
    def managed_files(self) -> list[str]:
        """The files in /dev that a step may open only if it holds a device of theirs."""
        return [path for pool in self.pools.values() for path in pool.files]


def _of_nvidia(ids: Sequence[str]) -> dict[str, str]:
    # Without this order CUDA counts the fastest first, and nvidia-smi by the bus. `void` is none for NVIDIA's container runtime.
    listed = ",".join(ids)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": listed, "NVIDIA_VISIBLE_DEVICES": listed or "void"}


def _of_amd(ids: Sequence[str]) -> dict[str, str]:
    # HIP counts the devices that ROCr leaves, from 0.
    return {"ROCR_VISIBLE_DEVICES": ",".join(ids), "HIP_VISIBLE_DEVICES": ",".join(map(str, range(len(ids)))) or "-1"}


_VARIABLES = {NVIDIA: _of_nvidia, AMD: _of_amd}


def merged(allocations: Iterable[Allocation]) -> dict[str, tuple[str, ...]]:
    """All devices of the allocations."""
    found: dict[str, tuple[str, ...]] = {}
    for allocation in allocations:
        for resource, ids in allocation.items():
            found[resource] = (*found.get(resource, ()), *ids)
    return found


def parse(texts: Iterable[str]) -> Allocation | None:
    """Read the choices of devices, `nvidia.com/gpu=0,1` each; None for `shared`. Raises InvalidError."""
    listed = [text.strip() for text in texts if text.strip()]
    if SHARED in listed:
        if len(listed) > 1:
            raise errors.InvalidError(f"the devices are {SHARED!r}, so none can be listed beside it: {', '.join(listed)}")
        return None
    chosen: dict[str, tuple[str, ...]] = {}
    for text in listed:
        resource, separator, names = text.partition("=")
        if resource not in KINDS or not separator:
            raise errors.InvalidError(
                f"{text!r} names no devices; write nvidia.com/gpu=0,1 or amd.com/gpu=0, with nothing after = for none"
            )
        if resource in chosen:
            raise errors.InvalidError(f"the devices of {resource} are listed twice; list all of them once: {resource}=0,1")
        ids = tuple(name.strip() for name in names.split(",") if name.strip())
        wrong = next((id for id in ids if not _ID.fullmatch(id) or ids.count(id) > 1), None)
        if wrong is not None:
            raise errors.InvalidError(f"{text!r}: {wrong!r} is listed twice, or is not the number or name of a device")
        chosen[resource] = ids
    return chosen


def select(found: Mapping[str, Pool], chosen: Allocation | None) -> Devices:
    """The devices to hand out: the `chosen` ones where they are given, else all that were found. Raises InvalidError."""
    if chosen is None:
        return Devices()
    pools = dict(found)
    for resource, ids in chosen.items():
        pool = found.get(resource, Pool())
        unknown = [id for id in ids if not pool.may_have(id)]
        if unknown:
            raise errors.InvalidError(f"this machine has no {resource} {unknown[0]}; it has {', '.join(pool.ids)}")
        files = [pool.own[id] for id in ids if id in pool.own]
        if len(set(files)) < len(files):
            raise errors.InvalidError(f"{resource}={','.join(ids)} names one device twice, by its number and by its name")
        pools[resource] = Pool(ids, pool.common, pool.own)
    return Devices(pools)

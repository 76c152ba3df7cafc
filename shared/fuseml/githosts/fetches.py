"""The fetch service of the git protocol over one open repository, for clones of every depth and clients of every ability.

Imported at the first request only, because dulwich is slow to import.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, cast

from dulwich import protocol, server
from dulwich.object_format import ObjectFormat
from dulwich.object_store import MissingObjectFinder, PackBasedObjectStore
from dulwich.objects import ObjectID, ShaFile
from dulwich.pack import UnpackedObject
from dulwich.refs import Ref, RefsContainer
from dulwich.repo import Repo

from fuseml.githosts import git_requests


def upload_pack(repository: Repo, request: IO[bytes], output: IO[bytes]) -> None:
    """Serve one request of a clone or fetch. Raises InvalidError for a request that violates git's protocol."""
    with git_requests.invalid_rejected():
        read, boundary = git_requests.without_boundary(request)
        wire = protocol.ReceivableProtocol(read, output.write)
        handler = UploadPack(repository, boundary, wire)
        handler.handle()
        if handler.has_bare_pack:
            # dulwich ends every response with a flush packet; behind a pack without side-band it would be a part of the pack.
            output.truncate(output.seek(-len(protocol.pkt_line(None)), io.SEEK_END))


class UploadPack(server.UploadPackHandler):
    """Fetch for every client: capabilities are an offer, of which a client may leave any out, as go-git and isomorphic-git do.

    No filters are offered: a partial clone would request single files later, which dulwich does not serve. git then clones completely.
    """

    has_bare_pack = False
    """Whether the response is a pack outside of any packet, for a client without side-band."""

    def __init__(
        self, repository: Repo, boundary: set[ObjectID], wire: protocol.ReceivableProtocol, *, advertise_refs: bool = False
    ) -> None:
        backend = git_requests.SingleRepository(_ShallowRepository(repository, boundary))
        super().__init__(backend, [""], wire, stateless_rpc=True, advertise_refs=advertise_refs)
        self._complete = repository

    def capabilities(self) -> list[bytes]:
        """The offered capabilities."""
        return [capability for capability in super().capabilities() if capability != protocol.CAPABILITY_FILTER]

    @classmethod
    def required_capabilities(cls) -> tuple[bytes, ...]:
        # dulwich writes no pack that lacks the base of a delta, so a client without `thin-pack` misses nothing.
        return ()

    def _start_pack_send_phase(self) -> None:
        super()._start_pack_send_phase()
        self.has_bare_pack = not self.has_capability(protocol.CAPABILITY_SIDE_BAND_64K)
        if not self.has_capability(protocol.CAPABILITY_OFS_DELTA):
            self.repo = _Whole(self._complete, set())

    def set_client_capabilities(self, caps: Iterable[bytes]) -> None:
        # git 2.39 sends the capability even if the server does not offer it.
        super().set_client_capabilities([capability for capability in caps if capability != protocol.CAPABILITY_FILTER])


class _ShallowRepository(server.BackendRepo):
    """The repository as seen by a shallow clone: its history ends at the boundary of the clone."""

    def __init__(self, repository: Repo, boundary: set[ObjectID]) -> None:
        self._repository = repository
        self._boundary = boundary

    @property
    def object_store(self) -> PackBasedObjectStore:
        return self._repository.object_store

    @property
    def refs(self) -> RefsContainer:
        return self._repository.refs

    @property
    def object_format(self) -> ObjectFormat:
        return self._repository.object_format

    def get_refs(self) -> dict[Ref, ObjectID]:
        return self._repository.get_refs()

    def get_peeled(self, ref: Ref) -> ObjectID | None:
        return self._repository.get_peeled(ref)

    def find_missing_objects(
        self,
        determine_wants: Callable[[Mapping[Ref, ObjectID], int | None], list[ObjectID]],
        graph_walker: Any,
        progress: Callable[[bytes], None] | None,
        *,
        get_tagged: Callable[[], dict[ObjectID, ObjectID]] | None = None,
        depth: int | None = None,
    ) -> MissingObjectFinder | None:
        def wants(heads: Mapping[Ref, ObjectID], depth: int | None) -> list[ObjectID]:
            object_ids = determine_wants(heads, depth)
            graph_walker.shallow.update(self._boundary)
            return object_ids

        return self._repository.find_missing_objects(wants, graph_walker, progress, get_tagged=get_tagged, depth=depth)


class _Whole(_ShallowRepository):
    """A repository whose packs hold no deltas: dulwich names the base of a delta by its offset, which not every client reads."""

    @property
    def object_store(self) -> PackBasedObjectStore:
        return cast(PackBasedObjectStore, _WithoutDeltas(super().object_store))


class _WithoutDeltas:
    """The objects of a store, none of them as a delta."""

    def __init__(self, store: PackBasedObjectStore) -> None:
        self._store = store

    def __getitem__(self, object_id: ObjectID) -> ShaFile:
        return self._store[object_id]

    def iter_unpacked_subset(self, *_: object, **__: object) -> Iterator[UnpackedObject]:
        """The deltas that a pack may take over."""
        return iter(())

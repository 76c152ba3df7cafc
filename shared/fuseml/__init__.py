"""FuseML: the library that its functions share, and `fuseml.Client` for Python programs. See ARCHITECTURE.md for a map."""

from __future__ import annotations

__all__ = ["Client", "__version__"]

# As in `typing`, whose import would take longer than this one.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from fuseml.client.session import Client
    from fuseml.version import __version__
else:

    def __getattr__(name):
        # The functions, the command and the steps import this package, and need no client; environments of codesets have neither module.
        if name == "Client":
            from fuseml.client.session import Client

            return Client
        if name == "__version__":
            from fuseml.version import __version__

            return __version__
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

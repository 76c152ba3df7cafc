"""The typed client of the HTTP API, for the `fuseml` command, the demo and other Python programs.

An error response becomes the class of `fuseml.domain.errors` that the server raised; an unreachable server is a TemporaryError.
Responses are plain dictionaries, typed in `shapes`, `store_shapes`, `registry_shapes` and `event_shapes`; the additional fields of a newer server
pass through. urllib3 is imported with the first request, because its import would double the time of `fuseml --help`.
"""

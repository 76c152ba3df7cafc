"""The typed clients: `session.Client` (`fuseml.Client`) for Python programs and notebooks, `api.Client` of the HTTP API for all else.

An error response becomes the class of `fuseml.domain.errors` that the server raised; an unreachable server is a TemporaryError.
Responses of `api.Client` are plain dictionaries, typed in `shapes`, `store_shapes`, `registry_shapes` and `event_shapes`; the additional fields of a newer server
pass through. urllib3 is imported with the first request, because its import would double the time of `fuseml --help`.
"""

"""The typed client of the HTTP API: what the `fuseml` command, the demo and other Python programs stand on.

A refusal of the server comes back as the class of `fuseml.domain.errors` that the server raised; a server that cannot be reached is a
TemporaryError with a way out. Answers are plain dictionaries (typed in `shapes`), exactly as they came over the wire, so a newer server's
extra fields pass through. urllib3 is imported at the first request, not before: `fuseml --help` never pays for it.
"""

"""The `fuseml` command: the client for people and scripts.

`fuseml --help` imports every module here, so heavy packages (urllib3, rich, pydantic, yaml, `fuseml.client`) are imported inside functions,
and their types under TYPE_CHECKING. A test finds import circles, those imports included.
Commands raise errors, `main.run` prints them; `-o json` and `-o yaml` print only the API's objects.
"""

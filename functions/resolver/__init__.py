"""Resolution: HTTP `POST /resolve`, selectors and context in, bindings and explanations out.

The rules are those of a run (`domain.registry.matching`). Depends on the store only and never unseals secrets.
"""

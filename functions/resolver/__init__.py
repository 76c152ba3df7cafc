"""Resolution: HTTP `POST /resolve`, selectors and context in, bindings and explanations out.

The same pure rules that `dispatcher` applies at every run (`domain.registry.selector`). Depends on the store only; it never sees secrets.
"""

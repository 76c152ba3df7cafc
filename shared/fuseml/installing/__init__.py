"""Installs tools on the cluster of the user's kubeconfig, by the user's own `helm` and `kubectl`, and finds those that it has.

`tools/` holds the descriptions that ship. Every step may be repeated; a Secret for each tool records the finished ones, so that a repeated
command continues where the former one ended.
"""

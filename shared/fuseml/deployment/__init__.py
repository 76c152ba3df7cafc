"""Deploys FuseML to the cluster of the current kubeconfig, and removes it: `task deploy`, `task undeploy`.

`kn` creates the objects that it supports: services (each from a document of its own), broker and ping source. `kubectl apply` creates the rest.
All objects come from the manifests of the repository, as `kubectl kustomize` combines them; the package contains them. Four values are filled in:
the addresses of broker and gateway, which the cluster assigns; the images of the options; the settings of services for trying out; and a digest of
the configuration, which makes new revisions when the configuration changes. A repeated deployment applies the difference. Secrets are created once,
on this machine, and passed by standard input.
"""

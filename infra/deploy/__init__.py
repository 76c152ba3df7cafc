"""Deploys FuseML to the cluster of the current kubeconfig, and removes it: `task deploy`, `task undeploy`.

What `kn` can say, it says: the services, each from a document of its own, the broker and the ping source. The rest goes by `kubectl apply`.
Everything comes from the manifests of this repository, as `kubectl kustomize` puts them together; only four things are filled in: the
addresses of broker and gateway, which the cluster knows, the images that were asked for, where to find what is deployed for trying out, and a
mark by which a changed configuration makes new revisions. Deploying again changes what has changed. Secrets are made once, on this machine,
and handed over by standard input.
"""

"""One address for all functions, where a cluster has nothing but Knative: passes every HTTP request on to the function that serves its path.

In: any path of the API, chosen by the catalogue's prefixes; itself `/`, `/healthz`, `/readyz`, `/version` and `/openapi.json`, the document of
all functions. Out: what the function answered. Events have no path here: they reach functions through the broker only.

Depends on: the functions' own addresses (`FUSEML_FUNCTIONS_URL`). It keeps nothing, checks no token and needs no database. With a Gateway API
implementation `knative/gateway` does the same without it.
"""

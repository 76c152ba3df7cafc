"""One address for all functions on a cluster without a Gateway API: forwards every HTTP request to the function that serves its path.

In: any path of the API, chosen by the catalogue's prefixes; itself `/`, `/healthz`, `/readyz`, `/version`, `/openapi.json`, the document of
all functions, and `/docs`, its page. Out: the responses of the functions. Events have no path here: they reach functions through the broker only.

Depends on: the functions' own addresses (`FUSEML_FUNCTIONS_URL`). It has no state, checks no token and needs no database. With a
Gateway API implementation `knative/gateway` replaces it.
"""

"""The extension records of the original's specification of the registry, unchanged: the overview and examples 1 to 6."""

from __future__ import annotations

from fuseml.domain.documents import document
from fuseml.domain.registry import extension

OVERVIEW = """\
id: mlflow
product: mlflow
version: 1.20.2
description: |
  MLFlow is an open source platform specialized in tracking ML experiments, and packaging and deploying ML models.
services:
- id: mlflow-tracking
  resource: mlflow-tracking
  category: experiment-tracking
  authrequired: false
  description: MLFlow experiment tracking service API and UI
  endpoints:
  - url: http://mlflow.mlflow
    type: internal
    configuration:
      MLFLOW_TRACKING_URI: http://mlflow.mlflow
- id: mlflow-store
  resource: s3
  category: model-store
  authrequired: true
  description: MLFlow minio S3 storage back-end
  endpoints:
  - url: http://mlflow-minio.mlflow:9000
    type: internal
    configuration:
      MLFLOW_S3_ENDPOINT_URL: http://mlflow-minio.mlflow:9000
  credentials:
  - id: default-s3-account
    default: false
    scope: global
    projects: []
    users: []
    configuration:
      AWS_ACCESS_KEY_ID: <hidden>
      AWS_SECRET_ACCESS_KEY: <hidden>
"""

MLFLOW = """\
id: mlflow-0001
product: mlflow
version: "1.19.0"
description: MLFlow experiment tracking and artifact store
zone: cluster-alpha
services:
  - id: mlflow-tracking
    resource: mlflow-tracking
    category: experiment-tracking
    description: MLFlow experiment tracking service API and UI
    endpoints:
      - url: http://mlflow.mlflow
        type: internal
        configuration:
          MLFLOW_TRACKING_URI: http://mlflow.mlflow
      - url: http://mlflow.10.110.120.130.nip.io
        type: external
        configuration:
          MLFLOW_TRACKING_URI: http://mlflow.10.110.120.130.nip.io
  - id: mlflow-store
    resource: s3
    category: model-store
    description: MLFlow minio S3 storage back-end
    credentials:
      - id: default-s3-account
        scope: global
        configuration:
          AWS_ACCESS_KEY_ID: 24oT0SfbJPEu6kUbUKsH
          AWS_SECRET_ACCESS_KEY: cMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0bEJSBOf
    endpoints:
      - url: http://mlflow-minio.mlflow:9000
        type: internal
        configuration:
          MLFLOW_S3_ENDPOINT_URL: http://mlflow-minio.mlflow:9000
      - url: http://minio.10.110.120.130.nip.io
        type: external
        configuration:
          MLFLOW_S3_ENDPOINT_URL: http://minio.10.110.120.130.nip.io
"""

MODEL_STORE = """\
id: mlflow-model-store-0001
product: minio
version: "4.1.3"
description: Minio S3 storage service
zone: cluster-alpha
services:
  - id: s3
    resource: s3
    category: object-storage
    description: MLFlow minio S3 storage back-end
    credentials:
      - id: default
        scope: global
        configuration:
          AWS_ACCESS_KEY_ID: 24oT0SfbJPEu6kUbUKsH
          AWS_SECRET_ACCESS_KEY: cMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0bEJSBOf
    endpoints:
      - url: http://mlflow-minio.mlflow:9000
        type: internal
      - url: http://mlflow.10.110.120.130.nip.io
        type: external
"""

GITEA = """\
id: gitea-devel-rd
product: gitea
version: "1.14.3"
description: Gitea version control server running in the R&D cloud
zone: rd-cloud
services:
  - id: git_https
    resource: git+https
    category: VCS
    description: Gitea git/http API
    endpoints:
      - url: https://gitea.rd-cloud.mydomain.org
        type: external
    credentials:
      - id: admin
        scope: global
        configuration:
          username: fuseml-admin
          password: 8KqS5xWQ4eagRu
"""

MINIO = """\
id: minio-s3-storage
product: minio
version: "4.1.3"
description: Minio S3 storage services
zone: development-cluster
services:
  - id: s3
    resource: s3
    category: object-storage
    description: Minio S3 storage deployed in the development cluster
    credentials:
      - id: local-minio
        scope: global
        configuration:
          AWS_ACCESS_KEY_ID: 24oT0SfbJPEu6kUbUKsH
          AWS_SECRET_ACCESS_KEY: cMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0bEJSBOf
    endpoints:
      - url: http://minio.minio:9000
        type: internal
      - url: http://minio.10.110.120.130.nip.io
        type: external
"""

AWS = """\
id: aws-object-storage
product: aws-s3
description: AWS cloud object storage
zone: eu-central-1
services:
  - id: aws
    resource: s3
    category: object-storage
    description: AWS S3 object storage
    credentials:
      - id: aws
        scope: global
        configuration:
          AWS_ACCESS_KEY_ID: sWRS24oT0SfbJPEu6kU3EWf
          AWS_SECRET_ACCESS_KEY: abl4SDcMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0s
    endpoints:
      - url: https://s3.eu-central-1.amazonaws.com
        type: external
"""

KSERVE = """\
id: kserve-local
product: kserve
version: "0.7.0"
description: KServe prediction service platform running in the local cluster
zone: cluster.local
services:
  - id: API
    resource: kfserve-api
    category: prediction-serving
    description: KServe prediction service API
    endpoints:
      - url: https://kubernetes.default.svc
        type: internal
  - id: UI
    resource: kserve-ui
    category: UI
    description: KServe prediction platform UI
    endpoints:
      - url: https://kserve.10.120.130.140.nip.io/
        type: external
"""

SELDON = """\
id: seldon-core-production
product: seldon
version: "1.11.0"
zone: production-cluster-001
description: Seldon Core inference serving platform running in production cluster
services:
  - id: API
    resource: seldon-core-api
    category: prediction-serving
    description: Seldon Core prediction serving platform API
    credentials:
      - id: project-alpha
        scope: project
        projects:
          - alpha
        configuration:
          CLIENT_CERT: LS0tLS1CRUdJTiBDRVJUSUZJQ0FU[...]RS0tLS0tCk1JSUM4akNDQNBVEUtLS0tLQo=
          CLIENT_KEY: cMGiZff8KqS5xW[...]Q4eagRujh1tDcbQyRP0bEJSBOf
          CLUSTER_CERT_AUTH: VsSCsdfLS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0[...]tLS0tCk1anF1TT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
      - id: user-alainturing
        scope: user
        projects:
          - alpha
          - beta
        users:
          - alainturing
        configuration:
          CLIENT_CERT: GHLS0t1CRUdJTiBDRVJUSUZJQ0F[...]URS0tLS0tCk1JSUM4akNDQWRxZ0F3BVEUtLS0tLQo=
          CLIENT_KEY: TyGiZff8KqS5xWQ4eag[...]Rujh1tDcbQyRP0bEJSBOf
          CLUSTER_CERT_AUTH: VsSCsdfLS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0[...]tLS0tCk1anF1TT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
    endpoints:
      - url: https://production-cluster-xasf.example.com:6443
        type: external
    configuration:
      INSECURE: False
      namespace: prj_hys568
"""

TEXTS = {
    "overview": OVERVIEW,
    "1-mlflow": MLFLOW,
    "2-model-store": MODEL_STORE,
    "3-gitea": GITEA,
    "4-minio": MINIO,
    "4-aws": AWS,
    "5-kserve": KSERVE,
    "6-seldon": SELDON,
}

KSERVE_110 = extension.Extension.model_validate(
    {
        "id": "kserve-new",
        "product": "kserve",
        "version": "1.10.3",
        "zone": "cluster-alpha",
        "services": [{"id": "API", "resource": "kserve-api", "endpoints": [{"url": "https://kubernetes.default.svc", "type": "internal"}]}],
    }
)
"""For example 2 of the selectors: the KServe among the records is older."""


def load(text: str) -> extension.Extension:
    """The record in a document."""
    return document.load(extension.Extension, text)

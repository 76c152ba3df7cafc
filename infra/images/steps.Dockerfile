# The built-in steps and the model server. They share one environment with MLflow and scikit-learn, so a step whose requirements it meets
# needs no network. The targets differ in the program `run` only.
#   docker build -f infra/images/steps.Dockerfile --target predictor -t ghcr.io/fuseml/predictor:v1 .
# Targets: mlflow-builder, image-builder, mlflow-trainer, predictor, scorer, evaluator, ranker, workload, trainer, model-server, mlserver.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
COPY infra/images/steps.lock /tmp/
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes -r /tmp/steps.lock \
 && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib \
 && echo /opt/steps > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/steps.pth"

# The image holds only fuseml.steps and fuseml.workloads of the library, because they import nothing else of it. A layer of its own, because it changes more often.
FROM ${BASE} AS code
COPY shared/fuseml/__init__.py shared/fuseml/plugins.py /opt/steps/fuseml/
COPY shared/fuseml/steps /opt/steps/fuseml/steps
COPY shared/fuseml/workloads /opt/steps/fuseml/workloads
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/steps

FROM ${BASE} AS steps
COPY --from=build /opt/venv /opt/venv
COPY --from=code /opt/steps /opt/steps
# A writable home: libraries cache downloads there, and Tekton writes registry credentials there.
ENV PATH=/opt/venv/bin:${PATH} HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true MPLCONFIGDIR=/tmp

FROM steps AS mlflow-builder
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.mlflow_builder "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS image-builder
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.image_builder "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS mlflow-trainer
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.mlflow_trainer "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS predictor
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.predictor "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS scorer
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.scorer "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS evaluator
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.evaluator "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS ranker
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.ranker "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS workload
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.workload "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS trainer
RUN printf '#!/bin/sh\nexec python -P -m fuseml.workloads.trainer "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532

FROM steps AS model-server
RUN printf '#!/bin/sh\nexec python -P -m fuseml.steps.model_server "$@"\n' > /usr/local/bin/run && chmod 755 /usr/local/bin/run
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["run"]

# MLServer, for FUSEML_MLSERVER_IMAGE. It needs other versions than FuseML, so its environment is its own and not part of the lock.
FROM ${BASE} AS mlserver
ARG MLSERVER=1.7.1
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir \
    "mlserver==${MLSERVER}" "mlserver-mlflow==${MLSERVER}" "mlserver-sklearn==${MLSERVER}" boto3 "uvloop<0.22" \
 && echo /opt/steps > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/steps.pth"
COPY --from=code /opt/steps /opt/steps
ENV PATH=/opt/venv/bin:${PATH} HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true MPLCONFIGDIR=/tmp
USER 65532:65532
EXPOSE 8080

# The image of a build without a target: the whole environment without a program `run`. Its `mlflow server` is for trying out.
FROM steps
USER 65532:65532

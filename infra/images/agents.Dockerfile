# The shipped agents (docs/agents.md). They share the environment of the functions; the targets differ in the application that gunicorn serves.
#   docker build -f infra/images/agents.Dockerfile --target store-agent -t ghcr.io/fuseml/store-agent:v1 .
# Targets: store-agent, workload-agent. Variables: FUSEML_AGENT_TOKEN; FUSEML_AGENT_URL of a store, FUSEML_AGENT_COMMAND of a workload.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
COPY infra/images/functions.lock /tmp/
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes -r /tmp/functions.lock
COPY shared/fuseml /app/fuseml
RUN rm -rf /app/fuseml/cli /app/fuseml/embedded /app/fuseml/examples \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib /app \
 && mkdir /data

FROM ${BASE} AS agent
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
COPY --from=build --chown=65532:65532 /data /data
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp FUSEML_AGENT_FOLDER=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080

FROM agent AS workload-agent
# One process: it holds the guard of the jobs.
CMD ["gunicorn", "--bind", "0.0.0.0:8080", "--workers", "1", "--worker-class", "gthread", "--threads", "16", "--no-control-socket", "fuseml.agents.command:serve()"]

FROM agent AS store-agent
CMD ["gunicorn", "--bind", "0.0.0.0:8080", "--workers", "1", "--worker-class", "gthread", "--threads", "16", "--no-control-socket", "fuseml.agents.folder_store:serve()"]

# One image for all functions. FUNCTION_SOURCE and FUNCTION_TARGET, variables of functions-framework, select the function of a container.
#   docker build -f infra/images/functions.Dockerfile -t ghcr.io/fuseml/functions:0.1.0 .
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS build
COPY infra/images/functions.lock /tmp/
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes -r /tmp/functions.lock \
 # Half of the Kubernetes client is a copy for asyncio, which no function imports.
 && rm -rf /opt/venv/lib/python*/site-packages/kubernetes/aio \
 # The file system is read-only at run time, so the image holds the bytecode; unchecked, because copying changes the times of the sources.
 && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib
COPY functions /app/functions
COPY shared/fuseml /app/shared/fuseml
COPY infra/images/gunicorn.conf.py /app/
RUN rm -rf /app/shared/fuseml/cli /app/shared/fuseml/embedded /app/shared/fuseml/examples \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/app:/app/shared PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FUNCTION_TARGET=handle
USER 65532:65532
EXPOSE 8080
CMD ["gunicorn", "--config", "/app/gunicorn.conf.py", "functions_framework:create_app()"]

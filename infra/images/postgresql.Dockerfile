# PostgreSQL from Debian's packages, with the interface of the official image: for trying out where that image cannot be pulled.
#   docker build -f infra/images/postgresql.Dockerfile -t postgres:15-debian infra/images
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE}
RUN groupadd --system --gid 999 postgres && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
 && apt-get update && apt-get install --yes --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15
COPY postgresql.sh /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:${PATH} LANG=C.UTF-8
USER 999:999
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/usr/local/bin/postgresql.sh"]
CMD ["postgres"]

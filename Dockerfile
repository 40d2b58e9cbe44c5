# syntax=docker/dockerfile:1
# One image for every role; the command picks it: docker run IMAGE http 0.0.0.0 5588
# The base image and all dependencies exist for amd64 and arm64.

FROM python:3.11.11-slim-bookworm AS build
RUN python -m venv /opt/iqdb
WORKDIR /src
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/iqdb/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY api ./api
COPY worker ./worker
COPY iqdb_core ./iqdb_core
COPY iqdb_client ./iqdb_client
# Nothing is fetched here: the lock file has all dependencies, and those of the build.
RUN /opt/iqdb/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin iqdb \
    && install --directory --owner=iqdb --group=iqdb \
        /var/cache/iqdb /var/cache/iqdb/kernels /var/lib/iqdb /var/lib/iqdb/index
COPY --from=build /opt/iqdb /opt/iqdb
COPY --chmod=755 .ci/container-entrypoint /usr/local/bin/container-entrypoint
ENV PATH=/opt/iqdb/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/iqdb/kernels
WORKDIR /var/lib/iqdb
USER iqdb
# Compile the kernels now, so that a container is ready within seconds. If its processor is of another type than
# that of the building machine, it compiles them again when it starts.
RUN python -m iqdb_core.compiling
EXPOSE 5588 5589
# SIGTERM, which is what `docker stop` sends, ends every role in an orderly way; give workers a minute for it.
ENTRYPOINT ["container-entrypoint", "iqdb"]
CMD ["--help"]

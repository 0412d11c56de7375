# One image for all services: `docker build -t tollwire/tollwire:0.1.0 .`
# What runs is the command: tollwire-api (the default), tollwire-worker, tollwire-dlr, tollwire-ledger,
# tollwire-simulator, or tollwire for migrations and operators.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
WORKDIR /app
COPY requirements-image.txt ./
# Each by its hash, and as a wheel: nothing is compiled, so no compiler is needed.
RUN /opt/venv/bin/pip install --require-hashes --only-binary :all: -r requirements-image.txt
COPY . .
# Our code stays here, where alembic.ini and the SQL files are; the venv points to it. What built it goes.
# Bytecode is written now: later the file system is read-only.
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation --editable . \
    && /opt/venv/bin/pip uninstall --quiet --yes setuptools wheel pip \
    && rm -rf ./*.egg-info requirements-image.txt \
    && python3 -m compileall -q -j 0 /opt/venv /app

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="Tollwire" \
      org.opencontainers.image.description="An SMS gateway with a ledger that cannot lose a cent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# An account without a home or a shell, folders for what the ledger process and compose write, and no installer:
# what is not in the image cannot be fetched into it.
RUN groupadd --gid 10001 tollwire \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tollwire \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/tollwire /var/lib/tollwire/books /var/lib/tollwire/keys \
    && find / -xdev \( -path '*/site-packages/pip*' -o -path '*/ensurepip' -o -path '*/dist-packages/pip*' \) -prune -exec rm -rf {} + \
    && rm -f /usr/local/bin/pip* /usr/bin/pip*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOLLWIRE_COMMIT="${REVISION}" \
    TOLLWIRE_HOST=0.0.0.0 \
    TOLLWIRE_RECEIPTS_HOST=0.0.0.0 \
    TOLLWIRE_HEALTH_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
EXPOSE 8080 8081 9464
# The process is number 1 and hears SIGTERM itself; it starts no children, so it needs no init.
STOPSIGNAL SIGTERM
CMD ["tollwire-api"]

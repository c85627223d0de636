# Worker and operator commands: no torch, no JVM, no Triton server.
# The digest is that of public records of this tag, not of a pull.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir "uv==${UV_VERSION}"

WORKDIR /opt/panther
COPY pyproject.toml requirements.lock README.md ./
COPY panther_core panther_core
COPY stream stream
COPY trainer trainer
COPY offline offline
COPY infra infra
COPY bench bench
COPY cli cli
# With the lock as constraints only the packages of the extra are installed, each in the version of the lock and checked
# against its hashes.
RUN uv pip install --system --no-cache --constraint requirements.lock ".[stream]"

RUN useradd --create-home --uid 10001 panther && mkdir /data && chown panther /data
USER panther
WORKDIR /home/panther
CMD ["panther", "--help"]

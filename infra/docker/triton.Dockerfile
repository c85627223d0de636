# NVIDIA's Triton server with the packages that the Python models import. One image serves CPU and GPU: the lock has
# only the CUDA build of torch for Linux x86, which runs on the CPU where there is no GPU.
#
# Image 24.12 is server 2.53 with Python 3.12; the local stack's wheel is server 2.51. panther_core needs Python 3.11 or
# newer: the wheel has stubs for several versions of Python, an image has its own version alone.
FROM nvcr.io/nvidia/tritonserver:24.12-py3

ARG UV_VERSION=0.13.9
ENV PIP_BREAK_SYSTEM_PACKAGES=1
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
RUN uv pip install --system --break-system-packages --no-cache --constraint requirements.lock ".[serving]"

COPY triton_models/canary /opt/panther/seed/canary
COPY infra/docker/canary_check.py infra/docker/serve.sh /opt/panther/
# The stub puts its working directory first on sys.path, so the directory must be empty to shadow no package.
WORKDIR /opt/panther/empty
CMD ["/bin/sh", "/opt/panther/serve.sh"]

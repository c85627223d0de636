# NVIDIA's Triton server with the packages that the Python models import. One image serves CPU and GPU: the lock has
# only the CUDA build of torch for Linux x86, which runs on the CPU where there is no GPU.
#
# Releases before 25.07 let whoever reaches the server take it over (docs/security.md); the local stack's wheel is server
# 2.51, which is older and listens on loopback alone. The digest is that of public records of this tag, not of a pull.
FROM nvcr.io/nvidia/tritonserver:26.08-py3@sha256:9185ba5b33d2c85c9204b208957b4bbfc6b2b89066efc9192e0f60c2ab58cec0

# panther_core needs it; an image has one version of Python, and its Python backend a stub for that version alone
RUN python3 -c "import sys; assert sys.version_info >= (3, 11), sys.version"

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
# The server and its models run as nobody in particular, and own the model repository alone.
RUN useradd --no-create-home --uid 10001 panther && mkdir -p /models numba && chown panther /models numba
USER panther
# The stub puts its working directory first on sys.path, so the directory must be empty to shadow no package.
WORKDIR /opt/panther/empty
# else numba keeps its compiled kernels beside the sources or in the home folder, where this user may not write
ENV NUMBA_CACHE_DIR=/opt/panther/numba
CMD ["/bin/sh", "/opt/panther/serve.sh"]

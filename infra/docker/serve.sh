#!/bin/sh
# Triton in its container, with the options of infra/local/triton.py, over the models that have a version folder.
# It listens on all addresses of the container; docker-compose.yml publishes them on loopback alone.
# TRITON_KEY_FILE holds the key that the server asks of whoever loads models; it begins with a key or not at all.
set -eu
key=$(cat "${TRITON_KEY_FILE:-/run/secrets/triton_key}")
if [ -z "$key" ]; then
    echo "expected a key in ${TRITON_KEY_FILE:-/run/secrets/triton_key}, found none: set PANTHER_TRITON_KEY" >&2
    exit 1
fi
restricted=model-repository,model-config,shared-memory,statistics,trace,logging
repository=${MODEL_REPOSITORY:-/models}
mkdir -p "$repository/canary"
cp -R /opt/panther/seed/canary/. "$repository/canary/"
set --
for config in "$repository"/*/config.pbtxt; do
    model=$(dirname "$config")
    for version in "$model"/[0-9]*/; do
        if [ -d "$version" ]; then
            set -- "$@" "--load-model=$(basename "$model")"
            break
        fi
    done
done
# Waiting threads of the models must sleep, not spin: other processes share these cores (infra/local/triton.py).
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
exec tritonserver \
    --model-repository="$repository" \
    --model-control-mode=explicit \
    --strict-readiness=false \
    --disable-auto-complete-config \
    --exit-timeout-secs=3 \
    --backend-config=python,shm-default-byte-size=4194304 \
    --backend-config=python,shm-growth-byte-size=4194304 \
    "--grpc-restricted-protocol=$restricted:panther-key=$key" \
    "--http-restricted-api=metadata,inference,$restricted:panther-key=$key" \
    "$@"

#!/usr/bin/env bash
# What needs a GPU, on a machine without a network: the tests marked gpu, the benchmarks on the device, and its waits.
#
#   benchmarks/gpu.sh gather WHEELS          where there is a network: collect what that machine lacks
#   benchmarks/gpu.sh run WHEELS RESULTS     there: Python 3.12 with torch, numpy, pluggy, safetensors, click and rich
#
# RESULTS is a JSON file. It takes up to six minutes.
set -euo pipefail
wheels=$(realpath -m "${2:?a folder for wheels}")
case "$1" in
gather)
    cd "$(dirname "$0")/.."
    python3 -m pip wheel --quiet --no-deps --wheel-dir "$wheels" . plugins/argus-{compat,example,sklearn,torchmetrics}
    python3 -m pip download --quiet --no-deps --only-binary :all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --dest "$wheels" \
        hypothesis iniconfig packaging pluggy pygments pytest sortedcontainers sybil \
        filelock tomli_w zlib-ng joblib narwhals scikit-learn scipy threadpoolctl lightning-utilities torchmetrics
    ;;
run)
    results=$(realpath -m "${3:?a file for the results}")
    cd "$(dirname "$0")/.."
    site=$(mktemp -d)
    trap 'rm -r "$site"' EXIT
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    PYTHONPATH=$site OMP_NUM_THREADS=1 python3 benchmarks/gpu.py "$results"
    ;;
*)
    echo "give gather or run, not $1" >&2
    exit 2
    ;;
esac

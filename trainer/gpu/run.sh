#!/usr/bin/env bash
# Tries the trainer out on a machine with a GPU: what it computes, how fast, beside PyTorch on the same
# GPU, and a training. Needs no Rust and no network; the folder was made by make_folder.sh.
#
#   ./run.sh RESULTS [SECONDS]
#
# Everything together takes at most SECONDS (480 by default). Each step has a part of that; what one
# leaves over goes on to the next. What a step prints is in RESULTS/STEP.log, how all ended in
# RESULTS/summary.json. A step that fails does not stop the others. Exit codes: 0 all passed, 1 not all,
# 2 wrong command line.
set -euo pipefail

whole=${2:-480}
if [[ $# -lt 1 || $# -gt 2 || ! $whole =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 RESULTS [SECONDS]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
results=$(cd "$1" && pwd)
SECONDS=0
spare=0
failed=0
summary=()

# The programs are packed, and this folder may be one that cannot be written to.
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
for each in "$here"/*.gz; do
    name=$(basename "$each" .gz)
    gzip -d -c "$each" >"$programs/$name"
    chmod +x "$programs/$name"
done

# Writes what is known so far.
summarise() {
    local comma="" each
    {
        echo "{"
        echo "  \"date\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\","
        echo "  \"seconds\": $SECONDS,"
        echo "  \"failed\": $failed,"
        echo "  \"steps\": ["
        for each in ${summary[@]+"${summary[@]}"}; do
            printf '%s    %s' "$comma" "$each"
            comma=$',\n'
        done
        printf '\n  ]\n}\n'
    } >"$results/summary.json.new"
    mv "$results/summary.json.new" "$results/summary.json"
}

# step NAME PART COMMAND...: runs a command for at most PART of 480 seconds and what is left over. In
# its arguments, @DEADLINE@ becomes the seconds after which it should begin nothing more.
step() {
    local name=$1 part=$(($2 * whole / 480)) began=$SECONDS code=0 limit deadline
    shift 2
    limit=$((part + spare))
    if ((limit > whole - SECONDS)); then limit=$((whole - SECONDS)); fi
    # What has begun must end too, and takes longest where it is most worth waiting for.
    deadline=$((limit * 3 / 4))
    if ((limit < 1)); then
        code=124
        echo "left out, as the time is up" >"$results/$name.log"
    else
        timeout --kill-after=5 "$limit" "${@//@DEADLINE@/$deadline}" \
            </dev/null >"$results/$name.log" 2>&1 || code=$?
    fi
    local took=$((SECONDS - began))
    spare=$((limit > took ? limit - took : 0))
    if ((code != 0)); then failed=$((failed + 1)); fi
    summary+=("{ \"step\": \"$name\", \"exit_code\": $code, \"seconds\": $took, \"limit_s\": $limit }")
    summarise
    echo "== $name: exit code $code after $took of $limit s"
    tail -n 4 "$results/$name.log" | cut -c 1-300
}

# The Python that has PyTorch, without importing it, which takes long.
has_torch='import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
python=""
for each in python3 "${VIRTUAL_ENV:-/none}/bin/python3" "${CONDA_PREFIX:-/none}/bin/python3" \
    /opt/*/bin/python3 /opt/*/.venv/bin/python3 /opt/*/venv/bin/python3 /usr/bin/python3 \
    /usr/local/bin/python3 "${HOME:-/none}"/*/bin/python3; do
    if command -v "$each" >/dev/null 2>&1 && "$each" -c "$has_torch" 2>/dev/null; then
        python=$each
        break
    fi
done
# NVIDIA's libraries come along with PyTorch: its environment, and their folders, for our programs only.
own=(env)
if [[ -n $python ]]; then
    prefix=$("$python" -c 'import sys; print(sys.prefix)')
    libraries=$("$python" -c '
import glob, importlib.util, os
site = os.path.dirname(importlib.util.find_spec("torch").submodule_search_locations[0])
print(":".join(sorted(glob.glob(site + "/nvidia/*/lib")) + [site + "/torch/lib"]))')
    own+=("VIRTUAL_ENV=$prefix" "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    echo "PyTorch is in $prefix"
else
    python=python3
    echo "no python3 with PyTorch was found: NVIDIA's libraries must be where the system finds them"
fi

# shellcheck disable=SC2016 # it is for the other bash to expand
step facts 10 bash -c '
    uname -a; nproc; free -g; "$1" --version
    if ! command -v nvidia-smi >/dev/null; then
        echo "error: the NVIDIA driver was not found: expected nvidia-smi, which comes with it"
        exit 5
    fi
    nvidia-smi && nvidia-smi -q -d CLOCK,POWER,MEMORY,PERFORMANCE' facts "$python"
step gpu_check 110 "${own[@]}" "$programs/gpu_check" "$results" --deadline @DEADLINE@
step gpu_measure 100 "${own[@]}" "$programs/gpu_measure" "$results" --seconds 1 --deadline @DEADLINE@
step recordings 60 "${own[@]}" FORETRAIN_CACHE="$results" \
    "$here/recordings.sh" "$programs/foretrain" "$results" @DEADLINE@
step pytorch 110 "$python" "$here/pytorch.py" "$results" --deadline @DEADLINE@
if [[ -e $here/fashion-mnist.toml ]]; then
    # The configuration's paths are below the folder in which the training runs.
    training=$results/training
    mkdir -p "$training"
    ln -sfn "$here/fashion-mnist" "$training/fashion-mnist"
    # shellcheck disable=SC2016 # it is for the other bash to expand
    step training 30 "${own[@]}" FORETRAIN_CACHE="$results" \
        bash -c 'cd "$1" && exec "$2" train "$3"' \
        training "$training" "$programs/foretrain" "$here/fashion-mnist.toml"
    rm -f "$training/fashion-mnist"
fi
# What needs no GPU of these tests is run where the folder is made.
step tests_of_driver 30 "${own[@]}" FORETRAIN_REQUIRE_GPU=1 "$programs/library_tests" \
    --test-threads=1 cuda::driver::tests
step tests_of_kernels 30 "${own[@]}" FORETRAIN_KERNELS=gpu "$programs/library_tests" \
    --test-threads=1 cuda::emulator

# What is too large to be carried away is packed, or not kept.
find "$results" -type f -size +16777216c ! -name '*.gz' -exec gzip -f {} \;
find "$results" -type f -size +16777216c -print -delete | sed 's/^/removed, as it has over 16 MiB: /'
summarise
echo "$failed of ${#summary[@]} steps failed; $results/summary.json says which ($SECONDS s)"
((failed == 0))

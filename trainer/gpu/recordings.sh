#!/usr/bin/env bash
# Records ten steps of ResNet-50 on made-up images at several batches, by the trainer itself, the most
# important first; begins none after SECONDS. run.sh calls it.
#
#   ./recordings.sh FORETRAIN RESULTS SECONDS
set -euo pipefail

if [[ $# -ne 3 || ! $3 =~ ^[0-9]+$ ]]; then
    echo "usage: $0 FORETRAIN RESULTS SECONDS" >&2
    exit 2
fi
foretrain=$1
results=$(cd "$2" && pwd)
limit_s=$3
SECONDS=0
failed=0
name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 || true)
name=$(tr '[:upper:]' '[:lower:]' <<<"${name:-unknown}" | tr -c 'a-z0-9\n' '-')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for batch in 256 64 400 128 32 16; do
    if ((SECONDS > limit_s)); then
        echo "batch $batch: left out, as the time is up"
        continue
    fi
    file="recording-$name-b$batch-$(date -u +%Y-%m-%d)"
    # The first steps choose algorithms, are captured, and let the loss scale settle.
    cat >"$work/$batch.toml" <<TOML
name = "ResNet-50, batch $batch, made-up images"
[network]
model = "resnet50"
[data]
kind = "synthetic"
synthetic = { samples = $((batch * 40)), eval_samples = 0 }
[training]
device = "cuda"
precision = "f16"
global_batch = $batch
epochs = 1
steps_max = 30
label_smoothing = 0.1
[optimizer]
rule = "lars"
[schedule]
warmup = { epochs = 0.5 }
[output]
folder = "$work/$batch"
checkpoint_every = "never"
recording = { file = "$results/$file", steps = "20..30" }
TOML
    "$foretrain" train "$work/$batch.toml" || failed=$?
done
exit "$failed"

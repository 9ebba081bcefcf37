#!/usr/bin/env bash
# Makes a folder with all that a machine with a GPU needs to try the trainer out, where there is no Rust
# and no network: programs, scripts and, where Debian's package dataset-fashion-mnist is installed,
# images to train with. There, `run.sh RESULTS` runs everything.
#
#   trainer/gpu/make_folder.sh FOLDER        FOLDER must not exist, or be one that was made so before
#
# The programs, which are packed, are for the machine's own processor and a glibc not older than its own.
# FORETRAIN_PROFILE chooses another of Cargo's profiles than `release`.
set -euo pipefail

if [[ $# -ne 1 ]]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
profile=${FORETRAIN_PROFILE:-release}
images=/usr/share/datasets/fashion-mnist
most_bytes=$((56 << 20))

if [[ -e $folder && ! -e $folder/run.sh ]]; then
    echo "error: $folder is there already and was not made by this script: expected another name" >&2
    exit 2
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$here/../.."

# The line in which Cargo names a program that it made: its target's name, and where it is.
executable() {
    sed -n 's/.*"name":"'"$1"'".*"executable":"\([^"]*\)".*/\1/p' <<<"$2" | tail -n 1
}
take() {
    local from
    from=$(executable "$1" "$2")
    if [[ -z $from ]]; then
        echo "error: Cargo names no program for $1" >&2
        exit 5
    fi
    strip -o "$folder/$3" "$from"
    gzip -9 -n -f "$folder/$3"
}

# All commands name the whole workspace, so that what they have in common is built once.
options=(--workspace --profile "$profile" --message-format json-render-diagnostics)
built=$(cargo build "${options[@]}" --bin foretrain --example gpu_check --example gpu_measure)
take foretrain "$built" foretrain
take gpu_check "$built" gpu_check
take gpu_measure "$built" gpu_measure
built=$(cargo test "${options[@]}" --lib --no-run)
take foretrain_trainer "$built" library_tests

cp "$here/run.sh" "$here/recordings.sh" "$here/pytorch.py" "$folder"
chmod +x "$folder/run.sh" "$folder/recordings.sh"
rm -rf "$folder/fashion-mnist" "$folder/fashion-mnist.toml"
if [[ -d $images ]]; then
    cp -r "$images" "$folder/fashion-mnist"
    cp "$here/fashion-mnist.toml" "$folder"
else
    echo "without images: $images is not there (Debian's package dataset-fashion-mnist)"
fi

bytes=$(du -sb "$folder" | cut -f 1)
echo "$folder has $bytes bytes"
if ((bytes > most_bytes)); then
    echo "error: expected at most $most_bytes bytes, to be carried to other machines" >&2
    exit 5
fi

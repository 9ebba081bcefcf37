#!/usr/bin/env bash
# The closed loop: calibrates on 2 hosts of a cluster on this machine, measures steps on more, and holds
# what the profile predicts against them, over rates, all-reduces, fusion thresholds and overlap.
#
# Compute is a replay of layer times that were recorded on this machine, so that a few cores do for
# many hosts; sockets, packing, fusion, overlap and updates are real.
set -euo pipefail

usage() {
    cat <<'END'
usage: closed_loop.sh [OPTIONS] RESULTS

Writes profiles, tables and figures to the folder RESULTS. It needs root, and takes about half an hour
on a machine that does nothing else.

  --foretrain PROGRAM   the program [default: foretrain, or target/release/foretrain]
  --rates "A,B,C"       rates of the hosts' links; eight hosts at 100 Mbit/s are about all that two cores
                        can send [default: 25 Mbit/s,50 Mbit/s,100 Mbit/s]
  --hosts "A B"         numbers of hosts to predict [default: 4 8]
  --steps N             steps of each kind [default: 10]
  --mpi                 ranks communicate by MPI, with a program that was built for it [default: TCP]
END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=$here/cluster.sh
rates="25 Mbit/s,50 Mbit/s,100 Mbit/s"
hosts="4 8"
steps=10
transport=tcp
mpi=()
program=$(command -v foretrain || echo "$here/../../target/release/foretrain")
results=""
while (($# > 0)); do
    case $1 in
        --help) usage; exit 0 ;;
        --mpi) transport=mpi; mpi=(--mpi) ;;
        --foretrain | --rates | --hosts | --steps)
            (($# >= 2)) || { echo "closed_loop.sh: \`$1\` without a value" >&2; exit 2; }
            case $1 in
                --foretrain) program=$2 ;;
                --rates) rates=$2 ;;
                --hosts) hosts=$2 ;;
                --steps) steps=$2 ;;
            esac
            shift
            ;;
        -*) echo "closed_loop.sh: \`$1\` is no option; see --help" >&2; exit 2 ;;
        *) results=$1 ;;
    esac
    shift
done
[[ -n $results ]] || { usage >&2; exit 2; }
[[ -x $program ]] || { echo "closed_loop.sh: there is no program \`$program\`: build it, or give --foretrain" >&2; exit 5; }
program=$(realpath "$program")
mkdir -p "$results"
results=$(cd "$results" && pwd)
cd "$results"

# config RANKS DEVICE: a small ResNet of 270,000 parameters, 16 images a rank.
config() {
    cat <<END
name = "closed loop"
[network]
model = "resnet-cifar"
depth = 20
[data]
kind = "synthetic"
workers = $1
synthetic = { samples = 20000, eval_samples = 0, classes = 10 }
[training]
global_batch = $((16 * $1))
threads_per_rank = 1
$2
[optimizer]
rule = "lars"
[communication]
$3
END
}

echo "== layer times of this machine"
config 1 "" "" >one.toml
"$program" calibrate one.toml -o layers.json --only compute --batches 16 --time "30 s"

trap '"$cluster" down >/dev/null 2>&1 || true' EXIT
paced='device = "paced"
pace = "layers.json"'
variants=(--all-reduce ring,hierarchical:2,hybrid:2:256KiB --fusion "64 KiB,256 KiB,1 MiB" --overlap on,off)
missed=0
IFS=, read -ra each <<<"$rates"
for rate in "${each[@]}"; do
    name=${rate//[^0-9A-Za-z]/}
    echo "== calibrating on 2 hosts at $rate"
    "$cluster" up 2 "$rate"
    config 2 "$paced" "transport = \"$transport\"" >paced-2.toml
    "$cluster" run "${mpi[@]}" -- "$program" calibrate paced-2.toml -o "$name.json" \
        --only compute,all-reduce,jitter --batches 16 --sizes "1 KiB..2 MiB" --all-reduce ring \
        --steps 30 --jitter-steps 50 --time "90 s"
    against=()
    for count in $hosts; do
        echo "== measuring steps on $count hosts at $rate"
        "$cluster" up "$count" "$rate"
        config "$count" "$paced" "transport = \"$transport\"" >"paced-$count.toml"
        "$cluster" run "${mpi[@]}" -- "$program" calibrate "paced-$count.toml" \
            -o "$name-$count.json" --only steps "${variants[@]}" --steps "$steps" --time "10 min" >/dev/null
        against+=("$name-$count.json")
    done
    "$program" verify "$name.json" --against "${against[@]}" --format csv >"$name.csv" || true
    "$program" verify "$name.json" --against "${against[@]}" --threshold "5 %" --worst "10 %" \
        --plot "$name.png" | tee "$name.txt" || missed=$?
done
exit "$missed"

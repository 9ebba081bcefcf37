#!/usr/bin/env bash
# A cluster on one machine: its hosts are network namespaces, its network has a rate. `cluster.sh
# --help` says how to use it.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: cluster.sh up HOSTS RATE      make a cluster of 2 to 16 hosts, or change the rate of one
       cluster.sh rate RATE          change the rate of the cluster
       cluster.sh run [OPTIONS] -- COMMAND ARGS...
                                     start COMMAND once per rank
       cluster.sh status             say what is there
       cluster.sh down               end what runs in the cluster, and remove it

Host number I is the network namespace foretrain-I with address 10.77.0.(I+1). Each sends and receives
at RATE, at the same time, through one switch that is never the limit. RATE is such as "100 Mbit/s",
"2.5Gbit/s" or 10gbit, 1 Mbit/s to 100 Gbit/s, and counts Ethernet frames: 95.6 % of it are data of TCP.
What the machine's cores can send is a limit too: measure before you trust 10 Gbit/s.

options of run:
  --ranks-per-host N   processes on each host, 1 to 64; by default 1. Host 0 has the first N ranks, host
                       1 the next, and so on.
  --mpi                start by Open MPI's mpirun, for programs that use MPI; by default ranks get the
                       variables of torchrun: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE
  --out DIR            write the output of rank N to DIR/rankN.log, but that of rank 0 to stdout and
                       stderr; by default that of others is shown only if a rank fails

Every rank has the caller's environment, and MASTER_ADDR and MASTER_PORT, 29500 unless that is set
already. The first rank that fails ends all others.

It needs root. Exit codes: 0 done; 2 wrong usage; 5 it did not work; run: that of the first rank that
failed.
EOF
}

readonly NAME=foretrain
readonly BRIDGE=$NAME-br
readonly NETWORK=10.77.0
# Its path has no blanks or colons, which end the name of mpirun's agent.
readonly TEMPORARY=/tmp/$NAME-cluster
readonly HOSTS_MAX=16 RANKS_MAX=64
# Bytes of a full frame with its header. Its MTU, 1500, is what networks of these rates mostly have. Larger
# frames would save little here, where what passes is trains of frames: see below.
readonly FRAME=1514
readonly KBIT=1000 MBIT=1000000 GBIT=1000000000

# die CODE MESSAGE
die() {
    echo "cluster.sh: $2" >&2
    exit "$1"
}

wrong_usage() {
    die 2 "$1; \`cluster.sh --help\` says more"
}

# need TOOL PACKAGE...: checks that tools are there.
need() {
    local missing=""
    while (($# > 0)); do
        command -v "$1" >/dev/null || missing+=", $1 (Debian's package $2)"
        shift 2
    done
    [[ -z $missing ]] || die 5 "missing tools: ${missing#, }; install them"
}

need_root_and_tools() {
    ((EUID == 0)) || die 5 "not root: making and entering network namespaces needs it, as in \`sudo $0 ...\`"
    need ip iproute2 tc iproute2 nsenter util-linux unshare util-linux setsid util-linux \
        flock util-linux hostname hostname pkill procps ps procps
}

# parse_rate TEXT: prints bits per second.
parse_rate() {
    local text=${1,,} unit bits
    local expected="expected a number and kbit/s, Mbit/s or Gbit/s, as in \"100 Mbit/s\""
    if [[ $text =~ [0-9][[:space:]]*[kmgt]?bps$ ]]; then
        wrong_usage "rate \`$1\` could be bits or bytes (to tc it is bytes): $expected"
    fi
    [[ $text =~ ^([0-9]{1,9})(\.([0-9]{1,9}))?[[:space:]]*([kmg]?)bit(/s)?$ ]] \
        || wrong_usage "\`$1\` is no rate: $expected"
    case ${BASH_REMATCH[4]} in
        k) unit=$KBIT ;;
        m) unit=$MBIT ;;
        g) unit=$GBIT ;;
        *) unit=1 ;;
    esac
    local fraction=${BASH_REMATCH[3]}
    bits=$((10#${BASH_REMATCH[1]} * unit))
    if [[ -n $fraction ]]; then bits=$((bits + 10#$fraction * unit / 10 ** ${#fraction})); fi
    ((bits >= MBIT && bits <= 100 * GBIT)) \
        || wrong_usage "rate \`$1\` is out of range: expected 1 Mbit/s to 100 Gbit/s"
    echo "$bits"
}

# spell_rate BITS
spell_rate() {
    local bits=$1
    if ((bits % GBIT == 0)); then
        echo "$((bits / GBIT)) Gbit/s"
    elif ((bits % MBIT == 0)); then
        echo "$((bits / MBIT)) Mbit/s"
    elif ((bits % KBIT == 0)); then
        echo "$((bits / KBIT)) kbit/s"
    else
        echo "$bits bit/s"
    fi
}

# count WHAT TEXT LEAST MOST: checks a number, and prints it.
count() {
    if [[ ! $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        wrong_usage "$1 is \`$2\`: expected $3 to $4"
    fi
    echo "$((10#$2))"
}

# The number of hosts and bits per second of the cluster that is up, or nothing. The bridge has them as
# its alias, given when all else is there: so nothing remains to go stale, and half a cluster, as a
# killed `up` leaves it, is none.
cluster() {
    local alias i
    alias=$(cat "/sys/class/net/$BRIDGE/ifalias" 2>/dev/null) || return 0
    for ((i = 0; i < ${alias%% *}; i++)); do
        [[ -e /run/netns/$NAME-$i && -e /sys/class/net/$NAME-$i ]] || return 0
    done
    echo "$alias"
}

# Sets `hosts` and `bits`.
need_cluster() {
    read -r hosts bits <<<"$(cluster)"
    [[ -n $bits ]] || die 5 "no whole cluster is up: make one, as by \`$0 up 4 \"1 Gbit/s\"\`"
}

# Namespaces of all clusters' hosts, also of half a cluster.
namespaces() {
    ip netns list | sed -En "s/^($NAME-[0-9]+)( .*)?\$/\1/p"
}

# door_of HOST: sets `door`, the start of a command that is to run in that host's network, with its name.
# Unlike `ip netns exec` this leaves /sys as it is, where programs look for the cores that they may use.
door_of() {
    local host=$NAME-$1
    # shellcheck disable=SC2016
    door=(nsenter --net="/run/netns/$host" unshare --uts
        bash -c 'hostname "$0" && exec "$@"' "$host")
}

make_host() {
    local host=$NAME-$1 address=$NETWORK.$(($1 + 1))
    ip netns add "$host"
    ip link add "$host" type veth peer name eth0 netns "$host"
    ip link set "$host" master $BRIDGE up
    ip -n "$host" link set lo up
    ip -n "$host" link set eth0 up
    ip -n "$host" address add "$address/24" dev eth0 noprefixroute
    # A machine's default may be BBR, which has its own idea of the rate and almost stops every 10 s. As an
    # attribute of the route cubic needs no change to the settings of the machine.
    ip -n "$host" route add $NETWORK.0/24 dev eth0 src "$address" congctl cubic
    nsenter --net="/run/netns/$host" bash -s <<'EOF'
# Else a connection starts with what an earlier one learnt, maybe at another rate.
echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save
# Else programs may choose addresses that nobody asked for.
if [[ -e /proc/sys/net/ipv6 ]]; then echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; fi
EOF
}

# From here on, what fails has said why.
expect_to_work() {
    set -o errtrace
    # shellcheck disable=SC2064
    trap "die 5 'cannot $1: the message above says why'" ERR
}

# set_rate HOSTS BITS: shapes what every host sends, within it, and what it receives, at the switch.
#
# What the kernel hands over is a train of frames, and each costs cores 30 to 50 us on its way from
# program to program. A train waits until the bucket of its shaper holds as many bytes; the timer for
# that is late by 5 to 10 us, or more where the cores compute. So the bucket must hold a train and what
# comes in meanwhile, or rate is lost. But after a pause all that it holds passes at once. So a train is
# what the rate allows in 80 us, or a frame if that is longer, and the bucket has room for 30 us more:
# then a message is faster than the rate says by 0.11 ms at most, by 0.15 ms at 100 Mbit/s.
#
# TCP keeps no more than some 1 ms of a connection's data in these queues. They are never full, as one that
# drops would be another network.
set_rate() {
    local hosts=$1 bits=$2 host i
    local bytes=$((bits / 8))
    local frames=$(((bytes * 80 / 1000000 + FRAME / 2) / FRAME)) slack=$((bytes * 30 / 1000000))
    # Frames of a train are one packet to the kernel, of which 64 KiB is the most.
    frames=$((frames < 1 ? 1 : frames > 42 ? 42 : frames))
    local burst=$((frames * FRAME + (slack < 100 ? 100 : slack)))
    for ((i = 0; i < hosts; i++)); do
        host=$NAME-$i
        ip link set "$host" gso_max_segs $frames
        ip -n "$host" link set eth0 gso_max_segs $frames
        tc qdisc replace dev "$host" root tbf rate "${bits}bit" burst $burst limit 64mb
        tc -n "$host" qdisc replace dev eth0 root tbf rate "${bits}bit" burst $burst limit 64mb
    done
    ip link set $BRIDGE alias "$hosts $bits"
}

# Ends processes of hosts: a namespace is there as long as they are.
end_processes() {
    local host signal try
    local -a pids
    for signal in TERM KILL; do
        for ((try = 0; try < 20; try++)); do
            mapfile -t pids < <(for host in $(namespaces); do ip netns pids "$host"; done)
            ((${#pids[@]} > 0)) || return 0
            if ((try == 0)); then kill -$signal "${pids[@]}" 2>/dev/null || true; fi
            sleep 0.1
        done
    done
    die 5 "processes ${pids[*]} do not end: end them, then try again"
}

remove() {
    local host link
    end_processes
    rm -rf $TEMPORARY.??????
    for host in $(namespaces); do ip netns delete "$host"; done
    for link in /sys/class/net/"$NAME"-*; do
        link=${link##*/}
        if [[ $link =~ ^$NAME-([0-9]+|br)$ ]]; then
            # That of a host goes with its namespace, maybe right now.
            ip link delete "$link" 2>/dev/null || [[ ! -e /sys/class/net/$link ]] \
                || die 5 "cannot remove the link $link: see \`ip link delete $link\`"
        fi
    done
}

# Whoever has this lock runs ranks. They inherit it, so that it is free when all have ended. It is on the
# namespace of host 0, so that nothing is left where no cluster is.
take_lock() {
    exec 9</run/netns/$NAME-0
    flock --nonblock 9 || die 5 "another run has not ended: wait for it, or end it by \`$0 down\`"
}

up() {
    (($# >= 2)) || wrong_usage "\`up\` without hosts and rate: expected such as \`up 4 \"1 Gbit/s\"\`"
    local wanted wanted_bits
    wanted=$(count HOSTS "$1" 2 $HOSTS_MAX)
    shift
    wanted_bits=$(parse_rate "$*")
    need_root_and_tools
    read -r hosts bits <<<"$(cluster)"
    if [[ $hosts != "$wanted" ]]; then
        if [[ -n $hosts ]]; then (take_lock); fi
        remove
        local taken
        taken=$(ip -4 -oneline route show root $NETWORK.0/24)
        taken=${taken%%$'\n'*}
        [[ -z $taken ]] \
            || die 5 "this machine uses the network $NETWORK.0/24 already (${taken% }): remove that"
        # What is half there would be in the way of the next.
        trap remove EXIT
        expect_to_work "make the cluster"
        ip link add $BRIDGE type bridge mcast_snooping 0
        ip address add $NETWORK.254/24 dev $BRIDGE
        ip link set $BRIDGE up
        local i
        for ((i = 0; i < wanted; i++)); do make_host "$i"; done
        check_network $((wanted - 1))
    fi
    expect_to_work "set the rate"
    set_rate "$wanted" "$wanted_bits"
    trap - EXIT
    echo "$wanted hosts at $(spell_rate "$wanted_bits")"
}

# check_network LAST: a refused connection is an answer too.
check_network() {
    local code=0
    timeout 5 nsenter --net=/run/netns/$NAME-0 \
        bash -c ": </dev/tcp/$NETWORK.$(($1 + 1))/9" 2>/dev/null || code=$?
    ((code != 124)) || die 5 "the hosts do not reach each other: this machine's firewall seems to drop what\
 passes a bridge, as Docker's does; let it pass by \`sysctl net.bridge.bridge-nf-call-iptables=0\`"
}

change_rate() {
    (($# >= 1)) || wrong_usage "\`rate\` without a rate: expected such as \`rate \"1 Gbit/s\"\`"
    local wanted
    wanted=$(parse_rate "$*")
    need_root_and_tools
    need_cluster
    expect_to_work "set the rate"
    set_rate "$hosts" "$wanted"
    echo "$hosts hosts at $(spell_rate "$wanted")"
}

# Bytes sent and frames dropped, in what tc says of a shaper.
counters() {
    sed -En 's/^ Sent ([0-9]+) bytes .*\(dropped ([0-9]+),.*/\1 \2/p'
}

status() {
    (($# == 0)) || wrong_usage "\`status\` takes no arguments, but there is \`$1\`"
    need_root_and_tools
    read -r hosts bits <<<"$(cluster)"
    if [[ -z $bits ]]; then
        if [[ -n $(namespaces) || -e /sys/class/net/$BRIDGE ]]; then
            echo "part of a cluster: \`$0 down\` removes it"
        else
            echo "no cluster"
        fi
        return
    fi
    echo "$hosts hosts at $(spell_rate "$bits")"
    local i host sent received
    for ((i = 0; i < hosts; i++)); do
        host=$NAME-$i
        read -ra sent <<<"$(tc -n "$host" -s qdisc show dev eth0 | counters)"
        read -ra received <<<"$(tc -s qdisc show dev "$host" | counters)"
        echo "$host: $NETWORK.$((i + 1)), sent ${sent[0]} bytes, received ${received[0]} bytes," \
            "dropped $((sent[1] + received[1])) frames, $(ip netns pids "$host" | wc -l) processes"
    done
}

# Sessions whose processes are to end with this one: of each rank, or of mpirun with all ranks.
sessions=()
temporary=""

# Ends the sessions, first by asking.
end_sessions() {
    ((${#sessions[@]} > 0)) || return 0
    local list signal try
    list=$(IFS=, && echo "${sessions[*]}")
    for signal in TERM KILL; do
        pkill -$signal -s "$list" || break
        for ((try = 0; try < 50; try++)); do
            sleep 0.1
            # Not those that have ended, and wait for a lazy init.
            # shellcheck disable=SC2009
            [[ -n $(ps -s "$list" -o stat= | grep -v '^Z') ]] || break 2
        done
    done
    sessions=()
}

clean_up() {
    # Whoever asks twice would leave something running.
    trap '' INT TERM HUP
    end_sessions
    if [[ -n $temporary ]]; then rm -rf "$temporary"; fi
}

run() {
    local mpi="" per_host=1
    out=""
    while (($# > 0)); do
        case $1 in
            --mpi) mpi=yes ;;
            --ranks-per-host | --out)
                (($# >= 2)) || wrong_usage "\`$1\` without a value"
                if [[ $1 == --out ]]; then out=$2; else per_host=$(count "$1" "$2" 1 $RANKS_MAX); fi
                shift
                ;;
            --)
                shift
                break
                ;;
            -*) wrong_usage "\`$1\` is no option of \`run\`: expected --mpi, --ranks-per-host, --out or --" ;;
            *) break ;;
        esac
        shift
    done
    (($# > 0)) || wrong_usage "\`run\` without a command: expected such as \`run -- ./program argument\`"
    [[ -n $(type -P -- "$1") ]] || wrong_usage "\`$1\` is no program: expected its path, or a name on PATH"
    need_root_and_tools
    if [[ -n $mpi ]]; then need mpirun openmpi-bin; fi
    need_cluster
    take_lock
    self=$(realpath -- "$0")

    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    temporary=$(mktemp --directory $TEMPORARY.XXXXXX)
    if [[ -z $out ]]; then out=$temporary; fi
    mkdir -p -- "$out" || die 5 "cannot make the folder \`$out\`: choose another by --out"
    out=$(cd -- "$out" && pwd)

    # What other launchers said to this process is not true of the ranks.
    unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE
    unset "${!TORCHELASTIC_@}" "${!SLURM_@}" "${!OMPI_COMM_WORLD_@}" "${!PMIX_@}"
    export MASTER_ADDR=$NETWORK.1 MASTER_PORT=${MASTER_PORT:-29500}
    if [[ -n $mpi ]]; then
        run_by_mpirun "$per_host" "$@"
    else
        run_by_hand "$per_host" "$@"
    fi
}

# show_log RANK: the end of what a rank wrote.
show_log() {
    local log=$out/rank$1.log
    if [[ -s $log ]]; then
        local where=""
        if [[ $out != "$temporary" ]]; then where=", of $log"; fi
        echo "cluster.sh: last lines of rank $1$where:" >&2
        tail -n 40 -- "$log" >&2
    fi
}

# report_failure RANK CODE PER_HOST
report_failure() {
    echo "cluster.sh: rank $1 on $NAME-$(($1 / $3)) ended with code $2" >&2
    show_log "$1"
}

# run_by_hand PER_HOST COMMAND...
run_by_hand() {
    local per_host=$1
    shift
    local rank world=$((hosts * per_host)) pid code other running
    local -A rank_of=()
    for ((rank = 0; rank < world; rank++)); do
        (
            export RANK=$rank WORLD_SIZE=$world
            export LOCAL_RANK=$((rank % per_host)) LOCAL_WORLD_SIZE=$per_host
            if ((rank > 0)); then exec >"$out/rank$rank.log" 2>&1; fi
            door_of $((rank / per_host))
            # A session of its own, to end all that it starts.
            exec setsid "${door[@]}" "$@" </dev/null
        ) &
        rank_of[$!]=$rank
        sessions+=($!)
    done
    while ((${#rank_of[@]} > 0)); do
        code=0
        wait -n -p pid "${!rank_of[@]}" || code=$?
        rank=${rank_of[$pid]}
        unset "rank_of[$pid]"
        if ((code != 0)); then break; fi
    done
    if ((code == 0)); then return; fi
    report_failure "$rank" "$code" "$per_host"
    # Of those that fail together, another may be the one that says why.
    sleep 0.2
    running=" $(jobs -rp | tr '\n' ' ')"
    for pid in "${!rank_of[@]}"; do
        if [[ $running != *" $pid "* ]]; then
            other=0
            wait "$pid" || other=$?
            if ((other != 0)); then report_failure "${rank_of[$pid]}" "$other" "$per_host"; fi
        fi
    done
    exit "$code"
}

# run_by_mpirun PER_HOST COMMAND...: mpirun is outside all hosts and takes this script for ssh.
run_by_mpirun() {
    local per_host=$1
    shift
    local rank code=0 places="" i
    for ((i = 0; i < hosts; i++)); do places+=,$NETWORK.$((i + 1)):$per_host; done
    ln -s "$self" "$temporary/cluster.sh"
    local -a options=(
        --allow-run-as-root
        --host "${places#,}" -n $((hosts * per_host))
        # Hosts share the cores of this machine, so nothing may claim one, or keep it while it waits.
        --bind-to none --oversubscribe --mca mpi_yield_when_idle 1
        # All that is started stays in one session.
        --leave-session-attached
        --mca plm rsh --mca plm_rsh_no_tree_spawn 1
        --mca plm_rsh_agent "$BASH $temporary/cluster.sh --as-ssh"
        # Other ways to send could take a short cut from host to host through memory.
        --mca pml ob1 --mca btl "tcp,vader,self"
        --mca btl_tcp_if_include "$NETWORK.0/24" --mca oob_tcp_if_include "$NETWORK.0/24"
    )
    setsid mpirun "${options[@]}" "$BASH" "$self" --as-mpi-rank "$out" "$@" </dev/null &
    sessions=($!)
    wait $! || code=$?
    if ((code == 0)); then return; fi
    for ((rank = 1; rank < hosts * per_host; rank++)); do show_log $rank; done
    exit "$code"
}

# as_ssh ADDRESS COMMAND...: like ssh it gives the words to a shell.
as_ssh() {
    local address=$1
    shift
    door_of $((${address##*.} - 1))
    exec "${door[@]}" bash -c "$*"
}

# as_mpi_rank OUT COMMAND...: only what rank 0 writes goes to mpirun.
as_mpi_rank() {
    local log=$1/rank$OMPI_COMM_WORLD_RANK.log
    shift
    if ((OMPI_COMM_WORLD_RANK > 0)); then exec >"$log" 2>&1; fi
    exec "$@"
}

case ${1:-} in
    up) up "${@:2}" ;;
    rate) change_rate "${@:2}" ;;
    run) run "${@:2}" ;;
    status) status "${@:2}" ;;
    down)
        (($# == 1)) || wrong_usage "\`down\` takes no arguments, but there is \`$2\`"
        need_root_and_tools
        remove
        ;;
    -h | --help | help) usage ;;
    --as-ssh) as_ssh "${@:2}" ;;
    --as-mpi-rank) as_mpi_rank "${@:2}" ;;
    "")
        usage >&2
        exit 2
        ;;
    *) wrong_usage "\`$1\` is no command: expected up, rate, run, status or down" ;;
esac

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The applications of tools/apps on three nodes, small: over rdma_lite, and the same program over TCP. They check their
# own results; `make bench` runs them large.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

app=$target/../../build/target/release/potluck-apps

on_all() { potluck run -n n1,n2,n3 --timeout 120 -- "$app" "$@"; }

# The figures of the first rank say that it has checked.
checked() { # ARG...
	local out
	out=$(on_all "$@") || { echo "$out"; return 1; }
	echo "$out"
	[ "$(grep -c '"checked":true' <<<"$out")" = 1 ]
}

table() { checked kv --transport "$1" --clients 2 --operations 150 --keys 30 --shared 4 --gets 60; }
pagerank() { checked pagerank --transport "$1" --rmat 10 --iterations 20; }

a_node_that_is_not_of_its_rank_is_told() {
	local out
	out=$(on_all kv --nodes 2,3,1 2>&1) && return 1
	echo "$out"
	[[ $out == *'as the node of this rank'* ]]
}

leaves_no_region_and_no_port() {
	local node used
	for node in n1 n2 n3; do
		used=$(cat "/sys/kernel/config/rdma_lite/$node/memory_used")
		echo "$node: $used bytes of regions"
		[ "$used" = 0 ] || return 1
	done
	# Its port is free: it starts again.
	table lite
}

ktap_print_header
ktap_set_plan 6
command -v potluck >/dev/null || { ktap_skip_all "there is no potluck here"; exit "$KSFT_SKIP"; }
[ -x "$app" ] || { ktap_skip_all "the applications are not built: kernel/build tools"; exit "$KSFT_SKIP"; }
potluck lab up 3 --no-mount || { ktap_skip_all "no lab"; exit "$KSFT_SKIP"; }
test_that "clients of a table on three nodes see what their models explain, over rdma_lite" table lite
test_that "the same program does over TCP" table tcp
test_that "PageRank over three nodes is that of one process, over rdma_lite" pagerank lite
test_that "the same program's is over TCP" pagerank tcp
test_that "a rank that is another node's is told" a_node_that_is_not_of_its_rank_is_told
test_that "programs that ended leave no region and no port" leaves_no_region_and_no_port
potluck lab down
ktap_finished

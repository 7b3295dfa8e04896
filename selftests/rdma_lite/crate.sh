#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The crate for /dev/rdma_lite (tools/lite): its example, on two nodes at once.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

example=$target/../../build/target/release/examples/counters

adds_up_what_two_nodes_do() {
	local out
	out=$(potluck run -n n1,n2 --timeout 60 -- "$example" 1) || { echo "$out"; return 1; }
	echo "$out"
	[ "$(grep -c '200 additions, 20 pairs' <<<"$out")" = 2 ]
}

says_that_there_is_no_node_here() {
	local out
	out=$("$example" 1 2>&1) && return 1
	echo "$out"
	# ENXIO
	[[ $out == *'code: 6,'* ]]
}

ktap_print_header
ktap_set_plan 2
command -v potluck >/dev/null || { ktap_skip_all "there is no potluck here"; exit "$KSFT_SKIP"; }
[ -x "$example" ] || { ktap_skip_all "the example is not built: kernel/build tools"; exit "$KSFT_SKIP"; }
potluck lab up 2 --no-mount || { ktap_skip_all "no lab"; exit "$KSFT_SKIP"; }
test_that "a table at one node adds up what two nodes do to it" adds_up_what_two_nodes_do
test_that "a namespace without a node is told by ENXIO" says_that_there_is_no_node_here
potluck lab down
ktap_finished

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The lab, as people use it: up, run, status, down, and nothing left behind.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

ktap_print_header
command -v potluck >/dev/null || { ktap_skip_all "no potluck in PATH"; exit "$KSFT_SKIP"; }
for mnt in /mnt/lt[0-9]*; do umount "$mnt" 2>/dev/null; done
was_up=
mountpoint -q /mnt/n1 && was_up=1

up() { mountpoint -q /mnt/n1 || potluck lab up 3 --pmem-format yes; }
mounted() { local i; for i in 1 2 3; do mountpoint -q "/mnt/n$i" || return 1; done; }

runs_on_each_node() {
	local out
	# shellcheck disable=SC2016 # the nodes' shells expand it
	out=$(potluck run -n n1,n2,n3 -- sh -c 'echo "I am $POTLUCK_NODE"') || return 1
	echo "$out"
	[ "$(grep -c 'I am ' <<<"$out")" = 3 ]
}
worst_status() {
	# shellcheck disable=SC2016
	potluck run -- sh -c '[ "$POTLUCK_NODE" != n2 ] || exit 7'
	[ $? = 7 ]
}
shares_files() {
	echo shared >/mnt/n1/l_file &&
		[ "$(cat /mnt/n2/l_file)" = shared ] && [ "$(cat /mnt/n3/l_file)" = shared ] && rm /mnt/n3/l_file
}
tells_status() {
	potluck status && potluck status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
assert len(status["nodes"]) == 3, status'
}
goes_down() {
	potluck lab down || return 1
	! mountpoint -q /mnt/n1 && [ -z "$(ls /sys/kernel/config/rdma_lite 2>/dev/null)" ] &&
		! ip netns list | grep -qE '^n[0-9]+\b'
}

ktap_set_plan 7
for node in /sys/kernel/config/rdma_lite/lt[0-9]*; do
	[ -d "$node" ] && { echo 0 >"$node/power"; rmdir "$node"; } 2>/dev/null
done
test_that "potluck lab up 3 brings three nodes up" up
test_that "every node has its mount" mounted
test_that "potluck run runs on each node" runs_on_each_node
test_that "potluck run returns the worst status" worst_status
test_that "a file of one node is there on all" shares_files
test_that "potluck status tells it as a table and as JSON" tells_status
test_that "potluck lab down leaves nothing behind" goes_down
[ -z "$was_up" ] || potluck lab up 3 >/dev/null
ktap_finished

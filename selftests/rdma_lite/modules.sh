#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading rdma_lite: refused while it is used, and without a
# leak however often it is done (POTLUCK_ROUNDS, 200 in the full run).
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

rounds=${POTLUCK_ROUNDS:-10}
configfs=/sys/kernel/config/rdma_lite
pair=$(dirname "$0")/pingpair

node_on() {
	nsenter --net="/run/netns/lt$1" mkdir "$configfs/lt$1" || return
	echo "$1" >"$configfs/lt$1/id" &&
		echo "10.78.0.$1" >"$configfs/lt$1/addr" &&
		echo 18600 >"$configfs/lt$1/port" &&
		echo "ltr$1" >"$configfs/lt$1/device" &&
		echo 5e1f7e57-0000-4000-8000-000000000001 >"$configfs/lt$1/cluster" &&
		echo 1 >"$configfs/lt$1/power"
}
node_off() { echo 0 >"$configfs/lt$1/power" && rmdir "$configfs/lt$1"; }

refused_while_a_node_exists() {
	node_on 1 || return 1
	if rmmod rdma_lite; then
		echo "rmmod succeeded below a node"
		return 1
	fi
	node_off 1
}

refused_while_the_device_is_open() {
	node_on 1 || return 1
	nsenter --net=/run/netns/lt1 bash -c 'exec 3<>/dev/rdma_lite && kill -STOP $$' &
	local holder=$! ok=0
	sleep 1
	node_off 1 || ok=1
	if rmmod rdma_lite; then
		echo "rmmod succeeded below an open descriptor"
		ok=1
	fi
	kill -KILL "$holder"
	wait "$holder" 2>/dev/null
	return $ok
}

unloads_when_unused() { unload_users && rmmod rdma_lite && load rdma_lite; }

one_round() {
	load rdma_lite && node_on 1 && node_on 2 && "$pair" "$1" && node_off 2 && node_off 1 && unload rdma_lite
}

rounds_leave_nothing_behind() {
	local i before after
	unload_users && unload rdma_lite || return 1
	for i in 1 2 3; do one_round "$i" || return 1; done # caches fill, modules of the stack come in
	forget_leaks
	before=$(kernel_memory)
	for ((i = 1; i <= rounds; i++)); do
		one_round "$i" || { echo "round $i failed"; return 1; }
	done
	after=$(kernel_memory)
	echo "kernel memory: $before KiB before, $after KiB after $rounds rounds"
	local found
	found=$(leaks)
	[ -z "$found" ] || { echo "$found" | head -n 60; return 1; }
	# A leak of one page a round would show; noise is bounded.
	[ $((after - before)) -lt $((2048 + rounds * 4)) ]
}

ktap_print_header
ktap_set_plan 4
"$pair" need 2 || { ktap_skip_all "the namespaces lt1, lt2 could not be made"; exit "$KSFT_SKIP"; }
load rdma_lite
test_that "rmmod is refused while a node exists" refused_while_a_node_exists
test_that "rmmod is refused while the device is open" refused_while_the_device_is_open
test_that "rmmod succeeds when nothing uses the module" unloads_when_unused
test_that "$rounds rounds of load, nodes, map, ping, unload leak nothing" rounds_leave_nothing_behind
load rdma_lite
ktap_finished

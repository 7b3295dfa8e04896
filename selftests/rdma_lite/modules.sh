#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading rdma_lite: refused while it is used, and without a
# leak however often it is done (POTLUCK_ROUNDS, 200 in the full run; make soak).
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

rounds=${POTLUCK_ROUNDS:-5}
configfs=/sys/kernel/config/rdma_lite
pair=$(dirname "$0")/pingpair
life=$(dirname "$0")/life
dir=$(mktemp -d)
module=$dir/rdma_lite.ko
: >"$dir/figures"

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

# Two nodes come up, a third joins; regions, calls, locks and a barrier; one leaves, then all.
one_round() {
	insmod "$module" || return 1
	"$life" >"$dir/life" || { cat "$dir/life"; return 1; }
	rmmod rdma_lite
}

memory_now() { counters | grep ^memory: | paste -s -d,; }

# Nothing may grow by what there were if each of many rounds left one object, or one page; kernel threads come and go.
rounds_leave_nothing_behind() {
	local i begin found
	unload_users && unload rdma_lite || return 1
	# Not over the network each time.
	cp "$(modinfo -n rdma_lite 2>/dev/null || echo "$POTLUCK_MODULES/rdma_lite/rdma_lite.ko")" "$module" || return 1
	for i in 1 2 3; do one_round || return 1; done # caches fill, modules of the stack come in
	forget_leaks
	devices >"$dir/devices"
	counters >"$dir/before"
	begin=$SECONDS
	for ((i = 1; i <= rounds; i++)); do
		one_round || { echo "round $i failed"; return 1; }
		[ $((i % 50)) != 0 ] || echo "rdma_lite: $i rounds after $((SECONDS - begin)) s, $(memory_now)" >/dev/kmsg
	done
	begin=$((SECONDS - begin))
	counters >"$dir/after"
	{
		echo "$rounds rounds in $begin s; of the last one: $(paste -s -d, "$dir/life")"
		echo "KiB before: $(grep ^memory: "$dir/before" | paste -s -d,)"
		echo "KiB after: $(grep ^memory: "$dir/after" | paste -s -d,)"
		echo "objects that the caches have more of: $(grown "$dir/before" "$dir/after" 0 1000000000 | paste -s -d';')"
	} | tee "$dir/figures"
	# In a few rounds only what leaks a lot stands out of the noise.
	local objects=512 kib=8192
	[ "$rounds" -lt 100 ] || objects=$((96 + rounds / 2)) kib=$((1024 + rounds))
	found=$(grown "$dir/before" "$dir/after" "$objects" "$kib")
	[ -z "$found" ] || { echo "$found"; return 1; }
	devices | diff "$dir/devices" - || return 1
	found=$(leaks)
	[ -z "$found" ] || { echo "$found" | head -n 60; return 1; }
}

ktap_print_header
ktap_set_plan 4
"$pair" need 3 || { ktap_skip_all "the namespaces lt1 to lt3 could not be made"; exit "$KSFT_SKIP"; }
load rdma_lite
test_that "rmmod is refused while a node exists" refused_while_a_node_exists
test_that "rmmod is refused while the device is open" refused_while_the_device_is_open
test_that "rmmod succeeds when nothing uses the module" unloads_when_unused
test_that "$rounds rounds of load, join, traffic, leave, unload leak nothing" rounds_leave_nothing_behind
while IFS= read -r line; do ktap_print_msg "$line"; done <"$dir/figures"
load rdma_lite
rm -r "$dir"
ktap_finished

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Memory nodes in configfs: what is refused, and what the module leaves behind.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

rounds=${POTLUCK_ROUNDS:-5}
lite=/sys/kernel/config/rdma_lite
configfs=/sys/kernel/config/legomem
pair=$(dirname "$0")/../rdma_lite/pingpair

node_on() {
	nsenter --net="/run/netns/lt$1" mkdir "$lite/lt$1" || return
	echo "$1" >"$lite/lt$1/id" &&
		echo "10.78.0.$1" >"$lite/lt$1/addr" &&
		echo 18600 >"$lite/lt$1/port" &&
		echo "ltr$1" >"$lite/lt$1/device" &&
		echo 5e1f7e57-0000-4000-8000-000000000001 >"$lite/lt$1/cluster" &&
		echo 1 >"$lite/lt$1/power"
}
node_off() { echo 0 >"$lite/lt$1/power" && rmdir "$lite/lt$1"; }

memory_on() { # NAME NODE
	mkdir "$configfs/$1" && echo "$2" >"$configfs/$1/node" && echo 1M >"$configfs/$1/size" 2>/dev/null
	echo 1048576 >"$configfs/$1/size" && echo 65536 >"$configfs/$1/page_size" && echo 1 >"$configfs/$1/power"
}
memory_off() { echo 0 >"$configfs/$1/power" && rmdir "$configfs/$1"; }

refused() { # FILE VALUE...
	local file=$1 value
	shift
	for value in "$@"; do
		if echo "$value" >"$file" 2>/dev/null; then
			echo "$file took '$value'"
			return 1
		fi
	done
}

sizes_that_cannot_be() {
	mkdir "$configfs/m" || return 1
	local ok=0
	refused "$configfs/m/page_size" 0 1 4096 32768 65537 8388608 big -1 || ok=1
	refused "$configfs/m/size" -1 x 999999999999999999999 || ok=1
	refused "$configfs/m/udp_port" 0 65536 x || ok=1
	refused "$configfs/m/overcommit" 0 99 1001 || ok=1
	refused "$configfs/m/dedup" 0 63 || ok=1
	refused "$configfs/m/power" 2 on "" || ok=1
	refused "$configfs/m/device" "$(head -c 300 /dev/zero | tr '\0' x)" || ok=1
	rmdir "$configfs/m" || ok=1
	return $ok
}

power_without_what_it_takes() {
	node_on 1 && mkdir "$configfs/m" || return 1
	local ok=0
	echo nosuch >"$configfs/m/node"
	echo 1048576 >"$configfs/m/size"
	echo 65536 >"$configfs/m/page_size"
	refused "$configfs/m/power" 1 || ok=1
	echo lt1 >"$configfs/m/node"
	echo 0 >"$configfs/m/size"
	refused "$configfs/m/power" 1 || ok=1
	echo 1024 >"$configfs/m/size" # less than a page
	refused "$configfs/m/power" 1 || ok=1
	echo /dev/null >"$configfs/m/device"
	refused "$configfs/m/power" 1 || ok=1
	echo /nonexistent >"$configfs/m/device"
	refused "$configfs/m/power" 1 || ok=1
	echo "" >"$configfs/m/device"
	echo 70368744177664 >"$configfs/m/size" # 64 TiB
	refused "$configfs/m/power" 1 || ok=1
	echo 1048576 >"$configfs/m/size"
	echo 1 >"$configfs/m/power" || ok=1
	memory_off m && node_off 1 || ok=1
	return $ok
}

one_node_one_pool() {
	node_on 1 && memory_on a lt1 && mkdir "$configfs/b" || return 1
	local ok=0
	echo lt1 >"$configfs/b/node"
	echo 1048576 >"$configfs/b/size"
	echo 65536 >"$configfs/b/page_size"
	refused "$configfs/b/power" 1 || ok=1
	echo 5300 >"$configfs/b/udp_port"
	refused "$configfs/b/power" 1 || ok=1
	rmdir "$configfs/b" && memory_off a && node_off 1 || ok=1
	return $ok
}

not_changed_while_it_is_on() {
	node_on 1 && memory_on a lt1 || return 1
	local ok=0
	refused "$configfs/a/size" 2097152 || ok=1
	refused "$configfs/a/page_size" 131072 || ok=1
	refused "$configfs/a/node" lt2 || ok=1
	if rmdir "$configfs/a" 2>/dev/null; then
		echo "the directory of one that is on went away"
		ok=1
	fi
	memory_off a && node_off 1 || ok=1
	return $ok
}

a_pmem_device_is_a_pool() {
	node_on 1 && mkdir "$configfs/p" && mkdir "$configfs/q" || return 1
	local ok=0 i pages=0
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	echo lt1 >"$configfs/p/node"
	echo lt1 >"$configfs/q/node"
	echo 65536 >"$configfs/p/page_size"
	echo /dev/pmem0 >"$configfs/p/device"
	echo /dev/pmem0 >"$configfs/q/device"
	echo 1099511627776 >"$configfs/p/size"
	refused "$configfs/p/power" 1 || ok=1 # larger than the device
	echo 0 >"$configfs/p/size"
	echo 1 >"$configfs/p/power" || ok=1
	# Whatever it held, it is cleared, in the background.
	for ((i = 0; i < 100; i++)); do
		pages=$(awk '/^pages_prepared / { print $2 }' /sys/kernel/debug/legomem/p)
		[ "$pages" != "$(awk '/^pages / { print $2 }' /sys/kernel/debug/legomem/p)" ] || break
		sleep 0.1
	done
	[ "$i" -lt 100 ] || { echo "only $pages pages were prepared"; ok=1; }
	refused "$configfs/q/power" 1 || ok=1 # it is in use
	if mkfs.ext4 -q -F /dev/pmem0 2>/dev/null; then
		echo "mkfs took the device of a memory node"
		ok=1
	fi
	memory_off p && rmdir "$configfs/q" || ok=1
	# And it is free again at once.
	mkdir "$configfs/p" && echo lt1 >"$configfs/p/node" && echo /dev/pmem0 >"$configfs/p/device" && echo 1 >"$configfs/p/power" || ok=1
	memory_off p && node_off 1 || ok=1
	return $ok
}

refused_while_it_is_used() {
	node_on 1 && memory_on a lt1 || return 1
	local ok=0
	if rmmod legomem 2>/dev/null; then
		echo "rmmod succeeded below a memory node"
		ok=1
	fi
	if rmmod rdma_lite 2>/dev/null; then
		echo "rmmod of rdma_lite succeeded below a memory node"
		ok=1
	fi
	memory_off a && node_off 1 || ok=1
	return $ok
}

the_node_below_goes_first() {
	node_on 1 && memory_on a lt1 || return 1
	# It serves nobody then, and goes without a fuss.
	echo 0 >"$lite/lt1/power"
	memory_off a && rmdir "$lite/lt1"
}

one_round() { load legomem && node_on 1 && memory_on a lt1 && memory_off a && node_off 1 && unload legomem; }

rounds_leave_nothing_behind() {
	local i before after found
	unload legomem || return 1
	for i in 1 2 3; do one_round || return 1; done
	forget_leaks
	before=$(kernel_memory)
	for ((i = 1; i <= rounds; i++)); do
		one_round || { echo "round $i failed"; return 1; }
	done
	after=$(kernel_memory)
	echo "kernel memory: $before KiB before, $after KiB after $rounds rounds"
	found=$(leaks)
	[ -z "$found" ] || { echo "$found" | head -n 60; return 1; }
	[ $((after - before)) -lt $((2048 + rounds * 4)) ]
}

ktap_print_header
ktap_set_plan 8
"$pair" need 1 || { ktap_skip_all "the namespace lt1 could not be made"; exit "$KSFT_SKIP"; }
load rdma_lite
rmmod clio_cn 2>/dev/null
load legomem
test_that "values that cannot be are refused" sizes_that_cannot_be
test_that "power is refused without node, size or device" power_without_what_it_takes
test_that "a node has one pool" one_node_one_pool
test_that "nothing is changed while it is on" not_changed_while_it_is_on
if [ -b /dev/pmem0 ]; then
	test_that "a pmem device is a pool, and nobody else's meanwhile" a_pmem_device_is_a_pool
else
	ktap_test_skip "a pmem device is a pool, and nobody else's meanwhile"
fi
test_that "rmmod is refused while a memory node is on" refused_while_it_is_used
test_that "the node below may go first" the_node_below_goes_first
test_that "$rounds rounds of load, on, off, unload leak nothing" rounds_leave_nothing_behind
load legomem
ktap_finished

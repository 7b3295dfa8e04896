#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading hotpot with its node: refused while mounted, and
# without a leak however often (POTLUCK_ROUNDS, 200 in the full run).
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

rounds=${POTLUCK_ROUNDS:-5}
configfs=/sys/kernel/config/rdma_lite
pair=$(dirname "$0")/../rdma_lite/pingpair
cluster=5e1f7e57-0000-4000-8000-000000000001

for mnt in /mnt/lt[0-9]*; do umount "$mnt" 2>/dev/null; done
for node in "$configfs"/lt[0-9]*; do
	[ -d "$node" ] && { echo 0 >"$node/power"; rmdir "$node"; } 2>/dev/null
done
device=
for dev in /dev/pmem*; do
	if [ -b "$dev" ] && ! grep -q "^$dev " /proc/self/mounts; then
		device=$dev
		break
	fi
done

node_on() {
	nsenter --net="/run/netns/lt$1" mkdir "$configfs/lt$1" &&
		echo "$1" >"$configfs/lt$1/id" &&
		echo "10.78.0.$1" >"$configfs/lt$1/addr" &&
		echo 18600 >"$configfs/lt$1/port" &&
		echo "ltr$1" >"$configfs/lt$1/device" &&
		echo "$cluster" >"$configfs/lt$1/cluster" &&
		echo 1 >"$configfs/lt$1/power"
}
node_off() { echo 0 >"$configfs/lt$1/power" && rmdir "$configfs/lt$1"; }

start() { # EPOCH
	load rdma_lite && load hotpot && node_on 1 && node_on 2 && "$pair" "$1" &&
		mkdir -p /mnt/lt1 && mount -t hotpot -o node=lt1 "$device" /mnt/lt1
}
stop() { umount /mnt/lt1 && node_off 2 && node_off 1; }

refused_while_mounted() {
	local ok=0
	start 1 || return 1
	if rmmod hotpot; then
		echo "rmmod hotpot succeeded below a mount"
		ok=1
	fi
	if rmmod rdma_lite; then
		echo "rmmod rdma_lite succeeded below hotpot"
		ok=1
	fi
	stop || ok=1
	return $ok
}

refused_while_a_file_is_open() {
	local ok=0
	start 2 || return 1
	exec 9>/mnt/lt1/m_open
	rmmod hotpot && ok=1
	umount /mnt/lt1 2>/dev/null && { echo "umounted below an open file"; ok=1; }
	exec 9>&-
	stop || ok=1
	return $ok
}

one_round() { # EPOCH
	start "$1" &&
		head -c 100000 /dev/urandom >/mnt/lt1/m_round &&
		cp /mnt/lt1/m_round /mnt/lt1/m_copy && cmp /mnt/lt1/m_round /mnt/lt1/m_copy &&
		rm /mnt/lt1/m_round /mnt/lt1/m_copy &&
		stop && unload hotpot && unload rdma_lite
}

rounds_leave_nothing_behind() {
	local i before after found
	unload_users && unload rdma_lite || return 1
	for i in 1 2 3; do one_round "$i" || return 1; done
	forget_leaks
	before=$(kernel_memory)
	for ((i = 1; i <= rounds; i++)); do
		one_round "$i" || { echo "round $i failed"; return 1; }
	done
	after=$(kernel_memory)
	echo "kernel memory: $before KiB before, $after KiB after $rounds rounds"
	found=$(leaks)
	[ -z "$found" ] || { echo "$found" | head -n 60; return 1; }
	[ $((after - before)) -lt $((2048 + rounds * 4)) ]
}

ktap_print_header
if [ -z "$device" ]; then
	ktap_skip_all "no pmem device that is not mounted"
	exit "$KSFT_SKIP"
fi
ktap_set_plan 3
load rdma_lite
"$pair" need 2
mkfs.hotpot --force --cluster $cluster --node-id 1 "$device" >/dev/null || exit "$KSFT_FAIL"
test_that "rmmod is refused while mounted" refused_while_mounted
test_that "rmmod and umount are refused while a file is open" refused_while_a_file_is_open
test_that "$rounds rounds of load, mount, use, umount, unload leak nothing" rounds_leave_nothing_behind
load rdma_lite
load hotpot
ktap_finished

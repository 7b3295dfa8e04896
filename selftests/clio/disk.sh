#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Disks in remote memory: /sys/kernel/config/clio/<disk>. Memory nodes are lt1 to
# lt3, the disk is used at lt4.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

configfs=/sys/kernel/config/clio
lab=$target/disklab
mnt=/mnt/clio-disk
pool=$((192 << 20))
size=$((32 << 20))
d=$configfs/d1

disk_make() { # NAME [SIZE [REPLICAS]]
	local dir=$configfs/$1
	mkdir "$dir" && echo lt4 >"$dir/node" && echo "${3:-2}" >"$dir/replicas" &&
		echo 0123456789abcdef0123456789abcdef >"$dir/key" || return
	[ "${2:-$size}" = 0 ] || echo "${2:-$size}" >"$dir/size"
}
disk_end() { # NAME: whatever it was, it is not there any more
	local dir=$configfs/$1
	[ -d "$dir" ] || return 0
	echo 0 >"$dir/power" && echo 1 >"$dir/destroy" && rmdir "$dir"
}
device() { cat "$configfs/$1/device"; }

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

# What the copies and the engine of lt4 are at.
figures() {
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
	cat "$d/copies" "$d/state" /sys/kernel/debug/clio_cn/4
}
eventually() { # SECONDS CMD...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "not in time: $*"; figures; return 1; }
		sleep 0.2
	done
}
state_is() { [ "$(cat "$d/state")" = "$1" ]; }

tree=$target/../../hotpot

fill_and_check() { # DIR: copies a tree, checks it against itself
	cp -r "$tree" "$1/tree" && sync && echo 3 >/proc/sys/vm/drop_caches && diff -r "$tree" "$1/tree"
}

settings_that_cannot_be() {
	disk_make d1 || return
	local ok=0
	refused "$d/size" 0 1 4095 4097 -4096 x 18446744073709551615 || ok=1
	refused "$d/replicas" 0 9 -1 x || ok=1
	refused "$d/key" 0 0123 0123456789abcdef0123456789abcdeg || ok=1
	refused "$d/timeout_ms" 0 9 600001 || ok=1
	refused "$d/power" 2 on "" || ok=1
	rmdir "$d" || ok=1
	return $ok
}

power_without_what_it_takes() {
	local ok=0
	disk_make d1 0 || return
	refused "$d/power" 1 || ok=1 # no size, and there is none
	echo $((1 << 40)) >"$d/size"
	refused "$d/power" 1 || ok=1 # beyond the pool
	echo $size >"$d/size"
	echo 4 >"$d/replicas"
	refused "$d/power" 1 || ok=1 # more copies than memory nodes
	echo nosuch >"$d/node"
	refused "$d/power" 1 || ok=1
	rmdir "$d" || ok=1
	return $ok
}

a_file_system_on_it() {
	disk_make d1 && echo 1 >"$d/power" && state_is whole || return
	mkfs.ext4 -q "$(device d1)" && mount "$(device d1)" $mnt && fill_and_check $mnt && umount $mnt || return
	fsck.ext4 -fn "$(device d1)"
}

refused_while_it_is_used() {
	local ok=0
	mount "$(device d1)" $mnt || return
	refused "$d/power" 0 || ok=1
	refused "$d/destroy" 1 || ok=1
	refused "$d/size" $size || ok=1
	! rmdir "$d" 2>/dev/null || ok=1
	! rmmod clio_cn 2>/dev/null || ok=1
	umount $mnt || ok=1
	! rmdir "$d" 2>/dev/null || ok=1
	! rmmod clio_cn 2>/dev/null || ok=1
	return $ok
}

found_again_by_its_name() {
	echo 0 >"$d/power" && rmdir "$d" && disk_make d1 0 || return
	echo fedcba9876543210fedcba9876543210 >"$d/key"
	refused "$d/power" 1 || return # not its key
	echo 0123456789abcdef0123456789abcdef >"$d/key"
	echo 1 >"$d/power" && [ "$(cat "$d/size")" = $size ] && state_is whole || return
	mount "$(device d1)" $mnt && diff -r "$tree" $mnt/tree && umount $mnt
}


a_memory_node_dies() {
	local node begin
	mount "$(device d1)" $mnt && rm -rf $mnt/tree || return
	node=$(sed -n '1s/ .*//p' "$d/copies")
	(sleep 0.5; "$lab" cut "$node") &
	begin=$SECONDS
	fill_and_check $mnt || return
	wait
	# All that was written is on the other copy; nobody waited for longer than a few deadlines.
	[ $((SECONDS - begin)) -lt 60 ] || return
	umount $mnt && fsck.ext4 -fn "$(device d1)" || return
	# The third memory node takes its place.
	eventually 200 state_is whole || return
	if grep -q "^$node " "$d/copies"; then
		cat "$d/copies"
		return 1
	fi
	"$lab" mend "$node" && sleep 3
}

what_the_new_copy_has() {
	local node
	# The copy that it was filled from goes: reads are from the new one only.
	node=$(sed -n '1s/ .*//p' "$d/copies")
	[ "$(wc -l <"$d/copies")" = 2 ] && "$lab" wipe "$node" $pool || return
	echo 3 >/proc/sys/vm/drop_caches
	mount "$(device d1)" $mnt && diff -r "$tree" $mnt/tree && umount $mnt || return
	fsck.ext4 -fn "$(device d1)" && eventually 200 state_is whole
}

zeroes_and_discards() {
	blkdiscard -z "$(device d1)" && cmp -n $size "$(device d1)" /dev/zero || return
	dd if=/dev/urandom of="$(device d1)" bs=1M count=8 oflag=direct && blkdiscard "$(device d1)" &&
		cmp -n $size "$(device d1)" /dev/zero
}

the_compute_node_crashes() {
	local ledger=/tmp/clio-disk-ledger writer
	"$lab" store "$(device d1)" $ledger &
	writer=$!
	sleep 3
	"$lab" crash 4 4 && wait $writer || return
	# Its last life's disk cannot tell the copies anything any more.
	echo 0 >"$d/power" 2>/dev/null
	[ "$(cat "$d/power")" = 0 ] && rmdir "$d" && disk_make d1 0 && echo 1 >"$d/power" || return
	"$lab" check "$(device d1)" $ledger && eventually 200 state_is whole || return
	# From both copies.
	"$lab" check "$(device d1)" $ledger && "$lab" check "$(device d1)" $ledger
}

swap_on_it() {
	local cgroup=/sys/fs/cgroup/clio-swap ok=0
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || return
	disk_end d1 && disk_make d1 $((96 << 20)) && echo 1 >"$d/power" || return
	mkswap -q "$(device d1)" && swapon "$(device d1)" || return
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control
	mkdir -p $cgroup && echo $((24 << 20)) >$cgroup/memory.max || return
	# shellcheck disable=SC2016 # the inner shell's
	sh -c 'echo $$ >'$cgroup'/cgroup.procs; exec timeout 400 '"$lab"' fill 48 1' || ok=1
	grep clio-blk /proc/swaps
	refused "$d/power" 0 || ok=1
	swapoff "$(device d1)" && rmdir $cgroup || ok=1
	return $ok
}

ktap_print_header
ktap_set_plan 11
mkdir -p $mnt
load rdma_lite && modprobe -q rdma_rxe
load legomem && load clio_cn
if [ -d $d ]; then # what a test that died may have left
	echo 0 >$d/power
	rmdir $d
fi
"$lab" up 4 3 $pool || { ktap_skip_all "no memory nodes"; exit "$KSFT_SKIP"; }
test_that "values that cannot be are refused" settings_that_cannot_be
test_that "power is refused without a size, room, nodes" power_without_what_it_takes
test_that "a file system lives on it" a_file_system_on_it
test_that "power off, destroy, rmdir, rmmod are refused while it is used" refused_while_it_is_used
test_that "it is found again by its name and its key" found_again_by_its_name
test_that "the death of a memory node is a pause, and another takes its place" a_memory_node_dies
test_that "the copy that was filled has all, and a wiped one is not read" what_the_new_copy_has
test_that "what is zeroed or discarded reads as zeroes" zeroes_and_discards
test_that "after a crash of the compute node it has all that was acknowledged" the_compute_node_crashes
test_that "pages are swapped to it" swap_on_it
test_that "it is gone when it is destroyed" disk_end d1
"$lab" down 4 3
ktap_finished

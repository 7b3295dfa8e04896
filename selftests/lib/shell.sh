# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For shell tests: the kernel's KTAP functions, and modules.
target=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck disable=SC1091 # copied out of the kernel tree by make
. "$target/ktap_helpers.sh"

# test_that NAME CMD...: one result, named as a sentence.
test_that() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		ktap_test_pass "$name"
	else
		while IFS= read -r line; do ktap_print_msg "$line"; done <<<"$output"
		ktap_test_fail "$name"
	fi
}

loaded() { grep -q "^$1 " /proc/modules; }

# load/unload one of ours: from modprobe's path or from $POTLUCK_MODULES.
load() {
	loaded "$1" && return
	modprobe "$1" 2>/dev/null && return
	insmod "${POTLUCK_MODULES:?modprobe does not find $1, and POTLUCK_MODULES is not set}/$1/$1.ko"
}
unload() { ! loaded "$1" || rmmod "$1"; }
# What uses rdma_lite, as far as it is loaded.
unload_users() { unload clio_cn && unload legomem && unload hotpot; }

# Memory that the kernel holds for itself, in KiB.
kernel_memory() {
	awk '/^(SUnreclaim|KernelStack|PageTables|VmallocUsed|Percpu):/ { s += $2 } END { print s }' /proc/meminfo
}

# Objects that nobody points at; empty when the kernel has no kmemleak.
leaks() {
	[ -w /sys/kernel/debug/kmemleak ] || return 0
	echo scan >/sys/kernel/debug/kmemleak
	sleep 5
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak
}
forget_leaks() { [ ! -w /sys/kernel/debug/kmemleak ] || echo clear >/sys/kernel/debug/kmemleak; }

# What must not grow however often something is done: `name value` lines, of objects in the kernel's caches, and of
# memory in KiB (unaccounted: pages that are neither free, nor with a processor for the next who wants one, nor any of what
# the kernel tells). What is only kept for later goes first: caches.
counters() {
	local cache
	echo 3 >/proc/sys/vm/drop_caches
	for cache in /sys/kernel/slab/*; do
		[ -L "$cache" ] || echo 1 >"$cache/shrink"
	done 2>/dev/null
	[ ! -w /proc/sys/vm/compact_memory ] || echo 1 >/proc/sys/vm/compact_memory
	sleep 1
	awk 'NR > 2 && !seen[$1]++ { print "cache:" $1, $2 }' /proc/slabinfo
	awk 'FILENAME ~ /zoneinfo/ { if ($1 == "count:") rest -= $2 * 4; next }
		{ sub(":", "", $1) }
		# Stacks of the kernel are of vmalloc.
		$1 ~ /^(SUnreclaim|PageTables|VmallocUsed|Percpu)$/ { print "memory:" $1, $2 }
		$1 == "MemTotal" { rest += $2 }
		$1 ~ /^(MemFree|Buffers|Cached|SwapCached|AnonPages|Slab|PageTables|VmallocUsed|Percpu)$/ { rest -= $2 }
		END { print "memory:unaccounted", rest }' /proc/zoneinfo /proc/meminfo
}

# grown BEFORE AFTER OBJECTS KIB: what grew by more, one a line. A cache that was not there begins with nothing.
grown() {
	awk -v objects="$3" -v kib="$4" '
		NR == FNR { before[$1] = $2; next }
		$2 - before[$1] > ($1 ~ /^memory:/ ? kib : objects) { print $1 ": " before[$1] + 0 " before, " $2 " after" }
	' "$1" "$2"
}

# Namespaces, network and verbs devices, and nodes, by name.
devices() {
	ls /run/netns /sys/class/net /sys/class/infiniband /sys/kernel/config/rdma_lite 2>/dev/null
	ls -d /sys/kernel/debug/rdma_lite /dev/rdma_lite 2>/dev/null
}

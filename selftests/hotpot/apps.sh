#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs on datasets, on four nodes, killed in the middle of what they do: PageRank of a real graph goes on where it
# was, LMDB, SQLite and a store have what they acknowledged, read on another node. selftests/crash kills their guest instead.
# shellcheck source=selftests/lib/shell.sh
. "$(dirname "$0")/../lib/shell.sh"

survivor=$target/survivor.sh
acks=$(mktemp)
writer=

# begin WHAT NODE ACKS: a writer that has acknowledged so many.
begin() {
	local i
	: >"$acks"
	setsid "$survivor" write "$1" "/mnt/$2" >"$acks" 2>"$acks.said" &
	writer=$!
	for ((i = 0; i < 3000; i++)); do
		[ "$(grep -c '^ack' "$acks")" -lt "$3" ] || return 0
		kill -0 $writer 2>/dev/null || break
		sleep 0.1
	done
	echo "$1 acknowledged $(grep -c '^ack' "$acks") of $3:"
	cat "$acks.said"
	return 1
}

# potluck run gives each process a group of its own.
killed() {
	pkill -KILL -x potluck-apps
	kill -KILL -- -$writer 2>/dev/null
	wait $writer 2>/dev/null
	sleep 1
}

last() { sed -n 's/^ack //p' "$acks" | tail -n 1; }

survives_a_kill() { # WHAT NODE ACKS NODE-THAT-READS
	begin "$1" "$2" "$3" || return 1
	killed
	"$survivor" check "$1" "/mnt/$4" "$(last)"
}

goes_on_after_a_kill() {
	rm -f /mnt/n1/pagerank
	survives_a_kill pagerank n1 10 n1
}

# A node loses its power in the middle: what it had stored and not committed is gone, and the others' commits fail.
goes_on_after_a_power_cut_of_one_node() {
	local device
	rm -f /mnt/n1/pagerank
	device=$(awk '$2 == "/mnt/n4" { print $1 }' /proc/mounts)
	begin pagerank n1 8 || return 1
	echo 0 >/sys/kernel/config/rdma_lite/n4/power
	sleep 3
	killed
	umount /mnt/n4 || return 1
	potluck map set n4 down && echo 1 >/sys/kernel/config/rdma_lite/n4/power && potluck map set n4 up || return 1
	mount -t hotpot -o node=n4 "$device" /mnt/n4 || return 1
	"$survivor" check pagerank /mnt/n1 "$(last)"
}

was_up=
mountpoint -q /mnt/n1 && was_up=1

ktap_print_header
command -v potluck >/dev/null || { ktap_skip_all "there is no potluck here"; exit "$KSFT_SKIP"; }
[ -x "$target/../../build/target/release/potluck-apps" ] ||
	{ ktap_skip_all "the applications are not built: kernel/build tools"; exit "$KSFT_SKIP"; }
[ -z "$was_up" ] || potluck lab down >/dev/null
[ "$(find /dev -maxdepth 1 -name 'pmem*[0-9]' | wc -l)" -ge 4 ] ||
	{ ktap_skip_all "four nodes need four pmem devices: tools/guest run --pmem 4x256M"; exit "$KSFT_SKIP"; }
potluck lab up 4 --replicas 2 --pmem-format yes || { ktap_skip_all "no lab"; exit "$KSFT_SKIP"; }
ktap_set_plan 6
test_that "PageRank on four nodes goes on where it was killed" goes_on_after_a_kill
test_that "PageRank on four nodes goes on after a node lost its power" goes_on_after_a_power_cut_of_one_node
test_that "another node has what LMDB acknowledged before it was killed" survives_a_kill lmdb n1 40 n2
test_that "another node has what LMDB acknowledged that leaves the order to msync" survives_a_kill lmdb-atomic n1 40 n3
test_that "another node has what SQLite acknowledged before it was killed" survives_a_kill sqlite n1 40 n2
test_that "another node has the whole store that YCSB was killed in" survives_a_kill ycsb n1 400 n4
rm -f "$acks" "$acks.said"
potluck lab down
[ -z "$was_up" ] || potluck lab up 3 >/dev/null
ktap_finished

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's half of `tools/guest run`: virtme's init starts it as root. It
# finishes the environment, runs the command, looks for leaks, and leaves the
# command's status in $GUEST_DIR/status for the runner.
# The runner passes POTLUCK_TOP, GUEST_DIR, GUEST_TIMEOUT, GUEST_LEAK_SCAN,
# GUEST_MODROOT, GUEST_TTY and the command as arguments.
exec 2>&1

case $POTLUCK_TOP/ in
/tmp/*) ;;
*) mount -t tmpfs -o mode=1777 tmpfs /tmp ;;
esac
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mountpoint -q /dev/shm || { mkdir -p /dev/shm; mount -t tmpfs tmpfs /dev/shm; }

# An nvdimm without an info block is a raw namespace, which has no DAX. Write one
# (ndctl create-namespace -m fsdax does the same); later boots find it by themselves.
make_fsdax() {
	local nd=/sys/bus/nd region n pfn
	for region in "$nd"/devices/region*; do
		n=${region##*region}
		[ -e "$nd/devices/namespace$n.0/holder" ] || continue
		[ -z "$(cat "$nd/devices/namespace$n.0/holder")" ] || continue
		pfn=$(cat "$region/pfn_seed") || continue
		echo "namespace$n.0" >$nd/drivers/nd_pmem/unbind
		echo ram >"$nd/devices/$pfn/mode"
		echo 2097152 >"$nd/devices/$pfn/align"
		cat /proc/sys/kernel/random/uuid >"$nd/devices/$pfn/uuid"
		echo "namespace$n.0" >"$nd/devices/$pfn/namespace"
		echo "$pfn" >$nd/drivers/nd_pmem/bind
	done
}
make_fsdax

version=$(uname -r)
if [ -d "$GUEST_MODROOT/lib/modules/$version" ]; then
	mkdir -p "/lib/modules/$version"
	umount "/lib/modules/$version" 2>/dev/null
	mount --bind "$GUEST_MODROOT/lib/modules/$version" "/lib/modules/$version"
fi

export HOME=/root LC_ALL=C.UTF-8 SHELL=/bin/bash
export PATH=$POTLUCK_TOP/build/target/release:$POTLUCK_TOP/build/target/debug:$POTLUCK_TOP/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ulimit -l unlimited
ulimit -c 0

# Shortly before the runner would pull the plug, say who is stuck.
(
	sleep "$GUEST_TIMEOUT"
	echo "potluck: the guest's time is nearly over; blocked tasks and running CPUs:" >/dev/kmsg
	echo w >/proc/sysrq-trigger
	echo l >/proc/sysrq-trigger
) >/dev/null 2>&1 &
watchdog=$!

cd "$POTLUCK_TOP" || exit 125
date +%s.%N >"$GUEST_DIR/started"
if [ -n "$GUEST_TTY" ]; then
	# a pty in the guest; the runner's side is in raw mode
	read -r rows cols <<<"$GUEST_TTY"
	{
		printf 'stty rows %s cols %s 2>/dev/null\n' "$rows" "$cols"
		printf '%q ' "$@"
		printf '\necho $? >/run/potluck-status\n'
	} >/run/potluck-tty
	socat -lf /dev/null - EXEC:"bash /run/potluck-tty",pty,setsid,ctty,stderr,sane
	status=$(cat /run/potluck-status 2>/dev/null || echo 1)
else
	"$@"
	status=$?
fi
kill "$watchdog" 2>/dev/null

leak=/sys/kernel/debug/kmemleak
if [ -n "$GUEST_LEAK_SCAN" ] && [ -e $leak ]; then
	# An object counts as lost when it is older than 5 s and two scans in a row
	# found no pointer to it.
	sleep 5
	echo scan >$leak
	sleep 1
	echo scan >$leak
	cat $leak >"$GUEST_DIR/kmemleak"
fi
echo "$status" >"$GUEST_DIR/status"
sync
busybox poweroff -f
exit "$status"

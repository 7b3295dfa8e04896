#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the guest: load each of our modules (its KUnit suites run and print to the
# kernel log), unload them, then run the kselftest targets. Prints KTAP.
# usage: run-tests.sh [TARGET...]   POTLUCK_TEST_GLOB chooses programs
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
tests=${POTLUCK_TEST_GLOB:-*}
failed=0
number=0

result() { # ok|"not ok" NAME [DIRECTIVE]
	number=$((number + 1))
	echo "$1 $number $2${3:+ # $3}"
	[ "$1" = ok ] || failed=1
}

echo "KTAP version 1"
modules=()
for ko in "$POTLUCK_MODULES"/*/*.ko "$POTLUCK_MODULES"/*.ko; do
	[ -e "$ko" ] && modules+=("$(basename "$ko" .ko)")
done
for module in "${modules[@]}"; do
	if modprobe "$module"; then
		result ok "kunit: load $module"
	else
		result "not ok" "kunit: load $module"
	fi
done
# Users before what they use: go round until nothing is left or nothing moves.
for _ in "${modules[@]}"; do
	for module in "${modules[@]}"; do
		[ "$(cat "/sys/module/$module/refcnt" 2>/dev/null)" = 0 ] && modprobe -r "$module"
	done
done
for module in "${modules[@]}"; do
	if [ -d "/sys/module/$module" ]; then
		result "not ok" "kunit: unload $module"
	else
		result ok "kunit: unload $module"
	fi
done

echo "1..$number"

POTLUCK_TEST_GLOB=$tests selftests/run "$@" || failed=1
exit $failed

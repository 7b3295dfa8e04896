#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# In the guest: load each of our modules (its KUnit suites run and print to the
# kernel log), then run the kselftest targets as the kernel's own runner does:
# programs from TEST_PROGS and TEST_GEN_PROGS, `settings` for the timeout, exit
# status 4 for a skip. Prints KTAP, a program's own KTAP nested below it.
# usage: run-tests.sh [TARGET...]   POTLUCK_TEST_GLOB chooses programs
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
tests=${POTLUCK_TEST_GLOB:-*}
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
	for dir in selftests/*/Makefile; do
		[ -e "$dir" ] && targets+=("$(basename "$(dirname "$dir")")")
	done
fi
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

for target in "${targets[@]}"; do
	dir=selftests/$target
	limit=45
	[ -e "$dir/settings" ] && limit=$(sed -n 's/^timeout=//p' "$dir/settings")
	# shellcheck disable=SC2016 # make expands it
	programs=$(make -s --no-print-directory -C "$dir" \
		--eval='potluck-list: ; @echo $(notdir $(TEST_PROGS) $(TEST_GEN_PROGS))' potluck-list)
	for program in $programs; do
		# shellcheck disable=SC2053 # a glob on purpose
		[[ $program == $tests ]] || continue
		echo "# selftests: $target: $program"
		(cd "$dir" && exec timeout --kill-after=10 "${limit:-45}" "./$program" 2>&1 </dev/null) |
			stdbuf -oL sed 's/^/    /'
		status=${PIPESTATUS[0]}
		case $status in
		0) result ok "$target: $program" ;;
		4) result ok "$target: $program" SKIP ;;
		124 | 137) result "not ok" "$target: $program" "TIMEOUT $limit seconds" ;;
		*) result "not ok" "$target: $program" "exit=$status" ;;
		esac
	done
done
echo "1..$number"
exit $failed

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For the demo's parts in the guest: narration, and verdicts for the summary,
# which go to $work/checks.
: "${work:?}"

# With the seconds since the guest's part began, so that what takes long is seen.
say() { printf '\n-- %s s: %s\n' "$SECONDS" "$*"; }

# check TEXT CMD...: runs CMD and keeps the verdict for the summary.
check() {
	local text=$1
	shift
	if "$@"; then
		echo "ok      $text" | tee -a "$work/checks"
	else
		echo "FAILED  $text" | tee -a "$work/checks"
		exit 1
	fi
}

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs on datasets that are to survive a power failure (selftests/crash, apps.sh). In a lab:
#   survivor.sh write WHAT MNT     goes on until it is killed; says "ack N" of what is durable
#   survivor.sh check WHAT MNT N   N was acknowledged: status 0 when it is there and all is whole
# WHAT:
#   lmdb         LMDB, which stores through its mapping and orders its msyncs
#   lmdb-atomic  LMDB with one msync a transaction: right only where msync is all or nothing
#   sqlite       Debian's sqlite3, that reads through its mapping, with a write-ahead log
#   ycsb         the B+-tree of potluck-apps ycsb, workload D: an operation is a commit, and there is no log
#   pagerank     PageRank on all nodes of the lab, of Debian's packages; MNT is that of the first node
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
app=$here/../../build/target/release/potluck-apps
nodes=$(find /mnt -mindepth 1 -maxdepth 1 -name 'n[0-9]*' | wc -l)
iterations=24
ycsb=(--workload D --records 300)

die() {
	echo "survivor: $*" >&2
	exit 1
}

# LMDB's lock file must not be on hotpot, so it sees the dataset under another name.
lmdb_file() {
	mkdir -p "/run/survivor$1"
	ln -sfn "$1/lmdb" "/run/survivor$1/lmdb"
	echo "/run/survivor$1/lmdb"
}

# The file grows 4 MiB at a time: a mapping cannot grow (mremap), SQLite would go on with read(2).
sqlite_settings() {
	cat <<-EOT
		.bail on
		.timeout 20000
		.filectrl chunk_size 4194304
		PRAGMA mmap_size=16777216;
		PRAGMA journal_mode=WAL;
		PRAGMA synchronous=FULL;
		PRAGMA wal_autocheckpoint=20;
	EOT
}

# Transaction N adds row N, drops row N - 200, and counts.
sqlite_transactions() {
	local n
	n=$(echo 'SELECT n FROM last;' | sqlite3 "$1" 2>/dev/null) || n=0
	sqlite_settings
	echo 'CREATE TABLE IF NOT EXISTS rows(n INTEGER PRIMARY KEY, words INTEGER, bytes BLOB);'
	echo 'CREATE TABLE IF NOT EXISTS last(id INTEGER PRIMARY KEY, n INTEGER);'
	echo 'INSERT OR IGNORE INTO last VALUES(0, 0);'
	for ((n = ${n:-0} + 1; ; n++)); do
		echo "BEGIN IMMEDIATE;"
		echo "INSERT INTO rows VALUES($n, $((1 + n * 37 % 1500)), randomblob($((1 + n * 37 % 1500))));"
		echo "DELETE FROM rows WHERE n = $((n - 200)); UPDATE last SET n = $n; COMMIT;"
		echo "SELECT 'ack $n';"
	done
}

sqlite_check() { # FILE ACKED
	local out
	out=$({
		sqlite_settings
		echo "PRAGMA integrity_check;"
		echo "SELECT 'last ' || n FROM last;"
		echo "SELECT 'rows ' || (count(*) = min(200, l.n) AND max(rows.n) = l.n
			AND max(rows.n) - min(rows.n) + 1 = count(*)
			AND sum(length(bytes) = words AND words = 1 + rows.n * 37 % 1500) = count(*)) FROM rows, last AS l;"
	} | sqlite3 "$1" 2>&1)
	echo "# $2 acknowledged; SQLite: ${out//$'\n'/, }"
	last=$(sed -n 's/^last //p' <<<"$out")
	grep -qx ok <<<"$out" && grep -qx 'rows 1' <<<"$out" && [ "$last" -ge "$2" ] && [ "$last" -le $(($2 + 1)) ]
}

graph() {
	local lists
	[ -s /run/graph ] && return
	# shellcheck disable=SC2012 # the largest one; apt's names are plain
	lists=$(ls -S /var/lib/apt/lists/*_main_binary-amd64_Packages 2>/dev/null | head -n 1)
	if [ -n "$lists" ]; then
		"$app" graph --debian "$lists" /run/graph.tmp >&2 || die "no graph"
	else
		# 131,072 edges
		"$app" graph --rmat 13 /run/graph.tmp >&2 || die "no graph"
	fi
	mv /run/graph.tmp /run/graph
}

pagerank() {
	potluck run --grace 5 --timeout "${POTLUCK_PAGERANK_LIMIT:-400}" -- "$app" pagerank-hotpot --dataset pagerank \
		--graph /run/graph --iterations $iterations --tolerance 0
}

[ $# -ge 3 ] || die "usage: survivor.sh write WHAT MNT | check WHAT MNT ACKNOWLEDGED"
case $1-$2 in
write-lmdb) exec "$here/mdb_writer" write "$(lmdb_file "$3")" ;;
write-lmdb-atomic) exec "$here/mdb_writer" atomic "$(lmdb_file "$3")" ;;
check-lmdb | check-lmdb-atomic)
	file=$(lmdb_file "$3")
	"$here/mdb_writer" check "$file" "$4" && mdb_stat -n "$file" >/dev/null
	;;
write-sqlite)
	sqlite_transactions "$3/sqlite" | stdbuf -oL sqlite3 "$3/sqlite" | grep --line-buffered '^ack'
	;;
check-sqlite)
	sqlite_check "$3/sqlite" "$4"
	;;
write-ycsb) exec "$app" ycsb --file "$3/ycsb" "${ycsb[@]}" --operations 100000 --acks ;;
check-ycsb)
	# Exactly what so many operations leave, or one more.
	"$app" ycsb --file "$3/ycsb" "${ycsb[@]}" --operations "$4" --check 2>/dev/null ||
		"$app" ycsb --file "$3/ycsb" "${ycsb[@]}" --operations $(($4 + 1)) --check
	;;
write-pagerank)
	graph
	[ -e "$3/pagerank" ] || potluck dataset create "$3/pagerank" --size 4M --chunk-size 64K --mode mrsw --replicas 2 >&2
	pagerank | sed -nu 's/^n1: iteration /ack /p; /checked/{s/^n1: /# /;p}'
	;;
check-pagerank)
	# What was acknowledged is not done again, and the result is that of a single process.
	graph
	out=$(pagerank 2>&1)
	echo "$out" | grep -v ': iteration ' | sed 's/^/# /'
	from=$(sed -n 's/.*"resumed_from":\([0-9]*\).*/\1/p' <<<"$out")
	grep -q '"checked":true' <<<"$out" && grep -q "\"iterations\":$iterations," <<<"$out" &&
		[ "$from" -ge "$4" ] && [ "$from" -le $(($4 + 1)) ] && [ "$nodes" -gt 1 ]
	;;
*) die "neither write nor check of lmdb, lmdb-atomic, sqlite, ycsb, pagerank" ;;
esac

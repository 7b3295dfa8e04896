// SPDX-License-Identifier: GPL-2.0
/*
 * A database of LMDB, Debian's library as it is, whose file is a dataset that it stores to through its mapping
 * (MDB_WRITEMAP) and makes durable by msync:
 *
 *	mdb_writer write|atomic FILE     numbered transactions until it is killed, "ack N" when N is durable
 *	mdb_writer check FILE N          N was acknowledged: it is there, and all that is there is whole
 *
 * "write" has LMDB order its two msyncs a transaction, data before the page that names them. "atomic" switches that off
 * (MDB_NOSYNC, of which LMDB's manual says that a system crash may corrupt the database) and has one msync for both: right
 * only where msync is all or nothing.
 *
 * Transaction N puts record N, of a length and bytes that N gives, removes record N - KEPT, and counts. LMDB uses the
 * pages of removed records again, so what a crash tears of a transaction is seen in others.
 *
 * Its lock file has mutexes that processes share, which memory of hotpot cannot have (futexes need struct pages): FILE is a
 * symbolic link from elsewhere to the dataset, and the lock file lies beside it.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_BYTES	(8UL << 20)
#define KEPT		200
#define LONGEST		6000

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "mdb_writer: %s: %s\n", what, mdb_strerror(err));
	exit(1);
}

static MDB_env *open_env(const char *path, unsigned int flags)
{
	MDB_env *env;

	must(mdb_env_create(&env), "environment");
	must(mdb_env_set_mapsize(env, MAP_BYTES), "map size");
	must(mdb_env_open(env, path, MDB_NOSUBDIR | flags, 0644), path);
	return env;
}

/* Key 0 counts; records follow in the order of their numbers. */
static MDB_val key_of(uint64_t n, uint64_t *room)
{
	*room = __builtin_bswap64(n);
	return (MDB_val){ .mv_size = sizeof(*room), .mv_data = room };
}

static MDB_val record_of(uint64_t n, uint64_t *room)
{
	size_t words = 1 + n * 7919 % (LONGEST / 8);

	for (size_t i = 0; i < words; i++)
		room[i] = (n << 20) + i;
	return (MDB_val){ .mv_size = words * 8, .mv_data = room };
}

static uint64_t last_of(MDB_txn *txn, MDB_dbi dbi)
{
	uint64_t room, last = 0;
	MDB_val key = key_of(0, &room), value;
	int err = mdb_get(txn, dbi, &key, &value);

	if (err != MDB_NOTFOUND)
		must(err, "the count");
	if (!err)
		memcpy(&last, value.mv_data, sizeof(last));
	return last;
}

static void transaction(MDB_env *env, MDB_dbi dbi, uint64_t n)
{
	uint64_t room, bytes[LONGEST / 8];
	MDB_val key = key_of(n, &room), value = record_of(n, bytes);
	MDB_txn *txn;

	must(mdb_txn_begin(env, NULL, 0, &txn), "begin");
	must(mdb_put(txn, dbi, &key, &value, 0), "put");
	if (n > KEPT) {
		key = key_of(n - KEPT, &room);
		must(mdb_del(txn, dbi, &key, NULL), "delete");
	}
	key = key_of(0, &room);
	value = (MDB_val){ .mv_size = sizeof(n), .mv_data = &n };
	must(mdb_put(txn, dbi, &key, &value, 0), "count");
	must(mdb_txn_commit(txn), "commit");
}

static void write_on(const char *path, bool atomic)
{
	MDB_env *env = open_env(path, MDB_WRITEMAP | (atomic ? MDB_NOSYNC : 0));
	uint64_t last;
	MDB_txn *txn;
	MDB_dbi dbi;

	must(mdb_txn_begin(env, NULL, 0, &txn), "begin");
	must(mdb_dbi_open(txn, NULL, 0, &dbi), "open");
	last = last_of(txn, dbi);
	must(mdb_txn_commit(txn), "commit");
	for (uint64_t n = last + 1;; n++) {
		transaction(env, dbi, n);
		if (atomic)
			must(mdb_env_sync(env, 1), "sync");
		printf("ack %lu\n", (unsigned long)n);
		if (fflush(stdout))
			exit(1);
	}
}

/* The number of records that are wrong. */
static int scan(MDB_txn *txn, MDB_dbi dbi, uint64_t last)
{
	uint64_t next = last > KEPT ? last - KEPT + 1 : 1, room, bytes[LONGEST / 8];
	MDB_cursor *cursor;
	MDB_val key, value;
	int err, wrong = 0;

	must(mdb_cursor_open(txn, dbi, &cursor), "cursor");
	while (!(err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
		MDB_val expected;

		if (key.mv_size == sizeof(room) && !memcmp(key.mv_data, "\0\0\0\0\0\0\0\0", sizeof(room)))
			continue;
		expected = key_of(next, &room);
		if (key.mv_size != sizeof(room) || memcmp(key.mv_data, &room, sizeof(room))) {
			printf("# record %lu is not there\n", (unsigned long)next);
			wrong++;
			break;
		}
		expected = record_of(next, bytes);
		if (value.mv_size != expected.mv_size || memcmp(value.mv_data, bytes, value.mv_size)) {
			printf("# record %lu is not what was put\n", (unsigned long)next);
			wrong++;
		}
		next++;
	}
	if (err && err != MDB_NOTFOUND)
		must(err, "scan");
	if (!wrong && next != last + 1) {
		printf("# records end before %lu, not after %lu\n", (unsigned long)next, (unsigned long)last);
		wrong++;
	}
	mdb_cursor_close(cursor);
	return wrong;
}

static int check(const char *path, uint64_t acked)
{
	MDB_env *env = open_env(path, MDB_RDONLY);
	uint64_t last;
	MDB_txn *txn;
	MDB_dbi dbi;
	int wrong;

	must(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "begin");
	must(mdb_dbi_open(txn, NULL, 0, &dbi), "open");
	last = last_of(txn, dbi);
	printf("# %lu acknowledged, %lu are there\n", (unsigned long)acked, (unsigned long)last);
	wrong = scan(txn, dbi, last);
	if (last < acked || last > acked + 1) {
		printf("# neither the last one acknowledged nor the next one\n");
		wrong++;
	}
	mdb_txn_abort(txn);
	mdb_env_close(env);
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && (!strcmp(argv[1], "write") || !strcmp(argv[1], "atomic")))
		write_on(argv[2], argv[1][0] == 'a');
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check(argv[2], strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: mdb_writer write|atomic FILE | check FILE ACKNOWLEDGED\n");
	return 2;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The workloads A, B and C of YCSB on the key-value store of a memory node.
 *
 *	ycsb [-r RECORDS] [-o OPERATIONS] [-t THREADS] [-v VALUE BYTES] [-j] [WORKLOAD]...
 *
 * A is half reads and half updates, B 95 % reads, C only reads; keys come in a
 * Zipf distribution (0.99). Every read is checked:
 *
 * - it is whole: its bytes are those that one update wrote (atomic writes);
 * - it is not older than the last update of the key that had ended when the
 *   read began, and none that had not begun when it ended (read committed, and
 *   more than that).
 *
 * For the second, each key is updated by one thread only. At the end all keys
 * are read, counted, deleted, and not found. Prints a line a workload, with -j
 * as JSON. Status 0 only when every answer was right.
 */
#define _GNU_SOURCE
#include "store.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NAME		"ycsb"
#define REGION		(16ULL << 20)
#define ZIPF		0.99
#define MAX_THREADS	64
#define MAX_VALUE	8000
#define KEY_LEN		24	/* "user" and 20 digits */

static const uint64_t key_of_ras[2] = { 0x79637362, 1 };

static struct {
	uint64_t records, operations;
	int threads;
	uint32_t value;
	bool json;
} option = { 2000, 4000, 4, 1000, false };

/* Versions of each key: whose update has begun, whose has ended. */
static _Atomic uint64_t *begun, *ended;

static uint64_t store_addr;

struct workload {
	char name;
	int reads;	/* of 100 */
};

static const struct workload workloads[] = { { 'A', 50 }, { 'B', 95 }, { 'C', 100 } };

struct thread {
	pthread_t id;
	int rank;
	const struct workload *workload;
	struct store store;
	uint64_t random;
	uint64_t nr[2];		/* reads, updates */
	uint64_t *took[2];	/* ns of each */
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "ycsb: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	exit(1);
}

/* --- keys and values ------------------------------------------------------ */

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t next_random(struct thread *t)
{
	return mix(t->random++);
}

static void make_key(char *text, uint64_t key)
{
	char buffer[KEY_LEN + 1];

	snprintf(buffer, sizeof(buffer), "user%020llu", (unsigned long long)key);
	memcpy(text, buffer, KEY_LEN);
}

/* The version, then bytes that only this version of this key has. */
static void make_value(uint64_t *words, uint64_t key, uint64_t version)
{
	uint64_t seed = mix(key) ^ mix(~version);

	words[0] = version;
	for (uint32_t i = 1; i < option.value / 8; i++)
		words[i] = mix(seed + i);
}

/* Gray and others, "Quickly generating billion-record synthetic databases". */
static double zeta_n, zipf_eta;

static void prepare_zipf(void)
{
	double zeta_2 = 1 + pow(0.5, ZIPF);

	for (uint64_t i = 1; i <= option.records; i++)
		zeta_n += 1 / pow(i, ZIPF);
	zipf_eta = (1 - pow(2.0 / option.records, 1 - ZIPF)) / (1 - zeta_2 / zeta_n);
}

static uint64_t choose_key(struct thread *t)
{
	double u = (next_random(t) >> 11) * 0x1p-53, uz = u * zeta_n;
	uint64_t rank;

	if (uz < 1)
		rank = 0;
	else if (uz < 1 + pow(0.5, ZIPF))
		rank = 1;
	else
		rank = option.records * pow(zipf_eta * u - zipf_eta + 1, 1 / (1 - ZIPF));
	/* Popular keys are spread over all. */
	return mix(rank < option.records ? rank : option.records - 1) % option.records;
}

/* --- operations ------------------------------------------------------------ */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void read_and_check(const struct store *s, uint64_t key)
{
	uint64_t value[MAX_VALUE / 8], right[MAX_VALUE / 8], oldest = ended[key], newest;
	uint32_t len = option.value;
	char text[KEY_LEN];

	make_key(text, key);
	if (store_read(s, text, KEY_LEN, value, &len))
		die("read of key %llu", (unsigned long long)key);
	newest = begun[key];
	errno = 0;
	if (len != option.value)
		die("key %llu: a value of %u bytes", (unsigned long long)key, len);
	if (value[0] < oldest || value[0] > newest)
		die("key %llu: version %llu, which is none of %llu to %llu",
		    (unsigned long long)key, (unsigned long long)value[0],
		    (unsigned long long)oldest, (unsigned long long)newest);
	make_value(right, key, value[0]);
	if (memcmp(value, right, len))
		die("key %llu: not what version %llu wrote", (unsigned long long)key,
		    (unsigned long long)value[0]);
}

static void write_next(const struct store *s, uint64_t key, bool create)
{
	uint64_t value[MAX_VALUE / 8], version = ++begun[key];
	char text[KEY_LEN];

	make_key(text, key);
	make_value(value, key, version);
	if ((create ? store_create : store_update)(s, text, KEY_LEN, value, option.value))
		die("%s of key %llu", create ? "create" : "update", (unsigned long long)key);
	ended[key] = version;
}

/* The nearest key that this thread updates. */
static uint64_t own_key(const struct thread *t, uint64_t key)
{
	uint64_t own = key - key % option.threads + t->rank;

	return own < option.records ? own : (uint64_t)t->rank;
}

/* --- threads --------------------------------------------------------------- */

static struct store open_store(void)
{
	struct store s = { .ras = clio_open(), .addr = store_addr };

	if (s.ras < 0)
		die("cannot open /dev/clio");
	if (clio_attach(s.ras, NAME, key_of_ras))
		die("cannot attach to %s", NAME);
	return s;
}

static void *run_operations(void *arg)
{
	struct thread *t = arg;
	uint64_t share = option.operations / option.threads;

	for (uint64_t n = 0; n < share; n++) {
		bool update = (int)(next_random(t) % 100) >= t->workload->reads;
		uint64_t key = choose_key(t), begin = now();

		if (update)
			write_next(&t->store, own_key(t, key), false);
		else
			read_and_check(&t->store, key);
		t->took[update][t->nr[update]++] = now() - begin;
	}
	return NULL;
}

static void *load(void *arg)
{
	struct thread *t = arg;

	for (uint64_t key = t->rank; key < option.records; key += option.threads)
		write_next(&t->store, key, true);
	return NULL;
}

static double run_all(struct thread *threads, void *(*work)(void *))
{
	uint64_t begin = now();

	for (int i = 0; i < option.threads; i++) {
		errno = pthread_create(&threads[i].id, NULL, work, &threads[i]);
		if (errno)
			die("cannot start a thread");
	}
	for (int i = 0; i < option.threads; i++)
		pthread_join(threads[i].id, NULL);
	return (now() - begin) / 1e9;
}

/* --- figures --------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct figures {
	uint64_t nr;
	double p50, p99;	/* us */
};

static struct figures gather(struct thread *threads, bool updates)
{
	uint64_t *all = calloc(option.operations + 1, sizeof(*all)), nr = 0;
	struct figures f;

	if (!all)
		die("memory");
	for (int i = 0; i < option.threads; i++) {
		memcpy(all + nr, threads[i].took[updates], threads[i].nr[updates] * sizeof(*all));
		nr += threads[i].nr[updates];
		threads[i].nr[updates] = 0;
	}
	qsort(all, nr, sizeof(*all), by_size);
	f = (struct figures){ nr, all[nr / 2] / 1e3, all[nr * 99 / 100] / 1e3 };
	free(all);
	return f;
}

static void report(const struct workload *w, struct thread *threads, double seconds)
{
	struct figures reads = gather(threads, false), updates = gather(threads, true);
	uint64_t all = reads.nr + updates.nr;
	const char *format = option.json ?
		"{\"workload\":\"%c\",\"operations\":%llu,\"per_s\":%.0f,"
		"\"reads\":%llu,\"read_p50_us\":%.1f,\"read_p99_us\":%.1f,"
		"\"updates\":%llu,\"update_p50_us\":%.1f,\"update_p99_us\":%.1f}\n" :
		"workload %c: %llu operations, %.0f/s; %llu reads p50 %.1f us p99 %.1f us; "
		"%llu updates p50 %.1f us p99 %.1f us\n";

	printf(format, w->name, (unsigned long long)all, all / seconds,
	       (unsigned long long)reads.nr, reads.p50, reads.p99,
	       (unsigned long long)updates.nr, updates.p50, updates.p99);
	fflush(stdout);
}

/* --- begin and end --------------------------------------------------------- */

/* Attached to a RAS of our own, with an empty store in it. */
static struct store make_store(void)
{
	uint64_t item = 64, size;
	struct store s = { .ras = clio_open() };

	if (s.ras < 0)
		die("cannot open /dev/clio");
	while (item < 16 + KEY_LEN + option.value)
		item *= 2;
	/* An update takes a new item before it gives the old one back. */
	size = 4096 + (item + 8) * (option.records + MAX_THREADS);
	errno = 0;
	if (size > REGION)
		die("%llu records are %llu bytes: more than a region",
		    (unsigned long long)option.records, (unsigned long long)size);
	if (clio_create(s.ras, NAME, key_of_ras, 0, REGION) ||
	    clio_attach(s.ras, NAME, key_of_ras))
		die("cannot create the address space " NAME
		    " (potluck mem destroy ends one that is left)");
	s.addr = ralloc(s.ras, size);
	if (!s.addr)
		die("no room for %llu bytes", (unsigned long long)size);
	if (store_format(&s, size, option.records))
		die("cannot make a store");
	store_addr = s.addr;
	return s;
}

static void check_all_and_delete(const struct store *s)
{
	uint64_t count, value[MAX_VALUE / 8];
	char text[KEY_LEN];

	if (store_count(s, &count))
		die("count");
	errno = 0;
	if (count != option.records)
		die("%llu items, not %llu", (unsigned long long)count,
		    (unsigned long long)option.records);
	for (uint64_t key = 0; key < option.records; key++) {
		uint32_t len = option.value;

		read_and_check(s, key);
		make_key(text, key);
		if (store_create(s, text, KEY_LEN, value, 8) == 0 || errno != EEXIST)
			die("key %llu was created twice", (unsigned long long)key);
		if (store_delete(s, text, KEY_LEN))
			die("delete of key %llu", (unsigned long long)key);
		if (store_read(s, text, KEY_LEN, value, &len) == 0 || errno != ENOENT)
			die("key %llu is there after its end", (unsigned long long)key);
	}
	errno = 0;
	if (store_count(s, &count) || count)
		die("%llu items are left", (unsigned long long)count);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	errno = 0;
	if (*end || end == text || n < least || n > most)
		die("'%s' is no number from %llu to %llu", text, (unsigned long long)least,
		    (unsigned long long)most);
	return n;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "r:o:t:v:j")) != -1) {
		switch (c) {
		case 'r':
			option.records = number(optarg, MAX_THREADS, 1 << 20);
			break;
		case 'o':
			option.operations = number(optarg, 1, 1 << 24);
			break;
		case 't':
			option.threads = number(optarg, 1, MAX_THREADS);
			break;
		case 'v':
			option.value = number(optarg, 8, MAX_VALUE) / 8 * 8;
			break;
		case 'j':
			option.json = true;
			break;
		default:
			fprintf(stderr, "usage: ycsb [-r RECORDS] [-o OPERATIONS] [-t THREADS] "
				"[-v VALUE BYTES] [-j] [A|B|C]...\n");
			exit(2);
		}
	}
}

static bool wanted(const struct workload *w, char **names)
{
	bool any = !*names;

	for (; *names; names++)
		any |= (*names)[0] == w->name && !(*names)[1];
	return any;
}

int main(int argc, char **argv)
{
	struct thread threads[MAX_THREADS] = { 0 };
	struct store s;

	parse(argc, argv);
	prepare_zipf();
	begun = calloc(option.records, sizeof(*begun));
	ended = calloc(option.records, sizeof(*ended));
	if (!begun || !ended)
		die("memory");
	s = make_store();
	for (int i = 0; i < option.threads; i++) {
		threads[i] = (struct thread){
			.rank = i,
			.store = open_store(),
			.random = mix(i),
		};
		for (int updates = 0; updates < 2; updates++) {
			threads[i].took[updates] =
				calloc(option.operations, sizeof(*threads[i].took[updates]));
			if (!threads[i].took[updates])
				die("memory");
		}
	}
	run_all(threads, load);
	for (size_t w = 0; w < sizeof(workloads) / sizeof(workloads[0]); w++) {
		if (!wanted(&workloads[w], argv + optind))
			continue;
		for (int i = 0; i < option.threads; i++)
			threads[i].workload = &workloads[w];
		report(&workloads[w], threads, run_all(threads, run_operations));
	}
	check_all_and_delete(&s);
	for (int i = 0; i < option.threads; i++)
		clio_detach(threads[i].store.ras);
	clio_detach(s.ras);
	if (clio_destroy(s.ras, NAME, key_of_ras))
		die("cannot destroy the address space %s", NAME);
	return 0;
}

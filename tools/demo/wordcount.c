// SPDX-License-Identifier: GPL-2.0
/*
 * Several nodes count words into one hash table in shared persistent memory.
 *
 *	potluck run -- wordcount count DATASET FILES OUT
 *	potluck run -- wordcount read DATASET OUT
 *
 * FILES names the input files, one a line. Each node writes what it finds in
 * the whole table to OUT.<node>, as sorted lines "word count". A word is a run
 * of ASCII letters, in lower case.
 *
 * The dataset:
 *
 *	struct table | buckets | arena of node 0 | arena of node 1 | ...
 *
 * Everything in it is linked with plain pointers: the dataset lies at the same
 * address on every node and after every restart.
 *
 * Any node may write anywhere (MRMW), so the program sees to it that no two
 * nodes write the same bytes between two barriers:
 *
 * 1. Each node counts the words of its own files in private memory, copies
 *    what it found to its own arena, as one list for each node, and commits.
 * 2. After a barrier each node merges the lists that are for it, out of
 *    everybody's arena, into the buckets that it alone writes, with new words
 *    in its own arena, and commits.
 * 3. After another barrier each node reads the whole table.
 *
 * Nodes share pages nevertheless (the ends of their buckets, their totals in
 * struct table): commits of different bytes of one page do not hurt each
 * other. A commit that meets another one in flight is refused with EAGAIN and
 * tried again, which is right here: nobody else writes our bytes.
 */
#define _GNU_SOURCE
#include "dspm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC		0x31544e554f434457ULL	/* "WDCOUNT1" */
#define MAX_NODES	16
#define NR_BUCKETS	16384
#define PIECE		(128 << 10)	/* bytes of one commit */

struct word {
	struct word *next;
	uint64_t count;
	uint32_t length;
	char text[];
};

struct table {
	uint64_t magic;
	uint32_t nr_nodes;
	uint32_t nr_buckets;
	struct word **buckets;
	struct total {
		uint64_t words;		/* in the node's files */
		uint64_t distinct;	/* in the node's buckets */
	} totals[MAX_NODES];
};

/* At the begin of a node's arena: what it has for each node. */
struct parcel {
	struct word *first[MAX_NODES];
};

static struct dspm d;

/* --- where things are --------------------------------------------------- */

static size_t page_align(size_t n)
{
	return (n + HOTPOT_PAGE_SIZE - 1) & ~(size_t)(HOTPOT_PAGE_SIZE - 1);
}

static struct table *the_table(void)
{
	return d.base;
}

static struct word **the_buckets(void)
{
	return (struct word **)((char *)d.base + page_align(sizeof(struct table)));
}

static size_t arena_size(void)
{
	size_t shared = page_align(sizeof(struct table)) +
			page_align(NR_BUCKETS * sizeof(struct word *));

	errno = 0;
	if (d.size < shared + MAX_NODES * HOTPOT_PAGE_SIZE)
		die("%s is too small: %zu bytes", d.name, d.size);
	return (d.size - shared) / d.nr / HOTPOT_PAGE_SIZE * HOTPOT_PAGE_SIZE;
}

static char *arena_of(int rank)
{
	return (char *)the_buckets() + page_align(NR_BUCKETS * sizeof(struct word *)) +
	       rank * arena_size();
}

/* Buckets first_bucket(r) to first_bucket(r + 1) are node r's to write. */
static uint32_t first_bucket(int rank)
{
	return (uint64_t)NR_BUCKETS * rank / d.nr;
}

static int writer_of(uint32_t bucket)
{
	int rank = 0;

	while (first_bucket(rank + 1) <= bucket)
		rank++;
	return rank;
}

/* FNV-1a */
static uint32_t bucket_of(const char *text, size_t length)
{
	uint32_t hash = 2166136261u;

	while (length--)
		hash = (hash ^ (unsigned char)*text++) * 16777619u;
	return hash % NR_BUCKETS;
}

/* --- our arena ---------------------------------------------------------- */

static char *free_begin, *free_end;

static struct word *new_word(const char *text, uint32_t length, uint64_t count,
			     struct word *next)
{
	size_t size = (sizeof(struct word) + length + 7) & ~(size_t)7;
	struct word *word = (struct word *)free_begin;

	errno = 0;
	if ((size_t)(free_end - free_begin) < size)
		die("%s: the arena of %s is full", d.name, d.node);
	free_begin += size;
	word->next = next;
	word->count = count;
	word->length = length;
	memcpy(word->text, text, length);
	return word;
}

static struct hotpot_area area(const void *begin, const void *end)
{
	return (struct hotpot_area){
		.addr = (uintptr_t)begin,
		.len = (const char *)end - (const char *)begin,
	};
}

/* Commits all bytes from @begin to @end, some at a time. */
static void commit_range(const char *begin, const char *end)
{
	while (begin < end) {
		size_t len = end - begin < PIECE ? (size_t)(end - begin) : PIECE;
		struct hotpot_area piece = area(begin, begin + len);

		dspm_commit(&d, &piece, 1, 0);
		begin += len;
	}
}

/* --- phase 1: our files, privately -------------------------------------- */

static struct word *mine[NR_BUCKETS];
static uint64_t words_seen;

static void count_privately(const char *text, uint32_t length)
{
	uint32_t bucket = bucket_of(text, length);
	struct word *word;

	words_seen++;
	for (word = mine[bucket]; word; word = word->next) {
		if (word->length == length && !memcmp(word->text, text, length)) {
			word->count++;
			return;
		}
	}
	word = malloc(sizeof(*word) + length);
	if (!word)
		die("memory");
	word->next = mine[bucket];
	word->count = 1;
	word->length = length;
	memcpy(word->text, text, length);
	mine[bucket] = word;
}

static void count_file(const char *path)
{
	static char *text;
	static size_t room;
	size_t length = 0;
	FILE *file = fopen(path, "r");
	int c;

	if (!file)
		die("cannot open %s", path);
	do {
		c = getc_unlocked(file);
		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c >= 'a' && c <= 'z') {
			if (length == room) {
				room = room ? 2 * room : 64;
				text = realloc(text, room);
				if (!text)
					die("memory");
			}
			text[length++] = c;
		} else if (length) {
			count_privately(text, length);
			length = 0;
		}
	} while (c != EOF);
	if (ferror(file))
		die("cannot read %s", path);
	fclose(file);
}

static void count_our_files(const char *list)
{
	char *line = NULL;
	size_t room = 0;
	FILE *file = fopen(list, "r");
	int files = 0;

	if (!file)
		die("cannot open %s", list);
	for (int n = 0; getline(&line, &room, file) > 0; n++) {
		line[strcspn(line, "\n")] = '\0';
		if (n % d.nr != d.rank || !*line)
			continue;
		count_file(line);
		files++;
	}
	free(line);
	fclose(file);
	printf("counted %llu words in my %d files\n", (unsigned long long)words_seen, files);
	fflush(stdout);
}

/* Our counts as one list for each node, in our arena. */
static void publish_our_counts(void)
{
	struct parcel *parcel = (struct parcel *)arena_of(d.rank);
	char *begin = (char *)parcel;

	free_begin = begin + sizeof(*parcel);
	free_end = begin + arena_size();
	memset(parcel, 0, sizeof(*parcel));
	for (uint32_t bucket = 0; bucket < NR_BUCKETS; bucket++) {
		struct word **list = &parcel->first[writer_of(bucket)];

		for (struct word *word = mine[bucket]; word; word = word->next)
			*list = new_word(word->text, word->length, word->count, *list);
	}
	commit_range(begin, free_begin);
	printf("put my counts into shared memory: %zu KiB\n",
	       (size_t)(free_begin - begin) >> 10);
	fflush(stdout);
}

/* --- phase 2: our buckets ----------------------------------------------- */

static void check(const struct word *word)
{
	errno = 0;
	if (!dspm_holds(&d, word, sizeof(*word)) ||
	    !dspm_holds(&d, word->text, word->length))
		die("%s: a pointer leads out of the dataset: %p", d.name, (const void *)word);
}

static void merge_for_us(void)
{
	struct word **buckets = the_buckets();
	struct total *total = &the_table()->totals[d.rank];
	char *begin = free_begin;
	struct hotpot_area ends[2];
	uint64_t distinct = 0;

	for (int rank = 0; rank < d.nr; rank++) {
		struct parcel *parcel = (struct parcel *)arena_of(rank);
		struct word *from = parcel->first[d.rank];

		for (; from; from = from->next) {
			struct word **bucket, *to;

			check(from);
			bucket = &buckets[bucket_of(from->text, from->length)];
			for (to = *bucket; to; to = to->next)
				if (to->length == from->length &&
				    !memcmp(to->text, from->text, from->length))
					break;
			if (to) {
				to->count += from->count;
			} else {
				*bucket = new_word(from->text, from->length, from->count, *bucket);
				distinct++;
			}
		}
	}
	total->words = words_seen;
	total->distinct = distinct;

	/* First the words, then what points to them, with our totals, at once. */
	commit_range(begin, free_begin);
	ends[0] = area(&buckets[first_bucket(d.rank)], &buckets[first_bucket(d.rank + 1)]);
	ends[1] = area(total, total + 1);
	dspm_commit(&d, ends, 2, 0);
	printf("merged %llu different words into my buckets\n", (unsigned long long)distinct);
	fflush(stdout);
}

/* --- the whole table ---------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
	uint32_t shorter = x->length < y->length ? x->length : y->length;
	int order = memcmp(x->text, y->text, shorter);

	return order ? order : (x->length > y->length) - (x->length < y->length);
}

static void read_table(const char *out)
{
	const struct table *table = the_table();
	uint64_t distinct = 0, words = 0, n = 0, counted = 0;
	const struct word **all;
	char path[4096];
	FILE *file;

	errno = 0;
	if (table->magic != MAGIC || table->nr_buckets != NR_BUCKETS ||
	    table->nr_nodes > MAX_NODES)
		die("%s holds no table of words", d.name);
	if (table->buckets != the_buckets())
		die("%s has moved: its buckets should be at %p", d.name,
		    (void *)table->buckets);
	for (uint32_t rank = 0; rank < table->nr_nodes; rank++) {
		distinct += table->totals[rank].distinct;
		words += table->totals[rank].words;
	}
	all = calloc(distinct + 1, sizeof(*all));
	if (!all)
		die("memory");
	for (uint32_t bucket = 0; bucket < NR_BUCKETS; bucket++) {
		const struct word *word = table->buckets[bucket];

		for (; word; word = word->next) {
			check(word);
			if (n == distinct)
				die("%s has more words than the %llu of its totals", d.name,
				    (unsigned long long)distinct);
			all[n++] = word;
			counted += word->count;
		}
	}
	if (n != distinct || counted != words)
		die("%s has %llu words, %llu different; its totals say %llu and %llu", d.name,
		    (unsigned long long)counted, (unsigned long long)n,
		    (unsigned long long)words, (unsigned long long)distinct);
	qsort(all, n, sizeof(*all), by_text);

	snprintf(path, sizeof(path), "%s.%s", out, d.node);
	file = fopen(path, "w");
	if (!file)
		die("cannot write %s", path);
	for (uint64_t i = 0; i < n; i++)
		fprintf(file, "%.*s %llu\n", (int)all[i]->length, all[i]->text,
			(unsigned long long)all[i]->count);
	if (fclose(file))
		die("cannot write %s", path);
	free(all);
	printf("read the whole table at %p: %llu words, %llu different\n", d.base,
	       (unsigned long long)words, (unsigned long long)distinct);
}

static void lay_out(void)
{
	struct table *table = the_table();
	struct hotpot_area header;

	table->magic = MAGIC;
	table->nr_nodes = d.nr;
	table->nr_buckets = NR_BUCKETS;
	table->buckets = the_buckets();
	header = area(table, &table->totals);
	dspm_commit(&d, &header, 1, 0);
}

int main(int argc, char **argv)
{
	bool plain = argc > 1 && !strcmp(argv[1], "--plain");

	argc -= plain;
	argv += plain;
	if (argc == 5 && !strcmp(argv[1], "count")) {
		dspm_open(&d, argv[2], plain);
		errno = 0;
		if (d.nr > MAX_NODES)
			die("at most %d nodes", MAX_NODES);
		if (d.rank == 0)
			lay_out();
		count_our_files(argv[3]);
		publish_our_counts();
		dspm_barrier(&d, "all counts are in shared memory");
		merge_for_us();
		dspm_barrier(&d, "the table is whole");
		read_table(argv[4]);
		printf("%llu commits, of which %llu were tried again\n",
		       (unsigned long long)d.commits, (unsigned long long)d.conflicts);
		/* Nobody leaves while others may still fetch from its memory. */
		dspm_barrier(&d, "everybody has read");
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "read")) {
		dspm_open(&d, argv[2], plain);
		read_table(argv[3]);
		return 0;
	}
	fprintf(stderr, "usage: wordcount [--plain] count DATASET FILES OUT\n"
			"       wordcount [--plain] read DATASET OUT\n");
	return 2;
}

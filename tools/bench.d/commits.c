// SPDX-License-Identifier: GPL-2.0
/*
 * What decides how long a commit takes (ch. 2, 2.8.4): prints the nanoseconds of each, one a line.
 *
 *   commits make PATH mrmw|mrsw BYTES CHUNK          a dataset of zeros in one copy
 *   commits owner PATH OWNER AREAS BYTES REPLICAS COUNT
 *                              AREAS areas of BYTES in pages of chunks that OWNER owns (0: of all), by turns
 *   commits together same|own|random AREAS BYTES COUNT PATH...
 *                              a process at each PATH, all of one dataset, which begin each commit at the same
 *                              time: of the same areas, of areas of their own, or of pages at random. What
 *                              conflicts is tried again; the time is that until it is published. At last
 *                              `wall NS`: the time that all took.
 *
 * Of an MRSW dataset pages are acquired before; with `owner` that is not counted, as there stores could begin.
 */
#include "processes.h"
#include "writer.h"

static void at_owner(const char *path, uint32_t owner, uint32_t areas, uint32_t bytes, uint32_t replicas, long count)
{
	struct writer w = writer_at(path, areas, bytes);
	uint64_t pages = w.info.chunk_size / PAGE;
	uint32_t nr = 0;

	for (uint64_t page = 0; page < pages && nr < areas; page++)
		for (uint32_t c = 0; c < w.info.nr_chunks && nr < areas; c++)
			if (!owner || w.chunks[c].owner == owner)
				place(&w, nr++, c * pages + page);
	if (nr < areas) {
		errno = ENODATA;
		die("chunks of this owner");
	}
	for (long i = -3; i < count; i++) {
		uint64_t begin;

		acquire(&w);
		store(&w, i);
		begin = now_ns();
		commit(&w, replicas);
		if (i >= 0)
			printf("%lu\n", (unsigned long)(now_ns() - begin));
	}
}

enum choice { SAME, OWN, RANDOM };

/* Pages of the next commit of the process of this number. */
static void choose(struct writer *w, enum choice which, int number, uint64_t *seed)
{
	uint64_t pages = w->info.nr_chunks * (w->info.chunk_size / PAGE);

	for (uint32_t i = 0; i < w->nr; i++) {
		uint64_t page = which == OWN ? (uint64_t)number * w->nr + i : i;

		if (which == RANDOM) {
			/* Different ones: each has a share of the pages of its own. */
			page = i * (pages / w->nr) + next(seed) % (pages / w->nr);
		}
		place(w, i, page);
	}
}

/* What the processes share. */
struct shared {
	pthread_barrier_t meet;
	enum choice which;
	uint32_t areas, bytes;
	long count;
	char **paths;
	/* When the first commit that counts began. */
	uint64_t begin;
	uint64_t ns[];
};

static void at_once(int number, void *arg)
{
	struct shared *shared = arg;
	struct writer w = writer_at(shared->paths[number], shared->areas, shared->bytes);
	uint64_t *ns = shared->ns + number * shared->count, seed = number + 1;

	for (long i = -2; i < shared->count; i++) {
		uint64_t begin;

		choose(&w, shared->which, number, &seed);
		pthread_barrier_wait(&shared->meet);
		begin = now_ns();
		if (!i && !number)
			shared->begin = begin;
		acquire(&w);
		store(&w, i + number);
		commit(&w, 0);
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static int together(const char *what, uint32_t areas, uint32_t bytes, long count, char **paths, int processes)
{
	struct shared *shared = shared_or_die(sizeof(*shared) + processes * count * sizeof(uint64_t));

	shared->which = !strcmp(what, "same") ? SAME : !strcmp(what, "own") ? OWN : RANDOM;
	shared->areas = areas;
	shared->bytes = bytes;
	shared->count = count;
	shared->paths = paths;
	meet_there(&shared->meet, processes);
	if (!all_at_once(processes, at_once, shared))
		return 1;
	for (long i = 0; i < processes * count; i++)
		printf("%lu\n", (unsigned long)shared->ns[i]);
	printf("wall %lu\n", (unsigned long)(now_ns() - shared->begin));
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	if (!strcmp(what, "make") && argc == 6) {
		struct hotpot_setup setup = {
			.replicas = 1,
			.mode = strcmp(argv[3], "mrsw") ? HOTPOT_MRMW : HOTPOT_MRSW,
			.chunk_size = atol(argv[5]),
		};

		dataset_or_die(argv[2], &setup, atol(argv[4]));
		return 0;
	}
	if (!strcmp(what, "owner") && argc == 8) {
		at_owner(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atoi(argv[6]), atol(argv[7]));
		return 0;
	}
	if (!strcmp(what, "together") && argc > 6)
		return together(argv[2], atoi(argv[3]), atoi(argv[4]), atol(argv[5]), argv + 6, argc - 6);
	fprintf(stderr, "usage: see the top of the source\n");
	return 2;
}

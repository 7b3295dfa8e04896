// SPDX-License-Identifier: GPL-2.0
/*
 * Commits of many nodes at once (ch. 2, 2.8.4): prints the nanoseconds of each, one a line. There is a process at each
 * PATH, all of one dataset, each on a node of its own. No two choose the same page: conflicts are another matter, and
 * pages of an MRSW dataset are acquired before, which is not counted.
 *
 *   workload apart AREAS BYTES COUNT PATH...
 *                     all begin each commit at the same time, of pages at random of the chunks that these nodes own:
 *                     what other nodes own is as if it were not there. At last `wall NS`: the time that was spent in
 *                     commits, each time from the begin of the first to the end of the last.
 *   workload zipf BYTES SECONDS COUNT PATH...
 *                     each commits two areas, of chunks that it chooses by Zipf's law: the chunks that it chooses most
 *                     often are some that the node before it owned at first, and the rest has a random order. For SECONDS
 *                     that is not counted; then COUNT times. At last `came N`: chunks that came to these nodes meanwhile.
 */
#include "processes.h"
#include "writer.h"

/* Of these nodes all together. */
struct workload {
	pthread_barrier_t meet;
	char **paths;
	int processes;
	uint32_t areas, bytes, seconds;
	long count;
	/* At each path. */
	uint32_t nodes[MOST];
	uint64_t came[MOST];
	/* count of each process. */
	uint64_t *begin, *end;
};

/* Number of the process on the node that owns a chunk, or -1. */
static int process_of(const struct workload *l, uint32_t owner)
{
	for (int i = 0; i < l->processes; i++)
		if (l->nodes[i] == owner)
			return i;
	return -1;
}

static void note(const struct workload *l, int number, long nth, uint64_t begin)
{
	if (nth < 0)
		return;
	l->begin[number * l->count + nth] = begin;
	l->end[number * l->count + nth] = now_ns();
}

/* A page of a chunk that no other process chooses. */
static uint64_t own_page(const struct workload *l, const struct writer *w, uint32_t chunk, int number, uint64_t *seed)
{
	uint64_t pages = w->info.chunk_size / PAGE;

	return chunk * pages + next(seed) % (pages / l->processes) * l->processes + number;
}

/* Whether the first nr areas are of other pages. */
static bool is_new(const struct writer *w, uint32_t nr, uint64_t page)
{
	for (uint32_t i = 0; i < nr; i++)
		if (w->areas[i].addr == (uintptr_t)w->map + page * PAGE)
			return false;
	return true;
}

static void apart(int number, void *arg)
{
	struct workload *l = arg;
	struct writer w = writer_at(l->paths[number], l->areas, l->bytes);
	uint32_t *chunks = calloc(w.info.nr_chunks, sizeof(*chunks)), nr = 0;
	uint64_t seed = number + 1;

	for (uint32_t c = 0; c < w.info.nr_chunks; c++)
		if (process_of(l, w.chunks[c].owner) >= 0)
			chunks[nr++] = c;
	if (nr * (w.info.chunk_size / PAGE / l->processes) < 2 * w.nr) {
		errno = ENODATA;
		die("chunks of these nodes");
	}
	for (long i = -2; i < l->count; i++) {
		uint64_t begin, page;

		for (uint32_t k = 0; k < w.nr; k++) {
			do
				page = own_page(l, &w, chunks[next(&seed) % nr], number, &seed);
			while (!is_new(&w, k, page));
			place(&w, k, page);
		}
		acquire(&w);
		store(&w, i + number);
		/* No stores while others commit. */
		pthread_barrier_wait(&l->meet);
		begin = now_ns();
		commit(&w, 0);
		note(l, number, i, begin);
		pthread_barrier_wait(&l->meet);
	}
}

/* Chunks in the order in which this process likes them. */
static uint32_t *liked(const struct workload *l, const struct writer *w, int number, uint64_t *seed)
{
	uint32_t *chunks = calloc(w->info.nr_chunks, sizeof(*chunks)), most = 0, nr = 0;
	int before = (number + l->processes - 1) % l->processes;

	for (uint32_t c = 0; c < w->info.nr_chunks; c++)
		if (process_of(l, w->chunks[c].owner) == before)
			chunks[nr++] = c;
	most = nr;
	for (uint32_t c = 0; c < w->info.nr_chunks; c++)
		if (process_of(l, w->chunks[c].owner) != before)
			chunks[nr++] = c;
	for (uint32_t i = nr; i-- > most + 1;) {
		uint32_t k = most + next(seed) % (i + 1 - most), c = chunks[i];

		chunks[i] = chunks[k];
		chunks[k] = c;
	}
	return chunks;
}

/* Which of so many, by Zipf's law with the exponent 1. */
static uint32_t zipf(uint32_t nr, uint64_t *seed)
{
	double all = 0, at;
	uint32_t i = 0;

	for (uint32_t k = 1; k <= nr; k++)
		all += 1.0 / k;
	at = next(seed) / 2147483648.0 * all;
	while (i + 1 < nr && (at -= 1.0 / (i + 1)) > 0)
		i++;
	return i;
}

static uint64_t came(const struct writer *w)
{
	struct hotpot_info info = { 0 };

	if (ioctl(w->fd, HOTPOT_IOC_INFO, &info) < 0)
		die("HOTPOT_IOC_INFO");
	return info.nr_came;
}

static void by_zipf(int number, void *arg)
{
	struct workload *l = arg;
	struct writer w = writer_at(l->paths[number], 2, l->bytes);
	uint64_t seed = number + 1, until = now_ns() + l->seconds * 1000000000ULL;
	uint32_t *chunks = liked(l, &w, number, &seed);

	for (long i = -1; i < l->count;) {
		uint64_t begin, page;

		/* All have done what is not counted. */
		if (i < 0 && now_ns() > until && ++i == 0)
			pthread_barrier_wait(&l->meet);
		for (uint32_t k = 0; k < w.nr; k++) {
			do
				page = own_page(l, &w, chunks[zipf(w.info.nr_chunks, &seed)], number, &seed);
			while (!is_new(&w, k, page));
			place(&w, k, page);
		}
		acquire(&w);
		store(&w, seed);
		begin = now_ns();
		commit(&w, 0);
		note(l, number, i, begin);
		if (i >= 0)
			i++;
	}
	l->came[number] = came(&w);
}

static void who_is_there(struct workload *l)
{
	for (int i = 0; i < l->processes; i++) {
		struct hotpot_info info = { 0 };
		int fd = open_or_die(l->paths[i], O_RDWR);

		if (ioctl(fd, HOTPOT_IOC_INFO, &info) < 0)
			die("HOTPOT_IOC_INFO");
		l->nodes[i] = info.node;
		close(fd);
	}
}

/* Of commits that began at the same time, all of them. */
static uint64_t in_commits(const struct workload *l)
{
	uint64_t all = 0;

	for (long k = 0; k < l->count; k++) {
		uint64_t begin = UINT64_MAX, end = 0;

		for (int i = 0; i < l->processes; i++) {
			if (l->begin[i * l->count + k] < begin)
				begin = l->begin[i * l->count + k];
			if (l->end[i * l->count + k] > end)
				end = l->end[i * l->count + k];
		}
		all += end - begin;
	}
	return all;
}

int main(int argc, char **argv)
{
	struct workload *l = shared_or_die(sizeof(*l));
	bool at_once = argc > 5 && !strcmp(argv[1], "apart");
	uint64_t came = 0;

	if (argc < 6 || argc - 5 > MOST || (!at_once && strcmp(argv[1], "zipf"))) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	l->areas = at_once ? atoi(argv[2]) : 2;
	l->bytes = atoi(argv[at_once ? 3 : 2]);
	l->seconds = at_once ? 0 : atoi(argv[3]);
	l->count = atol(argv[4]);
	l->paths = argv + 5;
	l->processes = argc - 5;
	l->begin = shared_or_die(l->processes * l->count * sizeof(uint64_t));
	l->end = shared_or_die(l->processes * l->count * sizeof(uint64_t));
	who_is_there(l);
	meet_there(&l->meet, l->processes);
	if (!all_at_once(l->processes, at_once ? apart : by_zipf, l))
		return 1;
	for (long i = 0; i < l->processes * l->count; i++)
		printf("%lu\n", (unsigned long)(l->end[i] - l->begin[i]));
	for (int i = 0; i < l->processes; i++)
		came += l->came[i];
	if (at_once)
		printf("wall %lu\n", (unsigned long)in_commits(l));
	else
		printf("came %lu\n", (unsigned long)came);
	return 0;
}

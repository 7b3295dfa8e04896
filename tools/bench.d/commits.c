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
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "dataset.h"

#define MOST 64

struct writer {
	int fd;
	char *map;
	bool mrsw;
	struct hotpot_info info;
	struct hotpot_chunk *chunks;
	struct hotpot_area areas[MOST];
	uint32_t nr, bytes;
};

static struct writer writer_at(const char *path, uint32_t nr, uint32_t bytes)
{
	struct writer w = { .nr = nr, .bytes = bytes };

	if (!nr || nr > MOST || !bytes || bytes > PAGE) {
		errno = EINVAL;
		die("areas");
	}
	w.fd = open_or_die(path, O_RDWR);
	w.map = map_or_die(w.fd, size_of(w.fd));
	w.chunks = chunks_of(w.fd, &w.info);
	w.mrsw = w.info.mode == HOTPOT_MRSW;
	return w;
}

/* The nth area lies at the beginning of this page. */
static void place(struct writer *w, uint32_t nth, uint64_t page)
{
	w->areas[nth] = (struct hotpot_area){ (uintptr_t)w->map + page * PAGE, w->bytes };
}

static void acquire(struct writer *w)
{
	struct hotpot_acquire a = {
		.areas = (uintptr_t)w->areas, .nr_areas = w->nr, .timeout_ms = 30000, .flags = HOTPOT_ACQUIRE_WAIT,
	};

	if (w->mrsw && ioctl(w->fd, HOTPOT_IOC_ACQUIRE, &a) < 0)
		die("HOTPOT_IOC_ACQUIRE");
}

static void store(struct writer *w, int value)
{
	for (uint32_t i = 0; i < w->nr; i++)
		memset((void *)(uintptr_t)w->areas[i].addr, value, w->bytes);
}

/* Until it is published. */
static void commit(struct writer *w, uint32_t replicas)
{
	struct hotpot_commit c = { .areas = (uintptr_t)w->areas, .nr_areas = w->nr, .replicas = replicas };

	while (ioctl(w->fd, HOTPOT_IOC_COMMIT, &c) < 0)
		if (errno != EAGAIN)
			die("HOTPOT_IOC_COMMIT");
}

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
	/* When the first commit that counts began. */
	uint64_t begin;
	uint64_t ns[];
};

static void at_once(enum choice which, struct writer *w, int number, long count, struct shared *shared)
{
	uint64_t *ns = shared->ns + number * count, seed = number + 1;

	for (long i = -2; i < count; i++) {
		uint64_t begin;

		choose(w, which, number, &seed);
		pthread_barrier_wait(&shared->meet);
		begin = now_ns();
		if (!i && !number)
			shared->begin = begin;
		acquire(w);
		store(w, i + number);
		commit(w, 0);
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static int together(const char *what, uint32_t areas, uint32_t bytes, long count, char **paths, int processes)
{
	enum choice which = !strcmp(what, "same") ? SAME : !strcmp(what, "own") ? OWN : RANDOM;
	size_t len = sizeof(struct shared) + processes * count * sizeof(uint64_t);
	struct shared *shared = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t *pids = calloc(processes, sizeof(*pids));
	pthread_barrierattr_t attr;
	bool failed = false;

	if (shared == MAP_FAILED)
		die("mmap");
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->meet, &attr, processes);
	for (int i = 0; i < processes; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			struct writer w = writer_at(paths[i], areas, bytes);

			at_once(which, &w, i, count, shared);
			_exit(0);
		}
	}
	for (int i = 0; i < processes; i++) {
		int status;

		if (wait(&status) > 0 && !status)
			continue;
		/* The others would wait for it for ever. */
		failed = true;
		for (int k = 0; k < processes; k++)
			kill(pids[k], SIGKILL);
	}
	for (long i = 0; i < processes * count; i++)
		printf("%lu\n", (unsigned long)shared->ns[i]);
	printf("wall %lu\n", (unsigned long)(now_ns() - shared->begin));
	return failed;
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

// SPDX-License-Identifier: GPL-2.0
/*
 * Programs whose memory is not all here: print the nanoseconds of each
 * repetition, one a line.
 *
 *   working_set cache BYTES LOCAL COUNT  1,000 accesses at random, nine of ten to
 *                                        a tenth of the pages
 *   working_set sort BYTES LOCAL COUNT   quicksort of numbers
 *
 * LOCAL: CACHE bytes of local cache before remote memory; 0 for local memory;
 * cgroup:CACHE for local memory in a cgroup that has so many bytes, and may swap.
 */
#include "remote.h"

/* What memory() allocated, if it did. */
static uint64_t remote_addr;
static int remote_fd;

/*
 * What a cgroup is charged beside its pages: page tables, pages on their way to and from swap, and
 * what each processor has charged ahead. Without it the program is killed in the middle of a sort.
 */
#define OVERHEAD (1UL << 20)

/* So that this process has `size` bytes from here on, and swaps the rest. */
static void limit_memory(uint64_t size)
{
	const char *top = "/sys/fs/cgroup/potluck-bench";
	char text[256];
	FILE *f;

	snprintf(text, sizeof(text),
		 "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup\n"
		 "echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p %s && echo %lu >%s/memory.max\n",
		 top, size + OVERHEAD, top);
	if (system(text))
		die("no cgroup for memory");
	snprintf(text, sizeof(text), "%s/cgroup.procs", top);
	f = fopen(text, "w");
	if (!f || fprintf(f, "%d", getpid()) < 0 || fclose(f))
		die(text);
}

/* Remote memory with a local cache, or local memory. */
static volatile uint64_t *memory(uint64_t len, const char *local)
{
	uint64_t size = strtoull(local, NULL, 0);
	void *map;

	if (size) {
		int fd = attached();
		struct clio_cache c = { .size = size };

		if (ioctl(fd, CLIO_IOC_CACHE, &c))
			die("CLIO_IOC_CACHE");
		remote_addr = allocated(fd, len);
		remote_fd = fd;
		map = rmap(fd, remote_addr, len, PROT_READ | PROT_WRITE);
	} else {
		if (!strncmp(local, "cgroup:", 7))
			limit_memory(strtoull(local + 7, NULL, 0));
		map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* A cache of ours has pages of 4 KiB, and so has what is swapped. */
		if (map != MAP_FAILED && local[0] == 'c')
			madvise(map, len, MADV_NOHUGEPAGE);
	}
	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static void end_memory(volatile uint64_t *map, uint64_t len)
{
	munmap((void *)map, len);
	if (remote_addr)
		freed(remote_fd, remote_addr, len);
}

static void cache(uint64_t len, const char *local, uint64_t *ns, long count)
{
	volatile uint64_t *map = memory(len, local);
	uint64_t seed = 1;

	for (uint64_t at = 0; at < len; at += 4096)
		map[at / 8] = at;
	for (long i = 0; i < count; i++) {
		uint64_t begin = now_ns();

		/* 9 of 10 accesses go to a tenth of the pages. */
		for (int k = 0; k < 1000; k++) {
			uint64_t page = next(&seed) % (len / 4096);

			if (k % 10)
				page /= 10;
			map[page * 512 + k % 512]++;
		}
		ns[i] = now_ns() - begin;
	}
	end_memory(map, len);
}

/* Hoare's quicksort, in place: the C library's has a buffer beside it, which would be local. */
static void quicksort(volatile uint64_t *a, int64_t from, int64_t to)
{
	while (from < to) {
		uint64_t pivot = a[from + (to - from) / 2], t;
		int64_t i = from - 1, j = to + 1;

		for (;;) {
			do
				i++;
			while (a[i] < pivot);
			do
				j--;
			while (a[j] > pivot);
			if (i >= j)
				break;
			t = a[i];
			a[i] = a[j];
			a[j] = t;
		}
		/* The smaller part first, so that the stack stays small. */
		if (j - from < to - j - 1) {
			quicksort(a, from, j);
			from = j + 1;
		} else {
			quicksort(a, j + 1, to);
			to = j;
		}
	}
}

static void sort(uint64_t len, const char *local, uint64_t *ns, long count)
{
	volatile uint64_t *map = memory(len, local);
	uint64_t seed = 1, nr = len / 8;

	for (long i = 0; i < count; i++) {
		uint64_t begin;

		for (uint64_t k = 0; k < nr; k++)
			map[k] = next(&seed);
		begin = now_ns();
		quicksort(map, 0, (int64_t)nr - 1);
		ns[i] = now_ns() - begin;
		for (uint64_t k = 1; k < nr; k++) {
			if (map[k - 1] > map[k]) {
				fprintf(stderr, "working_set: it is not in order\n");
				exit(1);
			}
		}
	}
	end_memory(map, len);
}

int main(int argc, char **argv)
{
	uint64_t *ns, len;
	long count;

	if (argc != 5 || (strcmp(argv[1], "cache") && strcmp(argv[1], "sort"))) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	len = strtoull(argv[2], NULL, 0);
	count = atol(argv[4]);
	ns = figures(count);
	if (argv[1][0] == 'c')
		cache(len, argv[3], ns, count);
	else
		sort(len, argv[3], ns, count);
	report(ns, count);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * One measurement of remote memory, in the namespace of a compute node: prints
 * the nanoseconds of each repetition, one a line.
 *
 *   remote read BYTES COUNT        reads of memory that was written
 *   remote write BYTES COUNT       writes to memory that was written
 *   remote touch BYTES COUNT       writes to pages that nobody wrote to before
 *   remote clients N BYTES COUNT   reads, one at a time, by turns of N processes
 *   remote walk DEPTH COUNT        follows a list by a read for each node
 *   remote chase DEPTH COUNT       follows it by one request
 *   remote cache BYTES LOCAL COUNT 1,000 accesses at random to BYTES of memory
 *   remote sort BYTES LOCAL COUNT  qsort() of BYTES of numbers
 *   remote crowd BYTES N           N processes attach and read BYTES, say
 *                                  "attached", and stay until the input ends
 *   remote fill NAME N TOUCHED     N pages are allocated in a space, some written to
 *   remote entries NAME BYTES COUNT  reads at random of those that were
 *
 * LOCAL: CACHE bytes of local cache before remote memory; 0 for local memory;
 * cgroup:CACHE for local memory in a cgroup that has so many bytes, and may swap.
 */
#include <clio.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#define NODE 64UL
#define PAGE 65536UL

static const uint64_t key[2] = { 0x62656e6368, 0x6d61726b };

/* What memory() allocated, if it did. */
static uint64_t remote_addr;
static int remote_fd;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "remote: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int attached(const char *name)
{
	int fd = clio_open();

	if (fd < 0)
		die("/dev/clio");
	if (clio_create(fd, name, key, 0, 16 << 20) && errno != EEXIST)
		die("clio_create");
	if (clio_attach(fd, name, key))
		die("clio_attach");
	return fd;
}

static uint64_t allocated(int fd, uint64_t len)
{
	uint64_t addr = ralloc(fd, len);

	if (!addr)
		die("ralloc");
	return addr;
}

static void freed(int fd, uint64_t addr, uint64_t len)
{
	if (rfree(fd, addr, len))
		die("rfree");
}

static uint64_t timed(int fd, int writes, uint64_t addr, void *buf, uint64_t len)
{
	uint64_t begin = now_ns();

	if (writes ? rwrite(fd, addr, buf, len) : rread(fd, addr, buf, len))
		die(writes ? "rwrite" : "rread");
	return now_ns() - begin;
}

static void copies(int writes, uint64_t len, uint64_t *ns, long count)
{
	int fd = attached("bench");
	uint64_t addr = allocated(fd, len);
	char *buf = calloc(1, len);

	timed(fd, 1, addr, buf, len);
	for (long i = -16; i < count; i++) {
		uint64_t took = timed(fd, writes, addr, buf, len);

		if (i >= 0)
			ns[i] = took;
	}
	freed(fd, addr, len);
}

static void touch(uint64_t len, uint64_t *ns, long count)
{
	int fd = attached("bench");
	uint64_t addr = allocated(fd, (count + 1) * PAGE);
	char *buf = calloc(1, len);

	timed(fd, 1, addr + count * PAGE, buf, len);
	for (long i = 0; i < count; i++)
		ns[i] = timed(fd, 1, addr + i * PAGE, buf, len);
	freed(fd, addr, (count + 1) * PAGE);
}

/* Each process in turn says by a pipe how long its read took. */
static void clients(long n, uint64_t len, uint64_t *ns, long count)
{
	int turn[n][2], told[2];
	int fd = attached("bench");
	uint64_t addr = allocated(fd, PAGE);
	char *buf = calloc(1, len);

	timed(fd, 1, addr, buf, len);
	if (pipe(told) < 0)
		die("pipe");
	for (long i = 0; i < n; i++) {
		if (pipe(turn[i]) < 0)
			die("pipe");
		if (fork() == 0) {
			int mine = attached("bench");
			uint64_t took = 0;
			char go;

			timed(mine, 0, addr, buf, len);
			if (write(told[1], &took, sizeof(took)) < 0)
				_exit(1);
			while (read(turn[i][0], &go, 1) == 1 && go) {
				timed(mine, 0, addr, buf, len);
				took = timed(mine, 0, addr, buf, len);
				if (write(told[1], &took, sizeof(took)) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (long i = 0; i < n; i++)
		if (read(told[0], ns, sizeof(*ns)) != sizeof(*ns))
			die("a client");
	for (long i = 0; i < count; i++)
		if (write(turn[i % n][1], "x", 1) != 1 || read(told[0], &ns[i], sizeof(*ns)) != sizeof(*ns))
			die("a client");
	for (long i = 0; i < n; i++)
		if (write(turn[i][1], "", 1) != 1)
			die("a client");
	while (wait(NULL) > 0)
		;
	freed(fd, addr, PAGE);
}

/* A list of depth + 1 nodes; the first word of each is the address of the next. */
static uint64_t list(int fd, long depth)
{
	uint64_t addr = allocated(fd, (depth + 1) * NODE);

	for (long i = 0; i <= depth; i++) {
		uint64_t next = i == depth ? 0 : addr + (i + 1) * NODE;

		if (rwrite(fd, addr + i * NODE, &next, sizeof(next)))
			die("rwrite");
	}
	return addr;
}

static void walk(long depth, uint64_t *ns, long count)
{
	int fd = attached("bench");
	uint64_t addr = list(fd, depth), begin, node;

	for (long i = 0; i < count; i++) {
		begin = now_ns();
		node = addr;
		for (long step = 0; step < depth; step++)
			if (rread(fd, node, &node, sizeof(node)))
				die("rread");
		ns[i] = now_ns() - begin;
		if (node != addr + depth * NODE)
			die("the list is another one");
	}
	freed(fd, addr, (depth + 1) * NODE);
}

static void chase(long depth, uint64_t *ns, long count)
{
	/* struct Walk of legomem/core/offload/chase.rs, little-endian */
	struct {
		uint64_t key;
		uint32_t key_at, next_at, depth, data_at, data_len;
	} __attribute__((packed)) in = { .key_at = UINT32_MAX, .depth = depth, .data_len = 8 };
	int fd = attached("bench");
	uint64_t addr = list(fd, depth), begin, node, out;

	for (long i = 0; i < count; i++) {
		uint32_t len = sizeof(out);

		begin = now_ns();
		if (roffload(fd, 1, 1, addr, &in, sizeof(in), &out, &len, &node))
			die("roffload");
		ns[i] = now_ns() - begin;
		if (node != addr + depth * NODE)
			die("the list is another one");
	}
	freed(fd, addr, (depth + 1) * NODE);
}

/* So that this process has `size` bytes from here on, and swaps the rest. */
static void limit_memory(const char *size)
{
	const char *top = "/sys/fs/cgroup/potluck-bench";
	char text[256];
	FILE *f;

	snprintf(text, sizeof(text),
		 "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup\n"
		 "echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p %s && echo %s >%s/memory.max\n",
		 top, size, top);
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
		int fd = attached("bench");
		struct clio_cache c = { .size = size };

		if (ioctl(fd, CLIO_IOC_CACHE, &c))
			die("CLIO_IOC_CACHE");
		remote_addr = allocated(fd, len);
		remote_fd = fd;
		map = rmap(fd, remote_addr, len, PROT_READ | PROT_WRITE);
	} else {
		if (!strncmp(local, "cgroup:", 7))
			limit_memory(local + 7);
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

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
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

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
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
		qsort((void *)map, nr, sizeof(*map), by_size);
		ns[i] = now_ns() - begin;
		for (uint64_t k = 1; k < nr; k++) {
			if (map[k - 1] > map[k]) {
				fprintf(stderr, "remote: it is not in order\n");
				exit(1);
			}
		}
	}
	end_memory(map, len);
}

/* They read from a page of the parent's, and wait for the end of its input. */
static void crowd(uint64_t len, long n)
{
	int told[2], fd = attached("bench");
	uint64_t addr = allocated(fd, PAGE);
	char *buf = calloc(1, len), byte = 0;

	timed(fd, 1, addr, buf, len);
	if (pipe(told) < 0)
		die("pipe");
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			timed(attached("bench"), 0, addr, buf, len);
			if (write(told[1], &byte, 1) != 1)
				_exit(1);
			_exit(read(0, &byte, 1) != 0);
		}
	}
	close(told[1]);
	for (long i = 0; i < n; i++)
		if (read(told[0], &byte, 1) != 1)
			die("a client");
	printf("attached\n");
	fflush(stdout);
	while (wait(NULL) > 0)
		;
	freed(fd, addr, PAGE);
}

/* Where fill() left which pages were written to. */
static FILE *notes(const char *name, const char *mode)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "/run/potluck-bench-%s", name);
	f = fopen(path, mode);
	if (!f)
		die(path);
	return f;
}

static void fill(const char *name, uint64_t pages, uint64_t touched)
{
	uint64_t step = touched ? pages / touched : 0, seed = pages, from = 0, left = pages;
	FILE *f = notes(name, "a");
	char buf[64] = "touched";
	int fd = clio_open();

	if (fd < 0)
		die("/dev/clio");
	/* A space of few pages is to fit on another node as well. */
	if (clio_create(fd, name, key, 0, pages < 64 ? 16 << 20 : 1 << 30) && errno != EEXIST)
		die("clio_create");
	if (clio_attach(fd, name, key))
		die("clio_attach");
	while (left) {
		uint64_t nr = left < 64 ? 1 : 64, addr = allocated(fd, nr * PAGE);

		/* One page of each `step`, anywhere in it. */
		while (touched && from < pages - left + nr) {
			uint64_t at = from - (pages - left);

			at = addr + (at + next(&seed) % (nr - at < step ? nr - at : step)) * PAGE;
			timed(fd, 1, at, buf, sizeof(buf));
			fprintf(f, "%llu\n", (unsigned long long)at);
			from += step;
			touched--;
		}
		left -= nr;
	}
	fclose(f);
}

static void entries(const char *name, uint64_t len, uint64_t *ns, long count)
{
	int fd = clio_open();
	FILE *f = notes(name, "r");
	unsigned long long addr[1 << 14];
	uint64_t nr = 0, seed = 1;
	char *buf = calloc(1, len);

	if (fd < 0 || clio_attach(fd, name, key))
		die("clio_attach");
	while (nr < sizeof(addr) / sizeof(addr[0]) && fscanf(f, "%llu", &addr[nr]) == 1)
		nr++;
	if (!nr) {
		fprintf(stderr, "remote: no page of %s was written to\n", name);
		exit(1);
	}
	for (long i = -16; i < count; i++) {
		uint64_t took = timed(fd, 0, addr[next(&seed) % nr], buf, len);

		if (i >= 0)
			ns[i] = took;
		if (strcmp(buf, "touched")) {
			fprintf(stderr, "remote: not what was written\n");
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	long arg[3] = { 0 }, count;
	uint64_t *ns;

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	for (int i = 2; i < argc; i++)
		arg[i - 2] = atol(argv[i]);
	if (!strcmp(argv[1], "crowd"))
		return crowd(arg[0], arg[1]), 0;
	if (!strcmp(argv[1], "fill"))
		return fill(argv[2], arg[1], arg[2]), 0;
	count = arg[argc - 3];
	ns = calloc(count, sizeof(*ns));
	if (!ns)
		die("calloc");
	if (!strcmp(argv[1], "read") || !strcmp(argv[1], "write"))
		copies(argv[1][0] == 'w', arg[0], ns, count);
	else if (!strcmp(argv[1], "touch"))
		touch(arg[0], ns, count);
	else if (!strcmp(argv[1], "clients"))
		clients(arg[0], arg[1], ns, count);
	else if (!strcmp(argv[1], "walk"))
		walk(arg[0], ns, count);
	else if (!strcmp(argv[1], "chase"))
		chase(arg[0], ns, count);
	else if (!strcmp(argv[1], "cache"))
		cache(arg[0], argv[3], ns, count);
	else if (!strcmp(argv[1], "sort"))
		sort(arg[0], argv[3], ns, count);
	else if (!strcmp(argv[1], "entries"))
		entries(argv[2], arg[1], ns, count);
	for (long i = 0; i < count; i++)
		printf("%llu\n", (unsigned long long)ns[i]);
	return 0;
}

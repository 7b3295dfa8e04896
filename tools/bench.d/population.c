// SPDX-License-Identifier: GPL-2.0
/*
 * Many clients, and many pages.
 *
 *   population crowd BYTES N            N processes attach and read BYTES, say
 *                                       "attached", and stay until the input ends
 *   population fill NAME N TOUCHED      N pages are allocated in a space, some of
 *                                       them written to
 *   population read NAME BYTES COUNT    reads at random of those; prints the
 *                                       nanoseconds of each, one a line
 */
#include "remote.h"

#include <sys/wait.h>

/* They read from a page of the parent's, and wait for the end of its input. */
static void crowd(uint64_t len, long n)
{
	int told[2], fd = attached();
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
			timed(attached(), 0, addr, buf, len);
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
	/* A space of few pages is to fit on another node as well. */
	int fd = attached_to(name, pages < 64 ? 16 << 20 : 1 << 30);

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

static void read_touched(const char *name, uint64_t len, uint64_t *ns, long count)
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
		fprintf(stderr, "population: no page of %s was written to\n", name);
		exit(1);
	}
	for (long i = -16; i < count; i++) {
		uint64_t took = timed(fd, 0, addr[next(&seed) % nr], buf, len);

		if (i >= 0)
			ns[i] = took;
		if (strcmp(buf, "touched")) {
			fprintf(stderr, "population: not what was written\n");
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "crowd")) {
		crowd(atol(argv[2]), atol(argv[3]));
	} else if (argc == 5 && !strcmp(argv[1], "fill")) {
		fill(argv[2], atol(argv[3]), atol(argv[4]));
	} else if (argc == 5 && !strcmp(argv[1], "read")) {
		long count = atol(argv[4]);
		uint64_t *ns = figures(count);

		read_touched(argv[2], atol(argv[3]), ns, count);
		report(ns, count);
	} else {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Direct reads and writes of a block device, by several threads with one
 * request under way each: prints the nanoseconds of each, one a line, and
 * `wall NS`, the time from the first to the end of the last.
 *
 *   disk read|write random|sequential BYTES COUNT JOBS SIZE DEVICE
 *
 * BYTES a request, COUNT requests in all, within the first SIZE bytes; a job's
 * sequential requests are in a part of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define MAX_JOBS	64
#define WARM		8	/* requests of each job before those that count */

static struct {
	bool writes, random;
	uint64_t bytes, count, jobs, size;
	int fd;
} option;

struct job {
	pthread_t thread;
	uint64_t rank;
	uint64_t *ns;
};

static pthread_barrier_t start;

static void transfer(char *buf, uint64_t block)
{
	off_t at = block * option.bytes;
	ssize_t done;

	done = option.writes ? pwrite(option.fd, buf, option.bytes, at) : pread(option.fd, buf, option.bytes, at);
	if (done != (ssize_t)option.bytes)
		die(option.writes ? "write" : "read");
}

static void *run(void *arg)
{
	struct job *job = arg;
	uint64_t blocks = option.size / option.bytes, own = blocks / option.jobs;
	uint64_t seed = 88172645463325252ULL + job->rank * 0x9e3779b97f4a7c15ULL;
	void *buf;

	if (posix_memalign(&buf, 4096, option.bytes))
		die("memory");
	memset(buf, 0x5a ^ job->rank, option.bytes);
	for (uint64_t i = 0; i < WARM + option.count / option.jobs; i++) {
		uint64_t block = job->rank * own + i % own, begin;

		if (option.random) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			block = seed % blocks;
		}
		if (i == WARM)
			pthread_barrier_wait(&start);
		begin = now_ns();
		transfer(buf, block);
		if (i >= WARM)
			job->ns[i - WARM] = now_ns() - begin;
	}
	free(buf);
	return NULL;
}

static bool parse(int argc, char **argv)
{
	if (argc != 8)
		return false;
	option.writes = !strcmp(argv[1], "write");
	option.random = !strcmp(argv[2], "random");
	option.bytes = strtoull(argv[3], NULL, 0);
	option.count = strtoull(argv[4], NULL, 0);
	option.jobs = strtoull(argv[5], NULL, 0);
	option.size = strtoull(argv[6], NULL, 0);
	return option.bytes && option.jobs && option.jobs <= MAX_JOBS && option.count >= option.jobs &&
	       option.size / option.bytes >= option.jobs;
}

int main(int argc, char **argv)
{
	struct job job[MAX_JOBS];
	uint64_t each, begin, end;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	option.fd = open(argv[7], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (option.fd < 0)
		die(argv[7]);
	each = option.count / option.jobs;
	/* And this thread, which takes the time. */
	pthread_barrier_init(&start, NULL, option.jobs + 1);
	for (uint64_t i = 0; i < option.jobs; i++) {
		job[i] = (struct job){ .rank = i, .ns = calloc(each, sizeof(*job[i].ns)) };
		if (!job[i].ns)
			die("memory");
		errno = pthread_create(&job[i].thread, NULL, run, &job[i]);
		if (errno)
			die("thread");
	}
	pthread_barrier_wait(&start);
	begin = now_ns();
	for (uint64_t i = 0; i < option.jobs; i++)
		pthread_join(job[i].thread, NULL);
	end = now_ns();
	for (uint64_t i = 0; i < option.jobs; i++)
		for (uint64_t k = 0; k < each; k++)
			printf("%llu\n", (unsigned long long)job[i].ns[k]);
	printf("wall %llu\n", (unsigned long long)(end - begin));
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What the high class of service has of the bytes while both classes want more
 * than there is.
 *
 *   share NORMAL HIGH SECONDS FROM TO   so many processes of each class write to
 *                                       regions of TO as fast as they can; prints
 *                                       the percentage of the high ones' bytes,
 *                                       without classes and with them
 *
 * Status 4 when rdma_lite has no classes.
 */
#include "nodes.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define CHUNK	65536
#define DEPTH	16
#define MOST	64
#define ABSENT	4

static bool raised(int fd)
{
#ifdef RDMA_LITE_IOC_CLASS
	struct rdma_lite_class high = { .class = RDMA_LITE_CLASS_HIGH };

	return !ioctl(fd, RDMA_LITE_IOC_CLASS, &high);
#else
	(void)fd;
	errno = ENOTTY;
	return false;
#endif
}

/* Keeps DEPTH writes under way until it is killed; counts those that ended. */
static void writer(int fd, uint32_t owner, volatile uint64_t *ended)
{
	uint64_t region = region_at(fd, owner, CHUNK * DEPTH);
	struct rdma_lite_completion ends[DEPTH];
	char *buf = memory(CHUNK);
	int free = DEPTH;

	for (uint64_t at = 0;; at++) {
		if (!free) {
			int n = lite_poll(fd, ends, DEPTH, 1, 0);

			if (n < 0)
				die("lite_poll");
			for (int i = 0; i < n; i++)
				if (ends[i].error) {
					errno = -ends[i].error;
					die("a write");
				}
			*ended += n;
			free += n;
		}
		if (lite_write_async(fd, region, at % DEPTH * CHUNK, buf, CHUNK, at))
			die("lite_write_async");
		free--;
	}
}

static uint64_t sum(const volatile uint64_t *ended, int nr)
{
	uint64_t all = 0;

	for (int i = 0; i < nr; i++)
		all += ended[i];
	return all;
}

/* Percentage of the last `high` of the writers. */
static double share(int normal, int high, int seconds, char **nodes, bool classes)
{
	int size = MOST * sizeof(uint64_t), nr = normal + high;
	volatile uint64_t *ended = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t owner = id_in(nodes[1]);
	uint64_t before[2], after[2];
	pid_t pid[MOST];

	if (ended == MAP_FAILED)
		die("mmap");
	for (int i = 0; i < nr; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork");
		if (pid[i] == 0) {
			int fd;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			fd = node_of(nodes[0]);
			if (classes && i >= normal && !raised(fd))
				die("RDMA_LITE_IOC_CLASS");
			writer(fd, owner, &ended[i]);
		}
	}
	/* All are at it. */
	for (int i = 0; i < nr; i++)
		for (int tries = 0; ended[i] < 2 * DEPTH; tries++) {
			if (tries == 3000 || waitpid(pid[i], NULL, WNOHANG) == pid[i]) {
				fprintf(stderr, "share: a writer does not write\n");
				exit(1);
			}
			usleep(10000);
		}
	before[0] = sum(ended, normal);
	before[1] = sum(ended + normal, high);
	sleep(seconds);
	after[0] = sum(ended, normal) - before[0];
	after[1] = sum(ended + normal, high) - before[1];
	for (int i = 0; i < nr; i++)
		kill(pid[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	munmap((void *)ended, size);
	return 100.0 * after[1] / (after[0] + after[1] ?: 1);
}

int main(int argc, char **argv)
{
	int normal, high, seconds, fd;
	double without;

	if (argc != 6) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	normal = atoi(argv[1]);
	high = atoi(argv[2]);
	seconds = atoi(argv[3]);
	if (normal < 1 || high < 1 || normal + high > MOST || seconds < 1) {
		fprintf(stderr, "share: no such numbers\n");
		return 2;
	}
	fd = node_of(argv[4]);
	if (!raised(fd)) {
		fprintf(stderr, "share: no classes: %s\n", strerror(errno));
		return errno == ENOTTY ? ABSENT : 1;
	}
	close(fd);
	without = share(normal, high, seconds, argv + 4, false);
	printf("%.1f %.1f\n", without, share(normal, high, seconds, argv + 4, true));
	return 0;
}

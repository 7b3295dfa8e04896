/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For programs that measure what processes do at the same time.
 */
#ifndef POTLUCK_BENCH_PROCESSES_H
#define POTLUCK_BENCH_PROCESSES_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

/* Zeros that processes share. */
static inline void *shared_or_die(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

/* In memory that they share: where so many processes meet. */
static inline void meet_there(pthread_barrier_t *meet, int processes)
{
	pthread_barrierattr_t attr;

	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(meet, &attr, processes);
}

/* A process of each number. Whether all ended well; when one does not the others, which would wait for it, are killed. */
static inline bool all_at_once(int processes, void (*does)(int number, void *arg), void *arg)
{
	pid_t *pids = calloc(processes, sizeof(*pids));
	bool well = true;

	for (int i = 0; i < processes; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			does(i, arg);
			_exit(0);
		}
	}
	for (int i = 0; i < processes; i++) {
		int status;

		if (wait(&status) > 0 && !status)
			continue;
		well = false;
		for (int k = 0; k < processes; k++)
			kill(pids[k], SIGKILL);
	}
	free(pids);
	return well;
}

#endif /* POTLUCK_BENCH_PROCESSES_H */

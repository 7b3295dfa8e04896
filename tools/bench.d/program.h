/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For each program that measures: its clock, its end, and what it takes for chance.
 */
#ifndef POTLUCK_BENCH_PROGRAM_H
#define POTLUCK_BENCH_PROGRAM_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Says what failed, and errno. */
static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

/* A sequence that is the same each time. */
static inline uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

#endif /* POTLUCK_BENCH_PROGRAM_H */

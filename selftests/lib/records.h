/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Records that are committed until something dies, and what has to be there afterwards (crash_writer, crash_lane).
 *
 * A record is one number in PIECES places of a dataset. Lane L (one a node) has its records; record N of it goes to
 * slot N % SLOTS.
 */
#ifndef POTLUCK_SELFTEST_RECORDS_H
#define POTLUCK_SELFTEST_RECORDS_H

#include "hotpot.h"

#define PIECES 12
#define SLOTS 64
#define LANES 3
#define SIZE (PIECES * CHUNK)

/* Where in the dataset a piece of a lane's slot is; each program has its own. */
static uint64_t place_of(int lane, uint64_t slot, int piece);

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static char *map_records(const char *path, int *fd)
{
	char *map = MAP_FAILED;

	*fd = open(path, O_RDWR);
	if (*fd >= 0)
		map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (map == MAP_FAILED)
		die(path);
	return map;
}

/* What is wrong with a slot whose newest record, as far as was acknowledged, is `least` (0: none). */
static int check_slot(const char *path, int lane, uint64_t slot, uint64_t least, uint64_t *newest)
{
	uint64_t first = 0, got;
	int wrong = 0;

	for (int p = 0; p < PIECES; p++) {
		if (peek(path, place_of(lane, slot, p), &got, 8))
			die(path);
		if (!p)
			first = got;
		if (got != first) {
			printf("# %s: lane %d slot %lu piece %d holds %lu, piece 0 holds %lu: torn\n", path, lane,
			       (unsigned long)slot, p, (unsigned long)got, (unsigned long)first);
			wrong++;
		}
	}
	if (first && first % SLOTS != slot) {
		printf("# %s: lane %d slot %lu holds %lu: misplaced\n", path, lane, (unsigned long)slot,
		       (unsigned long)first);
		wrong++;
	}
	if (first < least) {
		printf("# %s: lane %d: record %lu was acknowledged and is lost (slot holds %lu)\n", path, lane,
		       (unsigned long)least, (unsigned long)first);
		wrong++;
	}
	*newest = first > *newest ? first : *newest;
	return wrong;
}

/* What is wrong with a lane of which `acked` records, from 1 on, were acknowledged one after the other. */
static int check_lane(const char *path, int lane, uint64_t acked)
{
	uint64_t newest = 0;
	int wrong = 0;

	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		/* The last SLOTS acknowledged records are all there, or something newer. */
		uint64_t least = acked >= slot ? acked - (acked - slot) % SLOTS : 0;

		wrong += check_slot(path, lane, slot, least, &newest);
	}
	if (newest > acked + 1) {
		printf("# %s: lane %d: record %lu was never begun\n", path, lane, (unsigned long)newest);
		wrong++;
	}
	printf("# %s: lane %d: %lu acknowledged, newest %lu\n", path, lane, (unsigned long)acked,
	       (unsigned long)newest);
	return wrong;
}

#endif /* POTLUCK_SELFTEST_RECORDS_H */

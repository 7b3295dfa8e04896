// SPDX-License-Identifier: GPL-2.0
/*
 * Two halves of a power failure (selftests/crash): `crash_writer write ACKS`
 * commits records until it is killed with its guest; after each acknowledged
 * commit it writes the number to ACKS, which lies outside the guest. After the
 * restart `crash_writer check ACKS` finds every acknowledged record, and
 * each record whole or not at all.
 * Nodes in kernels of their own: crash_lane.c.
 *
 * Records are those of records.h, in chunks of all owners.
 */
#include "records.h"

static uint64_t place_of(int lane, uint64_t slot, int piece)
{
	return piece * CHUNK + (lane * SLOTS + slot) * 64 + piece * 8 % 56;
}

/* A record, which may have been written before: anew, in memory. Then the areas that it has. */
static void put_record(char *map, int lane, uint64_t n, struct hotpot_area *areas)
{
	for (int p = 0; p < PIECES; p++) {
		uint64_t *at = (uint64_t *)(map + place_of(lane, n % SLOTS, p));

		*at = n;
		areas[p] = (struct hotpot_area){ (uintptr_t)at, 8 };
	}
}

static void write_lane(const char *mnt, const char *acks, int lane)
{
	char path[512], line[64];
	int fd, ack;
	char *map;

	snprintf(path, sizeof(path), "%s/crash", mnt);
	map = map_records(path, &fd);
	snprintf(path, sizeof(path), "%s.%d", acks, lane);
	ack = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (ack < 0)
		die(path);
	for (uint64_t n = 1;; n++) {
		struct hotpot_area areas[PIECES];
		int err, len;

		put_record(map, lane, n, areas);
		while ((err = commit_fd(fd, areas, PIECES, 1 + n % 3, DEADLINE_MS, NULL)) == EAGAIN)
			;
		if (err) {
			fprintf(stderr, "record %lu: %s\n", (unsigned long)n, strerror(err));
			exit(1);
		}
		len = snprintf(line, sizeof(line), "%lu\n", (unsigned long)n);
		if (write(ack, line, len) != len)
			die("acks");
	}
}

static uint64_t last_ack(const char *acks, int lane)
{
	char path[512];
	unsigned long n, last = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s.%d", acks, lane);
	f = fopen(path, "r");
	while (f && fscanf(f, "%lu", &n) == 1)
		last = n > last ? n : last;
	if (f)
		fclose(f);
	return last;
}

static int usage(void)
{
	fprintf(stderr, "usage: crash_writer write|check ACKS\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct space s;
	uint64_t acked[LANES];
	int wrong = 0;

	if (argc != 3 || space_open(&s))
		return usage();
	if (!strcmp(argv[1], "write")) {
		int status;

		if (dataset_make(&s, 1, "crash", SIZE, 3))
			die("dataset");
		for (int lane = 0; lane < LANES; lane++)
			if (!fork())
				write_lane(s.n[lane + 1].mnt, argv[2], lane);
		wait(&status);
		return 1;	/* writers end only by the death of the guest */
	}
	if (strcmp(argv[1], "check"))
		return usage();
	for (int lane = 0; lane < LANES; lane++)
		acked[lane] = last_ack(argv[2], lane);
	for (int i = 1; i <= s.nr; i++) {
		char path[512];

		snprintf(path, sizeof(path), "%s/crash", s.n[i].mnt);
		for (int lane = 0; lane < LANES; lane++)
			wrong += check_lane(path, lane, acked[lane]);
	}
	return wrong ? 1 : 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What nodes of a cluster of guests do until they are killed (selftests/campaign), and what they look at
 * afterwards:
 *
 * `crash_lane write MNT MODE LANE FIRST COPIES` commits the records of a lane from FIRST on, in dataset MNT/MODE
 * (mrmw or mrsw), by turns with COPIES copies and with one on each node, goes on when others fail, says "ack" of each on
 * its standard output, and ends after one when it gets SIGTERM;
 * `crash_lane look MNT MODE ACKED...` checks what one node sees of all lanes.
 *
 * Records are those of records.h. Three of four are wide: one place in each of 12 chunks, which all owners have some
 * of, on pages of the lane's own. The fourth is narrow: one chunk, so one owner, the writing node or another, on pages
 * that it shares with other lanes: their commits meet there, and in an MRSW dataset they wait for each other.
 */
#include <setjmp.h>
#include <signal.h>
#include "records.h"

/* In each chunk: a page of each lane for wide records, then those for narrow ones. */
#define NARROW_FIRST 4
#define NARROW_PAGES 6

static bool is_narrow(uint64_t slot)
{
	return slot % 4 == 3;
}

static uint64_t place_of(int lane, uint64_t slot, int piece)
{
	uint64_t nr = lane * SLOTS + slot;

	if (is_narrow(slot))
		return slot / 4 % PIECES * CHUNK + (NARROW_FIRST + piece % NARROW_PAGES) * PAGE + nr * 16 +
		       piece / NARROW_PAGES * 8;
	return piece * CHUNK + nr * 64 + piece * 8 % 56;
}

struct lane {
	int nr, fd, copies;
	bool single_writer;
	char *map;
	struct hotpot_area areas[PIECES];
};

static sigjmp_buf bus;
static volatile sig_atomic_t ended;

/* The record at hand is committed first: what is only stored would be seen on this node. */
static void on_term(int signal)
{
	(void)signal;
	ended = 1;
}

/* The owner of a page is away, or the page was lost for this file: the record is begun anew. */
static void on_bus(int signal)
{
	(void)signal;
	siglongjmp(bus, 1);
}

/* Writes and commits a record, which may have been written before; 0 or an errno. */
static int commit_record(struct lane *lane, uint64_t n)
{
	for (int p = 0; p < PIECES; p++)
		lane->areas[p] = (struct hotpot_area){ (uintptr_t)lane->map + place_of(lane->nr, n % SLOTS, p), 8 };
	if (lane->single_writer) {
		int err = acquire_fd(lane->fd, HOTPOT_IOC_ACQUIRE, lane->areas, PIECES, 5000, HOTPOT_ACQUIRE_WAIT);

		if (err)
			return err;
	}
	if (sigsetjmp(bus, 1))
		return EFAULT;
	for (int p = 0; p < PIECES; p++)
		*(volatile uint64_t *)(uintptr_t)lane->areas[p].addr = n;
	/* Every copy but one may be lost without a word. */
	return commit_fd(lane->fd, lane->areas, PIECES, n % 2 ? LANES : lane->copies, 5000, NULL);
}

/* Others come and go meanwhile: whatever fails is tried again, which does no harm to a record. */
static void write_steadily(struct lane *lane, uint64_t n)
{
	struct sigaction action = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };
	struct sigaction end = { .sa_handler = on_term };
	int said = 0;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGTERM, &end, NULL);
	setlinebuf(stdout);
	for (;;) {
		int err = commit_record(lane, n);

		if (!err) {
			printf("ack %lu\n", (unsigned long)n);
			if (ended)
				return;
			n++;
			said = 0;
			continue;
		}
		/* What was acquired is given back, so that nobody waits for us meanwhile. */
		if (lane->single_writer)
			acquire_fd(lane->fd, HOTPOT_IOC_ABORT, NULL, 0, 5000, 0);
		if (err != said)
			printf("retry %lu: %s\n", (unsigned long)n, strerror(err));
		said = err;
		usleep(20000);
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: crash_lane write MNT mrmw|mrsw LANE FIRST COPIES | look MNT mrmw|mrsw ACKED...\n");
	return 2;
}

int main(int argc, char **argv)
{
	char path[512];
	int wrong = 0;

	if (argc < 4)
		return usage();
	snprintf(path, sizeof(path), "%s/%s", argv[2], argv[3]);
	if (argc == 7 && !strcmp(argv[1], "write")) {
		struct lane lane = { .nr = atoi(argv[4]), .copies = atoi(argv[6]),
				     .single_writer = !strcmp(argv[3], "mrsw") };

		lane.map = map_records(path, &lane.fd);
		write_steadily(&lane, strtoul(argv[5], NULL, 10));
		return 0;
	}
	if (argc != 4 + LANES || strcmp(argv[1], "look"))
		return usage();
	for (int lane = 0; lane < LANES; lane++)
		wrong += check_lane(path, lane, strtoul(argv[4 + lane], NULL, 10));
	return wrong ? 1 : 0;
}

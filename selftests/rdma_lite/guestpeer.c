// SPDX-License-Identifier: GPL-2.0
/*
 * Calls another node, whose kernel may be another, and uses a region there:
 * guestpeer NODE ROUNDS. Says how long a ping took, and leaves status 1 when
 * something did not work or bytes were not those that had been written.
 */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define LEN 300000

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	int node = argc > 1 ? atoi(argv[1]) : 0, rounds = argc > 2 ? atoi(argv[2]) : 10;
	uint8_t *in = malloc(LEN), *out = malloc(LEN);
	int64_t *took = calloc(rounds, sizeof(*took));
	int fd = open(LITE_DEVICE, O_RDWR | O_CLOEXEC);
	uint64_t region;

	if (fd < 0 || !in || !out || !took || rounds < 1)
		return fail(LITE_DEVICE);
	if (!lite_reachable(fd, node, 60000))
		return fail("no answer");
	region = lite_malloc(fd, node, LEN + 16, NULL, 0, 0);
	if (!region)
		return fail("a region of the other node");
	for (int round = 0; round < rounds; round++) {
		uint64_t old = 0;
		int64_t begun = now_us();

		if (lite_ping(fd, node, 64, 5000))
			return fail("ping of 64 bytes");
		took[round] = now_us() - begun;
		if (lite_ping(fd, node, 60000, 5000))
			return fail("ping of 60000 bytes");
		for (int i = 0; i < LEN; i++)
			in[i] = i * 31 + i / 251 + round;
		if (lite_write(fd, region, 8, in, LEN))
			return fail("write");
		memset(out, 0, LEN);
		if (lite_read(fd, region, 8, out, LEN))
			return fail("read");
		if (memcmp(in, out, LEN)) {
			printf("round %d: other bytes than were written\n", round);
			return 1;
		}
		if (lite_fetch_add(fd, region, 0, 1, &old) || old != (uint64_t)round)
			return fail("fetch and add");
	}
	if (lite_free(fd, region))
		return fail("free");
	qsort(took, rounds, sizeof(*took), compare);
	printf("%d rounds with node %d, ping of 64 bytes: median %lld us\n", rounds, node,
	       (long long)took[rounds / 2]);
	return 0;
}

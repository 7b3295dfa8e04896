// SPDX-License-Identifier: GPL-2.0
/*
 * How long a call of BYTES (64) takes over verbs and over shared memory:
 * ROUNDS (2000) of each, in turns, between two pairs of nodes of this kernel.
 * Prints one line of JSON with the medians and the 99th percentiles in ns, and
 * how many times faster shared memory is. usage: calltimes [ROUNDS [BYTES]]
 */
#include "lite.h"

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_time(const void *one, const void *other)
{
	int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

	return (a > b) - (a < b);
}

/* Nodes 1 and 2 keep to verbs, 3 and 4 do not. */
static int two_pairs(struct cluster *c)
{
	int err;

	setenv("POTLUCK_TRANSPORT", "verbs", 1);
	err = cluster_up(c, 4);
	for (int i = 3; i <= 4 && !err; i++) {
		char node[16];

		snprintf(node, sizeof(node), "lt%d", i);
		err = node_power(i, false) ?: node_attr(node, "transport", "auto") ?: node_power(i, true);
	}
	if (err || cluster_publish(c))
		return err ?: errno;
	if (!lite_reachable(c->fd[1], 2, 30000) || !lite_reachable(c->fd[3], 4, 30000))
		return ETIMEDOUT;
	if (sh("grep -q '^lt1 2 verbs ' /sys/kernel/debug/rdma_lite/peers && "
	       "grep -q '^lt3 4 shm ' /sys/kernel/debug/rdma_lite/peers")) {
		fprintf(stderr, "lt1 and lt2 are not over verbs, or lt3 and lt4 not over shared memory\n");
		return EPROTO;
	}
	return 0;
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 2000;
	uint32_t bytes = argc > 2 ? strtoul(argv[2], NULL, 0) : 64;
	static const int from[2] = { 1, 3 }, to[2] = { 2, 4 };
	int64_t *took[2];
	struct cluster c;
	int err;

	if (!rounds) {
		fprintf(stderr, "usage: %s [ROUNDS [BYTES]]\n", argv[0]);
		return 2;
	}
	for (int pair = 0; pair < 2; pair++) {
		took[pair] = calloc(rounds, sizeof(*took[pair]));
		if (!took[pair]) {
			perror("rounds");
			return 1;
		}
	}
	err = two_pairs(&c);
	for (size_t i = 0; i < rounds && !err; i++) {
		for (int pair = 0; pair < 2; pair++) {
			int64_t before = now_ns();

			if (lite_ping(c.fd[from[pair]], to[pair], bytes, 10000) < 0)
				err = errno;
			took[pair][i] = now_ns() - before;
		}
	}
	cluster_down(&c);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[0], strerror(err));
		return 1;
	}
	for (int pair = 0; pair < 2; pair++)
		qsort(took[pair], rounds, sizeof(*took[pair]), by_time);
	printf("{\"bytes\": %u, \"rounds\": %zu, \"verbs_p50_ns\": %lld, \"verbs_p99_ns\": %lld, "
	       "\"shm_p50_ns\": %lld, \"shm_p99_ns\": %lld, \"times_faster\": %.2f}\n",
	       bytes, rounds, (long long)took[0][rounds / 2], (long long)took[0][rounds * 99 / 100],
	       (long long)took[1][rounds / 2], (long long)took[1][rounds * 99 / 100],
	       (double)took[0][rounds / 2] / (double)took[1][rounds / 2]);
	return 0;
}

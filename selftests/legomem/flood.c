// SPDX-License-Identifier: GPL-2.0
/* The fast path stays up under garbage, and counts it. */
#include "packet.h"

FIXTURE(flood) {
	struct requester r;
};

FIXTURE_SETUP(flood)
{
	ASSERT_EQ(0, requester_up(&self->r));
}

FIXTURE_TEARDOWN(flood)
{
	requester_down(&self->r);
}

/* Sends packets of all bad kinds until it is told to stop. */
static void garbage(const struct requester *r, int stop)
{
	static struct packet p;
	int sock = udp_at(2, 1);
	unsigned int seed = 1;

	for (uint64_t n = 0;; n++) {
		struct pollfd asked = { .fd = stop, .events = POLLIN };
		size_t len = rand_r(&seed) % 1400;

		if (n % 64 == 0 && poll(&asked, 1, 0) > 0)
			return;
		fill(&p, HEADER_LEN + len, n);
		if (n % 2) {
			p.version = 1;
			p.op = OP_READ;
			p.ras = n % 4 == 1 ? r->ras : n;
			p.node = 2;
			p.incarnation = r->incarnation;
			p.flags = 0;
			p.status = 0;
			p.first = p.id;
			p.len = 16;
			p.offset = 0;
			p.argument = 1400;
			len = 0;
		}
		send(sock, &p, HEADER_LEN + len, MSG_DONTWAIT);
	}
}

TEST_F(flood, good_requests_are_served_beside_it)
{
	long long tags = counter("dropped_tag"), versions = counter("dropped_version");
	unsigned long seconds = env_number("POTLUCK_FLOOD", 5);
	int64_t until = now_ms() + seconds * 1000;
	int stop[2], lost = 0;
	uint64_t served = 0;
	pid_t child;

	ASSERT_EQ(0, pipe(stop));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		close(stop[1]);
		garbage(&self->r, stop[0]);
		_exit(0);
	}
	while (now_ms() < until) {
		uint64_t word = served + 1, there = 0;

		if (ask_write(&self->r, self->r.addr, &word, 8) == ST_OK &&
		    ask_read(&self->r, self->r.addr, &there, 8) == ST_OK) {
			ASSERT_EQ(word, there);
			served++;
		} else {
			lost++;
		}
	}
	EXPECT_EQ(1, write(stop[1], "x", 1));
	waitpid(child, NULL, 0);
	TH_LOG("%llu served, %d lost, %lld with a wrong tag, %lld of another version",
	       (unsigned long long)served, lost, counter("dropped_tag") - tags,
	       counter("dropped_version") - versions);
	EXPECT_GT(served, 50);
	EXPECT_GT(counter("dropped_tag"), tags);
	EXPECT_GT(counter("dropped_version"), versions);
	/* A second's worth of hints at most, for each second that it took. */
	EXPECT_LE(counter("hints"), (long long)(seconds + 30) * 1000);
}

TEST_HARNESS_MAIN

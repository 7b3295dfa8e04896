// SPDX-License-Identifier: GPL-2.0
/* What a memory node does with packets, good and bad. */
#include "packet.h"

static struct packet p, answer;

FIXTURE(packets) {
	struct requester r;
};

FIXTURE_SETUP(packets)
{
	ASSERT_EQ(0, requester_up(&self->r));
}

FIXTURE_TEARDOWN(packets)
{
	requester_down(&self->r);
}

/* Nothing comes back, and the counter grows by one for each of nr packets. */
#define EXPECT_DROPPED(name, nr, send_them) do { \
	long long _before = counter(name); \
	ASSERT_GE(_before, 0); \
	send_them; \
	EXPECT_TRUE(EVENTUALLY(5000, counter(name) == _before + (nr))) \
		TH_LOG("%s: %lld, was %lld", name, counter(name), _before); \
	EXPECT_EQ(-1, packet_receive(&self->r, &answer, 50)); \
} while (0)

TEST_F(packets, a_request_is_answered_with_a_tag_under_the_key)
{
	char bytes[6];

	EXPECT_EQ(ST_OK, ask_write(&self->r, self->r.addr + 3, "potluck", 7));
	EXPECT_EQ(ST_OK, ask_read(&self->r, self->r.addr + 5, bytes, 6));
	EXPECT_EQ(0, memcmp(bytes, "tluck", 6));
}

TEST_F(packets, words_are_changed_atomically_and_their_old_value_comes_back)
{
	request(&self->r, &p, OP_FAA, self->r.addr, 8);
	p.operand = 5;
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(0, answer.operand);
	request(&self->r, &p, OP_TAS, self->r.addr, 8);
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(5, answer.operand);
	request(&self->r, &p, OP_FAA, self->r.addr + 4, 8);
	EXPECT_EQ(ST_INVALID, ask(&self->r, &p, 0, &answer));
}

static void send_all_that_are_too_short(struct requester *r, struct packet *p)
{
	for (int len = 0; len < HEADER_LEN; len++)
		packet_send(r, p, len);
}

TEST_F(packets, truncated_ones_are_dropped)
{
	request(&self->r, &p, OP_READ, self->r.addr, 16);
	seal(&p, 0);
	EXPECT_DROPPED("dropped_truncated", HEADER_LEN, send_all_that_are_too_short(&self->r, &p));
}

TEST_F(packets, those_of_another_version_are_dropped)
{
	request(&self->r, &p, OP_READ, self->r.addr, 16);
	p.version = 2;
	seal(&p, 0);
	EXPECT_DROPPED("dropped_version", 1, packet_send(&self->r, &p, HEADER_LEN));
}

TEST_F(packets, those_that_contradict_themselves_are_dropped)
{
	EXPECT_DROPPED("dropped_malformed", 6, {
		for (int i = 0; i < 6; i++) {
			request(&self->r, &p, OP_READ, self->r.addr, 16);
			if (i == 0)
				p.op = 77;
			if (i == 1)
				p.len = 65537;
			if (i == 2)
				p.node = 0;
			if (i == 3)
				p.first = p.id + 1;
			if (i == 4)
				p.argument = 0;
			if (i == 5)
				p.flags = 0x40;
			seal(&p, 0);
			packet_send(&self->r, &p, HEADER_LEN);
		}
	});
}

TEST_F(packets, oversized_ones_are_dropped)
{
	request(&self->r, &p, OP_WRITE, self->r.addr, 61441);
	seal(&p, 61441);
	EXPECT_DROPPED("dropped_oversized", 1, packet_send(&self->r, &p, HEADER_LEN + 61441));
}

TEST_F(packets, a_wrong_tag_is_dropped_and_changes_nothing)
{
	char bytes[4];

	ASSERT_EQ(ST_OK, ask_write(&self->r, self->r.addr, "good", 4));
	EXPECT_DROPPED("dropped_tag", 30, {
		for (int bit = 0; bit < 30; bit++) {
			request(&self->r, &p, OP_WRITE, self->r.addr, 4);
			memcpy(p.payload, "evil", 4);
			seal(&p, 4);
			if (bit < 20)
				p.tag ^= 1ULL << (bit * 3);
			else if (bit < 25)
				p.addr ^= 1ULL << bit;
			else
				p.payload[bit % 4] ^= 1;
			packet_send(&self->r, &p, HEADER_LEN + 4);
		}
	});
	EXPECT_EQ(ST_OK, ask_read(&self->r, self->r.addr, bytes, 4));
	EXPECT_EQ(0, memcmp(bytes, "good", 4));
}

TEST_F(packets, answers_are_dropped)
{
	request(&self->r, &p, OP_READ, self->r.addr, 16);
	p.flags = FL_RESPONSE;
	seal(&p, 0);
	EXPECT_DROPPED("dropped_answers", 1, packet_send(&self->r, &p, HEADER_LEN));
}

TEST_F(packets, an_unknown_address_space_gets_a_hint_without_a_tag)
{
	sleep_ms(1100);	/* hints are allowed each second */
	request(&self->r, &p, OP_READ, self->r.addr, 16);
	p.ras ^= 0x1234;
	EXPECT_EQ(ST_NO_SPACE_ID, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(FL_RESPONSE | FL_UNSIGNED, answer.flags);
	EXPECT_EQ(0, answer.tag);
}

TEST_F(packets, nothing_is_reached_outside_of_an_allocation)
{
	uint64_t end = self->r.addr + 4 * MEMORY_PAGE;
	uint64_t next = ralloc(self->r.fd, MEMORY_PAGE);
	char bytes[8];

	ASSERT_EQ(end, next);
	EXPECT_EQ(ST_FAULT, ask_write(&self->r, end - 4, "straddle", 8));
	EXPECT_EQ(ST_FAULT, ask_read(&self->r, end - 4, bytes, 8));
	EXPECT_EQ(ST_FAULT, ask_read(&self->r, end + MEMORY_PAGE, bytes, 8));
	EXPECT_EQ(ST_FAULT, ask_read(&self->r, 0, bytes, 8));
	EXPECT_EQ(ST_FAULT, ask_read(&self->r, ~0ULL - 3, bytes, 8));
	/* Regions that nobody gave to this node. */
	EXPECT_EQ(ST_MOVED, ask_read(&self->r, self->r.addr + (1ULL << 30), bytes, 8));
}

TEST_F(packets, what_is_read_only_is_not_written)
{
	uint64_t addr = ralloc_rights(self->r.fd, MEMORY_PAGE, CLIO_READ);
	char bytes[4];

	ASSERT_NE(0, addr);
	EXPECT_EQ(ST_DENIED, ask_write(&self->r, addr, "no", 2));
	EXPECT_EQ(ST_OK, ask_read(&self->r, addr, bytes, 4));
	request(&self->r, &p, OP_CAS, addr, 8);
	EXPECT_EQ(ST_DENIED, ask(&self->r, &p, 8, &answer));
}

TEST_F(packets, one_that_is_replayed_is_answered_and_not_executed_again)
{
	static struct packet old;
	uint8_t byte;

	request(&self->r, &old, OP_WRITE, self->r.addr, 1);
	old.payload[0] = 'A';
	ASSERT_EQ(ST_OK, ask(&self->r, &old, 1, NULL));
	ASSERT_EQ(ST_OK, ask_write(&self->r, self->r.addr, "B", 1));
	EXPECT_EQ(ST_OK, ask(&self->r, &old, 1, NULL));
	EXPECT_EQ(ST_OK, ask_read(&self->r, self->r.addr, &byte, 1));
	EXPECT_EQ('B', byte);

	request(&self->r, &old, OP_FAA, self->r.addr + 8, 8);
	old.operand = 3;
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(ST_OK, ask(&self->r, &old, 0, &answer));
		EXPECT_EQ(0, answer.operand);
	}
	/* As a retry, too: with an id of its own. */
	old.id = self->r.id++;
	old.flags = FL_RETRY;
	EXPECT_EQ(ST_OK, ask(&self->r, &old, 0, &answer));
	EXPECT_EQ(0, answer.operand);
	request(&self->r, &p, OP_FAA, self->r.addr + 8, 8);
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(3, answer.operand);
}

TEST_F(packets, a_node_or_a_life_that_the_map_does_not_have_is_refused)
{
	request(&self->r, &p, OP_TAS, self->r.addr, 8);
	p.node = 7;
	EXPECT_EQ(ST_STALE, ask(&self->r, &p, 0, NULL));
	request(&self->r, &p, OP_TAS, self->r.addr, 8);
	p.incarnation++;
	EXPECT_EQ(ST_STALE, ask(&self->r, &p, 0, NULL));
	request(&self->r, &p, OP_TAS, self->r.addr, 8);
	p.epoch--;
	EXPECT_EQ(ST_STALE, ask(&self->r, &p, 0, NULL));
	request(&self->r, &p, OP_TAS, self->r.addr, 8);
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(0, answer.operand);
}

TEST_F(packets, a_large_read_comes_in_as_many_packets_as_it_takes)
{
	static uint8_t bytes[65536], there[65536];
	int parts = 0;

	fill(bytes, sizeof(bytes), 7);
	for (int at = 0; at < 65536; at += 4096)
		ASSERT_EQ(ST_OK, ask_write(&self->r, self->r.addr + 100 + at, bytes + at, 4096));
	request(&self->r, &p, OP_READ, self->r.addr + 100, 65536);
	p.argument = 1400;
	seal(&p, 0);
	ASSERT_EQ(0, packet_send(&self->r, &p, HEADER_LEN));
	for (;;) {
		int len = packet_receive(&self->r, &answer, 2000);

		if (len < 0)
			break;
		ASSERT_EQ(ST_OK, answer.status);
		ASSERT_EQ(p.id, answer.id);
		ASSERT_EQ(answer.tag, packet_tag(&answer, len, clio_key));
		ASSERT_LE(answer.offset + len, 65536);
		memcpy(there + answer.offset, answer.payload, len);
		if (++parts == 47)
			break;
	}
	EXPECT_EQ(47, parts);
	EXPECT_EQ(0, memcmp(there, bytes, sizeof(bytes)));
}

TEST_F(packets, an_allocation_is_made_and_freed_by_packets_once)
{
	uint64_t addr;

	request(&self->r, &p, OP_ALLOC, self->r.addr, 0);
	p.operand = 2 * MEMORY_PAGE;
	p.argument = 3;
	ASSERT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	addr = answer.operand;
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
	EXPECT_EQ(addr, answer.operand);
	EXPECT_EQ(ST_OK, ask_write(&self->r, addr, "x", 1));
	request(&self->r, &p, OP_FREE, addr, 0);
	p.operand = 2 * MEMORY_PAGE;
	EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, NULL));
	EXPECT_EQ(ST_FAULT, ask_write(&self->r, addr, "x", 1));
	request(&self->r, &p, OP_FREE, addr, 0);
	p.operand = 2 * MEMORY_PAGE;
	EXPECT_EQ(ST_FAULT, ask(&self->r, &p, 0, NULL));
}

TEST_F(packets, more_than_the_pool_is_refused_when_it_is_asked_for)
{
	int got = 0;

	for (;; got++) {
		request(&self->r, &p, OP_ALLOC, self->r.addr, 0);
		p.operand = 16 * MEMORY_PAGE;
		p.argument = 3;
		if (ask(&self->r, &p, 0, &answer))
			break;
	}
	/* 16 MiB are 256 pages, of which 4 are taken. */
	EXPECT_EQ(15, got);
	EXPECT_TRUE(answer.status == ST_NO_SPACE || answer.status == ST_QUOTA);
	EXPECT_EQ(ST_OK, ask_write(&self->r, self->r.addr, "x", 1));
}

TEST_F(packets, a_thousand_clients_take_no_memory)
{
	long long table = counter("page_table_bytes"), dedup = counter("dedup_bytes");

	for (int i = 0; i < 1000; i++) {
		int sock = udp_at(2, 1), old = self->r.sock;

		ASSERT_GE(sock, 0);
		self->r.sock = sock;
		request(&self->r, &p, OP_FAA, self->r.addr, 8);
		p.operand = 1;
		EXPECT_EQ(ST_OK, ask(&self->r, &p, 0, &answer));
		EXPECT_EQ(i, answer.operand);
		self->r.sock = old;
		close(sock);
	}
	EXPECT_EQ(table, counter("page_table_bytes"));
	EXPECT_EQ(dedup, counter("dedup_bytes"));
	EXPECT_EQ(0, counter("client_bytes"));
}

TEST_HARNESS_MAIN

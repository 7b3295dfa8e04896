// SPDX-License-Identifier: GPL-2.0
/*
 * Peers that do not speak as they should: user-space verbs play node 1 against
 * the kernel's node 2 (Documentation/rpc-wire-format.md; the lower id connects).
 */
#include <endian.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "lite.h"

#define HELLO_LEN 56
#define HEADER_LEN 80
#define RING_LOG2 16
#define SETTLE_MS 5000

/* --- the wire, from the outside --------------------------------------------------- */

static uint32_t crc32c(uint32_t crc, const unsigned char *p, size_t len)
{
	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

#pragma pack(push, 1)
struct hello {
	uint8_t magic[2], version, kind;
	uint16_t src, dst;
	uint8_t cluster[16];
	uint64_t incarnation, epoch, ring_addr;
	uint32_t ring_rkey;
	uint8_t size_log2, depth_log2, slots_log2, lane;
};

struct header {
	uint8_t magic[2], version, kind;
	uint16_t flags, port;
	uint32_t len, crc;
	uint64_t cluster, epoch, src_incarnation, dst_incarnation, call;
	uint32_t arg, credit;
	uint64_t reply_addr;
	uint32_t reply_rkey, reply_cap;
};
#pragma pack(pop)

_Static_assert(sizeof(struct hello) == HELLO_LEN, "hello");
_Static_assert(sizeof(struct header) == HEADER_LEN, "header");

enum { CALL = 1, REPLY = 2, REFUSE = 3, HEARTBEAT = 4 };

static void seal(struct header *h)
{
	const unsigned char *p = (const unsigned char *)h;

	h->crc = ~crc32c(crc32c(~0u, p, 12), p + 16, HEADER_LEN - 16);
}

/* --- the stranger ------------------------------------------------------------------- */

struct stranger {
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
	struct ibv_mr *ring, *out;
	char *ring_mem, *out_mem;
	struct hello mine, theirs;
	int their_len;
	uint32_t written;	/* bytes of their ring that we used */
};

/* Waits for the next event; its type, or -1. Private data is kept. */
static int next_event(struct stranger *s, int limit_ms)
{
	struct pollfd p = { .fd = s->channel->fd, .events = POLLIN };
	struct rdma_cm_event *event;
	int type;

	if (poll(&p, 1, limit_ms) <= 0 || rdma_get_cm_event(s->channel, &event))
		return -1;
	type = event->event;
	s->their_len = event->param.conn.private_data_len;
	if (event->param.conn.private_data)
		memcpy(&s->theirs, event->param.conn.private_data,
		       s->their_len < HELLO_LEN ? s->their_len : HELLO_LEN);
	rdma_ack_cm_event(event);
	return type;
}

/* The same in all of a test: a map admits one life of a node. */
static uint64_t our_life(void)
{
	static uint64_t life;
	struct timespec t;

	if (!life) {
		clock_gettime(CLOCK_REALTIME, &t);
		life = t.tv_sec * 1000000000ULL + t.tv_nsec;
	}
	return life;
}

static struct hello right_hello(uint64_t epoch)
{
	struct hello h = {
		.magic = "LT", .version = 2, .kind = 0x81, .src = 1, .dst = 2,
		.incarnation = our_life(), .epoch = epoch,
		.size_log2 = RING_LOG2, .depth_log2 = 6, .slots_log2 = 6,
	};
	static const uint8_t cluster[16] = { 0x5e, 0x1f, 0x7e, 0x57, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1 };

	memcpy(h.cluster, cluster, 16);
	return h;
}

/* Up to the point where connect can be called; 0 or -1. */
static int stranger_make(struct stranger *s)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(LITE_PORT) }, from = { .sin_family = AF_INET };
	struct ibv_qp_init_attr qp = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 64, .max_recv_wr = 256, .max_send_sge = 1, .max_recv_sge = 1 },
	};
	bool ready;
	int before;

	memset(s, 0, sizeof(*s));
	inet_pton(AF_INET, "10.78.0.2", &to.sin_addr);
	inet_pton(AF_INET, "10.78.0.1", &from.sin_addr);
	before = netns_enter("lt1");
	s->channel = rdma_create_event_channel();
	ready = s->channel && !rdma_create_id(s->channel, &s->id, NULL, RDMA_PS_TCP);
	netns_leave(before);
	if (!ready || rdma_resolve_addr(s->id, (struct sockaddr *)&from, (struct sockaddr *)&to, 5000) ||
	    next_event(s, 10000) != RDMA_CM_EVENT_ADDR_RESOLVED ||
	    rdma_resolve_route(s->id, 5000) || next_event(s, 10000) != RDMA_CM_EVENT_ROUTE_RESOLVED)
		return -1;
	if (rdma_create_qp(s->id, NULL, &qp))
		return -1;
	s->ring_mem = aligned_alloc(4096, 1 << RING_LOG2);
	s->out_mem = aligned_alloc(4096, 1 << RING_LOG2);
	memset(s->ring_mem, 0, 1 << RING_LOG2);
	memset(s->out_mem, 0, 1 << RING_LOG2);
	s->ring = ibv_reg_mr(s->id->pd, s->ring_mem, 1 << RING_LOG2, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	s->out = ibv_reg_mr(s->id->pd, s->out_mem, 1 << RING_LOG2, IBV_ACCESS_LOCAL_WRITE);
	if (!s->ring || !s->out)
		return -1;
	for (int i = 0; i < 256; i++) {
		struct ibv_recv_wr wr = { 0 }, *bad;

		if (ibv_post_recv(s->id->qp, &wr, &bad))
			return -1;
	}
	return 0;
}

/* The event that connecting with these private data ends with. */
static int stranger_connect(struct stranger *s, const void *data, int len)
{
	struct rdma_conn_param param = {
		.private_data = data, .private_data_len = len,
		.responder_resources = 1, .initiator_depth = 1, .retry_count = 3, .rnr_retry_count = 3,
	};

	if (rdma_connect(s->id, &param))
		return -1;
	return next_event(s, 20000);
}

static void stranger_end(struct stranger *s)
{
	if (s->id) {
		rdma_disconnect(s->id);
		if (s->id->qp)
			rdma_destroy_qp(s->id);
		if (s->ring)
			ibv_dereg_mr(s->ring);
		if (s->out)
			ibv_dereg_mr(s->out);
		rdma_destroy_id(s->id);
	}
	if (s->channel)
		rdma_destroy_event_channel(s->channel);
	free(s->ring_mem);
	free(s->out_mem);
}

/* Writes bytes somewhere into node 2's ring, with these immediate data. */
static int stranger_write(struct stranger *s, const void *bytes, uint32_t len, uint32_t offset, uint32_t imm)
{
	struct ibv_sge sge = { (uintptr_t)s->out_mem, len, s->out->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = len ? 1 : 0, .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED, .imm_data = htonl(imm),
		.wr.rdma = { s->theirs.ring_addr + offset, s->theirs.ring_rkey },
	}, *bad;
	struct ibv_wc wc;
	int64_t until = now_ms() + SETTLE_MS;

	memcpy(s->out_mem, bytes, len);
	if (ibv_post_send(s->id->qp, &wr, &bad))
		return -1;
	while (now_ms() < until) {
		int n = ibv_poll_cq(s->id->send_cq, 1, &wc);

		if (n)
			return n == 1 ? (int)wc.status : -1;
		sleep_ms(5);
	}
	return -1;
}

/* Writes a message where node 2 expects the next one. */
static int stranger_send(struct stranger *s, const void *bytes, uint32_t len)
{
	uint32_t at = s->written;

	s->written += (len + 63) / 64 * 64;
	return stranger_write(s, bytes, len, at, 1u << 28 | at / 64);
}

/* Messages that node 2 wrote to us, as far as its immediate data say; how many. */
static int stranger_hears(struct stranger *s, struct header *last, int limit_ms)
{
	int64_t until = now_ms() + limit_ms;
	int heard = 0;

	while (now_ms() < until) {
		struct ibv_wc wc;

		if (ibv_poll_cq(s->id->recv_cq, 1, &wc) != 1 || wc.status) {
			sleep_ms(5);
			continue;
		}
		uint32_t imm = ntohl(wc.imm_data);

		if (imm >> 28 != 1)
			continue;
		struct header *h = (struct header *)(s->ring_mem + (imm & 0xfffffff) * 64);

		if (h->kind == HEARTBEAT)
			continue;
		*last = *h;
		heard++;
	}
	return heard;
}

FIXTURE(stranger) {
	struct cluster c;
	struct stranger s;
};

FIXTURE_SETUP(stranger)
{
	sh("modprobe -q rdma_ucm; modprobe -q ib_uverbs");
	ASSERT_EQ(0, cluster_up(&self->c, 3));
	ASSERT_EQ(0, node_power(1, false));
	/* The stranger sends no heartbeats: node 2 shall be patient. */
	ASSERT_EQ(0, node_power(2, false));
	ASSERT_EQ(0, node_attr("lt2", "heartbeat_ms", "10000"));
	ASSERT_EQ(0, node_power(2, true));
	ASSERT_EQ(0, map_set(self->c.fd[2], ++self->c.epoch, self->c.map, 3));
	ASSERT_EQ(0, map_set(self->c.fd[3], self->c.epoch, self->c.map, 3));
	ASSERT_TRUE(lite_reachable(self->c.fd[2], 3, 30000));
}

FIXTURE_TEARDOWN(stranger)
{
	stranger_end(&self->s);
	cluster_down(&self->c);
}

/* Whatever was done to it, node 2 serves the others, and itself. */
#define EXPECT_HEALTHY() do { \
	EXPECT_TRUE(lite_reachable(self->c.fd[2], 2, 10000)) { TH_LOG("node 2 to itself"); } \
	EXPECT_TRUE(lite_reachable(self->c.fd[2], 3, 30000)) { TH_LOG("node 2 to node 3"); } \
	EXPECT_TRUE(lite_reachable(self->c.fd[3], 2, 30000)) { TH_LOG("node 3 to node 2"); } \
} while (0)

TEST_F_TIMEOUT(stranger, with_a_hello_that_is_not_right_is_turned_away, 300)
{
	struct hello right = right_hello(self->c.epoch);
	struct { const char *why; struct hello h; int len; } cases[] = {
		{ "nothing at all", right, 0 },
		{ "one byte", right, 1 },
		{ "without its end", right, HELLO_LEN - 8 },
		{ "another protocol", right, HELLO_LEN },
		{ "another version", right, HELLO_LEN },
		{ "not a hello", right, HELLO_LEN },
		{ "another cluster", right, HELLO_LEN },
		{ "a node that the map does not know", right, HELLO_LEN },
		{ "for another node", right, HELLO_LEN },
		{ "node 2 itself", right, HELLO_LEN },
		{ "no incarnation", right, HELLO_LEN },
		{ "a ring of no size", right, HELLO_LEN },
		{ "a ring of absurd size", right, HELLO_LEN },
		{ "a ring of absurd depth", right, HELLO_LEN },
		{ "absurdly many calls", right, HELLO_LEN },
		{ "another queue pair of no connection", right, HELLO_LEN },
	};
	int mark = kmsg_mark(), lines;

	cases[3].h.magic[0] = 'X';
	cases[4].h.version = 1;
	cases[5].h.kind = 0x82;
	cases[6].h.cluster[3] ^= 1;
	cases[7].h.src = 77;
	cases[8].h.dst = 3;
	cases[9].h.src = 2;
	cases[10].h.incarnation = 0;
	cases[11].h.size_log2 = 0;
	cases[12].h.size_log2 = 63;
	cases[13].h.depth_log2 = 200;
	cases[14].h.slots_log2 = 255;
	cases[15].h.lane = 1;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int event;

		ASSERT_EQ(0, stranger_make(&self->s)) TH_LOG("%s: %s", cases[i].why, strerror(errno));
		event = stranger_connect(&self->s, &cases[i].h, cases[i].len);
		EXPECT_EQ(RDMA_CM_EVENT_REJECTED, event) TH_LOG("%s: event %d", cases[i].why, event);
		stranger_end(&self->s);
		memset(&self->s, 0, sizeof(self->s));
	}
	EXPECT_HEALTHY();
	/* The operator is told, not flooded. */
	lines = kmsg_complaints(mark, "rdma_lite", NULL, 0);
	EXPECT_LE(1, lines);
	EXPECT_GE(2 * COUNT(cases), lines);
}

/* Connected as a right node 1; what comes then is not right. */
static int stranger_admitted(struct stranger *s, uint64_t epoch)
{
	int event;

	if (stranger_make(s))
		return -1;
	s->mine = right_hello(epoch);
	s->mine.ring_addr = (uintptr_t)s->ring_mem;
	s->mine.ring_rkey = s->ring->rkey;
	event = stranger_connect(s, &s->mine, HELLO_LEN);

	if (event == RDMA_CM_EVENT_ESTABLISHED)
		return 0;
	/* A refusal has its reason where a hello has the node ids. */
	fprintf(stderr, "# not admitted: event %d, %d bytes, reason %u\n", event, s->their_len, s->theirs.src);
	return -1;
}

static struct header right_call(struct stranger *s, uint64_t epoch, uint64_t call, uint32_t len)
{
	uint64_t a, b;
	struct header h = {
		.magic = "LT", .version = 2, .kind = CALL, .port = 1, .len = len, .epoch = epoch,
		.src_incarnation = s->mine.incarnation, .dst_incarnation = s->theirs.incarnation,
		.call = call, .arg = 5000, .reply_cap = len,
	};

	memcpy(&a, s->mine.cluster, 8);
	memcpy(&b, s->mine.cluster + 8, 8);
	h.cluster = a ^ (b << 32 | b >> 32);
	return h;
}

TEST_F_TIMEOUT(stranger, whose_messages_are_malformed_harms_nobody, 400)
{
	for (int i = 0; i < 14; i++) {
		struct header answer;
		char message[HEADER_LEN + 64] = { 0 };
		struct header h;
		uint32_t imm = 1u << 28, len = HEADER_LEN + 8;
		const char *why = "";
		bool sealed = true;

		ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch)) TH_LOG("case %d: not admitted", i);
		h = right_call(&self->s, self->c.epoch, 1, 8);
		switch (i) {
		case 0:
			why = "wrong checksum";
			h.crc = 0x12345678;
			sealed = false;
			break;
		case 1:
			why = "wrong magic";
			h.magic[0] = 0;
			break;
		case 2:
			why = "unknown version";
			h.version = 99;
			break;
		case 3:
			why = "unknown kind";
			h.kind = 77;
			break;
		case 4:
			why = "more payload than a ring holds";
			h.len = 0xffffff00;
			break;
		case 5:
			why = "payload beyond the largest message";
			h.len = 1 << 30;
			break;
		case 6:
			why = "unknown flags";
			h.flags = 0xfffe;
			break;
		case 7:
			why = "offset outside of the ring";
			imm |= 0xffffff;
			break;
		case 8:
			why = "unknown immediate tag";
			imm = 0xf0000000;
			break;
		case 9:
			why = "credit of what was never sent";
			imm = 2u << 28 | 0xfffff0;
			break;
		case 10:
			why = "reply to a call that nobody made";
			h.kind = REPLY;
			h.arg = 0;
			break;
		case 11:
			why = "refusal of a call that nobody made";
			h.kind = REFUSE;
			h.arg = 3;
			h.len = 0;
			break;
		case 12:
			why = "a message of only a few bytes";
			len = 16;
			break;
		case 13:
			why = "another cluster's digest";
			h.cluster ^= 1;
			break;
		}
		if (sealed)
			seal(&h);
		memcpy(message, &h, HEADER_LEN);
		stranger_write(&self->s, message, len, 0, imm);
		EXPECT_EQ(0, stranger_hears(&self->s, &answer, 400)) {
			TH_LOG("%s was answered: kind %u, arg %d", why, answer.kind, (int)answer.arg);
		}
		stranger_end(&self->s);
		memset(&self->s, 0, sizeof(self->s));
		EXPECT_HEALTHY();
	}
}

TEST_F(stranger, that_calls_rightly_is_answered)
{
	char message[HEADER_LEN + 64] = { 0 };
	struct header h, answer;

	ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch));
	h = right_call(&self->s, self->c.epoch, 1, 8);
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	memcpy(message + HEADER_LEN, "echo me!", 8);
	ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN + 8));
	ASSERT_EQ(1, stranger_hears(&self->s, &answer, 2000));
	EXPECT_EQ(REPLY, answer.kind);
	EXPECT_EQ(0, answer.arg);
	EXPECT_EQ(8, answer.len);
	EXPECT_EQ(1, answer.call);
}

TEST_F(stranger, of_an_earlier_life_is_turned_away)
{
	struct hello earlier = right_hello(self->c.epoch);

	ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch));
	stranger_end(&self->s);
	memset(&self->s, 0, sizeof(self->s));
	earlier.incarnation--;
	ASSERT_EQ(0, stranger_make(&self->s));
	EXPECT_EQ(RDMA_CM_EVENT_REJECTED, stranger_connect(&self->s, &earlier, HELLO_LEN));
	EXPECT_HEALTHY();
}

TEST_F(stranger, that_calls_an_unknown_port_is_refused)
{
	char message[HEADER_LEN + 64] = { 0 };
	struct header h, answer;

	ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch));
	h = right_call(&self->s, self->c.epoch, 1, 0);
	h.port = 4242;
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN));
	ASSERT_EQ(1, stranger_hears(&self->s, &answer, 2000));
	EXPECT_EQ(REFUSE, answer.kind);
	EXPECT_EQ(4, answer.arg) TH_LOG("not NoPort");
	EXPECT_HEALTHY();
}

TEST_F(stranger, that_repeats_a_call_has_it_executed_once)
{
	char message[HEADER_LEN + 64] = { 0 };
	struct header h, answer;

	ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch));
	h = right_call(&self->s, self->c.epoch, 5, 8);
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN + 8));
		/* The reply again, or a word that it was seen; never a second execution. */
		EXPECT_LE(stranger_hears(&self->s, &answer, 700), 1);
	}
	/* An older call of the slot is over: it may be dropped or refused, not executed. */
	h = right_call(&self->s, self->c.epoch, 4, 8);
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN + 8));
	if (stranger_hears(&self->s, &answer, 700)) {
		EXPECT_EQ(REFUSE, answer.kind);
	}
	EXPECT_HEALTHY();
}

TEST_F(stranger, of_an_older_epoch_or_for_another_life_is_refused)
{
	char message[HEADER_LEN + 64] = { 0 };
	struct header h, answer;

	ASSERT_EQ(0, stranger_admitted(&self->s, self->c.epoch));
	ASSERT_EQ(0, map_set(self->c.fd[2], ++self->c.epoch, self->c.map, 3));
	ASSERT_EQ(0, map_set(self->c.fd[3], self->c.epoch, self->c.map, 3));
	h = right_call(&self->s, self->c.epoch - 1, 1, 0);
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN));
	ASSERT_EQ(1, stranger_hears(&self->s, &answer, 2000));
	EXPECT_EQ(REFUSE, answer.kind);
	EXPECT_EQ(1, answer.arg) TH_LOG("not StaleEpoch");
	h = right_call(&self->s, self->c.epoch, 2, 0);
	h.dst_incarnation--;
	seal(&h);
	memcpy(message, &h, HEADER_LEN);
	ASSERT_EQ(0, stranger_send(&self->s, message, HEADER_LEN));
	if (stranger_hears(&self->s, &answer, 2000)) {
		EXPECT_EQ(REFUSE, answer.kind);
		EXPECT_EQ(3, answer.arg) TH_LOG("not WrongIncarnation");
	}
	EXPECT_HEALTHY();
}

TEST_F_TIMEOUT(stranger, that_sends_noise_harms_nobody, 300)
{
	char noise[512];

	for (int round = 0; round < 12; round++) {
		if (stranger_admitted(&self->s, self->c.epoch) == 0) {
			for (int i = 0; i < 20; i++) {
				fill(noise, sizeof(noise), round * 100 + i);
				if (stranger_write(&self->s, noise, 1 + (round * 37 + i * 11) % 511, (i * 512) % 8192,
						   i % 2 ? 1u << 28 | (i * 8) : *(uint32_t *)noise))
					break;
			}
		}
		stranger_end(&self->s);
		memset(&self->s, 0, sizeof(self->s));
	}
	EXPECT_HEALTHY();
}

TEST_HARNESS_MAIN

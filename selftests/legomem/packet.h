/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets of the clio protocol made by hand (Documentation/clio-protocol.md),
 * and a memory node to send them to.
 */
#ifndef POTLUCK_SELFTEST_PACKET_H
#define POTLUCK_SELFTEST_PACKET_H

#include "remote.h"

#define UDP_PORT	5225
#define MEMORY_PAGE	65536

enum { OP_READ = 1, OP_WRITE, OP_TAS, OP_CAS, OP_FAA, OP_LOCK, OP_UNLOCK, OP_FENCE, OP_FLUSH_FETCH,
	OP_ALLOC = 16, OP_FREE, OP_ZERO, OP_PROTECT, OP_OFFLOAD = 32 };
enum { ST_OK, ST_FAULT, ST_DENIED, ST_INVALID, ST_NO_SPACE, ST_QUOTA, ST_BUSY, ST_HELD, ST_NOT_HOLDER,
	ST_MOVED, ST_PAUSED, ST_STALE, ST_NO_SPACE_ID, ST_LOST, ST_FORGOTTEN, ST_NOT_SUPPORTED };
enum { FL_RESPONSE = 1, FL_RETRY = 2, FL_CONTINUED = 4, FL_UNSIGNED = 8 };

struct packet {
	uint8_t  version, op, flags, status;
	uint32_t epoch;
	uint64_t ras, id, first, addr;
	uint32_t len, offset, node, argument;
	uint64_t incarnation, operand, tag;
	uint8_t  payload[65000];
};

#define HEADER_LEN	80
_Static_assert(offsetof(struct packet, payload) == HEADER_LEN, "as on the wire");

/* --- SipHash-2-4, by its paper ------------------------------------------------ */

static inline uint64_t rotl(uint64_t x, int b) { return x << b | x >> (64 - b); }

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1]; v[1] = rotl(v[1], 13) ^ v[0]; v[0] = rotl(v[0], 32);
	v[2] += v[3]; v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3]; v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1]; v[1] = rotl(v[1], 17) ^ v[2]; v[2] = rotl(v[2], 32);
}

static __maybe_unused uint64_t siphash(const uint64_t key[2], const void *data, size_t len)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
			  key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573 };
	const uint8_t *p = data;
	uint64_t word, last = (uint64_t)len << 56;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static __maybe_unused uint64_t packet_tag(const struct packet *p, size_t payload, const uint64_t key[2])
{
	static struct packet copy;

	memcpy(&copy, p, HEADER_LEN + payload);
	copy.tag = 0;
	return siphash(key, &copy, HEADER_LEN + payload);
}

/* --- a memory node lt1, a requester at lt2 ------------------------------------ */

struct requester {
	struct clio_cluster cl;
	int fd;			/* /dev/clio at lt2, attached */
	int sock;		/* UDP at lt2, connected to the memory node */
	uint64_t ras, addr, incarnation, id;
	uint32_t epoch;
};

static __maybe_unused int udp_at(int i, int to)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(UDP_PORT),
				    .sin_addr.s_addr = htonl(0x0a4e0000 + to) };
	char ns[16];
	int before, sock, big = 4 << 20;

	snprintf(ns, sizeof(ns), "lt%d", i);
	before = netns_enter(ns);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	netns_leave(before);
	if (sock >= 0 && connect(sock, (void *)&peer, sizeof(peer)))
		return -1;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
	return sock;
}

static __maybe_unused int requester_up(struct requester *r)
{
	struct clio_info info = {};
	int err = clio_cluster_up(&r->cl, 2, 1, "16777216");

	if (err)
		return err;
	r->fd = clio_attached(2, "packets");
	if (r->fd < 0)
		return ENODEV;
	r->addr = ralloc(r->fd, 4 * MEMORY_PAGE);
	if (!r->addr || ioctl(r->fd, CLIO_IOC_INFO, &info))
		return errno;
	r->ras = info.ras;
	r->incarnation = info.incarnation;
	r->epoch = info.epoch;
	/* Far above those that the node itself uses. */
	r->id = 1ULL << 40;
	r->sock = udp_at(2, 1);
	return r->sock < 0 ? errno : 0;
}

static __maybe_unused void requester_down(struct requester *r)
{
	close(r->sock);
	close(r->fd);
	clio_cluster_down(&r->cl);
}

/* A request that is in order. */
static __maybe_unused void request(struct requester *r, struct packet *p, int op, uint64_t addr, uint32_t len)
{
	memset(p, 0, HEADER_LEN);
	p->version = 1;
	p->op = op;
	p->epoch = r->epoch;
	p->ras = r->ras;
	p->id = p->first = r->id++;
	p->addr = addr;
	p->len = len;
	p->node = 2;
	p->argument = op == OP_READ || op == OP_OFFLOAD ? 4096 : 0;
	p->incarnation = r->incarnation;
}

static __maybe_unused void seal(struct packet *p, size_t payload)
{
	p->tag = packet_tag(p, payload, clio_key);
}

static __maybe_unused int packet_send(struct requester *r, const struct packet *p, size_t bytes)
{
	return send(r->sock, p, bytes, 0) == (ssize_t)bytes ? 0 : errno;
}

/* Bytes of payload of what came, or -1 when nothing did. */
static __maybe_unused int packet_receive(struct requester *r, struct packet *p, int limit_ms)
{
	struct pollfd poll_fd = { .fd = r->sock, .events = POLLIN };
	ssize_t len;

	if (poll(&poll_fd, 1, limit_ms) <= 0)
		return -1;
	len = recv(r->sock, p, sizeof(*p), MSG_DONTWAIT);
	return len < HEADER_LEN ? -1 : (int)(len - HEADER_LEN);
}

/* Sends a request in order, again when it was only put off; its status, or -1. */
static __maybe_unused int ask(struct requester *r, struct packet *p, size_t payload, struct packet *answer)
{
	static struct packet scratch;

	answer = answer ?: &scratch;
	for (int i = 0; i < 100; i++) {
		int got;

		seal(p, payload);
		if (packet_send(r, p, HEADER_LEN + payload))
			return -1;
		got = packet_receive(r, answer, 5000);
		if (got < 0)
			return -1;
		if (answer->id != p->id)
			continue;
		if (!(answer->flags & FL_UNSIGNED) && answer->tag != packet_tag(answer, got, clio_key))
			return -2;
		if (answer->status != ST_BUSY)
			return answer->status;
		sleep_ms(20);
	}
	return ST_BUSY;
}

static __maybe_unused int ask_write(struct requester *r, uint64_t addr, const void *bytes, uint32_t len)
{
	static struct packet p;

	request(r, &p, OP_WRITE, addr, len);
	memcpy(p.payload, bytes, len);
	return ask(r, &p, len, NULL);
}

static __maybe_unused int ask_read(struct requester *r, uint64_t addr, void *bytes, uint32_t len)
{
	static struct packet p, answer;
	int status;

	request(r, &p, OP_READ, addr, len);
	status = ask(r, &p, 0, &answer);
	if (!status)
		memcpy(bytes, answer.payload, len);
	return status;
}

/* A counter of the memory node, or -1. */
static __maybe_unused long long counter(const char *name)
{
	char line[128], found[64];
	long long value, result = -1;
	FILE *f;

	if (access("/sys/kernel/debug/legomem", F_OK))
		sh("mount -t debugfs none /sys/kernel/debug");
	f = fopen("/sys/kernel/debug/legomem/lt1", "r");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %lld", found, &value) == 2 && !strcmp(found, name))
			result = value;
	fclose(f);
	return result;
}

#endif /* POTLUCK_SELFTEST_PACKET_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * For shell tests: `life` is one life of a cluster. Two nodes come up, a third
 * joins; processes of all three use regions, calls, locks and a barrier; the
 * third leaves, then the others. Prints how long each part took.
 */
#include <pthread.h>

/* The library opens our own namespace's node; this opens those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define NODES		3
#define PORT		1000
#define CALLS		8
#define TAKES		4
#define REGION_LEN	(80 << 10)
#define PATIENCE_MS	30000

static int64_t begun;

static void part(const char *name)
{
	int64_t now = now_ms();

	printf("%s %d ms\n", name, (int)(now - begun));
	begun = now;
}

static void die(const char *what, int err)
{
	printf("%s: %s\n", what, strerror(err));
	exit(1);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		die(what, errno);
}

static void up(struct cluster *c, int i)
{
	char ns[16];
	int err;

	snprintf(ns, sizeof(ns), "lt%d", i);
	err = node_up(i);
	if (err)
		die(ns, err);
	c->fd[i] = lite_open(ns, 0);
	must(c->fd[i] >= 0, LITE_DEVICE);
	c->map[i - 1] = map_entry(i);
	/* Nobody shall wait for hotpot. */
	c->map[i - 1].roles = 0;
}

static void publish(struct cluster *c, int nr)
{
	c->nr = nr;
	errno = cluster_publish(c);
	must(!errno, "map");
	for (int i = 1; i <= nr; i++)
		for (int j = 1; j <= nr; j++)
			must(lite_reachable(c->fd[i], j, PATIENCE_MS), "ping");
}

struct user {
	int node, fd;
	struct cluster *c;
	uint64_t *counter;
	char why[64];
};

static void *failed(struct user *u, const char *what)
{
	snprintf(u->why, sizeof(u->why), "%s: %s", what, strerror(errno));
	return u;
}

/* Answers the calls of the two others. */
static void *answer(void *arg)
{
	struct user *u = arg;
	char buf[4096];

	for (int i = 0; i < (NODES - 1) * CALLS; i++) {
		struct rdma_lite_receive request;
		ssize_t len = lite_rpc_receive(u->fd, PORT, buf, sizeof(buf), &request);

		if (len < 0 || lite_rpc_reply(u->fd, &request, 0, buf, len))
			return failed(u, "receive");
	}
	return NULL;
}

/* One-sided: written at the next node, copied there, read back by way of another region; all at once, too. */
static const char *use_regions(struct user *u, int next)
{
	struct rdma_lite_completion ends[4];
	static __thread char out[REGION_LEN], in[REGION_LEN];
	uint64_t a = lite_malloc(u->fd, next, REGION_LEN, NULL, 0, 0), b, mine;
	uint64_t word = 0, *lent;

	memset(out, 0x40 + u->node, sizeof(out));
	b = lite_malloc(u->fd, next % NODES + 1, REGION_LEN, NULL, 0, 0);
	if (!a || !b)
		return "lite_malloc";
	if (lite_write(u->fd, a, 0, out, sizeof(out)) || lite_memmove(u->fd, b, 0, a, 0, sizeof(out)) ||
	    lite_read(u->fd, b, 0, in, sizeof(in)))
		return "regions";
	errno = EIO;
	if (memcmp(out, in, sizeof(out)))
		return "what was written";
	for (int i = 0; i < 4; i++)
		if (lite_read_async(u->fd, b, i * 4096, in + i * 4096, 4096, i))
			return "lite_read_async";
	for (int i = 0; i < 4; i++)
		if (lite_poll(u->fd, ends, 1, 1, 0) != 1 || ends[0].error)
			return "lite_poll";
	if (lite_memset(u->fd, a, 0, 0, 8) || lite_fetch_add(u->fd, a, 0, 5, NULL) ||
	    lite_fetch_add(u->fd, a, 0, 1, &word))
		return "atomics";
	errno = EIO;
	if (word != 5)
		return "a word";
	lent = aligned_alloc(4096, 8192);
	mine = lent ? lite_lend(u->fd, lent, 8192, NULL, 0) : 0;
	if (!mine || lite_memmove(u->fd, mine, 0, b, 0, 8192) || lite_unmap(u->fd, mine))
		return "lite_lend";
	errno = EIO;
	if (memcmp(lent, out, 8192))
		return "lent memory";
	free(lent);
	/* One is freed, the other ends with the file. */
	return lite_free(u->fd, a) ? "lite_free" : NULL;
}

static void *use(void *arg)
{
	struct user *u = arg;
	const char *why = use_regions(u, u->node % NODES + 1);
	char out[4096], in[4096];

	if (why)
		return failed(u, why);
	memset(out, u->node, sizeof(out));
	for (int i = 0; i < CALLS; i++)
		for (int n = 1; n <= NODES; n++) {
			size_t len = i % 2 ? 64 : sizeof(out);

			if (n == u->node)
				continue;
			if (lite_rpc_call_for(u->fd, n, PORT, out, len, in, sizeof(in), PATIENCE_MS) != (ssize_t)len)
				return failed(u, "lite_rpc_call");
		}
	for (int i = 0; i < TAKES; i++) {
		uint64_t lock = lite_lock_for(u->fd, 2, "life", 0, PATIENCE_MS);

		if (!lock)
			return failed(u, "lite_lock");
		++*u->counter;
		if (lite_unlock(u->fd, lock))
			return failed(u, "lite_unlock");
	}
	return lite_barrier(u->fd, 3, "life", NODES, PATIENCE_MS) ? failed(u, "lite_barrier") : NULL;
}

/* Two threads for each node: one uses it, one answers there. */
static void traffic(struct cluster *c)
{
	pthread_t thread[2 * NODES];
	struct user user[2 * NODES] = { 0 };
	uint64_t counter = 0;

	for (int i = 0; i < 2 * NODES; i++) {
		user[i].node = i % NODES + 1;
		user[i].fd = c->fd[user[i].node];
		user[i].counter = &counter;
		if (i < NODES)
			must(!lite_rpc_register(user[i].fd, PORT), "lite_rpc_register");
	}
	for (int i = 0; i < 2 * NODES; i++)
		must(!pthread_create(&thread[i], NULL, i < NODES ? answer : use, &user[i]), "pthread_create");
	/* Answerers wait for ever where a user fails. */
	for (int i = 2 * NODES - 1; i >= 0; i--) {
		void *why;

		pthread_join(thread[i], &why);
		if (why) {
			printf("node %d: %s\n", user[i].node, user[i].why);
			exit(1);
		}
	}
	errno = EIO;
	must(counter == NODES * TAKES, "what the lock guards");
}

int main(void)
{
	struct cluster c = { 0 };

	for (int i = 0; i <= LITE_MAX_NODES; i++)
		c.fd[i] = -1;
	begun = now_ms();
	up(&c, 1);
	up(&c, 2);
	publish(&c, 2);
	part("two nodes");
	up(&c, 3);
	publish(&c, NODES);
	part("a third joins");
	traffic(&c);
	part("traffic");
	close(c.fd[3]);
	c.fd[3] = -1;
	c.map[2].state = RDMA_LITE_NODE_OUT;
	errno = cluster_publish(&c);
	must(!errno, "the map without it");
	node_down(3);
	part("it leaves");
	for (int i = 2; i >= 1; i--) {
		close(c.fd[i]);
		node_down(i);
	}
	part("the others leave");
	return 0;
}

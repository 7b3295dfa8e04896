// SPDX-License-Identifier: GPL-2.0
/*
 * What programs have of rdma_lite between nodes of one kernel, each named by
 * its network namespace. Prints the nanoseconds of each repetition, one a line.
 *
 *   lite read BYTES COUNT FROM TO          one-sided reads of a region of TO
 *   lite write BYTES COUNT FROM TO         writes
 *   lite stream BYTES COUNT DEPTH FROM TO  writes, DEPTH of them begun at once; and
 *                                          `wall NS`: how long all took
 *   lite call BYTES COUNT FROM TO...       calls of BYTES each way to a process at each
 *                                          TO; several are called at once
 *   lite users N BYTES COUNT FROM TO       reads by turns of N processes
 *   lite regions N BYTES COUNT FROM TO     reads of N regions, at random
 *   lite ports N BYTES COUNT FROM TO       calls of N ports, at random
 *   lite pair A B                          publishes a map of two nodes, and waits until
 *                                          they reach each other
 */
#include "nodes.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define WARM		16
#define PORT		9000
#define MOST_NODES	8
#define FILE_PORTS	64	/* ports of an open file, at most */

static void report(const uint64_t *ns, long count)
{
	for (long i = 0; i < count; i++)
		printf("%llu\n", (unsigned long long)ns[i]);
}

/* --- one-sided ------------------------------------------------------------------- */

static uint64_t timed(int fd, bool writes, uint64_t region, void *buf, uint64_t len)
{
	uint64_t begin = now_ns();

	if (writes ? lite_write(fd, region, 0, buf, len) : lite_read(fd, region, 0, buf, len))
		die(writes ? "lite_write" : "lite_read");
	return now_ns() - begin;
}

static void one_sided(bool writes, uint64_t len, uint64_t *ns, long count, char **nodes)
{
	uint32_t owner = id_in(nodes[1]);
	int fd = node_of(nodes[0]);
	uint64_t region = region_at(fd, owner, len);
	char *buf = memory(len), *back = memory(len);

	memset(back, 0, len);
	timed(fd, true, region, buf, len);
	for (long i = -WARM; i < count; i++) {
		uint64_t took = timed(fd, writes, region, writes ? buf : back, len);

		if (i >= 0)
			ns[i] = took;
	}
	timed(fd, false, region, back, len);
	if (memcmp(buf, back, len)) {
		fprintf(stderr, "lite: what was read is not what was written\n");
		exit(1);
	}
	if (lite_free(fd, region))
		die("lite_free");
}

static void stream(uint64_t len, uint32_t depth, uint64_t *ns, long count, char **nodes)
{
	uint32_t owner = id_in(nodes[1]);
	int fd = node_of(nodes[0]);
	uint64_t region = region_at(fd, owner, len * depth), begin;
	uint64_t *begun = calloc(depth, sizeof(*begun));
	struct rdma_lite_completion *ends = calloc(depth, sizeof(*ends));
	long submitted = 0, ended = 0;
	char *buf = memory(len);

	if (!begun || !ends)
		die("calloc");
	timed(fd, true, region, buf, len);
	begin = now_ns();
	while (ended < count) {
		int n;

		while (submitted < count && submitted - ended < depth) {
			uint32_t at = submitted % depth;

			begun[at] = now_ns();
			if (lite_write_async(fd, region, at * len, buf, len, submitted))
				die("lite_write_async");
			submitted++;
		}
		n = lite_poll(fd, ends, depth, 1, 0);
		if (n < 0)
			die("lite_poll");
		for (int i = 0; i < n; i++) {
			if (ends[i].error) {
				errno = -ends[i].error;
				die("a write");
			}
			/* They end in any order: slots of the window may be told by another's begin. */
			ns[ended++] = now_ns() - begun[ends[i].cookie % depth];
		}
	}
	printf("wall %llu\n", (unsigned long long)(now_ns() - begin));
	if (lite_free(fd, region))
		die("lite_free");
}

/* --- calls ------------------------------------------------------------------------ */

/*
 * A process in a namespace that answers calls of ports PORT to PORT + nr - 1,
 * in the order of next(1), until it is killed. Returns the id of its node.
 */
static uint32_t served(const char *ns, uint64_t nr)
{
	int ready[2];
	uint32_t id;
	pid_t pid;

	if (pipe(ready) < 0)
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		int *fd = calloc(nr / FILE_PORTS + 1, sizeof(*fd));
		char *buf = memory(1 << 16);
		uint64_t seed = 1;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!fd)
			die("calloc");
		for (uint64_t i = 0; i < nr; i++) {
			if (i % FILE_PORTS == 0)
				fd[i / FILE_PORTS] = node_of(ns);
			if (lite_rpc_register(fd[i / FILE_PORTS], PORT + i))
				die("lite_rpc_register");
		}
		id = id_of(fd[0]);
		if (write(ready[1], &id, sizeof(id)) != sizeof(id))
			_exit(1);
		for (;;) {
			uint64_t at = next(&seed) % nr;
			struct rdma_lite_receive request;
			ssize_t len = lite_rpc_receive(fd[at / FILE_PORTS], PORT + at, buf, 1 << 16, &request);

			if (len < 0 || lite_rpc_reply(fd[at / FILE_PORTS], &request, 0, buf, len))
				die("the server");
		}
	}
	close(ready[1]);
	if (read(ready[0], &id, sizeof(id)) != sizeof(id))
		die("no server");
	close(ready[0]);
	return id;
}

static void check(const char *sent, const char *reply, ssize_t got, size_t len)
{
	if (got != (ssize_t)len || memcmp(sent, reply, len)) {
		fprintf(stderr, "lite: the reply is not the request\n");
		exit(1);
	}
}

/* One port of each node; all are called at once. */
static void calls(uint64_t len, uint64_t *ns, long count, char **nodes, uint32_t nr)
{
	struct rdma_lite_call call[MOST_NODES] = { 0 };
	uint32_t id[MOST_NODES];
	char *sent = memory(len), *replies = memory(len * MOST_NODES);
	int fd;

	for (uint32_t i = 0; i < nr; i++)
		id[i] = served(nodes[i + 1], 1);
	fd = node_of(nodes[0]);
	for (long i = -WARM; i < count; i++) {
		uint64_t begin = now_ns();

		if (nr == 1) {
			ssize_t got = lite_rpc_call(fd, id[0], PORT, sent, len, replies, len);

			if (got < 0)
				die("lite_rpc_call");
			check(sent, replies, got, len);
		} else {
			for (uint32_t n = 0; n < nr; n++)
				call[n] = (struct rdma_lite_call) {
					.node = id[n],
					.port = PORT,
					.request = (uintptr_t)sent,
					.request_len = len,
					.reply = (uintptr_t)(replies + n * len),
					.reply_len = len,
				};
			if (lite_rpc_multicast(fd, call, nr) != (int)nr)
				die("lite_rpc_multicast");
			for (uint32_t n = 0; n < nr; n++)
				check(sent, replies + n * len, call[n].reply_len, len);
		}
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

/* --- many ------------------------------------------------------------------------- */

static void ports(uint64_t nr, uint64_t len, uint64_t *ns, long count, char **nodes)
{
	uint32_t id = served(nodes[1], nr);
	int fd = node_of(nodes[0]);
	char *sent = memory(len), *reply = memory(len);
	uint64_t seed = 1;

	for (long i = -WARM; i < count; i++) {
		uint32_t port = PORT + next(&seed) % nr;
		uint64_t begin = now_ns();
		ssize_t got = lite_rpc_call(fd, id, port, sent, len, reply, len);

		if (got < 0)
			die("lite_rpc_call");
		if (i >= 0)
			ns[i] = now_ns() - begin;
		check(sent, reply, got, len);
	}
}

static void regions(uint64_t nr, uint64_t len, uint64_t *ns, long count, char **nodes)
{
	uint32_t owner = id_in(nodes[1]);
	int fd = node_of(nodes[0]);
	uint64_t *all = calloc(nr, sizeof(*all)), seed = 1;
	char *buf = memory(len);

	if (!all)
		die("calloc");
	for (uint64_t i = 0; i < nr; i++) {
		all[i] = region_at(fd, owner, len);
		memcpy(buf, &i, sizeof(i) < len ? sizeof(i) : len);
		timed(fd, true, all[i], buf, len);
	}
	for (long i = -WARM; i < count; i++) {
		uint64_t at = next(&seed) % nr, found = 0;
		uint64_t took = timed(fd, false, all[at], buf, len);

		memcpy(&found, buf, sizeof(found) < len ? sizeof(found) : len);
		if (len >= sizeof(found) && found != at) {
			fprintf(stderr, "lite: region %lu has what is another's\n", (unsigned long)at);
			exit(1);
		}
		if (i >= 0)
			ns[i] = took;
	}
	for (uint64_t i = 0; i < nr; i++)
		if (lite_free(fd, all[i]))
			die("lite_free");
}

/* Each has an open and a mapping of its own; one of them reads at a time, twice. */
static void users(long nr, uint64_t len, uint64_t *ns, long count, char **nodes)
{
	uint32_t owner = id_in(nodes[1]);
	int fd = node_of(nodes[0]), told[2], (*turn)[2] = calloc(nr, sizeof(*turn));
	uint64_t region = lite_malloc(fd, owner, len, "bench.users", RDMA_LITE_READ, 0), took = 0;
	char *buf = memory(len);

	if (!turn || !region || pipe(told) < 0)
		die("users");
	for (long i = 0; i < nr; i++) {
		pid_t pid;

		if (pipe(turn[i]) < 0)
			die("pipe");
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			int mine = lite_open();
			uint64_t same = lite_map(mine, owner, "bench.users", RDMA_LITE_READ);
			char go;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (!same)
				die("lite_map");
			timed(mine, false, same, buf, len);
			if (write(told[1], &took, sizeof(took)) < 0)
				_exit(1);
			while (read(turn[i][0], &go, 1) == 1 && go) {
				timed(mine, false, same, buf, len);
				took = timed(mine, false, same, buf, len);
				if (write(told[1], &took, sizeof(took)) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	close(told[1]);
	for (long i = 0; i < nr; i++)
		if (read(told[0], &took, sizeof(took)) != sizeof(took))
			die("a user");
	for (long i = 0; i < count; i++)
		if (write(turn[i % nr][1], "x", 1) != 1 || read(told[0], &ns[i], sizeof(*ns)) != sizeof(*ns))
			die("a user");
	for (long i = 0; i < nr; i++)
		if (write(turn[i][1], "", 1) != 1)
			die("a user");
	while (wait(NULL) > 0)
		;
	if (lite_free(fd, region))
		die("lite_free");
}

/* --- a pair ----------------------------------------------------------------------- */

static void put_map(const char *ns, uint32_t other, struct rdma_lite_map *map)
{
	int fd = node_of(ns);
	bool reached = false;

	if (ioctl(fd, RDMA_LITE_IOC_SET_MAP, map))
		die("RDMA_LITE_IOC_SET_MAP");
	for (int i = 0; i < 100 && !reached && other; i++) {
		struct rdma_lite_ping ping = { .node = other, .len = 8, .timeout_ms = 300 };

		reached = !ioctl(fd, RDMA_LITE_IOC_PING, &ping);
		if (!reached)
			usleep(100000);
	}
	if (other && !reached)
		die("the other node");
	close(fd);
}

/* Nodes 1 and 2 at 10.79.0.1 and .2, as tools/bench.d/pair.sh makes them. */
static void pair(char **nodes)
{
	struct rdma_lite_map_node node[2] = { 0 };
	struct rdma_lite_map map = { .epoch = 1, .nr_nodes = 2, .nodes = (uintptr_t)node };

	for (uint32_t i = 0; i < 2; i++) {
		uint32_t addr = htonl(0x0a4f0001 + i);

		node[i].id = i + 1;
		node[i].state = RDMA_LITE_NODE_UP;
		node[i].port = 18700;
		node[i].family = AF_INET;
		memcpy(node[i].addr, &addr, sizeof(addr));
		snprintf(node[i].name, sizeof(node[i].name), "%s", nodes[i]);
	}
	put_map(nodes[0], 0, &map);
	put_map(nodes[1], 1, &map);
	put_map(nodes[0], 2, &map);
}

int main(int argc, char **argv)
{
	/* How many numbers follow the name of each; then come namespaces. */
	static const struct {
		const char *name;
		int numbers, count, most;
	} commands[] = {
		{ "read", 2, 1, 2 }, { "write", 2, 1, 2 }, { "stream", 3, 1, 2 }, { "call", 2, 1, MOST_NODES },
		{ "users", 3, 2, 2 }, { "regions", 3, 2, 2 }, { "ports", 3, 2, 2 }, { "pair", 0, 0, 2 },
	};
	long arg[3] = { 0 }, count;
	char **nodes = NULL;
	int command = -1, nr = 0;
	uint64_t *ns;

	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			command = i;
	if (command >= 0) {
		nodes = argv + 2 + commands[command].numbers;
		nr = argc - 2 - commands[command].numbers;
	}
	if (command < 0 || nr < 2 || nr > commands[command].most) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	for (int i = 0; i < commands[command].numbers; i++) {
		arg[i] = atol(argv[i + 2]);
		if (arg[i] < 1) {
			fprintf(stderr, "lite: %s: not a number from 1 on\n", argv[i + 2]);
			return 2;
		}
	}
	count = arg[commands[command].count];
	ns = calloc(count + 1, sizeof(*ns));
	if (!ns)
		die("calloc");
	switch (command) {
	case 0:
	case 1:
		one_sided(command == 1, arg[0], ns, count, nodes);
		break;
	case 2:
		stream(arg[0], arg[2], ns, count, nodes);
		break;
	case 3:
		calls(arg[0], ns, count, nodes, nr - 1);
		break;
	case 4:
		users(arg[0], arg[1], ns, count, nodes);
		break;
	case 5:
		regions(arg[0], arg[1], ns, count, nodes);
		break;
	case 6:
		ports(arg[0], arg[1], ns, count, nodes);
		break;
	case 7:
		pair(nodes);
		return 0;
	}
	report(ns, count);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * One measurement of remote memory, in the namespace of a compute node: prints
 * the nanoseconds of each repetition, one a line.
 *
 *   remote read BYTES COUNT        reads of memory that was written
 *   remote write BYTES COUNT       writes to memory that was written
 *   remote touch BYTES COUNT       writes to pages that nobody wrote to before
 *   remote clients N BYTES COUNT   reads, one at a time, by turns of N processes
 *   remote walk DEPTH COUNT        follows a list by a read for each node
 *   remote chase DEPTH COUNT       follows it by one request
 */
#include "remote.h"

#include <sys/wait.h>

#define NODE 64UL

static void copies(int writes, uint64_t len, uint64_t *ns, long count)
{
	int fd = attached();
	uint64_t addr = allocated(fd, len);
	char *buf = calloc(1, len);

	timed(fd, 1, addr, buf, len);
	for (long i = -16; i < count; i++) {
		uint64_t took = timed(fd, writes, addr, buf, len);

		if (i >= 0)
			ns[i] = took;
	}
	freed(fd, addr, len);
}

static void touch(uint64_t len, uint64_t *ns, long count)
{
	int fd = attached();
	uint64_t addr = allocated(fd, (count + 1) * PAGE);
	char *buf = calloc(1, len);

	timed(fd, 1, addr + count * PAGE, buf, len);
	for (long i = 0; i < count; i++)
		ns[i] = timed(fd, 1, addr + i * PAGE, buf, len);
	freed(fd, addr, (count + 1) * PAGE);
}

/* Each process in turn says by a pipe how long its read took. */
static void clients(long n, uint64_t len, uint64_t *ns, long count)
{
	int turn[n][2], told[2];
	int fd = attached();
	uint64_t addr = allocated(fd, PAGE);
	char *buf = calloc(1, len);

	timed(fd, 1, addr, buf, len);
	if (pipe(told) < 0)
		die("pipe");
	for (long i = 0; i < n; i++) {
		if (pipe(turn[i]) < 0)
			die("pipe");
		if (fork() == 0) {
			int mine = attached();
			uint64_t took = 0;
			char go;

			timed(mine, 0, addr, buf, len);
			if (write(told[1], &took, sizeof(took)) < 0)
				_exit(1);
			while (read(turn[i][0], &go, 1) == 1 && go) {
				timed(mine, 0, addr, buf, len);
				took = timed(mine, 0, addr, buf, len);
				if (write(told[1], &took, sizeof(took)) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (long i = 0; i < n; i++)
		if (read(told[0], ns, sizeof(*ns)) != sizeof(*ns))
			die("a client");
	for (long i = 0; i < count; i++)
		if (write(turn[i % n][1], "x", 1) != 1 || read(told[0], &ns[i], sizeof(*ns)) != sizeof(*ns))
			die("a client");
	for (long i = 0; i < n; i++)
		if (write(turn[i][1], "", 1) != 1)
			die("a client");
	while (wait(NULL) > 0)
		;
	freed(fd, addr, PAGE);
}

/* A list of depth + 1 nodes; the first word of each is the address of the next. */
static uint64_t list(int fd, long depth)
{
	uint64_t addr = allocated(fd, (depth + 1) * NODE);

	for (long i = 0; i <= depth; i++) {
		uint64_t next = i == depth ? 0 : addr + (i + 1) * NODE;

		if (rwrite(fd, addr + i * NODE, &next, sizeof(next)))
			die("rwrite");
	}
	return addr;
}

static void walk(long depth, uint64_t *ns, long count)
{
	int fd = attached();
	uint64_t addr = list(fd, depth), begin, node;

	for (long i = 0; i < count; i++) {
		begin = now_ns();
		node = addr;
		for (long step = 0; step < depth; step++)
			if (rread(fd, node, &node, sizeof(node)))
				die("rread");
		ns[i] = now_ns() - begin;
		if (node != addr + depth * NODE)
			die("the list is another one");
	}
	freed(fd, addr, (depth + 1) * NODE);
}

static void chase(long depth, uint64_t *ns, long count)
{
	/* struct Walk of legomem/core/offload/chase.rs, little-endian */
	struct {
		uint64_t key;
		uint32_t key_at, next_at, depth, data_at, data_len;
	} __attribute__((packed)) in = { .key_at = UINT32_MAX, .depth = depth, .data_len = 8 };
	int fd = attached();
	uint64_t addr = list(fd, depth), begin, node, out;

	for (long i = 0; i < count; i++) {
		uint32_t len = sizeof(out);

		begin = now_ns();
		if (roffload(fd, 1, 1, addr, &in, sizeof(in), &out, &len, &node))
			die("roffload");
		ns[i] = now_ns() - begin;
		if (node != addr + depth * NODE)
			die("the list is another one");
	}
	freed(fd, addr, (depth + 1) * NODE);
}

int main(int argc, char **argv)
{
	long arg[3] = { 0 }, count;
	uint64_t *ns;

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	for (int i = 2; i < argc; i++)
		arg[i - 2] = atol(argv[i]);
	count = arg[argc - 3];
	ns = figures(count);
	if (!strcmp(argv[1], "read") || !strcmp(argv[1], "write"))
		copies(argv[1][0] == 'w', arg[0], ns, count);
	else if (!strcmp(argv[1], "touch"))
		touch(arg[0], ns, count);
	else if (!strcmp(argv[1], "clients"))
		clients(arg[0], arg[1], ns, count);
	else if (!strcmp(argv[1], "walk"))
		walk(arg[0], ns, count);
	else if (!strcmp(argv[1], "chase"))
		chase(arg[0], ns, count);
	report(ns, count);
	return 0;
}

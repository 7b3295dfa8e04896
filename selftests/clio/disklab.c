// SPDX-License-Identifier: GPL-2.0
/*
 * For shell tests: `disklab up NR MEMORIES SIZE` makes nodes lt1…, of which the
 * first ones are memory nodes of SIZE bytes; `disklab wipe I SIZE` has memory node I
 * begin again, empty, with SIZE bytes; `disklab cut I` and `disklab mend I` take it off the
 * network and put it back; `disklab down NR MEMORIES` removes all. `disklab fill
 * MB ROUNDS` writes to that much memory and checks it, again and again.
 */
#include <sys/mman.h>

#include "remote.h"

static int memory_holds(size_t bytes, int rounds)
{
	size_t words = bytes / sizeof(uint64_t);
	uint64_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return errno;
	for (uint64_t round = 1; round <= (uint64_t)rounds; round++) {
		for (size_t i = 0; i < words; i++)
			memory[i] = (i * 0x9e3779b97f4a7c15) ^ round;
		for (size_t i = 0; i < words; i++) {
			if (memory[i] != ((i * 0x9e3779b97f4a7c15) ^ round)) {
				fprintf(stderr, "disklab: byte %zu is not what was written\n", i * sizeof(*memory));
				return EIO;
			}
		}
	}
	return 0;
}

static int cluster_of(struct clio_cluster *cl, char **argv)
{
	cl->c.nr = cl->nr = atoi(argv[2]);
	cl->memories = atoi(argv[3]);
	for (int i = 0; i <= LITE_MAX_NODES; i++)
		cl->c.fd[i] = -1;
	return cl->nr > 0 && cl->nr <= LITE_MAX_NODES ? 0 : EINVAL;
}

int main(int argc, char **argv)
{
	struct clio_cluster cl = {};
	int node = argc > 2 ? atoi(argv[2]) : 0;
	int err = EINVAL;

	if (argc == 5 && !strcmp(argv[1], "up")) {
		err = clio_cluster_up(&cl, node, atoi(argv[3]), argv[4]);
	} else if (argc == 4 && !strcmp(argv[1], "down")) {
		err = cluster_of(&cl, argv);
		if (!err)
			clio_cluster_down(&cl);
	} else if (argc == 4 && !strcmp(argv[1], "fill")) {
		err = memory_holds((size_t)node << 20, atoi(argv[3]));
	} else if (argc == 4 && !strcmp(argv[1], "wipe")) {
		memory_down(node);
		err = memory_up(node, argv[3]);
	} else if (argc == 3 && !strcmp(argv[1], "cut")) {
		err = link_cut(node);
	} else if (argc == 3 && !strcmp(argv[1], "mend")) {
		link_mend(node);
		err = 0;
	}
	if (err)
		fprintf(stderr, "disklab: %s\n", strerror(err));
	return err != 0;
}

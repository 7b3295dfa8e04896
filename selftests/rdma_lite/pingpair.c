// SPDX-License-Identifier: GPL-2.0
/*
 * For shell tests: `pingpair need N` makes namespaces lt1…ltN, `pingpair drop`
 * removes them, `pingpair EPOCH` publishes a map of lt1 and lt2, which must be
 * on, and pings both ways.
 */
#include "lite.h"

int main(int argc, char **argv)
{
	struct rdma_lite_map_node map[2] = { map_entry(1), map_entry(2) };
	int one, two;

	/* Only lt1 may be mounted: nobody shall wait for hotpot on lt2. */
	map[1].roles = 0;
	if (argc == 3 && !strcmp(argv[1], "need"))
		return net_need(atoi(argv[2])) ? 1 : 0;
	if (argc == 2 && !strcmp(argv[1], "drop")) {
		net_drop();
		return 0;
	}
	one = lite_open("lt1", 0);
	two = lite_open("lt2", 0);
	if (argc != 2 || one < 0 || two < 0) {
		perror(LITE_DEVICE);
		return 1;
	}
	if (map_set(one, strtoull(argv[1], NULL, 0), map, 2) || map_set(two, strtoull(argv[1], NULL, 0), map, 2)) {
		perror("map");
		return 1;
	}
	if (!lite_reachable(one, 2, 30000) || !lite_reachable(two, 1, 30000)) {
		perror("ping");
		return 1;
	}
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * For shell tests: `disklab up NR MEMORIES SIZE` makes nodes lt1…, of which the
 * first ones are memory nodes of SIZE bytes; `disklab wipe I SIZE` has memory node I
 * begin again, empty, with SIZE bytes; `disklab cut I` and `disklab mend I` take it off the
 * network and put it back; `disklab crash I NR` ends the life of node I of NR, and it begins
 * another; `disklab down NR MEMORIES` removes all. `disklab fill MB ROUNDS` writes to that much
 * memory and checks it, again and again. `disklab store DEVICE LEDGER` writes to a disk until that
 * fails, and notes what was acknowledged; `disklab check DEVICE LEDGER` looks whether it is there.
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

/* Blocks of a disk that are written, and how far apart they are. */
#define BLOCKS	128
#define BLOCK	4096
#define STRIDE	(256 << 10)

struct ledger {
	uint64_t acked[BLOCKS];	/* the last one that was, of each */
	uint64_t last;		/* the last one that was begun */
};

static int disk_open(const char *device, void **block)
{
	int fd = open(device, O_RDWR | O_DIRECT);

	return posix_memalign(block, BLOCK, BLOCK) ? -1 : fd;
}

static off_t place(uint64_t number)
{
	return (off_t)(number % BLOCKS) * STRIDE;
}

static int disk_stores(const char *device, const char *path)
{
	struct ledger ledger = {};
	uint64_t *block;
	int fd = disk_open(device, (void **)&block), to;

	if (fd < 0)
		return errno;
	for (;;) {
		uint64_t number = ++ledger.last;

		for (int i = 0; i < BLOCK / 8; i++)
			block[i] = number;
		if (pwrite(fd, block, BLOCK, place(number)) != BLOCK)
			break;
		ledger.acked[number % BLOCKS] = number;
	}
	fprintf(stderr, "disklab: write %llu: %s\n", (unsigned long long)ledger.last, strerror(errno));
	close(fd);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (to < 0 || write(to, &ledger, sizeof(ledger)) != sizeof(ledger) || close(to))
		return EIO;
	return ledger.last > 1 ? 0 : EAGAIN;
}

static int disk_has(const char *device, const char *path)
{
	struct ledger ledger;
	uint64_t *block;
	int fd = disk_open(device, (void **)&block), from = open(path, O_RDONLY);

	if (fd < 0 || from < 0 || read(from, &ledger, sizeof(ledger)) != sizeof(ledger))
		return EIO;
	for (uint64_t i = 0; i < BLOCKS; i++) {
		if (pread(fd, block, BLOCK, place(i)) != BLOCK)
			return errno;
		for (int word = 0; word < BLOCK / 8; word++) {
			bool begun = block[word] == ledger.last && ledger.last % BLOCKS == i;

			if (block[word] != block[0] || (block[word] != ledger.acked[i] && !begun)) {
				fprintf(stderr, "disklab: block %llu has %llu, not %llu\n", (unsigned long long)i,
					(unsigned long long)block[word], (unsigned long long)ledger.acked[i]);
				return EILSEQ;
			}
		}
	}
	return 0;
}

/* Node i dies without a word, the map drops it, and it is there again in another life. */
static int crash(int i, int nr)
{
	struct cluster c = { .nr = nr };
	int entries = -1;

	for (int n = 1; n <= nr; n++) {
		char ns[16];

		snprintf(ns, sizeof(ns), "lt%d", n);
		c.fd[n] = lite_open(ns, O_NONBLOCK);
		if (c.fd[n] >= 0 && n != i && entries < 0)
			entries = map_get(c.fd[n], &c.epoch, c.map, LITE_MAX_NODES);
	}
	if (entries != nr)
		return ENXIO;
	for (int n = 0; n < nr; n++)
		c.map[n].incarnation = 0;	/* whichever life they live */
	node_power(i, false);
	for (int state = 0; state < 2; state++) {
		for (int n = 0; n < nr; n++)
			if (c.map[n].id == (uint32_t)i)
				c.map[n].state = state ? RDMA_LITE_NODE_UP : RDMA_LITE_NODE_DOWN;
		cluster_publish(&c);
		if (!state && node_power(i, true))
			return EIO;
	}
	for (int n = 1; n <= nr; n++)
		if (!lite_reachable(c.fd[i], n, 30000))
			return ETIMEDOUT;
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
	} else if (argc == 4 && !strcmp(argv[1], "store")) {
		err = disk_stores(argv[2], argv[3]);
	} else if (argc == 4 && !strcmp(argv[1], "check")) {
		err = disk_has(argv[2], argv[3]);
	} else if (argc == 4 && !strcmp(argv[1], "crash")) {
		err = crash(node, atoi(argv[3]));
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

// SPDX-License-Identifier: GPL-2.0
/*
 * How long it takes until data are there again after a node is lost, or comes back (ch. 2, 2.6.4).
 *
 *   recovery fill PATH OWNER BYTES          the first BYTES of the chunks that OWNER owns; prints how many they are
 *   recovery lose NODE PATH BYTES NAME...   publishes a map without NODE on the nodes of these names; prints the ns from
 *                                           then on until each chunk that NODE owned, and the first BYTES of which were
 *                                           filled, is read right and written to at PATH
 *   recovery mount DEVICE WHERE OPTIONS NAME
 *                                           prints the ns that mount(2) takes, and those until the node has served a
 *                                           write and a read of the first and the last chunk of its own of dataset NAME
 *
 *   recovery part DEVICE BYTES              the beginning of a device as its first partition, without a table; 0: it goes
 *
 * A chunk that does not come back within ten minutes is an error.
 */
#include <linux/blkpg.h>
#include <sys/mount.h>

#include "dataset.h"
#include "nodes.h"

#define FILLED 0x5a
#define LIMIT_NS 600000000000ULL
#define NODES 64

/* Calls `use` with each chunk of an owner, while BYTES last. */
static uint64_t each_chunk(int fd, const struct hotpot_info *info, const struct hotpot_chunk *chunks, uint32_t owner,
			   uint64_t bytes, void (*use)(int fd, uint64_t at, uint64_t len))
{
	uint64_t done = 0;

	for (uint32_t c = 0; c < info->nr_chunks && done < bytes; c++)
		if (chunks[c].owner == owner) {
			uint64_t len = info->chunk_size < bytes - done ? info->chunk_size : bytes - done;

			use(fd, c * info->chunk_size, len);
			done += len;
		}
	return done;
}

static void write_chunk(int fd, uint64_t at, uint64_t len)
{
	char data[16 * PAGE];

	memset(data, FILLED, sizeof(data));
	for (uint64_t done = 0; done < len; done += sizeof(data))
		if (pwrite(fd, data, sizeof(data), at + done) != (ssize_t)sizeof(data))
			die("write");
}

/* The data of before are read, and new ones of the same bytes taken. */
static void use_chunk(int fd, uint64_t at, uint64_t len)
{
	uint64_t until = now_ns() + LIMIT_NS;
	char data[PAGE];

	while (pread(fd, data, PAGE, at + len - PAGE) != PAGE || pwrite(fd, data, 8, at) != 8) {
		if (errno == EIO || now_ns() > until)
			die("a chunk that is to come back");
		usleep(1000);
	}
	if (data[0] != FILLED || memcmp(data, data + 1, PAGE - 1)) {
		fprintf(stderr, "recovery: the chunk at %lu has other data than before\n", (unsigned long)at);
		exit(1);
	}
}

static void without(uint32_t lost, char **names, int nr)
{
	struct rdma_lite_map_node nodes[NODES];
	struct rdma_lite_map map = { .nr_nodes = NODES, .nodes = (uintptr_t)nodes };
	int fds[NODES];

	for (int i = 0; i < nr; i++)
		fds[i] = node_of(names[i]);
	if (ioctl(fds[0], RDMA_LITE_IOC_GET_MAP, &map) < 0)
		die("RDMA_LITE_IOC_GET_MAP");
	for (uint32_t i = 0; i < map.nr_nodes; i++)
		if (nodes[i].id == lost)
			nodes[i].state = RDMA_LITE_NODE_OUT;
	map.epoch++;
	for (int i = 0; i < nr; i++)
		if (ioctl(fds[i], RDMA_LITE_IOC_SET_MAP, &map) < 0)
			die("RDMA_LITE_IOC_SET_MAP");
}

/* Of the first and the last chunk that this node owns. */
static void serves(const char *path)
{
	struct hotpot_info info;
	int fd = open_or_die(path, O_RDWR);
	struct hotpot_chunk *chunks = chunks_of(fd, &info);
	int64_t first = -1, last = -1;

	for (uint32_t c = 0; c < info.nr_chunks; c++)
		if (chunks[c].owner == info.node && chunks[c].nr_pages) {
			first = first < 0 ? c : first;
			last = c;
		}
	if (first < 0) {
		errno = ENODATA;
		die("chunks of this node");
	}
	/* Who committed when the node went wrote to first pages. */
	use_chunk(fd, first * info.chunk_size, 2 * PAGE);
	use_chunk(fd, last * info.chunk_size, 2 * PAGE);
}

static void part(const char *device, uint64_t bytes)
{
	struct blkpg_partition first = { .pno = 1, .length = bytes };
	struct blkpg_ioctl_arg arg = {
		.op = bytes ? BLKPG_ADD_PARTITION : BLKPG_DEL_PARTITION,
		.datalen = sizeof(first),
		.data = &first,
	};
	int fd = open_or_die(device, O_RDONLY);

	if (ioctl(fd, BLKPG, &arg) < 0 && (bytes || errno != ENXIO))
		die(device);
	close(fd);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	uint64_t begin;

	if (!strcmp(what, "fill") && argc == 5) {
		int fd = open_or_die(argv[2], O_RDWR);
		struct hotpot_info info;
		struct hotpot_chunk *chunks = chunks_of(fd, &info);

		printf("%lu\n", (unsigned long)each_chunk(fd, &info, chunks, atoi(argv[3]), atol(argv[4]), write_chunk));
		return 0;
	}
	if (!strcmp(what, "lose") && argc > 5 && argc - 5 <= NODES) {
		int fd = open_or_die(argv[3], O_RDWR);
		struct hotpot_info info;
		/* As they are before. */
		struct hotpot_chunk *chunks = chunks_of(fd, &info);
		uint32_t lost = atoi(argv[2]);

		begin = now_ns();
		without(lost, argv + 5, argc - 5);
		each_chunk(fd, &info, chunks, lost, atol(argv[4]), use_chunk);
		printf("%lu\n", (unsigned long)(now_ns() - begin));
		return 0;
	}
	if (!strcmp(what, "mount") && argc == 6) {
		char path[256];

		begin = now_ns();
		if (mount(argv[2], argv[3], "hotpot", 0, argv[4]) < 0)
			die("mount");
		printf("%lu ", (unsigned long)(now_ns() - begin));
		snprintf(path, sizeof(path), "%s/%s", argv[3], argv[5]);
		serves(path);
		printf("%lu\n", (unsigned long)(now_ns() - begin));
		return 0;
	}
	if (!strcmp(what, "part") && argc == 4)
		return part(argv[2], atol(argv[3])), 0;
	fprintf(stderr, "usage: see the top of the source\n");
	return 2;
}

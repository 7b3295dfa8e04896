// SPDX-License-Identifier: GPL-2.0
/*
 * One measurement: prints the nanoseconds of each repetition, one a line.
 *
 *   probe ping NODE BYTES COUNT                calls to a node and back
 *   probe fill PATH BYTES OWNER CHUNK          a dataset with data, replicas 1;
 *                                              OWNER: node id whose chunks to fill
 *   probe fault PATH OWNER COUNT               first touches of pages that OWNER owns
 *   probe commit PATH AREAS REPLICAS COUNT     dirty AREAS pages, commit them
 *   probe fsync PATH AREAS COUNT               write AREAS pages, fsync
 *   probe msync PATH AREAS COUNT               dirty AREAS pages of a mapping, msync
 *   probe sweep PATH BYTES COUNT               read BYTES of a warm mapping
 */
#include <linux/rdma_lite.h>

#include "dataset.h"

static void report(const uint64_t *ns, long count)
{
	for (long i = 0; i < count; i++)
		printf("%lu\n", (unsigned long)ns[i]);
}

static void ping(int node, int bytes, uint64_t *ns, long count)
{
	int fd = open_or_die("/dev/rdma_lite", O_RDWR);

	for (long i = -20; i < count; i++) {
		struct rdma_lite_ping p = { .node = node, .len = bytes };
		uint64_t begin = now_ns();

		if (ioctl(fd, RDMA_LITE_IOC_PING, &p) < 0)
			die("RDMA_LITE_IOC_PING");
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static void fill(const char *path, size_t bytes, uint32_t owner, size_t chunk_size)
{
	struct hotpot_setup setup = { .replicas = 1, .mode = HOTPOT_MRMW, .chunk_size = chunk_size };
	struct hotpot_chunk *chunks;
	struct hotpot_info info;
	int fd = dataset_or_die(path, &setup, bytes);
	char *data;

	chunks = chunks_of(fd, &info);
	data = malloc(chunk_size);
	memset(data, 0x5a, chunk_size);
	for (uint32_t c = 0; c < info.nr_chunks; c++)
		if ((!owner || chunks[c].owner == owner) &&
		    pwrite(fd, data, chunk_size, c * chunk_size) != (ssize_t)chunk_size)
			die("write");
}

static void fault(const char *path, uint32_t owner, uint64_t *ns, long count)
{
	int fd = open_or_die(path, O_RDWR);
	char *map = map_or_die(fd, size_of(fd));
	struct hotpot_info info;
	struct hotpot_chunk *chunks = chunks_of(fd, &info);
	long done = 0;

	for (uint32_t c = 0; c < info.nr_chunks && done < count; c++) {
		if (chunks[c].owner != owner)
			continue;
		for (size_t off = 0; off < info.chunk_size && done < count; off += PAGE) {
			volatile char *at = map + c * info.chunk_size + off;
			uint64_t begin = now_ns();
			char got = *at;

			ns[done++] = now_ns() - begin;
			if (got != 0x5a) {
				fprintf(stderr, "probe: wrong data at %p\n", (void *)at);
				exit(1);
			}
		}
	}
	if (done < count) {
		fprintf(stderr, "probe: only %ld pages\n", done);
		exit(1);
	}
}

static void commit(const char *path, uint32_t areas, uint32_t replicas, uint64_t *ns, long count)
{
	int fd = open_or_die(path, O_RDWR);
	struct hotpot_area *area = calloc(areas, sizeof(*area));
	char *map = map_or_die(fd, size_of(fd));

	for (uint32_t i = 0; i < areas; i++)
		area[i] = (struct hotpot_area){ (uintptr_t)map + i * PAGE, PAGE };
	for (long i = -3; i < count; i++) {
		struct hotpot_commit c = { .areas = (uintptr_t)area, .nr_areas = areas, .replicas = replicas };
		uint64_t begin;

		for (uint32_t k = 0; k < areas; k++)
			memset(map + k * PAGE, i + k, PAGE);
		begin = now_ns();
		if (ioctl(fd, HOTPOT_IOC_COMMIT, &c) < 0)
			die("HOTPOT_IOC_COMMIT");
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static void write_fsync(const char *path, uint32_t areas, uint64_t *ns, long count)
{
	int fd = open_or_die(path, O_RDWR | O_CREAT);
	char *data = malloc(areas * PAGE);

	for (long i = -3; i < count; i++) {
		uint64_t begin;

		memset(data, i, areas * PAGE);
		begin = now_ns();
		if (pwrite(fd, data, areas * PAGE, 0) != (ssize_t)(areas * PAGE) || fsync(fd) < 0)
			die("write and fsync");
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static void dirty_msync(const char *path, uint32_t areas, uint64_t *ns, long count)
{
	int fd = open_or_die(path, O_RDWR | O_CREAT);
	char *map, *data = calloc(1, areas * PAGE);

	if (pwrite(fd, data, areas * PAGE, 0) != (ssize_t)(areas * PAGE) || fsync(fd) < 0)
		die("write");
	map = map_or_die(fd, areas * PAGE);
	for (long i = -3; i < count; i++) {
		uint64_t begin;

		memset(map, i, areas * PAGE);
		begin = now_ns();
		if (msync(map, areas * PAGE, MS_SYNC) < 0)
			die("msync");
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

static void sweep(const char *path, size_t bytes, uint64_t *ns, long count)
{
	int fd = open_or_die(path, O_RDWR);
	char *map;
	volatile uint64_t sum = 0;

	if (size_of(fd) < bytes) {
		char *data = malloc(1 << 20);

		memset(data, 1, 1 << 20);
		for (size_t off = 0; off < bytes; off += 1 << 20)
			if (pwrite(fd, data, 1 << 20, off) != 1 << 20)
				die("write");
		fsync(fd);
	}
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	for (long i = -2; i < count; i++) {
		uint64_t begin = now_ns(), s = 0;

		for (size_t off = 0; off < bytes; off += 8)
			s += *(uint64_t *)(map + off);
		sum += s;
		if (i >= 0)
			ns[i] = now_ns() - begin;
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	long count = argc > 3 ? atol(argv[argc - 1]) : 0;
	uint64_t *ns = calloc(count > 0 ? count : 1, sizeof(*ns));

	if (!strcmp(what, "ping") && argc == 5)
		ping(atoi(argv[2]), atoi(argv[3]), ns, count);
	else if (!strcmp(what, "fill") && argc == 6)
		return fill(argv[2], atol(argv[3]), atoi(argv[4]), atol(argv[5])), 0;
	else if (!strcmp(what, "fault") && argc == 5)
		fault(argv[2], atoi(argv[3]), ns, count);
	else if (!strcmp(what, "commit") && argc == 6)
		commit(argv[2], atoi(argv[3]), atoi(argv[4]), ns, count);
	else if (!strcmp(what, "fsync") && argc == 5)
		write_fsync(argv[2], atoi(argv[3]), ns, count);
	else if (!strcmp(what, "msync") && argc == 5)
		dirty_msync(argv[2], atoi(argv[3]), ns, count);
	else if (!strcmp(what, "sweep") && argc == 5)
		sweep(argv[2], atol(argv[3]), ns, count);
	else {
		fprintf(stderr, "usage: see the top of the source\n");
		return 2;
	}
	report(ns, count);
	return 0;
}

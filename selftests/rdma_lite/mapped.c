// SPDX-License-Identifier: GPL-2.0
/* Regions of our own node in the address space of a process: as long as its handle goes, and no longer. */
#include <pthread.h>
#include <setjmp.h>

/* The library opens our own namespace's node; the tests open those of others. */
#define lite_open lite_open_here
#include <rdma_lite.h>
#undef lite_open
#include "lite.h"

#define ALL (RDMA_LITE_READ | RDMA_LITE_WRITE | RDMA_LITE_ADMIN)
#define RW (RDMA_LITE_READ | RDMA_LITE_WRITE)
#define PROT_RW (PROT_READ | PROT_WRITE)
#define PAGE 4096
#define LEN (3 * PAGE + 100)
#define MIB (1ull << 20)

/* --- accesses that may end by a signal ------------------------------------------ */

static __thread sigjmp_buf back;

static void on_signal(int signal)
{
	siglongjmp(back, signal);
}

static void catch_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };

	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGSEGV, &act, NULL);
}

/* The signal that a load ends by; 0: none. */
static int load(const volatile uint8_t *at)
{
	int signal = sigsetjmp(back, 1);

	if (!signal)
		(void)*at;
	return signal;
}

static int store(volatile uint8_t *at, uint8_t value)
{
	int signal = sigsetjmp(back, 1);

	if (!signal)
		*at = value;
	return signal;
}

FIXTURE(mapped) {
	struct cluster c;
	int one, two;
	/* A region at node 1 and its handles at both. */
	uint64_t r, m;
	uint8_t *mem;
};

FIXTURE_SETUP(mapped)
{
	ASSERT_EQ(0, cluster_up(&self->c, 2));
	self->one = self->c.fd[1];
	self->two = self->c.fd[2];
	self->r = lite_malloc(self->one, 1, LEN, "here", ALL, 0);
	ASSERT_NE(0, self->r);
	self->m = lite_map(self->two, 1, "here", ALL);
	ASSERT_NE(0, self->m);
	self->mem = lite_mmap(self->one, self->r, 0, LEN, PROT_RW);
	ASSERT_NE(MAP_FAILED, self->mem) TH_LOG("%s", strerror(errno));
	catch_signals();
}

FIXTURE_TEARDOWN(mapped)
{
	munmap(self->mem, LEN);
	cluster_down(&self->c);
}

TEST_F(mapped, regions_are_what_others_read_and_write)
{
	uint8_t bytes[LEN], back_there[LEN];
	uint64_t old;

	for (int i = 0; i < LEN; i++) {
		EXPECT_EQ(0, self->mem[i]);
	}
	fill(bytes, LEN, 1);
	ASSERT_EQ(0, lite_write(self->two, self->m, 0, bytes, LEN));
	EXPECT_EQ(0, memcmp(self->mem, bytes, LEN));
	fill(self->mem, LEN, 2);
	ASSERT_EQ(0, lite_read(self->two, self->m, 0, back_there, LEN));
	EXPECT_EQ(0, memcmp(self->mem, back_there, LEN));
	/* Words, too. */
	__atomic_store_n((uint64_t *)(self->mem + 8), 40, __ATOMIC_RELAXED);
	ASSERT_EQ(0, lite_fetch_add(self->two, self->m, 8, 2, &old));
	EXPECT_EQ(40, old);
	EXPECT_EQ(42, __atomic_load_n((uint64_t *)(self->mem + 8), __ATOMIC_RELAXED));
}

TEST_F(mapped, regions_have_all_their_pages_in_their_places)
{
	const uint64_t len = 3 * MIB + 5 * PAGE;
	uint64_t r = lite_malloc(self->one, 1, len, NULL, 0, 0);
	uint8_t *bytes = malloc(len), *all, *tail;

	ASSERT_NE(0, r);
	fill(bytes, len, 3);
	ASSERT_EQ(0, lite_write(self->one, r, 0, bytes, len));
	all = lite_mmap(self->one, r, 0, len, PROT_READ);
	tail = lite_mmap(self->one, r, 2 * MIB - PAGE, MIB + 6 * PAGE, PROT_READ);
	ASSERT_NE(MAP_FAILED, all);
	ASSERT_NE(MAP_FAILED, tail);
	EXPECT_EQ(0, memcmp(all, bytes, len));
	EXPECT_EQ(0, memcmp(tail, bytes + 2 * MIB - PAGE, MIB + 6 * PAGE));
	munmap(all, len);
	munmap(tail, MIB + 6 * PAGE);
	free(bytes);
}

TEST_F(mapped, with_no_more_rights_than_the_handle_has)
{
	uint64_t reads = lite_map(self->one, 1, "here", RDMA_LITE_READ);
	uint64_t writes = lite_map(self->one, 1, "here", RDMA_LITE_WRITE);
	struct rdma_lite_region_info info;
	uint8_t *mem;

	ASSERT_NE(0, reads);
	ASSERT_NE(0, writes);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, reads, 0, PAGE, PROT_RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, writes, 0, PAGE, PROT_RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, writes, 0, PAGE, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 0, PAGE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	mem = lite_mmap(self->one, reads, 0, PAGE, PROT_READ);
	ASSERT_NE(MAP_FAILED, mem);
	self->mem[5] = 77;
	EXPECT_EQ(77, mem[5]);
	EXPECT_EQ(SIGSEGV, store(mem, 1));
	EXPECT_EQ(EACCES, ERRNO_OF(mprotect(mem, PAGE, PROT_RW)));
	EXPECT_EQ(EACCES, ERRNO_OF(mprotect(self->mem, PAGE, PROT_READ | PROT_EXEC)));
	munmap(mem, PAGE);
	ASSERT_EQ(0, lite_region_info(self->one, self->r, &info));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->one, info.mmap_offset));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(mapped, nothing_is_found_at_offsets_that_are_nobodys)
{
	struct rdma_lite_region_info info, other;
	uint64_t far = lite_malloc(self->one, 2, LEN, NULL, 0, 0);
	uint8_t *room = mmap(NULL, PAGE, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t lent = lite_lend(self->one, room, PAGE, NULL, 0);
	int again = lite_open("lt1", 0);

	ASSERT_NE(0, far);
	ASSERT_NE(0, lent);
	ASSERT_GE(again, 0);
	/* Not ours, and not the node's. */
	ASSERT_EQ(0, lite_region_info(self->one, far, &info));
	EXPECT_EQ(0, info.mmap_offset);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, far, 0, PAGE, PROT_READ));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, lent, 0, PAGE, PROT_READ));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 1ull << 63, PAGE, PROT_READ));
	EXPECT_EQ(ERANGE, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 100, PAGE, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r + (1ull << 32), 0, PAGE, PROT_READ));
	EXPECT_EQ(EBADF, errno);
	ASSERT_EQ(0, lite_region_info(self->one, self->r, &info));
	ASSERT_NE(0, info.mmap_offset);
	ASSERT_EQ(0, lite_region_info(self->one, self->r, &other));
	EXPECT_EQ(info.mmap_offset, other.mmap_offset);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN + PAGE, PROT_READ, MAP_SHARED, self->one, info.mmap_offset));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_READ, MAP_SHARED, self->one, info.mmap_offset + PAGE));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->one, 0));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, self->one, INT64_MAX - PAGE + 1));
	EXPECT_NE(0, errno);
	/* Of another open file. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, again, info.mmap_offset));
	EXPECT_EQ(ENXIO, errno);
	/* Of a handle that has ended; its offsets are not given to another. */
	far = lite_map(self->one, 1, "here", ALL);
	ASSERT_EQ(0, lite_region_info(self->one, far, &other));
	ASSERT_EQ(0, lite_unmap(self->one, far));
	ASSERT_NE(0, lite_map(self->one, 1, "here", ALL));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->one, other.mmap_offset));
	EXPECT_EQ(ENXIO, errno);
	close(again);
	munmap(room, PAGE);
}

TEST_F(mapped, what_is_freed_is_a_bus_error_and_not_what_comes_after)
{
	uint64_t next;

	memset(self->mem, 5, LEN);
	ASSERT_EQ(0, lite_free(self->two, self->m));
	next = lite_malloc(self->one, 1, LEN, NULL, 0, 0);
	ASSERT_NE(0, next);
	EXPECT_EQ(SIGBUS, load(self->mem));
	EXPECT_EQ(SIGBUS, store(self->mem + PAGE, 1));
	EXPECT_EQ(0, ERRNO_OF(lite_unmap(self->one, self->r)));
	EXPECT_EQ(SIGBUS, load(self->mem + 2 * PAGE));
}

TEST_F(mapped, what_is_revoked_is_a_bus_error)
{
	memset(self->mem, 5, LEN);
	/* Reading is left. */
	ASSERT_EQ(0, lite_grant(self->two, self->m, 1, RDMA_LITE_READ));
	EXPECT_EQ(SIGBUS, store(self->mem, 1));
	EXPECT_EQ(0, load(self->mem));
	EXPECT_EQ(5, self->mem[0]);
	EXPECT_EQ(SIGBUS, store(self->mem, 1));
	EXPECT_EQ(0, load(self->mem + LEN - 1));
	ASSERT_EQ(0, lite_grant(self->two, self->m, 0, 0));
	EXPECT_EQ(SIGBUS, load(self->mem));
	EXPECT_EQ(SIGBUS, load(self->mem + LEN - 1));
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 0, PAGE, PROT_READ));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(mapped, what_is_unmapped_by_its_handle_is_a_bus_error)
{
	uint64_t other = lite_map(self->one, 1, "here", RW);
	uint8_t *mem = lite_mmap(self->one, other, 0, LEN, PROT_RW);

	ASSERT_NE(MAP_FAILED, mem);
	mem[0] = 9;
	ASSERT_EQ(0, lite_unmap(self->one, other));
	EXPECT_EQ(SIGBUS, load(mem));
	/* The other handle's stays. */
	EXPECT_EQ(0, store(self->mem, 10));
	EXPECT_EQ(10, self->mem[0]);
	munmap(mem, LEN);
}

TEST_F(mapped, a_node_that_is_switched_off_takes_it_away)
{
	memset(self->mem, 5, LEN);
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_EQ(SIGBUS, load(self->mem));
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 0, PAGE, PROT_READ));
	EXPECT_EQ(ESHUTDOWN, errno);
	ASSERT_EQ(0, node_power(1, true));
	EXPECT_EQ(SIGBUS, load(self->mem));
	EXPECT_EQ(MAP_FAILED, lite_mmap(self->one, self->r, 0, PAGE, PROT_READ));
	EXPECT_EQ(ESTALE, errno);
}

TEST_F(mapped, areas_are_cut_moved_and_copied_as_any)
{
	uint8_t *moved, *other = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int i = 0; i < 4; i++)
		self->mem[i * PAGE] = 10 + i;
	ASSERT_EQ(0, munmap(self->mem + PAGE, PAGE));
	EXPECT_EQ(SIGSEGV, load(self->mem + PAGE));
	EXPECT_EQ(10, self->mem[0]);
	EXPECT_EQ(12, self->mem[2 * PAGE]);
	/* It does not grow, over whatever comes after it. */
	EXPECT_EQ(MAP_FAILED, mremap(self->mem, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	moved = mremap(self->mem + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other);
	ASSERT_EQ(other, moved);
	EXPECT_EQ(12, moved[0]);
	EXPECT_EQ(13, moved[PAGE]);
	EXPECT_EQ(SIGSEGV, load(self->mem + 2 * PAGE));
	EXPECT_EQ(0, madvise(moved, PAGE, MADV_DONTFORK));
	EXPECT_EQ(12, moved[0]);
	ASSERT_EQ(0, mprotect(moved, PAGE, PROT_READ));
	EXPECT_EQ(SIGSEGV, store(moved, 1));
	ASSERT_EQ(0, mprotect(moved, PAGE, PROT_RW));
	EXPECT_EQ(0, store(moved, 99));
	ASSERT_EQ(0, lite_free(self->two, self->m));
	EXPECT_EQ(SIGBUS, load(self->mem));
	EXPECT_EQ(SIGBUS, load(moved));
	EXPECT_EQ(SIGBUS, load(moved + PAGE));
	munmap(moved, LEN);
}

TEST_F(mapped, a_child_shares_it_and_loses_it_as_well)
{
	int to_child[2], to_parent[2], status;
	char byte;
	pid_t child;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	self->mem[0] = 1;
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		int bad = self->mem[0] != 1;

		self->mem[PAGE] = 2;
		bad |= write(to_parent[1], "+", 1) != 1;
		bad |= read(to_child[0], &byte, 1) != 1;
		bad |= load(self->mem) != SIGBUS || load(self->mem + PAGE) != SIGBUS;
		_exit(bad);
	}
	ASSERT_EQ(1, read(to_parent[0], &byte, 1));
	EXPECT_EQ(2, self->mem[PAGE]);
	ASSERT_EQ(0, lite_free(self->two, self->m));
	EXPECT_EQ(SIGBUS, load(self->mem + PAGE));
	ASSERT_EQ(1, write(to_child[1], "+", 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(mapped, it_keeps_its_file_open_and_ends_with_its_process)
{
	int pipes[2], status;
	char byte;
	pid_t child;

	ASSERT_EQ(0, pipe(pipes));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		int fd = lite_open("lt1", 0);
		uint64_t r = lite_malloc(fd, 1, 8 * PAGE, "its", RDMA_LITE_READ, 0);
		uint8_t *mem = lite_mmap(fd, r, 0, 8 * PAGE, PROT_RW);
		bool good = mem != MAP_FAILED;

		close(fd);
		if (good)
			memset(mem, 7, 8 * PAGE);
		if (write(pipes[1], good ? "+" : "-", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ASSERT_EQ(1, read(pipes[0], &byte, 1));
	ASSERT_EQ('+', byte);
	EXPECT_EQ(4 * PAGE + 8 * PAGE, node_attr_number("lt1", "memory_used"));
	{
		uint64_t its = lite_map(self->two, 1, "its", RDMA_LITE_READ);

		ASSERT_NE(0, its);
		ASSERT_EQ(0, lite_read(self->two, its, 8 * PAGE - 1, &byte, 1));
		EXPECT_EQ(7, byte);
		ASSERT_EQ(0, lite_unmap(self->two, its));
	}
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(EVENTUALLY(20000, node_attr_number("lt1", "memory_used") == 4 * PAGE));
}

TEST_F(mapped, it_is_not_memory_for_the_kernel_to_pin)
{
	EXPECT_EQ(0, lite_lend(self->one, self->mem, PAGE, NULL, 0));
	EXPECT_EQ(EFAULT, errno);
	/* But to copy to and from. */
	memset(self->mem, 3, LEN);
	ASSERT_EQ(0, lite_write(self->two, self->m, PAGE, self->mem, PAGE));
	EXPECT_EQ(0, lite_read(self->two, self->m, 0, self->mem + PAGE, PAGE));
}

struct toucher {
	volatile uint8_t *mem;
	volatile bool done;
	int buses;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	while (!t->done)
		for (int page = 0; page < 4 && !t->done; page++)
			t->buses += store(t->mem + page * PAGE, 1) == SIGBUS;
	return NULL;
}

TEST_F(mapped, who_touches_it_while_it_is_taken_away_gets_bytes_or_a_bus_error)
{
	for (int round = 0; round < 20; round++) {
		uint64_t r = lite_malloc(self->one, 1, LEN, "touched", ALL, 0), m;
		struct toucher t = { .mem = lite_mmap(self->one, r, 0, LEN, PROT_RW) };
		pthread_t thread;

		ASSERT_NE(MAP_FAILED, t.mem);
		m = lite_map(self->two, 1, "touched", ALL);
		ASSERT_NE(0, m);
		ASSERT_EQ(0, pthread_create(&thread, NULL, touch, &t));
		sleep_ms(5);
		ASSERT_EQ(0, round % 2 ? lite_free(self->two, m) : lite_grant(self->two, m, 1, RDMA_LITE_READ));
		EXPECT_TRUE(EVENTUALLY(10000, __atomic_load_n(&t.buses, __ATOMIC_RELAXED) > 0));
		t.done = true;
		pthread_join(thread, NULL);
		EXPECT_EQ(SIGBUS, store(t.mem, 1));
		munmap((void *)t.mem, LEN);
		lite_unmap(self->one, r);
		if (round % 2 == 0) {
			ASSERT_EQ(0, lite_free(self->two, m));
		}
	}
}

TEST_HARNESS_MAIN

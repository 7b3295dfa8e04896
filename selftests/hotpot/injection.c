// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is not there: each allocation of each request fails once, then those of kernel workers now and then.
 * A request ends by an error and nothing was published, or finds another way; nothing is lost, and all works right
 * afterwards. Needs CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC (the debug kernel).
 */
#include <sys/mman.h>
#include "hotpot.h"
#include "inject.h"

/* Chunks, round robin over the nodes' ids: two of each. */
#define SIZE (6 * CHUNK)
/* No request allocates so often. */
#define MOST 3000
#define PATIENCE_MS 30000

struct world {
	struct space s;
	/* An MRMW and an MRSW dataset at node 1. */
	int fd[2];
	char *map[2];
	/* What the request at hand stores and is about. */
	int which;
	uint64_t value;
	struct hotpot_area areas[3];
	/* What node 2 read there before. */
	uint64_t before[3];
	uint32_t nr;
	/* The map that all nodes have, and their devices. */
	struct rdma_lite_map_node nodes[16];
	int nr_nodes, lite[SPACE_NODES + 1];
	uint64_t epoch;
};

static const char *const names[2] = { "injectmw", "injectsw" };

struct request {
	const char *name;
	/* What has to be there; 0 or an errno. */
	int (*prepare)(struct world *w);
	/* The request itself; 0 or an errno. */
	int (*once)(struct world *w);
	/* What must be true when the request ended by `err`, and so did not or did happen. */
	bool (*holds)(struct world *w, int err);
	/* Gives back what prepare and the request have made. */
	void (*undo)(struct world *w);
};

static bool nothing_to_hold(struct world *w, int err)
{
	(void)w;
	(void)err;
	return true;
}

static void leave_nothing(struct world *w) { (void)w; }
static int nothing(struct world *w) { (void)w; return 0; }

/* --- commits --------------------------------------------------------------------- */

/* A new number in a page of each of `nr` chunks from `chunk` on, stored and not committed. */
static int put(struct world *w, int which, int chunk, int nr)
{
	w->which = which;
	w->nr = nr;
	w->value++;
	for (int i = 0; i < nr; i++) {
		int err = peek(at(&w->s, 2, names[which]), (chunk + i) * CHUNK, &w->before[i], 8);

		if (err)
			return err;
		w->areas[i] = (struct hotpot_area){ (uintptr_t)w->map[which] + (chunk + i) * CHUNK, 8 };
	}
	if (which && acquire_fd(w->fd[1], HOTPOT_IOC_ACQUIRE, w->areas, nr, PATIENCE_MS, HOTPOT_ACQUIRE_WAIT))
		return errno;
	for (int i = 0; i < nr; i++) {
		int err = careful_copy((void *)(uintptr_t)w->areas[i].addr, &w->value, 8);

		if (err)
			return err;
	}
	return 0;
}

static int put_one(struct world *w) { return put(w, 0, 0, 1); }
static int put_next(struct world *w) { return put(w, 0, 1, 1); }
static int put_three(struct world *w) { return put(w, 0, 0, 3); }
static int put_acquired(struct world *w) { return put(w, 1, 0, 3); }
static int once_commit(struct world *w) { return commit_fd(w->fd[w->which], w->areas, w->nr, 2, PATIENCE_MS, NULL); }
static int once_msync(struct world *w) { return ERRNO_OF(msync(w->map[0], 3 * CHUNK, MS_SYNC)); }
static int once_fsync(struct world *w) { return ERRNO_OF(fsync(w->fd[0])); }

/* Another node reads what was before when it failed, else what is new; either when that is not known. */
static bool published(struct world *w, int err)
{
	for (uint32_t i = 0; i < w->nr; i++) {
		uint64_t off = w->areas[i].addr - (uintptr_t)w->map[w->which], got = 0;
		int bad = peek(at(&w->s, 2, names[w->which]), off, &got, 8);

		bool is_old = got == w->before[i], is_new = got == w->value;

		if (bad || (err == EINPROGRESS ? !is_old && !is_new : err ? !is_old : !is_new)) {
			fprintf(stderr, "# after %s node 2 reads %lu at %lu (%s), not %lu\n", strerror(err),
				(unsigned long)got, (unsigned long)off, strerror(bad), (unsigned long)w->value);
			return false;
		}
	}
	return true;
}

static void abort_all(struct world *w) { acquire_fd(w->fd[1], HOTPOT_IOC_ABORT, NULL, 0, PATIENCE_MS, 0); }

/* --- writers ---------------------------------------------------------------------- */

static int choose_pages(struct world *w)
{
	w->nr = 3;
	for (int i = 0; i < 3; i++)
		w->areas[i] = (struct hotpot_area){ (uintptr_t)w->map[1] + (3 + i) * CHUNK, 8 };
	return 0;
}

static int once_acquire(struct world *w)
{
	return acquire_fd(w->fd[1], HOTPOT_IOC_ACQUIRE, w->areas, w->nr, PATIENCE_MS, HOTPOT_ACQUIRE_WAIT);
}

static int take_pages(struct world *w) { return choose_pages(w) ?: once_acquire(w); }

static int once_abort(struct world *w)
{
	return acquire_fd(w->fd[1], HOTPOT_IOC_ABORT, NULL, 0, PATIENCE_MS, 0);
}

/* --- reading and writing ----------------------------------------------------------- */

/* Node 2 publishes a page that node 1 has to fetch. */
static int write_there(struct world *w)
{
	w->value++;
	return poke(at(&w->s, 2, names[0]), 4 * CHUNK + PAGE, &w->value, 8);
}

static int once_read(struct world *w)
{
	uint64_t got = 0;
	ssize_t n = pread(w->fd[0], &got, 8, 4 * CHUNK + PAGE);

	return n < 0 ? errno : n != 8 || got != w->value ? EBADMSG : 0;
}

static int once_load(struct world *w)
{
	uint64_t got = 0;
	int err = careful_copy(&got, w->map[0] + 4 * CHUNK + PAGE, 8);

	/* A fault without memory is a bus error, or is tried again. */
	return err == EFAULT ? ENOMEM : err ?: got == w->value ? 0 : EBADMSG;
}

static int once_store(struct world *w)
{
	int err = careful_copy(w->map[0] + 4 * CHUNK + PAGE + 64, &w->value, 8);

	return err == EFAULT ? ENOMEM : err;
}

static void commit_store(struct world *w)
{
	msync(w->map[0] + 4 * CHUNK, CHUNK, MS_SYNC);
}

static int once_write(struct world *w)
{
	w->value++;
	return pwrite(w->fd[0], &w->value, 8, 5 * CHUNK) < 0 ? errno : 0;
}

/* --- names, and the rest -------------------------------------------------------------- */

static int once_create(struct world *w)
{
	int fd = open(at(&w->s, 1, "injectnew"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int once_unlink(struct world *w)
{
	int err = ERRNO_OF(unlink(at(&w->s, 1, "injectnew")));

	/* Its answer may have been what there was no memory for. */
	return err == ENOENT ? 0 : err;
}

static int once_grow(struct world *w) { return ERRNO_OF(truncate(at(&w->s, 1, "injectnew"), SIZE)); }
static void drop_new(struct world *w) { EVENTUALLY(PATIENCE_MS, !once_unlink(w)); }

static int once_info(struct world *w)
{
	struct hotpot_chunk chunks[6];
	struct hotpot_info info = { .chunks = (uintptr_t)chunks, .nr_chunks = 6 };

	return ERRNO_OF(ioctl(w->fd[0], HOTPOT_IOC_INFO, &info));
}

static int once_barrier(struct world *w)
{
	struct hotpot_barrier b = { .name = "injection", .count = 1, .timeout_ms = PATIENCE_MS };

	return ERRNO_OF(ioctl(w->fd[0], HOTPOT_IOC_BARRIER, &b));
}

static int once_scrub(struct world *w)
{
	struct hotpot_scrub step = { .nr_pages = 16, .timeout_ms = PATIENCE_MS };

	return ERRNO_OF(ioctl(w->fd[0], HOTPOT_IOC_SCRUB, &step));
}

static int unmount_third(struct world *w) { return place_umount(&w->s.n[3]); }
static int once_mount(struct world *w) { return place_mount(&w->s.n[3]); }

/* Opened before, since that forks. */
static int find_map(struct world *w)
{
	for (int i = 1; i <= w->s.nr; i++)
		if (w->lite[i] <= 0) {
			w->lite[i] = lite_open(w->s.n[i].name, 0);
			if (w->lite[i] < 0)
				return errno;
		}
	w->nr_nodes = map_get(w->lite[1], &w->epoch, w->nodes, 16);
	if (w->nr_nodes < 0)
		return errno;
	for (int i = 0; i < w->nr_nodes; i++)
		w->nodes[i].incarnation = 0;
	return 0;
}

static int once_map(struct world *w)
{
	int err = 0;

	w->epoch++;
	for (int i = 1; i <= w->s.nr && !err; i++)
		err = ERRNO_OF(map_set(w->lite[i], w->epoch, w->nodes, w->nr_nodes));
	return err;
}

/* A node that had no memory for the map when it came has it soon, or the others refuse what it asks for. */
static bool all_have_the_map(struct world *w, int err)
{
	return err || EVENTUALLY(PATIENCE_MS, !put_three(w) && !once_commit(w));
}

/* --- each allocation in turn ------------------------------------------------------------ */

/* EINPROGRESS: a commit of which nobody had the memory to say how it ended. */
static bool is_shortage(const struct request *request, int err)
{
	return err == ENOMEM || (err == EINPROGRESS && request->holds == published);
}

static bool survives(struct world *w, const struct request *request)
{
	int failures = 0, errors = 0;

	for (unsigned int n = 1; n < MOST; n++) {
		bool failed;
		int err = request->prepare(w), again;

		if (err) {
			fprintf(stderr, "# %s: not prepared: %s\n", request->name, strerror(err));
			return false;
		}
		failed = fails_at(n, request->once, w, &err);
		failures += failed;
		errors += !!err;
		if ((err && !(failed && is_shortage(request, err))) || !request->holds(w, err)) {
			fprintf(stderr, "# %s, allocation %u%s: %s\n", request->name, n, failed ? " failed" : "",
				strerror(err));
			return false;
		}
		/* What was left of it elsewhere may have to be undone first. */
		again = err;
		if (err && request->prepare == put_acquired) {
			abort_all(w);
			err = request->prepare(w) ?: err;
		}
		if (err)
			EVENTUALLY(PATIENCE_MS, !(again = request->once(w)));
		if (again || !request->holds(w, 0)) {
			fprintf(stderr, "# %s, after allocation %u failed: %s\n", request->name, n, strerror(again));
			return false;
		}
		request->undo(w);
		if (!failed) {
			fprintf(stderr, "# %s: %d allocations, %d errors\n", request->name, failures, errors);
			return true;
		}
	}
	return false;
}

FIXTURE(injection) {
	struct world w;
};

FIXTURE_SETUP(injection)
{
	struct world *w = &self->w;

	if (!can_inject())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_EQ(0, space_open(&w->s));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, dataset_make_mode(&w->s, 1, names[i], SIZE, 2, i ? HOTPOT_MRSW : HOTPOT_MRMW));
		w->fd[i] = open(at(&w->s, 1, names[i]), O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, w->fd[i]);
		w->map[i] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd[i], 0);
		ASSERT_NE(MAP_FAILED, w->map[i]);
	}
	ASSERT_EQ(0, nth_open());
}

FIXTURE_TEARDOWN(injection)
{
	struct world *w = &self->w;

	if (nth_fd < 0)
		return;
	inject_nothing();
	for (int i = 1; i <= w->s.nr; i++)
		if (w->lite[i] > 0)
			close(w->lite[i]);
	for (int i = 0; i < 2; i++) {
		munmap(w->map[i], SIZE);
		close(w->fd[i]);
		EXPECT_TRUE(EVENTUALLY(PATIENCE_MS, !unlink(at(&w->s, 1, names[i])) || errno == ENOENT));
	}
}

TEST_F_TIMEOUT(injection, no_allocation_is_missed_by_a_commit, 600)
{
	static const struct request list[] = {
		{ "commit to one owner", put_one, once_commit, published, leave_nothing },
		{ "commit to another owner", put_next, once_commit, published, leave_nothing },
		{ "commit to three owners", put_three, once_commit, published, leave_nothing },
		{ "commit of what was acquired", put_acquired, once_commit, published, leave_nothing },
		{ "msync", put_three, once_msync, published, leave_nothing },
		{ "fsync", put_three, once_fsync, published, leave_nothing },
	};

	SURVIVE(list);
}

TEST_F_TIMEOUT(injection, no_allocation_is_missed_by_writers_readers_and_faults, 600)
{
	static const struct request list[] = {
		{ "acquire", choose_pages, once_acquire, nothing_to_hold, abort_all },
		{ "abort", take_pages, once_abort, nothing_to_hold, abort_all },
		{ "read", write_there, once_read, nothing_to_hold, leave_nothing },
		{ "load", write_there, once_load, nothing_to_hold, leave_nothing },
		{ "store", write_there, once_store, nothing_to_hold, commit_store },
		{ "write", nothing, once_write, nothing_to_hold, leave_nothing },
	};

	SURVIVE(list);
}

TEST_F_TIMEOUT(injection, no_allocation_is_missed_by_names_mounts_and_barriers, 600)
{
	static const struct request list[] = {
		{ "create", nothing, once_create, nothing_to_hold, drop_new },
		{ "grow", once_create, once_grow, nothing_to_hold, drop_new },
		{ "unlink", once_create, once_unlink, nothing_to_hold, leave_nothing },
		{ "info", nothing, once_info, nothing_to_hold, leave_nothing },
		{ "barrier", nothing, once_barrier, nothing_to_hold, leave_nothing },
		{ "scrub", nothing, once_scrub, nothing_to_hold, leave_nothing },
		{ "map", find_map, once_map, all_have_the_map, leave_nothing },
		{ "mount", unmount_third, once_mount, nothing_to_hold, leave_nothing },
	};

	SURVIVE(list);
}

TEST_F_TIMEOUT(injection, workers_that_get_no_memory_now_and_then_lose_no_commit, 300)
{
	struct world *w = &self->w;
	uint64_t done = 0;
	int64_t end = now_ms() + 10000;

	/* A commit to three owners has some 300. */
	ASSERT_EQ(0, inject_workers("500"));
	while (now_ms() < end) {
		int which = done % 2, err = put(w, which, 0, 3);

		err = err ?: once_commit(w);
		if (err && which)
			abort_all(w);
		done += !err;
		if (!err && !EVENTUALLY(PATIENCE_MS, published(w, 0))) {
			TH_LOG("commit %lu is not there", (unsigned long)done);
			break;
		}
	}
	inject_nothing();
	EXPECT_LT(0, done);
	EXPECT_TRUE(EVENTUALLY(PATIENCE_MS, !put_three(w) && !once_commit(w)));
	EXPECT_TRUE(published(w, 0));
	EXPECT_TRUE(EVENTUALLY(PATIENCE_MS, !put_acquired(w) && !once_commit(w)));
	EXPECT_TRUE(published(w, 0));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is not there: each allocation of each request fails once, then those of workers and softirqs
 * now and then. A request ends by an error or finds another way, leaves nothing behind, and works right
 * afterwards. Needs CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC (the debug kernel).
 */
#include "inject.h"
#include "node_requests.h"
#include "region_requests.h"

/* No request allocates so often. */
#define MOST 2000

/* --- each allocation in turn ------------------------------------------------------- */

/* Errors that a request may end by when memory is short. */
static bool is_shortage(int err)
{
	return err == ENOMEM;
}

static bool survives(struct world *w, const struct request *request)
{
	int failures = 0, errors = 0;
	int64_t begin = now_ms();

	for (unsigned int n = 1; n < MOST; n++) {
		bool failed;
		int err = request->prepare(w);

		if (err) {
			fprintf(stderr, "# %s: not prepared: %s\n", request->name, strerror(err));
			return false;
		}
		failed = fails_at(n, request->once, w, &err);
		failures += failed;
		errors += !!err;
		if (err && !(failed && is_shortage(err))) {
			fprintf(stderr, "# %s, allocation %u%s: %s\n", request->name, n, failed ? " failed" : "",
				strerror(err));
			return false;
		}
		if (err) {
			err = 0;
			if (request->ends) {
				request->undo(w);
				err = request->prepare(w);
			}
			err = err ?: request->once(w);
		}
		request->undo(w);
		if (err) {
			fprintf(stderr, "# %s, after allocation %u failed: %s\n", request->name, n, strerror(err));
			return false;
		}
		if (!failed) {
			fprintf(stderr, "# %s: %d allocations, %d errors, %lld ms\n", request->name, failures, errors,
				(long long)(now_ms() - begin));
			return true;
		}
	}
	return false;
}

/* Echoes what comes to SERVED. */
static void *serve(void *arg)
{
	struct world *w = arg;
	static char buf[64 * 1024];
	struct rdma_lite_receive request = { 0 };
	int fd = w->c.fd[2];

	while (!w->done) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		ssize_t len;

		if (poll(&p, 1, 100) != 1)
			continue;
		len = lite_rpc_receive(fd, SERVED, buf, sizeof(buf), &request);
		if (len >= 0)
			lite_rpc_reply(fd, &request, 0, buf, len < request.reply_room ? len : request.reply_room);
	}
	return NULL;
}

FIXTURE(injection) {
	struct world w;
};

FIXTURE_SETUP(injection)
{
	struct world *w = &self->w;

	if (!can_inject())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_EQ(0, net_need(3));
	ASSERT_EQ(0, cluster_up(&w->c, 2));
	w->one = w->c.fd[1];
	w->fd = -1;
	w->buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, w->buf);
	ASSERT_EQ(0, lite_rpc_register(w->c.fd[2], SERVED));
	ASSERT_EQ(0, pthread_create(&w->server, NULL, serve, w));
	/* So that no fault of user memory is what fails. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	ASSERT_EQ(0, nth_open());
}

FIXTURE_TEARDOWN(injection)
{
	struct world *w = &self->w;

	if (nth_fd < 0)
		return;
	w->done = true;
	pthread_join(w->server, NULL);
	/* What was not said by the request itself is said in the background. */
	EXPECT_TRUE(EVENTUALLY(30000, !node_attr_number("lt1", "memory_used") && !node_attr_number("lt2", "memory_used")));
	/* No call of root's is under way, and it has no handle. */
	EXPECT_TRUE(EVENTUALLY(30000, !sh("awk '$2 == 0 && ($4 || $5 || $6) { found = 1 } END { exit found }' "
					  "/sys/kernel/debug/rdma_lite/users")));
	cluster_down(&w->c);
}

TEST_F(injection, no_allocation_is_missed_by_a_request_that_makes_or_shares_a_region)
{
	static const struct request list[] = {
		REQUEST("alloc here", nothing, once_alloc_near, drop),
		REQUEST("alloc there", nothing, once_alloc_far, drop),
		REQUEST("map", make_named, once_map, drop_named),
		ENDS("unmap", make_mapped, once_unmap, drop_named),
		ENDS("free here", make_near, once_free, drop),
		ENDS("free there", make_far, once_free, drop),
		REQUEST("grant", make_mapped, once_grant, drop_named),
		REQUEST("revoke", make_mapped, once_revoke, drop_named),
		REQUEST("info", make_far, once_info, drop),
		REQUEST("lend", nothing, once_lend, drop),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_a_request_that_uses_a_region)
{
	static const struct request list[] = {
		REQUEST("write here", make_near, once_write, drop),
		REQUEST("write there", make_far, once_write, drop),
		REQUEST("read here", make_near, once_read, drop),
		REQUEST("read there", make_far, once_read, drop),
		REQUEST("fill here", make_near, once_fill, drop),
		REQUEST("fill there", make_far, once_fill, drop),
		REQUEST("copy there", make_pair, once_copy_there, drop_pair),
		REQUEST("copy here", make_pair, once_copy_here, drop_pair),
		REQUEST("copy within", make_pair, once_copy_within, drop_pair),
		REQUEST("fetch and add", make_far, once_add, drop),
		REQUEST("compare and swap", make_near, once_swap, drop),
		REQUEST("batch", make_far, once_batch, drop),
		REQUEST("submit", make_far, once_submit, hear_and_drop),
		REQUEST("submit a fill", make_far, once_submit_fill, hear_and_drop),
		REQUEST("submit a copy", make_pair, once_submit_copy, hear_and_drop_pair),
		REQUEST("submit an addition", make_far, once_submit_add, hear_and_drop),
		REQUEST("poll", make_read, hear, drop),
		REQUEST("mmap", make_near, once_mmap, unmap_and_drop),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_calls_and_ports)
{
	static const struct request list[] = {
		REQUEST("open", go_there, once_open, close_and_leave),
		REQUEST("ping here", nothing, once_ping_near, leave_nothing),
		REQUEST("ping there", nothing, once_ping_far, leave_nothing),
		REQUEST("port open", nothing, once_register, unregister),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("notify", nothing, once_notify, leave_nothing),
		REQUEST("multicast", nothing, once_multicast, leave_nothing),
		REQUEST("receive", wait_for_request, once_receive, reply_and_end_call),
		REQUEST("reply", take_request, once_reply, end_call),
	};

	SURVIVE(list);
}

TEST_F(injection, no_allocation_is_missed_by_locks_and_nodes)
{
	static const struct request list[] = {
		REQUEST("lock here", nothing, once_lock_near, unlock),
		REQUEST("lock there", nothing, once_lock, unlock),
		ENDS("unlock", once_lock, once_unlock, unlock),
		REQUEST("barrier", nothing, once_barrier, leave_nothing),
		REQUEST("get map", nothing, once_get_map, leave_nothing),
		REQUEST("set map", nothing, once_set_map, publish),
		REQUEST("make node", go_to_third, once_make_node, remove_node_and_leave),
		REQUEST("configure", prepare_node, once_configure, end_node),
		REQUEST("switch on", prepare_node, once_power_on, end_node),
		REQUEST("switch off", prepare_powered, once_power_off, end_node),
		REQUEST("remove node", prepare_node, once_remove_node, end_node),
	};

	SURVIVE(list);
}

/* --- allocations of others, in our name ----------------------------------------------- */

/* A bit of everything, with whatever result. Returns how much succeeded. */
static int use_it_all(struct world *w, int64_t ms)
{
	static const struct request list[] = {
		REQUEST("alloc", nothing, once_alloc_far, drop),
		REQUEST("map", make_named, once_map, drop_named),
		REQUEST("write", make_far, once_write, drop),
		REQUEST("read", make_far, once_read, drop),
		REQUEST("copy", make_pair, once_copy_there, drop_pair),
		REQUEST("add", make_far, once_add, drop),
		REQUEST("batch", make_far, once_batch, drop),
		REQUEST("ping", nothing, once_ping_far, leave_nothing),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("lock", nothing, once_lock, unlock),
		REQUEST("barrier", nothing, once_barrier, leave_nothing),
	};
	int64_t until = now_ms() + ms;
	int done = 0, failed = 0;

	while (now_ms() < until) {
		for (size_t i = 0; i < COUNT(list) && now_ms() < until; i++) {
			int err = list[i].prepare(w) ?: list[i].once(w);

			list[i].undo(w);
			done += !err;
			failed += !!err;
		}
	}
	fprintf(stderr, "# %d requests succeeded, %d failed\n", done, failed);
	return done;
}

/*
 * Whether only small allocations fail: what rdma_lite has in atomic contexts. Packets are larger; rdma_rxe goes
 * into a loop that lasts when it can build none (its completer warns of an error without a status), and that
 * is not ours. 0, or an errno when caches cannot be chosen.
 */
static int only_small_ones_fail(bool yes)
{
	static const int sizes[] = { 8, 16, 32, 64, 96, 128, 192, 256 };
	int err = 0;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/kernel/slab/kmalloc-%d/failslab", sizes[i]);
		err = err ?: put_text(path, yes ? "1" : "0");
	}
	return err ?: put_text("/sys/kernel/debug/failslab/cache-filter", yes ? "Y" : "N");
}

/* All works as if nothing had been. */
static bool works_again(struct world *w)
{
	static const struct request list[] = {
		REQUEST("write", make_far, once_write, drop),
		REQUEST("copy", make_pair, once_copy_there, drop_pair),
		REQUEST("call", nothing, once_call, leave_nothing),
		REQUEST("lock", nothing, once_lock, unlock),
	};

	if (!lite_reachable(w->one, 2, 60000) || !lite_reachable(w->c.fd[2], 1, 60000)) {
		fprintf(stderr, "# they do not reach each other\n");
		return false;
	}
	for (size_t i = 0; i < COUNT(list); i++) {
		int err = list[i].prepare(w) ?: list[i].once(w);

		list[i].undo(w);
		if (err) {
			fprintf(stderr, "# afterwards %s: %s\n", list[i].name, strerror(err));
			return false;
		}
	}
	return true;
}

TEST_F_TIMEOUT(injection, workers_that_get_no_memory_now_and_then_leave_nothing_broken, 300)
{
	int done;

	ASSERT_EQ(0, inject_workers("33"));
	done = use_it_all(&self->w, 10000);
	/* A life ends and another begins meanwhile. */
	node_power(2, false);
	while (node_power(2, true))
		;
	cluster_publish(&self->w.c);
	done += use_it_all(&self->w, 3000);
	inject_nothing();
	EXPECT_LT(0, done);
	ASSERT_EQ(0, cluster_publish(&self->w.c));
	/* The server's port is of the life before, or not: it is the file's. */
	EXPECT_TRUE(works_again(&self->w));
}

TEST_F_TIMEOUT(injection, interrupts_that_get_no_memory_now_and_then_leave_nothing_broken, 300)
{
	int done;

	/* Those that may not sleep, of whoever. */
	if (only_small_ones_fail(true))
		SKIP(return, "this kernel cannot choose whose allocations fail");
	ASSERT_EQ(0, injector("ignore-gfp-wait", "Y"));
	ASSERT_EQ(0, injector("times", "-1"));
	ASSERT_EQ(0, put_text("/sys/kernel/debug/failslab/probability", "5"));
	done = use_it_all(&self->w, 10000);
	inject_nothing();
	only_small_ones_fail(false);
	EXPECT_LT(0, done);
	EXPECT_TRUE(works_again(&self->w));
}

TEST_HARNESS_MAIN

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations that fail: CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC (the debug
 * kernel), Documentation/fault-injection/ in the kernel tree.
 */
#ifndef POTLUCK_SELFTEST_INJECT_H
#define POTLUCK_SELFTEST_INJECT_H

#include <dirent.h>
#include <sys/resource.h>

#include "potluck.h"

static const char *const injectors[] = { "failslab", "fail_page_alloc" };

static __maybe_unused int injector(const char *name, const char *value)
{
	int err = 0;

	for (size_t i = 0; i < COUNT(injectors); i++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", injectors[i], name);
		err = err ?: put_text(path, value);
	}
	return err;
}

/* Whether allocations can be made to fail; those that may sleep, too. */
static __maybe_unused bool can_inject(void)
{
	return !access("/proc/thread-self/fail-nth", W_OK) && !injector("verbose", "0") &&
	       !injector("probability", "0") && !injector("ignore-gfp-wait", "N") &&
	       !put_text("/sys/kernel/debug/fail_page_alloc/min-order", "0");
}

/* /proc/thread-self/fail-nth of the thread that makes the requests. */
static int nth_fd = -1;

/* To be called by that thread; 0 or an errno. */
static __maybe_unused int nth_open(void)
{
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth_fd < 0 ? errno : 0;
}

/* The nth allocation of this thread from now on fails; 0: none does. */
static __maybe_unused void fail_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(nth_fd, text, len, 0) != len)
		abort();
}

/* Whether it has. */
static __maybe_unused bool has_failed(void)
{
	char text[16] = "";

	if (pread(nth_fd, text, sizeof(text) - 1, 0) <= 0)
		abort();
	return !atoi(text);
}

/* What the requests of a test are about: of the test that includes this. */
struct world;

/* Makes a request, whose nth allocation fails: 0 or an errno in `err`. Whether it had so many allocations. */
static __maybe_unused bool fails_at(unsigned int n, int (*once)(struct world *w), struct world *w, int *err)
{
	bool failed;

	fail_nth(n);
	*err = once(w);
	failed = has_failed();
	fail_nth(0);
	return failed;
}

/* Each of a list of requests survives each of its allocations that fails, as the test's survives() says. */
#define SURVIVE(list) do { \
	for (size_t _i = 0; _i < COUNT(list); _i++) { \
		EXPECT_TRUE(survives(&self->w, &(list)[_i])) { TH_LOG("%s", (list)[_i].name); } \
	} \
} while (0)

/*
 * Whether kernel workers are among the tasks whose allocations may fail: those that are quick to run, as
 * the workers of links and handlers are. Others do the work of rdma_rxe, which warns when it has no memory
 * (rxe_completer: an error that has no status), and that is not ours.
 */
static __maybe_unused void workers_fail(bool yes)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		char path[300], name[64];

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (get_text(path, name, sizeof(name)) || strncmp(name, "kworker/", 8))
			continue;
		if (getpriority(PRIO_PROCESS, atoi(entry->d_name)) >= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/make-it-fail", entry->d_name);
		put_text(path, yes ? "1" : "0");
	}
	if (proc)
		closedir(proc);
}

/* From now on one in so many of the allocations of such workers fails. 0, or an errno. */
static __maybe_unused int inject_workers(const char *one_in)
{
	int err = injector("task-filter", "Y") ?: injector("times", "-1") ?: injector("interval", one_in);

	workers_fail(true);
	return err ?: injector("probability", "100");
}

static __maybe_unused void inject_nothing(void)
{
	injector("probability", "0");
	injector("interval", "1");
	injector("times", "1");
	injector("task-filter", "N");
	injector("ignore-gfp-wait", "N");
	workers_fail(false);
}

#endif /* POTLUCK_SELFTEST_INJECT_H */

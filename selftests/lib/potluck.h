/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every test program stands on: the kernel's own harness, files, commands,
 * network namespaces, the kernel log.
 */
#ifndef POTLUCK_SELFTEST_H
#define POTLUCK_SELFTEST_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <kselftest_harness.h>

/* An emulated guest with lockdep is a hundred times slower than a machine. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The errno of a call that is expected to fail; 0 when it did not. */
#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

static __maybe_unused int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static __maybe_unused void sleep_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, (ms % 1000) * 1000000L };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* A number out of the environment, as POTLUCK_ROUNDS. */
static __maybe_unused unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

/* Runs a shell command quietly; its exit status. */
static __maybe_unused __printf(1, 2) int sh(const char *fmt, ...)
{
	char inner[2048], cmd[2100];
	va_list ap;
	int status;

	va_start(ap, fmt);
	vsnprintf(inner, sizeof(inner), fmt, ap);
	va_end(ap);
	snprintf(cmd, sizeof(cmd), getenv("POTLUCK_VERBOSE") ? "%s" : "{ %s\n} 2>/dev/null", inner);
	fflush(NULL);
	status = system(cmd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* Writes a text to a file that exists (sysfs, configfs); 0 or an errno. */
static __maybe_unused int put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;
	int err = 0;

	if (fd < 0)
		return errno;
	done = write(fd, text, strlen(text));
	if (done < 0)
		err = errno;
	else if ((size_t)done != strlen(text))
		err = EIO;
	close(fd);
	return err;
}

/* First line of a file, without its newline; 0 or an errno. */
static __maybe_unused int get_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	text[0] = 0;
	if (fd < 0)
		return errno;
	len = read(fd, text, room - 1);
	close(fd);
	if (len < 0)
		return EIO;
	text[len] = 0;
	text[strcspn(text, "\n")] = 0;
	return 0;
}

/*
 * Network namespaces. A process steps into one and back; what it opens or
 * makes in between belongs to that one.
 */
static __maybe_unused int netns_enter(const char *name)
{
	char path[128];
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0 || setns(there, CLONE_NEWNET) < 0) {
		perror(path);
		exit(KSFT_FAIL);
	}
	close(there);
	return here;
}

static __maybe_unused void netns_leave(int before)
{
	if (setns(before, CLONE_NEWNET) < 0) {
		perror("setns");
		exit(KSFT_FAIL);
	}
	close(before);
}

static __maybe_unused bool netns_exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	return access(path, F_OK) == 0;
}

/*
 * The kernel log: mark, do, then count the lines of warning level or worse
 * that begin with the module's name (and have a word in them).
 */
static __maybe_unused int kmsg_mark(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static __maybe_unused int kmsg_complaints_about(int fd, const char *module, const char *about,
						char *last, size_t room)
{
	char line[8192];
	ssize_t len;
	int found = 0;

	if (last)
		last[0] = 0;
	for (;;) {
		char *text;

		len = read(fd, line, sizeof(line) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			break;
		line[len] = 0;
		text = strchr(line, ';');
		if (!text || (atoi(line) & 7) > 4)
			continue;
		text++;
		if (strncmp(text, module, strlen(module)))
			continue;
		text[strcspn(text, "\n")] = 0;
		if (!strstr(text, about))
			continue;
		if (last)
			snprintf(last, room, "%s", text);
		found++;
	}
	close(fd);
	return found;
}

static __maybe_unused int kmsg_complaints(int fd, const char *module, char *last, size_t room)
{
	return kmsg_complaints_about(fd, module, "", last, room);
}

/*
 * The call fails with one of these errnos (several where no document fixes
 * one) and leaves exactly one line in the log.
 */
#define EXPECT_REFUSED(module, call, ...) do { \
	static const int _allowed[] = { __VA_ARGS__ }; \
	char _line[512]; \
	int _mark = kmsg_mark(), _err = (call), _lines; \
	bool _as_allowed = false; \
	_lines = kmsg_complaints(_mark, module, _line, sizeof(_line)); \
	for (size_t _i = 0; _i < COUNT(_allowed); _i++) \
		_as_allowed |= _err == _allowed[_i]; \
	EXPECT_TRUE(_as_allowed) { TH_LOG("%s: errno %d, %s", #call, _err, strerror(_err)); } \
	EXPECT_EQ(1, _lines) { TH_LOG("%s: %d log lines, last: %s", #call, _lines, _line); } \
} while (0)

/* Polls a condition up to a limit; whether it came true. */
#define EVENTUALLY(limit_ms, condition) ({ \
	int64_t _until = now_ms() + (limit_ms); \
	bool _ok; \
	while (!(_ok = (condition)) && now_ms() < _until) \
		sleep_ms(20); \
	_ok; })

/* A page that faults whichever way it is touched. */
static __maybe_unused void *bad_pointer(void)
{
	return mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Bytes that depend on a seed and on their place, so that a shift shows. */
static __maybe_unused void fill(void *to, size_t len, uint64_t seed)
{
	unsigned char *p = to;
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 0x1234567;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

#endif /* POTLUCK_SELFTEST_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * Damaged devices in a real mount: bits, fields, lines and blocks of a device with content change. It is mounted, or
 * refused with an error and a line in the log; what can be read of it is read; nothing oopses (the runner looks).
 * What fsck.hotpot mended is mounted. Many more are tried on the host: tools/sim/tests/hotpot_images.rs.
 */
#include "hotpot.h"

#define MNT "/mnt/lt1"
#define DEVICE_BYTES (16UL << 20)
#define FILE_BYTES (40 * PAGE)
/* Superblocks and records, and where pages of a small device are: see mkfs.hotpot. */
#define HEAD_BYTES (4UL << 20)

FIXTURE(images) {
	struct cluster c;
	char dev[64], slice[80];
	char *whole;
};

static int read_device(const char *dev, char *to)
{
	int fd = open(dev, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : pread(fd, to, DEVICE_BYTES, 0);

	close(fd);
	return got == DEVICE_BYTES ? 0 : EIO;
}

/* What differs between two images goes to the device. */
static int write_device(const char *dev, const char *is, const char *wanted)
{
	int fd = open(dev, O_RDWR | O_CLOEXEC), err = fd < 0 ? errno : 0;

	for (size_t at = 0; at < DEVICE_BYTES && !err; at += PAGE)
		if (memcmp(is + at, wanted + at, PAGE) && pwrite(fd, wanted + at, PAGE, at) != PAGE)
			err = errno;
	if (!err && fsync(fd))
		err = errno;
	close(fd);
	return err;
}

FIXTURE_SETUP(images)
{
	static char bytes[FILE_BYTES];

	ASSERT_EQ(0, hotpot_need());
	ASSERT_EQ(0, cluster_up(&self->c, 1));
	if (!pmem_spare(0, self->dev, sizeof(self->dev)))
		SKIP(return, "no pmem device that is not mounted");
	if (!slice_make(self->dev, DEVICE_BYTES, self->slice, sizeof(self->slice)))
		SKIP(return, "no partitions on %s", self->dev);
	ASSERT_EQ(0, mkfs(self->slice, 1, ""));
	ASSERT_EQ(0, hotpot_mount(self->slice, MNT, "node=lt1"));
	for (int i = 0; i < 3; i++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), MNT "/f%d", i);
		fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
		ASSERT_LE(0, fd);
		memset(bytes, 'a' + i, sizeof(bytes));
		ASSERT_EQ(sizeof(bytes), write(fd, bytes, sizeof(bytes)));
		close(fd);
	}
	ASSERT_EQ(0, umount2(MNT, 0));
	self->whole = malloc(DEVICE_BYTES);
	ASSERT_EQ(0, read_device(self->slice, self->whole));
}

FIXTURE_TEARDOWN(images)
{
	umount2(MNT, 0);
	free(self->whole);
	slice_drop(self->dev);
	cluster_down(&self->c);
}

static uint64_t seed;

static uint64_t number(uint64_t below)
{
	/* xorshift64* */
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL >> 11) % below;
}

/* A place where something is: free pages are all zeros. */
static size_t somewhere(const char *image)
{
	for (;;) {
		size_t line = number((number(4) ? HEAD_BYTES : DEVICE_BYTES) / 64) * 64;

		for (int i = 0; i < 64; i++)
			if (image[line + i])
				return line + number(64);
	}
}

static void damage(char *image)
{
	static const uint64_t values[] = { 0, 1, ~0ULL, 1ULL << 63, 4096, 0xfffffffffffff000ULL };
	size_t at = somewhere(image), from = somewhere(image);

	switch (number(7)) {
	case 0:
	case 1:
		image[at] ^= 1 << number(8);
		break;
	case 2:
		memcpy(image + (at & ~7UL), &values[number(COUNT(values))], 8);
		break;
	case 3:
		memcpy(image + (at & ~63UL), image + (from & ~63UL), 64);
		break;
	case 4:
		memset(image + (at & ~4095UL), 0, PAGE);
		break;
	case 5:
		/* Both superblocks: beyond help. */
		image[at % PAGE] ^= 4;
		image[at % PAGE + PAGE] ^= 4;
		break;
	default:
		memmove(image + (at & ~4095UL), image + (from & ~4095UL), PAGE);
	}
}

/* All that can be read is read, and a file is made, with whatever result. */
static void use_it(void)
{
	static char bytes[FILE_BYTES];

	for (int i = 0; i < 3; i++) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), MNT "/f%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		for (size_t page = 0; fd >= 0 && page < FILE_BYTES; page += PAGE)
			if (pread(fd, bytes, PAGE, page) < 0 && pwrite(fd, bytes, PAGE, page) < 0)
				continue;
		close(fd);
	}
	close(open(MNT "/new", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	sh("ls -l " MNT " >/dev/null");
}

TEST_F_TIMEOUT(images, that_are_damaged_are_mounted_or_refused_and_mended_ones_are_mounted, 1200)
{
	unsigned long rounds = 2 * env_number("POTLUCK_ROUNDS", 5);
	char *image = malloc(DEVICE_BYTES), *now = malloc(DEVICE_BYTES);
	int mounted = 0, refused = 0;

	for (unsigned long round = 1; round <= rounds; round++) {
		bool mended;
		int err;

		seed = round * 0x9e3779b97f4a7c15ULL;
		memcpy(image, self->whole, DEVICE_BYTES);
		for (uint64_t nr = 1 + number(5); nr; nr--)
			damage(image);
		ASSERT_EQ(0, read_device(self->slice, now));
		ASSERT_EQ(0, write_device(self->slice, now, image));
		err = hotpot_mount(self->slice, MNT, "node=lt1");
		if (err) {
			refused++;
			EXPECT_TRUE(err == EUCLEAN || err == EINVAL || err == EIO || err == EXDEV || err == ENXIO ||
				    err == EOPNOTSUPP)
				TH_LOG("round %lu: %s", round, strerror(err));
		} else {
			mounted++;
			use_it();
			ASSERT_EQ(0, umount2(MNT, 0));
		}
		/* Mended: status 1 is repaired, 4 beyond repair (two superblocks that are no more). */
		ASSERT_EQ(0, read_device(self->slice, now));
		ASSERT_EQ(0, write_device(self->slice, now, image));
		mended = sh("fsck.hotpot -y %s >/dev/null", self->slice) <= 1;
		err = hotpot_mount(self->slice, MNT, "node=lt1");
		EXPECT_EQ(mended, !err) TH_LOG("round %lu: fsck.hotpot mended it: %d; mount: %s", round, mended,
					       strerror(err));
		if (!err) {
			use_it();
			ASSERT_EQ(0, umount2(MNT, 0));
		}
	}
	TH_LOG("%d mounted, %d refused", mounted, refused);
	EXPECT_LT(0, mounted);
	EXPECT_LT(0, refused);
	free(image);
	free(now);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* What can be mounted, what cannot, and what the operator is told. */
#include "hotpot.h"

/* Superblocks: hotpot/core/format/superblock.rs. */
#define SB_VERSION	8
#define SB_SEQUENCE	40
#define SB_CRC		4092
#define SB_SIZE		4096

FIXTURE(mounting) {
	struct cluster c;
	char dev[64];
};

FIXTURE_SETUP(mounting)
{
	ASSERT_EQ(0, hotpot_need());
	ASSERT_EQ(0, cluster_up(&self->c, 1));
	if (!pmem_spare(0, self->dev, sizeof(self->dev)))
		SKIP(return, "no pmem device that is not mounted");
	ASSERT_EQ(0, mkfs(self->dev, 1, ""));
	mkdir("/mnt/lt1", 0755);
}

FIXTURE_TEARDOWN(mounting)
{
	umount2("/mnt/lt1", 0);
	umount2("/mnt/lt2", 0);
	slice_drop(self->dev);
	cluster_down(&self->c);
}

#define MOUNT(dev, options) hotpot_mount(dev, "/mnt/lt1", options)

static uint32_t crc32c(const unsigned char *p, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

/* Overwrites bytes of a device; `seal` renews the checksum of that superblock. */
static int scribble(const char *dev, int copy, int at, const void *bytes, size_t len, bool seal)
{
	unsigned char block[SB_SIZE];
	int fd = open(dev, O_RDWR | O_CLOEXEC), err = -1;
	uint32_t crc;

	if (fd >= 0 && pread(fd, block, SB_SIZE, copy * SB_SIZE) == SB_SIZE) {
		memcpy(block + at, bytes, len);
		if (seal) {
			crc = crc32c(block, SB_CRC);
			memcpy(block + SB_CRC, &crc, 4);
		}
		if (pwrite(fd, block, SB_SIZE, copy * SB_SIZE) == SB_SIZE && !fsync(fd))
			err = 0;
	}
	close(fd);
	return err;
}

TEST_F(mounting, a_formatted_device_works_and_unmounts)
{
	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	EXPECT_LE(0, open("/mnt/lt1/f", O_CREAT | O_RDWR, 0644));
	EXPECT_EQ(EBUSY, ERRNO_OF(umount2("/mnt/lt1", 0)));
}

TEST_F(mounting, leaves_the_superblock_checksums_as_the_format_says)
{
	unsigned char block[SB_SIZE];
	uint32_t crc;

	for (int copy = 0; copy < 2; copy++) {
		int fd = open(self->dev, O_RDONLY);

		ASSERT_EQ(SB_SIZE, pread(fd, block, SB_SIZE, copy * SB_SIZE));
		close(fd);
		memcpy(&crc, block + SB_CRC, 4);
		EXPECT_EQ(crc32c(block, SB_CRC), crc) TH_LOG("copy %c", 'A' + copy);
		EXPECT_EQ(0, memcmp(block, "HOTPOTPM", 8));
	}
}

TEST_F(mounting, a_ram_disk_is_refused)
{
	sh("modprobe brd rd_nr=1 rd_size=65536");
	if (access("/dev/ram0", F_OK))
		SKIP(return, "no ram disk");
	EXPECT_REFUSED("hotpot", MOUNT("/dev/ram0", "node=lt1"), EINVAL, EOPNOTSUPP, ENODEV);
}

TEST_F(mounting, a_loop_device_is_refused)
{
	sh("truncate -s 64M /tmp/loop.img; losetup -f /tmp/loop.img; losetup -j /tmp/loop.img | cut -d: -f1 >/tmp/loop.dev");
	char dev[64];

	if (get_text("/tmp/loop.dev", dev, sizeof(dev)) || !dev[0])
		SKIP(return, "no loop device");
	EXPECT_REFUSED("hotpot", MOUNT(dev, "node=lt1"), EINVAL, EOPNOTSUPP, ENODEV);
	sh("losetup -d %s; rm -f /tmp/loop.img /tmp/loop.dev", dev);
}

TEST_F(mounting, what_is_no_block_device_is_refused)
{
	EXPECT_EQ(ENOENT, MOUNT("/dev/nosuch", "node=lt1"));
	EXPECT_EQ(ENOTBLK, MOUNT("/dev/null", "node=lt1"));
}

TEST_F(mounting, a_device_that_is_not_formatted_is_refused)
{
	ASSERT_EQ(0, sh("dd if=/dev/zero of=%s bs=64k count=16 conv=fsync", self->dev));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), EINVAL, EUCLEAN);
	ASSERT_EQ(0, sh("dd if=/dev/urandom of=%s bs=64k count=16 conv=fsync", self->dev));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), EINVAL, EUCLEAN);
}

TEST_F(mounting, a_device_of_another_cluster_is_refused)
{
	ASSERT_EQ(0, sh("mkfs.hotpot --force --cluster 5e1f7e57-0000-4000-8000-0000000000aa --node-id 1 %s >/dev/null",
			self->dev));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), EINVAL, EXDEV, EPERM, EREMOTE, ESTALE);
}

TEST_F(mounting, a_device_of_another_node_is_refused)
{
	ASSERT_EQ(0, mkfs(self->dev, 7, ""));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), EINVAL, EXDEV, EPERM, EREMOTE, ESTALE);
}

TEST_F(mounting, a_newer_format_is_refused_as_such)
{
	uint32_t version = 9999;
	char line[512];
	int mark, err;

	ASSERT_EQ(0, scribble(self->dev, 0, SB_VERSION, &version, 4, true));
	ASSERT_EQ(0, scribble(self->dev, 1, SB_VERSION, &version, 4, true));
	mark = kmsg_mark();
	err = MOUNT(self->dev, "node=lt1");
	EXPECT_TRUE(err == EINVAL || err == EOPNOTSUPP || err == EPROTONOSUPPORT) TH_LOG("%s", strerror(err));
	EXPECT_EQ(1, kmsg_complaints(mark, "hotpot", line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, "9999")) TH_LOG("does not say which version: %s", line);
}

TEST_F(mounting, a_device_that_was_cut_short_is_refused)
{
	char slice[80];

	if (!slice_make(self->dev, 64 << 20, slice, sizeof(slice)))
		SKIP(return, "no partitions on %s", self->dev);
	EXPECT_REFUSED("hotpot", MOUNT(slice, "node=lt1"), EINVAL, EUCLEAN, EIO, ENXIO);
}

TEST_F(mounting, uses_the_second_superblock_when_the_first_is_damaged)
{
	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	ASSERT_LE(0, open("/mnt/lt1/f_kept", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	for (int fd = 3; fd < 64; fd++)
		if (fd != self->c.fd[1])
			close(fd);
	ASSERT_EQ(0, umount2("/mnt/lt1", 0));
	for (int copy = 0; copy < 2; copy++) {
		/* Damage one, mount (which repairs by the next update), see all is there. */
		ASSERT_EQ(0, scribble(self->dev, copy, 100, "damage", 6, false));
		EXPECT_EQ(0, MOUNT(self->dev, "node=lt1")) TH_LOG("copy %c damaged", 'A' + copy);
		EXPECT_EQ(0, access("/mnt/lt1/f_kept", F_OK));
		EXPECT_EQ(0, umount2("/mnt/lt1", 0));
		EXPECT_EQ(0, MOUNT(self->dev, "node=lt1"));
		EXPECT_EQ(0, umount2("/mnt/lt1", 0));
	}
}

TEST_F(mounting, with_both_superblocks_damaged_is_refused)
{
	ASSERT_EQ(0, scribble(self->dev, 0, 100, "damage", 6, false));
	ASSERT_EQ(0, scribble(self->dev, 1, 100, "damage", 6, false));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), EINVAL, EUCLEAN, EIO);
}

TEST_F(mounting, twice_is_refused)
{
	struct stat one, two;
	int err;

	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	err = hotpot_mount(self->dev, "/mnt/lt2", "node=lt1");
	EXPECT_EQ(EBUSY, err) {
		stat("/mnt/lt1", &one);
		stat("/mnt/lt2", &two);
		TH_LOG("%s, same file system: %d", strerror(err), one.st_dev == two.st_dev);
	}
}

TEST_F(mounting, a_second_device_for_the_same_node_is_refused)
{
	char other[64];

	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	if (!pmem_spare(0, other, sizeof(other)))
		SKIP(return, "only one spare pmem device");
	ASSERT_EQ(0, mkfs(other, 1, ""));
	EXPECT_REFUSED("hotpot", hotpot_mount(other, "/mnt/lt2", "node=lt1"), EBUSY);
}

TEST_F(mounting, with_options_that_are_not_understood_is_refused)
{
	static const char *const bad[] = {
		"node=lt1,colour=blue",
		"node=lt1,replicas=many",
		"node=lt1,replicas=",
		"node=lt1,replicas=-1",
		"node=lt1,replicas=99999999999",
		"node=lt1,timeout_ms=1h",
		"node=lt1,node",
		"node=",
		"node=lt1,chunk_size=1000",
		"node=lt1,chunk_size=12345678",
		"node=lt1,mode=mrxw",
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		int mark = kmsg_mark(), err = MOUNT(self->dev, bad[i]), lines;
		char line[512];

		lines = kmsg_complaints(mark, "hotpot", line, sizeof(line));
		EXPECT_EQ(EINVAL, err) TH_LOG("'%s': %s", bad[i], strerror(err));
		EXPECT_EQ(1, lines) TH_LOG("'%s': %d lines, last: %s", bad[i], lines, line);
		if (!err)
			umount2("/mnt/lt1", 0);
	}
}

TEST_F(mounting, without_a_node_is_refused)
{
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, NULL), EINVAL);
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, ""), EINVAL);
}

TEST_F(mounting, for_a_node_that_is_not_there_is_refused)
{
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=nobody"), ENODEV);
}

TEST_F(mounting, for_a_node_that_is_off_is_refused)
{
	ASSERT_EQ(0, node_power(1, false));
	EXPECT_REFUSED("hotpot", MOUNT(self->dev, "node=lt1"), ESHUTDOWN);
	ASSERT_EQ(0, node_power(1, true));
}

TEST_F(mounting, whose_node_is_switched_off_below_it_fails_softly_or_keeps_it_on)
{
	int64_t before = now_ms();
	int fd;

	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	EXPECT_EQ(EBUSY, node_remove("lt1"));
	if (node_power(1, false) != EBUSY) {
		fd = open("/mnt/lt1/f_orphan", O_CREAT | O_RDWR, 0644);
		if (fd >= 0) {
			(void)!write(fd, "x", 1);
			close(fd);
		}
		EXPECT_LE(now_ms() - before, 20000);
	}
	EXPECT_EQ(0, umount2("/mnt/lt1", 0));
	EXPECT_EQ(0, node_power(1, false));
	EXPECT_EQ(0, node_power(1, true));
}

TEST_F(mounting, shows_its_options)
{
	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	EXPECT_EQ(0, sh("grep -q '^%s /mnt/lt1 hotpot .*node=lt1' /proc/self/mounts", self->dev));
}

TEST_F(mounting, that_failed_leaves_nothing_held)
{
	for (int i = 0; i < 20; i++) {
		EXPECT_NE(0, MOUNT(self->dev, "node=lt1,colour=blue"));
		EXPECT_NE(0, MOUNT(self->dev, "node=nobody"));
	}
	/* Neither device nor node is busy. */
	EXPECT_EQ(0, mkfs(self->dev, 1, ""));
	EXPECT_EQ(0, MOUNT(self->dev, "node=lt1"));
	EXPECT_EQ(0, umount2("/mnt/lt1", 0));
	EXPECT_EQ(0, node_power(1, false));
}

TEST_F(mounting, a_device_keeps_mkfs_away)
{
	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	EXPECT_NE(0, mkfs(self->dev, 1, ""));
	EXPECT_EQ(0, umount2("/mnt/lt1", 0));
	/* And without --force a formatted one is not lost by accident. */
	EXPECT_NE(0, sh("mkfs.hotpot --cluster %s --node-id 1 %s >/dev/null", LITE_CLUSTER, self->dev));
	EXPECT_EQ(0, MOUNT(self->dev, "node=lt1"));
}

TEST_F(mounting, a_device_that_fsck_passes)
{
	ASSERT_EQ(0, MOUNT(self->dev, "node=lt1"));
	ASSERT_EQ(0, sh("head -c 300000 /dev/urandom >/mnt/lt1/f_fsck"));
	ASSERT_EQ(0, umount2("/mnt/lt1", 0));
	EXPECT_EQ(0, sh("fsck.hotpot %s", self->dev));
	EXPECT_EQ(0, MOUNT(self->dev, "node=lt1"));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Datasets are files: what cp, mv and cmp need, seen from all nodes. */
#include <dirent.h>
#include <sys/statvfs.h>
#include <utime.h>

#include "hotpot.h"

FIXTURE(file) {
	struct space s;
};

FIXTURE_SETUP(file)
{
	ASSERT_EQ(0, space_open(&self->s));
	sh("rm -f %s/f_*", self->s.n[1].mnt);
}

FIXTURE_TEARDOWN(file)
{
	sh("rm -f %s/f_*", self->s.n[1].mnt);
}

#define AT(i, name) at(&self->s, i, name)

TEST_F(file, that_is_created_is_seen_by_all_nodes)
{
	struct stat st;
	int fd = open(AT(2, "f_new"), O_RDWR | O_CREAT | O_EXCL, 0640);

	ASSERT_LE(0, fd) TH_LOG("%s", strerror(errno));
	close(fd);
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, stat(AT(i, "f_new"), &st)) TH_LOG("node %d: %s", i, strerror(errno));
		EXPECT_TRUE(S_ISREG(st.st_mode));
		EXPECT_EQ(0640, st.st_mode & 07777);
		EXPECT_EQ(0, st.st_size);
		EXPECT_EQ(1, st.st_nlink);
	}
}

TEST_F(file, that_is_taken_is_eexist_on_every_node)
{
	ASSERT_LE(0, open(AT(1, "f_taken"), O_RDWR | O_CREAT | O_EXCL, 0644));
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(EEXIST, ERRNO_OF(open(AT(i, "f_taken"), O_RDWR | O_CREAT | O_EXCL, 0644)));
		EXPECT_LE(0, open(AT(i, "f_taken"), O_RDWR | O_CREAT, 0644));
	}
}

TEST_F(file, created_by_all_nodes_at_once_belongs_to_one_of_them)
{
	for (int round = 0; round < 5; round++) {
		pid_t child[4];
		int winners = 0;

		for (int i = 1; i <= 3; i++) {
			child[i] = fork();
			if (!child[i])
				_exit(open(AT(i, "f_race"), O_RDWR | O_CREAT | O_EXCL, 0644) < 0 ? errno : 0);
		}
		for (int i = 1; i <= 3; i++) {
			int status;

			waitpid(child[i], &status, 0);
			winners += WEXITSTATUS(status) == 0;
			EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EEXIST)
				TH_LOG("node %d: %s", i, strerror(WEXITSTATUS(status)));
		}
		EXPECT_EQ(1, winners);
		EXPECT_EQ(0, unlink(AT(1, "f_race")));
	}
}

TEST_F(file, written_on_one_node_is_read_on_the_others)
{
	static char bytes[300000], got[300000];

	fill(bytes, sizeof(bytes), 1);
	ASSERT_EQ(0, close(open(AT(1, "f_rw"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, poke(AT(1, "f_rw"), 0, bytes, sizeof(bytes)));
	for (int i = 1; i <= 3; i++) {
		memset(got, 0, sizeof(got));
		ASSERT_EQ(0, peek(AT(i, "f_rw"), 0, got, sizeof(got)));
		EXPECT_EQ(0, memcmp(bytes, got, sizeof(got))) TH_LOG("node %d", i);
	}
	/* Somewhere in the middle, from another node, not on page borders. */
	static char across[200] = "across the border of a page";

	ASSERT_EQ(0, poke(AT(3, "f_rw"), 4000, across, sizeof(across)));
	ASSERT_EQ(0, peek(AT(1, "f_rw"), 0, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(got + 4000, "across", 6));
	EXPECT_EQ(0, memcmp(bytes, got, 4000));
	EXPECT_EQ(0, memcmp(bytes + 4200, got + 4200, sizeof(got) - 4200));
}

TEST_F(file, appended_to_by_turns_grows_in_order)
{
	char line[16], got[16];

	for (int k = 0; k < 12; k++) {
		int fd = open(AT(1 + k % 3, "f_log"), O_WRONLY | O_CREAT | O_APPEND, 0644);

		ASSERT_LE(0, fd);
		snprintf(line, sizeof(line), "line %02d\n", k);
		ASSERT_EQ(8, write(fd, line, 8));
		close(fd);
	}
	for (int k = 0; k < 12; k++) {
		snprintf(line, sizeof(line), "line %02d\n", k);
		ASSERT_EQ(0, peek(AT(1 + (k + 1) % 3, "f_log"), 8 * k, got, 8));
		EXPECT_EQ(0, memcmp(line, got, 8));
	}
}

TEST_F(file, that_is_sparse_reads_as_zeros_in_its_holes)
{
	char got[PAGE], zeros[PAGE] = { 0 };
	struct stat st;

	ASSERT_EQ(0, close(open(AT(1, "f_sparse"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, poke(AT(1, "f_sparse"), 10 << 20, "end", 3));
	ASSERT_EQ(0, stat(AT(2, "f_sparse"), &st));
	EXPECT_EQ((10 << 20) + 3, st.st_size);
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, peek(AT(i, "f_sparse"), 5 << 20, got, PAGE));
		EXPECT_EQ(0, memcmp(got, zeros, PAGE));
	}
	/* A hole costs no room. */
	EXPECT_LT(st.st_blocks * 512, 1 << 20);
}

TEST_F(file, is_read_only_up_to_its_end)
{
	char got[64];
	int fd = open(AT(1, "f_end"), O_CREAT | O_RDWR, 0644);

	ASSERT_EQ(10, write(fd, "0123456789", 10));
	EXPECT_EQ(4, pread(fd, got, sizeof(got), 6));
	EXPECT_EQ(0, pread(fd, got, sizeof(got), 10));
	EXPECT_EQ(0, pread(fd, got, sizeof(got), 1 << 20));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(10, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(5, lseek(fd, 5, SEEK_SET));
	EXPECT_EQ(5, read(fd, got, sizeof(got)));
	EXPECT_EQ(0, read(fd, got, sizeof(got)));
	close(fd);
}

TEST_F(file, that_shrinks_forgets_and_grows_again_with_zeros)
{
	char bytes[3 * PAGE], got[3 * PAGE], zeros[3 * PAGE] = { 0 };

	fill(bytes, sizeof(bytes), 5);
	ASSERT_EQ(0, close(open(AT(1, "f_trunc"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, poke(AT(1, "f_trunc"), 0, bytes, sizeof(bytes)));
	for (int i = 2; i <= 3; i++) {
		ASSERT_TRUE(holds(AT(i, "f_trunc"), 0, bytes, sizeof(bytes)));
	}
	ASSERT_EQ(0, truncate(AT(2, "f_trunc"), PAGE + 100));
	for (int i = 1; i <= 3; i++) {
		struct stat st;

		ASSERT_EQ(0, stat(AT(i, "f_trunc"), &st));
		EXPECT_EQ(PAGE + 100, st.st_size) TH_LOG("node %d", i);
		EXPECT_TRUE(holds(AT(i, "f_trunc"), 0, bytes, PAGE + 100));
	}
	ASSERT_EQ(0, truncate(AT(3, "f_trunc"), sizeof(bytes)));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, peek(AT(i, "f_trunc"), 0, got, sizeof(got)));
		EXPECT_EQ(0, memcmp(got, bytes, PAGE + 100));
		EXPECT_EQ(0, memcmp(got + PAGE + 100, zeros, sizeof(got) - PAGE - 100))
			TH_LOG("node %d: bytes behind the old end came back", i);
	}
}

TEST_F(file, grows_by_fallocate_and_keeps_its_size_when_told)
{
	int fd = open(AT(1, "f_alloc"), O_CREAT | O_RDWR, 0644);
	struct stat st;

	ASSERT_EQ(0, fallocate(fd, 0, 0, 1 << 20)) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, stat(AT(3, "f_alloc"), &st));
	EXPECT_EQ(1 << 20, st.st_size);
	ASSERT_EQ(0, fallocate(fd, 0, 0, 4096));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(1 << 20, st.st_size);
	/* What is not there is refused, not half done. */
	EXPECT_EQ(EOPNOTSUPP, ERRNO_OF(fallocate(fd, 0x80, 0, 4096)));
	EXPECT_EQ(EINVAL, ERRNO_OF(fallocate(fd, 0, 0, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(fallocate(fd, 0, -1, 4096)));
	close(fd);
}

TEST_F(file, too_large_for_its_reservation_is_efbig)
{
	int fd = open(AT(1, "f_big"), O_CREAT | O_RDWR, 0644);
	struct hotpot_info info = { 0 };
	int err;

	ASSERT_EQ(0, ioctl(fd, HOTPOT_IOC_INFO, &info));
	err = ERRNO_OF(ftruncate(fd, info.reserve + 1));
	EXPECT_EQ(EFBIG, err);
	err = ERRNO_OF(pwrite(fd, "x", 1, info.reserve));
	EXPECT_EQ(EFBIG, err);
	EXPECT_EQ(EINVAL, ERRNO_OF(ftruncate(fd, -1)));
	close(fd);
}

TEST_F(file, that_is_unlinked_is_gone_everywhere)
{
	ASSERT_EQ(0, close(open(AT(1, "f_gone"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, poke(AT(1, "f_gone"), 0, "data", 4));
	ASSERT_TRUE(holds(AT(3, "f_gone"), 0, "data", 4));
	ASSERT_EQ(0, unlink(AT(2, "f_gone")));
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(ENOENT, ERRNO_OF(open(AT(i, "f_gone"), O_RDONLY))) TH_LOG("node %d", i);
	}
	EXPECT_EQ(ENOENT, ERRNO_OF(unlink(AT(1, "f_gone"))));
	/* A new one of the name has nothing of the old one. */
	ASSERT_EQ(0, close(open(AT(3, "f_gone"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, truncate(AT(3, "f_gone"), 4));
	EXPECT_TRUE(holds(AT(1, "f_gone"), 0, "\0\0\0\0", 4));
}

TEST_F(file, that_is_unlinked_gives_its_room_back)
{
	struct statvfs before, full, after;
	static char bytes[1 << 20];

	ASSERT_EQ(0, statvfs(self->s.n[1].mnt, &before));
	ASSERT_EQ(0, close(open(AT(1, "f_room"), O_CREAT | O_WRONLY, 0644)));
	memset(bytes, 9, sizeof(bytes));
	ASSERT_EQ(0, poke(AT(1, "f_room"), 0, bytes, sizeof(bytes)));
	ASSERT_EQ(0, statvfs(self->s.n[1].mnt, &full));
	ASSERT_EQ(0, unlink(AT(1, "f_room")));
	EXPECT_TRUE(EVENTUALLY(10000, !statvfs(self->s.n[1].mnt, &after) && after.f_bfree >= before.f_bfree))
		TH_LOG("free: %lu before, %lu full, %lu after", before.f_bfree, full.f_bfree, after.f_bfree);
}

TEST_F(file, that_is_renamed_moves_on_all_nodes)
{
	ASSERT_EQ(0, close(open(AT(1, "f_from"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, poke(AT(1, "f_from"), 0, "content", 7));
	ASSERT_EQ(0, rename(AT(2, "f_from"), AT(2, "f_to")));
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(ENOENT, ERRNO_OF(access(AT(i, "f_from"), F_OK)));
		EXPECT_TRUE(holds(AT(i, "f_to"), 0, "content", 7));
	}
	/* Onto an existing one: that one is replaced. */
	ASSERT_EQ(0, close(open(AT(3, "f_other"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, rename(AT(3, "f_to"), AT(3, "f_other")));
	for (int i = 1; i <= 3; i++) {
		EXPECT_TRUE(holds(AT(i, "f_other"), 0, "content", 7));
		EXPECT_EQ(ENOENT, ERRNO_OF(access(AT(i, "f_to"), F_OK)));
	}
	EXPECT_EQ(ENOENT, ERRNO_OF(rename(AT(1, "f_nothing"), AT(1, "f_else"))));
}

TEST_F(file, keeps_its_base_address_when_renamed)
{
	struct hotpot_info before, after;

	ASSERT_EQ(0, close(open(AT(1, "f_base"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, dataset_info(AT(1, "f_base"), &before));
	ASSERT_EQ(0, rename(AT(1, "f_base"), AT(1, "f_base2")));
	ASSERT_EQ(0, dataset_info(AT(2, "f_base2"), &after));
	EXPECT_EQ(before.base, after.base);
	EXPECT_EQ(before.id, after.id);
}

TEST_F(file, listing_shows_each_name_once_on_every_node)
{
	for (int k = 0; k < 40; k++) {
		char name[32];

		snprintf(name, sizeof(name), "f_list%02d", k);
		ASSERT_EQ(0, close(open(AT(1 + k % 3, name), O_CREAT | O_WRONLY, 0644)));
	}
	for (int i = 1; i <= 3; i++) {
		DIR *dir = opendir(self->s.n[i].mnt);
		int seen[40] = { 0 }, dots = 0;
		struct dirent *d;

		ASSERT_NE(NULL, dir);
		while ((d = readdir(dir))) {
			int k;

			if (sscanf(d->d_name, "f_list%d", &k) == 1 && k >= 0 && k < 40)
				seen[k]++;
			dots += d->d_name[0] == '.';
		}
		closedir(dir);
		EXPECT_EQ(2, dots);
		for (int k = 0; k < 40; k++) {
			EXPECT_EQ(1, seen[k]) TH_LOG("node %d, name %d", i, k);
		}
	}
}

TEST_F(file, mode_owner_and_times_are_the_same_on_all_nodes)
{
	struct timespec times[2] = { { 1000000000, 0 }, { 1100000000, 0 } };
	struct stat st;

	ASSERT_EQ(0, close(open(AT(1, "f_attr"), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, chmod(AT(2, "f_attr"), 0600));
	ASSERT_EQ(0, chown(AT(3, "f_attr"), 12, 34));
	ASSERT_EQ(0, utimensat(AT_FDCWD, AT(1, "f_attr"), times, 0));
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, stat(AT(i, "f_attr"), &st));
		EXPECT_EQ(0600, st.st_mode & 07777);
		EXPECT_EQ(12, st.st_uid);
		EXPECT_EQ(34, st.st_gid);
		EXPECT_EQ(1100000000, st.st_mtime) TH_LOG("node %d", i);
	}
}

TEST_F(file, permissions_are_kept_against_other_users)
{
	pid_t child;
	int status;

	ASSERT_EQ(0, close(open(AT(1, "f_perm"), O_CREAT | O_WRONLY, 0600)));
	child = fork();
	if (!child) {
		if (setgid(1000) || setuid(1000))
			_exit(99);
		if (ERRNO_OF(open(AT(2, "f_perm"), O_RDONLY)) != EACCES)
			_exit(1);
		if (ERRNO_OF(chmod(AT(2, "f_perm"), 0666)) != EPERM)
			_exit(2);
		_exit(0);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(file, statfs_tells_what_there_is)
{
	struct statfs st;

	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, statfs(self->s.n[i].mnt, &st));
		EXPECT_EQ(HOTPOT_SUPER_MAGIC, st.f_type);
		EXPECT_EQ(HOTPOT_NAME_MAX, st.f_namelen);
		EXPECT_EQ(PAGE, st.f_bsize);
		EXPECT_LT(0, st.f_blocks);
		EXPECT_LE(st.f_bfree, st.f_blocks);
		EXPECT_LE(st.f_blocks * PAGE, device_size(self->s.n[i].dev));
	}
}

TEST_F(file, names_have_their_limits)
{
	char name[300];

	memset(name, 0, sizeof(name));
	memcpy(name, "f_", 2);
	memset(name + 2, 'n', HOTPOT_NAME_MAX - 2);
	ASSERT_LE(0, open(AT(1, name), O_CREAT | O_WRONLY, 0644)) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, access(AT(2, name), F_OK));
	EXPECT_EQ(0, unlink(AT(3, name)));
	name[HOTPOT_NAME_MAX] = 'n';
	EXPECT_EQ(ENAMETOOLONG, ERRNO_OF(open(AT(1, name), O_CREAT | O_WRONLY, 0644)));
	ASSERT_EQ(0, close(open(AT(1, "f_short"), O_CREAT | O_WRONLY, 0644)));
	EXPECT_EQ(ENAMETOOLONG, ERRNO_OF(rename(AT(1, "f_short"), AT(1, name))));
	/* A slash is a directory that is not there. */
	EXPECT_EQ(ENOENT, ERRNO_OF(open(AT(1, "f_dir/f_file"), O_CREAT | O_WRONLY, 0644)));
	EXPECT_EQ(ENOTDIR, ERRNO_OF(open(AT(1, "f_short/f_file"), O_CREAT | O_WRONLY, 0644)));
	/* Any other byte is a name. */
	EXPECT_LE(0, open(AT(1, "f_ \xc3\xa4\n\t *?"), O_CREAT | O_WRONLY, 0644));
	EXPECT_EQ(0, access(AT(2, "f_ \xc3\xa4\n\t *?"), F_OK));
	EXPECT_EQ(0, unlink(AT(2, "f_ \xc3\xa4\n\t *?")));
}

TEST_F(file, directories_links_and_devices_are_refused)
{
	int err = ERRNO_OF(mkdir(AT(1, "f_dir"), 0755));

	EXPECT_TRUE(err == EPERM || err == EOPNOTSUPP) TH_LOG("mkdir: %s", strerror(err));
	ASSERT_EQ(0, close(open(AT(1, "f_one"), O_CREAT | O_WRONLY, 0644)));
	EXPECT_EQ(EPERM, ERRNO_OF(link(AT(1, "f_one"), AT(1, "f_two"))));
	EXPECT_EQ(EPERM, ERRNO_OF(symlink("f_one", AT(1, "f_two"))));
	EXPECT_EQ(EPERM, ERRNO_OF(mknod(AT(1, "f_two"), S_IFIFO | 0644, 0)));
	EXPECT_EQ(ENOENT, ERRNO_OF(access(AT(1, "f_two"), F_OK)));
}

TEST_F(file, tools_of_every_day_work)
{
	sh("head -c 500000 /dev/urandom >/tmp/f_source");
	EXPECT_EQ(0, sh("cp /tmp/f_source %s", AT(1, "f_copy")));
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(0, sh("cmp /tmp/f_source %s", AT(i, "f_copy")));
	}
	EXPECT_EQ(0, sh("cp %s %s", AT(2, "f_copy"), AT(2, "f_copy2")));
	EXPECT_EQ(0, sh("mv %s %s", AT(3, "f_copy2"), AT(3, "f_moved")));
	EXPECT_EQ(0, sh("cmp %s /tmp/f_source", AT(1, "f_moved")));
	EXPECT_EQ(0, sh("dd if=/tmp/f_source of=%s bs=4096 seek=3 count=7 conv=notrunc,fsync", AT(2, "f_moved")));
	EXPECT_EQ(0, sh("tar -C %s -cf /tmp/f.tar f_moved && tar -C /tmp -xf /tmp/f.tar && "
			"cmp /tmp/f_moved %s", self->s.n[3].mnt, AT(1, "f_moved")));
	EXPECT_EQ(0, sh("echo more >>%s && [ \"$(tail -c 5 %s)\" = more ]", AT(1, "f_moved"), AT(3, "f_moved")));
	EXPECT_EQ(0, sh("rm %s %s", AT(2, "f_copy"), AT(2, "f_moved")));
	sh("rm -f /tmp/f_source /tmp/f.tar /tmp/f_moved");
}

TEST_F(file, stays_usable_by_its_descriptor_after_unlink)
{
	char got[8];
	int fd = open(AT(1, "f_held"), O_CREAT | O_RDWR, 0644), err;

	ASSERT_EQ(4, write(fd, "held", 4));
	ASSERT_EQ(0, unlink(AT(2, "f_held")));
	/*
	 * Unlink drops the pages on all nodes (Documentation/design/hotpot.md):
	 * a holder gets an error or the old bytes, never another file's.
	 */
	err = pread(fd, got, 4, 0);
	if (err == 4) {
		EXPECT_TRUE(!memcmp(got, "held", 4) || !memcmp(got, "\0\0\0\0", 4));
	}
	EXPECT_EQ(0, close(fd));
}

TEST_F(file, with_bad_buffers_is_efault_and_unchanged)
{
	int fd = open(AT(1, "f_bad"), O_CREAT | O_RDWR, 0644);

	ASSERT_EQ(4, write(fd, "good", 4));
	EXPECT_EQ(EFAULT, ERRNO_OF(pwrite(fd, bad_pointer(), 4, 0)));
	EXPECT_EQ(EFAULT, ERRNO_OF(pread(fd, bad_pointer(), 4, 0)));
	EXPECT_EQ(EINVAL, ERRNO_OF(pwrite(fd, "x", 1, -1)));
	EXPECT_TRUE(holds(AT(2, "f_bad"), 0, "good", 4));
	close(fd);
}

TEST_F(file, can_be_copied_out_of_its_own_mapping)
{
	static char bytes[2 * PAGE];
	int fd = open(AT(1, "f_own"), O_CREAT | O_RDWR, 0644), out;
	char *map;

	fill(bytes, sizeof(bytes), 11);
	ASSERT_EQ(sizeof(bytes), write(fd, bytes, sizeof(bytes)));
	map = mmap(NULL, sizeof(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	out = open(AT(1, "f_out"), O_CREAT | O_RDWR, 0644);
	/* write(2) whose source faults on hotpot itself must not lock up. */
	EXPECT_EQ(sizeof(bytes), write(out, map, sizeof(bytes)));
	EXPECT_TRUE(holds(AT(2, "f_out"), 0, bytes, sizeof(bytes)));
	EXPECT_EQ(PAGE, pwrite(fd, map, PAGE, PAGE));
	EXPECT_EQ(PAGE, pread(fd, map, PAGE, PAGE));
	close(out);
	close(fd);
}

TEST_HARNESS_MAIN

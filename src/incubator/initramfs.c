// SPDX-License-Identifier: MIT
/* Writes a cpio archive in the "newc" format: the kernel wants nothing else. */
#include "incubator/initramfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The agent program, put into this one by the build. */
extern const u8 incubator_agent_start[], incubator_agent_end[];

const u8 *initramfs_agent(size_t *len)
{
	*len = (size_t)(incubator_agent_end - incubator_agent_start);
	return incubator_agent_start;
}

static int cpio_entry(FILE *f, const char *name, u32 mode, u32 rdev_minor, const void *data,
		      size_t len)
{
	static u32 inode;

	fprintf(f, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++inode, mode, 0,
		0, 1, 0, (u32)len, 0, 0, rdev_minor ? 5 : 0, rdev_minor, (u32)strlen(name) + 1, 0);
	fwrite(name, 1, strlen(name) + 1, f);
	while (ftell(f) % 4)
		fputc(0, f);
	if (len)
		fwrite(data, 1, len, f);
	while (ftell(f) % 4)
		fputc(0, f);
	return ferror(f) ? -EIO : 0;
}

static int add_modules(FILE *f, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int ret = 0;

	if (!d)
		return -errno;
	while (ret == 0 && (e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);
		char name[300];
		struct stat st;
		void *map;
		int fd;

		if (len < 4 || strcmp(e->d_name + len - 3, ".ko") != 0)
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0) {
			ret = -errno;
			break;
		}
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		close(fd);
		if (map == MAP_FAILED) {
			ret = -errno;
			break;
		}
		snprintf(name, sizeof(name), "modules/%s", e->d_name);
		ret = cpio_entry(f, name, S_IFREG | 0644, 0, map, (size_t)st.st_size);
		munmap(map, (size_t)st.st_size);
	}
	closedir(d);
	return ret;
}

int initramfs_make(const char *modules_dir)
{
	int fd = memfd_create("nestor-initramfs", MFD_CLOEXEC);
	const u8 *agent;
	size_t len;
	FILE *f;
	int ret;

	if (fd < 0)
		return -errno;
	f = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 3), "w");
	if (!f) {
		ret = -errno;
		close(fd);
		return ret;
	}
	agent = initramfs_agent(&len);
	ret = cpio_entry(f, "dev", S_IFDIR | 0755, 0, NULL, 0);
	if (!ret)
		ret = cpio_entry(f, "dev/console", S_IFCHR | 0600, 1, NULL, 0);
	if (!ret)
		ret = cpio_entry(f, "modules", S_IFDIR | 0755, 0, NULL, 0);
	if (!ret && modules_dir)
		ret = add_modules(f, modules_dir);
	if (!ret)
		ret = cpio_entry(f, "init", S_IFREG | 0755, 0, agent, len);
	if (!ret)
		ret = cpio_entry(f, "TRAILER!!!", 0, 0, NULL, 0);
	if (fclose(f) != 0 && !ret)
		ret = -EIO;
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

// SPDX-License-Identifier: MIT
/*
 * An initrd given alone is the user's to the last byte: its own init runs. In
 * every other case our init runs, on the directory given, on the initrd, or on a
 * minimal busybox root.
 */
#include "cli/guest_root.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "machine/modules.h"

static const char *find_busybox(void)
{
	static const char *const places[] = { "/bin/busybox", "/usr/bin/busybox" };

	for (u32 i = 0; i < ARRAY_SIZE(places); i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

static int add_base(const struct guest_root_config *cfg, struct rootfs *fs, struct error *err)
{
	const char *busybox;

	if (cfg->rootfs)
		return rootfs_add_tree(fs, cfg->rootfs, err);
	if (cfg->initrd)
		return rootfs_add_archive(fs, cfg->initrd, err);
	busybox = find_busybox();
	if (!busybox)
		return error_set(err, -ENOENT,
				 "no busybox for the guest's root; install busybox-static, or give "
				 "--rootfs or --initrd");
	return rootfs_add_minimal(fs, busybox, err);
}

static int add_own_init(const struct guest_root_config *cfg, struct rootfs *fs, struct error *err)
{
	struct rootfs_init init = { .argv = (const char *const *)cfg->command };
	char **paths = NULL;
	int ret = 0;

	if (cfg->modules && cfg->modules_dir && *cfg->modules_dir)
		ret = modules_resolve(cfg->modules_dir, cfg->modules, &paths, err);
	init.modules = (const char *const *)paths;
	if (!ret)
		ret = rootfs_add_init(fs, &init, err);
	modules_free(paths);
	return ret;
}

int guest_root_create(const struct guest_root_config *cfg, struct rootfs **out, bool *own_init,
		      struct error *err)
{
	struct rootfs *fs;
	int ret = rootfs_create(&fs);

	if (ret)
		return error_errno(err, ret, "guest root");
	*own_init = cfg->command || !cfg->initrd || cfg->rootfs;
	if (cfg->rootfs && cfg->initrd)
		ret = error_set(err, -EINVAL, "--rootfs and --initrd exclude each other");
	if (!ret)
		ret = add_base(cfg, fs, err);
	if (!ret && *own_init)
		ret = add_own_init(cfg, fs, err);
	if (ret) {
		rootfs_destroy(fs);
		return ret;
	}
	*out = fs;
	return 0;
}

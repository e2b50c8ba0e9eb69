// SPDX-License-Identifier: MIT
/*
 * One row per request. Rows run on the control socket's thread and never wait for
 * the guest: what it has to do is answered from the device's callback.
 */
#include "machine/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/server.h"
#include "machine/machine_json.h"
#include "vsp/fcopy.h"
#include "vsp/kvp.h"
#include "vsp/vss.h"

#define KILL_DELAY_NS (100 * NS_PER_MS)
#define KILL_STATUS   (128 + 9)
#define KVP_ITEMS_MAX 1024u /* of a pool */

struct machine_control {
	struct machine *machine;
	const struct machine_config *cfg;
	const char *name;
	struct control_server *server;
	struct loop_timer kill;
	bool asked; /* to power off */
	/* A freeze and its owner. */
	pthread_mutex_t lock; /* guards: abandoned */
	bool abandoned;
};

static json_t *integer(u64 v)
{
	return json_integer((json_int_t)v);
}

static const char *text_arg(struct control_call *call, const char *key)
{
	return json_string_value(json_object_get(call->args, key));
}

static bool flag_arg(struct control_call *call, const char *key)
{
	return json_is_true(json_object_get(call->args, key));
}

/* The devices; NULL: answered that there are none. */
static struct vmbus_devices *devices(struct control_call *call)
{
	struct machine_control *mc = call->ctx;
	struct vmbus_devices *d = machine_devices(mc->machine);

	if (!d)
		control_fail(call, -ENODEV, "role %s has no VMBus",
			     role_profiles[mc->cfg->role].name);
	return d;
}

/* State */

static const char *state(struct machine_control *mc, const struct machine_report *r)
{
	if (r->reason != STOP_NONE)
		return "ended";
	if (r->crashed)
		return "crashed";
	return mc->asked ? "stopping" : "running";
}

static json_t *status_json(struct machine_control *mc, const struct machine_report *r)
{
	const struct machine_config *cfg = mc->cfg;

	return json_pack("{s:s, s:i, s:s, s:s, s:i, s:I, s:f, s:s}", "name", mc->name, "pid",
			 (int)getpid(), "role", role_profiles[cfg->role].name, "kernel",
			 r->kernel[0] ? r->kernel : cfg->kernel, "cpus", (int)cfg->cpus,
			 "memory_bytes", (json_int_t)cfg->memory_bytes, "uptime_seconds",
			 (double)r->run_ns / 1e9, "state", state(mc, r));
}

static void do_status(struct control_call *call)
{
	struct machine_control *mc = call->ctx;
	struct machine_report r;

	machine_report(mc->machine, &r);
	control_ok(call, status_json(mc, &r));
}

static void guid_text(const struct hv_guid *g, char out[40])
{
	const u8 *b = (const u8 *)g;

	snprintf(out, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12],
		 b[13], b[14], b[15]);
}

static json_t *channel_json(const struct vmbus_channel_info *c)
{
	char instance[40];

	guid_text(&c->instance_id, instance);
	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "device",
			 c->device, "instance", instance, "index", (int)c->index, "relid",
			 (int)c->relid, "vp", (int)c->target_vp, "open", c->open, "revoked",
			 c->revoked, "packets", (json_int_t)c->packets, "completions",
			 (json_int_t)c->completions, "sends", (json_int_t)c->sends, "signals_in",
			 (json_int_t)c->signals_in, "signals_out", (json_int_t)c->signals_out);
}

static json_t *channels_json(struct machine *m)
{
	struct vmbus_server *srv = machine_vmbus(m);
	struct vmbus_channel_info *list;
	json_t *a = json_array();
	u32 n = srv ? vmbus_server_list(srv, NULL, 0) : 0, room = n + 16;

	list = n ? calloc(room, sizeof(*list)) : NULL;
	n = list ? vmbus_server_list(srv, list, room) : 0;
	for (u32 i = 0; i < n && i < room; i++)
		json_array_append_new(a, channel_json(&list[i]));
	free(list);
	return a;
}

static void do_stat(struct control_call *call)
{
	struct machine_control *mc = call->ctx;
	struct machine_report r;
	json_t *o;

	machine_report(mc->machine, &r);
	o = status_json(mc, &r);
	if (o) {
		machine_counts_json(o, mc->machine, &r);
		json_object_set_new(o, "nested", json_boolean(role_profiles[mc->cfg->role].nested));
		json_object_set_new(o, "channels", channels_json(mc->machine));
	}
	control_ok(call, o);
}

/* The end */

static void kill_now(struct loop_timer *t)
{
	struct machine_control *mc = container_of(t, struct machine_control, kill);

	machine_stop(mc->machine, STOP_KILLED, KILL_STATUS, "ended by nestor stop --force");
}

/* The answer has to get out before the machine, and this socket with it, is gone. */
static void do_stop(struct control_call *call)
{
	struct machine_control *mc = call->ctx;
	const char *how;

	if (flag_arg(call, "force")) {
		loop_timer_after(control_server_loop(mc->server), &mc->kill, KILL_DELAY_NS,
				 kill_now);
		how = "kill";
	} else {
		how = machine_ask_power_off(mc->machine) ? "shutdown service" : "power button";
		mc->asked = true;
	}
	control_ok(call, json_pack("{s:s}", "asked", how));
}

/* Devices */

static json_t *device_json(const struct vmbus_device_row *r)
{
	json_t *o = json_pack("{s:s, s:s, s:s}", "name", r->name, "kind", r->kind, "what", r->what);
	char mac[20];

	if (o && !strcmp(r->kind, "network")) {
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", r->mac[0], r->mac[1],
			 r->mac[2], r->mac[3], r->mac[4], r->mac[5]);
		json_object_set_new(o, "mac", json_string(mac));
		json_object_set_new(o, "link", json_string(r->link_up ? "up" : "down"));
		json_object_set_new(o, "sent_frames", integer(r->net.tx_frames));
		json_object_set_new(o, "sent_bytes", integer(r->net.tx_bytes));
		json_object_set_new(o, "received_frames", integer(r->net.rx_frames));
		json_object_set_new(o, "received_bytes", integer(r->net.rx_bytes));
		json_object_set_new(o, "dropped_frames", integer(r->net.rx_dropped));
	} else if (o) {
		json_object_set_new(o, "bytes", integer(r->bytes));
		json_object_set_new(o, "read_only", json_boolean(r->read_only));
	}
	return o;
}

static void do_device_list(struct control_call *call)
{
	struct machine_control *mc = call->ctx;
	struct vmbus_devices *d = machine_devices(mc->machine);
	struct vmbus_device_row *rows = d ? calloc(VMBUS_DEVICE_ROWS_MAX, sizeof(*rows)) : NULL;
	u32 n = rows ? vmbus_devices_list(d, rows, VMBUS_DEVICE_ROWS_MAX) : 0;
	json_t *a = json_array();

	for (u32 i = 0; i < n; i++)
		json_array_append_new(a, device_json(&rows[i]));
	free(rows);
	control_ok(call,
		   json_pack("{s:o, s:o}", "devices", a, "channels", channels_json(mc->machine)));
}

static void do_device_add(struct control_call *call)
{
	const char *kind = text_arg(call, "kind"), *what = text_arg(call, "what");
	struct vmbus_devices *d = devices(call);
	struct error err = { "" };
	char name[24] = "";
	int ret;

	if (!d)
		return;
	if (!kind || !what)
		ret = error_set(&err, -EINVAL, "what shall be added?");
	else if (!strcmp(kind, "net"))
		ret = vmbus_devices_add_net(d, what, name, sizeof(name), &err);
	else if (!strcmp(kind, "disk") || !strcmp(kind, "cdrom"))
		ret = vmbus_devices_add_disk(d, what, !strcmp(kind, "cdrom"), name, sizeof(name),
					     &err);
	else
		ret = error_set(&err, -EINVAL, "%s: a device is net, disk or cdrom", kind);
	if (ret)
		control_fail(call, ret, "%s", err.text);
	else
		control_ok(call, json_pack("{s:s}", "name", name));
}

static void do_device_remove(struct control_call *call)
{
	const char *name = text_arg(call, "name");
	struct vmbus_devices *d = devices(call);
	struct error err = { "" };
	int ret;

	if (!d)
		return;
	ret = vmbus_devices_remove(d, name ? name : "", &err);
	if (ret)
		control_fail(call, ret, "%s", err.text);
	else
		control_ok(call, NULL);
}

static void do_link(struct control_call *call)
{
	json_t *index = json_object_get(call->args, "card");
	struct vmbus_devices *d = devices(call);
	struct error err = { "" };
	json_int_t card = json_is_integer(index) ? json_integer_value(index) : -1;
	int ret;

	if (!d)
		return;
	ret = vmbus_devices_set_link(d, card < 0 || card > 255 ? ~0u : (u32)card,
				     flag_arg(call, "up"), &err);
	if (ret)
		control_fail(call, ret, "%s", err.text);
	else
		control_ok(call, NULL);
}

/* Key-value pairs */

static const char *const pools[IC_KVP_POOL_COUNT] = {
	[IC_KVP_POOL_EXTERNAL] = "external",
	[IC_KVP_POOL_GUEST] = "guest",
	[IC_KVP_POOL_AUTO] = "auto",
	[IC_KVP_POOL_AUTO_EXTERNAL] = "auto-external",
};

static const char *kvp_error(int error)
{
	switch (error) {
	case -ENOENT:
		return "there is no such key";
	case -ENOTCONN:
		return "nobody in the guest answers: hv_kvp_daemon does not run there";
	case -ETIMEDOUT:
		return "the guest's hv_kvp_daemon does not answer";
	case -EINVAL:
		return "this pool cannot be written, or key or value is no UTF-8";
	case -ENAMETOOLONG:
		return "key or value is too long";
	case -EBUSY:
		return "too many requests wait already";
	case -EIO:
		return "the guest could not do it";
	default:
		return strerror(-error);
	}
}

/* A request on its way through pools and indices. */
struct kvp_walk {
	struct control_call *call;
	struct kvp *kvp;
	char *key; /* NULL: list */
	u32 pool, last_pool, index;
	json_t *items;
};

static void walk_end(struct kvp_walk *w, int error, json_t *result)
{
	if (error)
		control_fail(w->call, error, "%s", kvp_error(error));
	else
		control_ok(w->call, result);
	json_decref(w->items);
	free(w->key);
	free(w);
}

static void walk_item(void *ctx, int error, const struct kvp_item *item);

/*
 * Also for one key. Linux cannot answer the operation that looks a key up: its daemon
 * copies as many bytes of the value as the request said it has, none, and its driver
 * takes the value from four bytes further on (6.1 to 7.3: kvp_get_value,
 * kvp_respond_to_host).
 */
static int walk_ask(struct kvp_walk *w)
{
	return kvp_enumerate(w->kvp, w->pool, w->index, walk_item, w);
}

/* JSON takes no bytes that are not UTF-8, and a guest may send any. */
static json_t *guest_text(const char *text)
{
	json_t *o = json_string(text);
	char clean[sizeof(((struct kvp_item *)0)->value)];
	size_t n = 0;

	if (o)
		return o;
	for (; text[n] && n < sizeof(clean); n++)
		clean[n] = text[n] & 0x80 ? '?' : text[n];
	return json_stringn(clean, n);
}

static json_t *item_json(const struct kvp_walk *w, const struct kvp_item *item)
{
	return json_pack("{s:s, s:o, s:o}", "pool", pools[w->pool], "key", guest_text(item->key),
			 "value", guest_text(item->value));
}

static void walk_item(void *ctx, int error, const struct kvp_item *item)
{
	struct kvp_walk *w = ctx;

	if (!error && w->key && !strcmp(w->key, item->key)) {
		walk_end(w, 0, item_json(w, item));
		return;
	}
	if (!error && !w->key)
		json_array_append_new(w->items, item_json(w, item));
	/* A guest that never comes to an end is not followed there. */
	if (!error && w->index < KVP_ITEMS_MAX) {
		w->index++;
		error = walk_ask(w);
	} else if ((!error || error == -ENOENT) && w->pool < w->last_pool) {
		w->pool++;
		w->index = 0;
		error = walk_ask(w);
	} else if ((!error || error == -ENOENT) && !w->key) {
		walk_end(w, 0, json_pack("{s:O}", "items", w->items));
		return;
	} else if (!error) {
		error = -ENOENT;
	}
	if (error)
		walk_end(w, error, NULL);
}

/* IC_KVP_POOL_COUNT: not said, or (answered) no pool. */
static bool pool_arg(struct control_call *call, u32 *pool)
{
	const char *name = text_arg(call, "pool");

	*pool = IC_KVP_POOL_COUNT;
	if (!name)
		return true;
	for (u32 i = 0; i < IC_KVP_POOL_COUNT; i++)
		if (!strcmp(name, pools[i]) || (name[0] == (char)('0' + i) && !name[1]))
			*pool = i;
	if (*pool == IC_KVP_POOL_COUNT)
		control_fail(call, -EINVAL, "%s: a pool is external, guest, auto or auto-external",
			     name);
	return *pool != IC_KVP_POOL_COUNT;
}

static void walk(struct control_call *call, const char *key)
{
	struct vmbus_devices *d = devices(call);
	struct kvp_walk *w;
	u32 pool;
	int ret;

	if (!d || !pool_arg(call, &pool))
		return;
	w = calloc(1, sizeof(*w));
	if (w) {
		*w = (struct kvp_walk){ .call = call, .kvp = vmbus_devices_kvp(d) };
		w->pool = pool < IC_KVP_POOL_COUNT ? pool : 0;
		w->last_pool = pool < IC_KVP_POOL_COUNT ? pool : IC_KVP_POOL_AUTO;
		w->items = json_array();
		w->key = key ? strdup(key) : NULL;
	}
	if (!w || !w->items || (key && !w->key)) {
		control_fail(call, -ENOMEM, "out of memory");
		if (w)
			json_decref(w->items);
		free(w);
		return;
	}
	ret = walk_ask(w);
	if (ret)
		walk_end(w, ret, NULL);
}

static void do_kvp_list(struct control_call *call)
{
	walk(call, NULL);
}

static void do_kvp_get(struct control_call *call)
{
	const char *key = text_arg(call, "key");

	if (key)
		walk(call, key);
	else
		control_fail(call, -EINVAL, "which key?");
}

static void kvp_changed(void *ctx, int error, const struct kvp_item *item)
{
	if (error)
		control_fail(ctx, error, "%s", kvp_error(error));
	else
		control_ok(ctx, NULL);
}

static void change(struct control_call *call, bool set)
{
	const char *key = text_arg(call, "key"), *value = text_arg(call, "value");
	struct vmbus_devices *d = devices(call);
	u32 pool;
	int ret;

	if (!d || !pool_arg(call, &pool))
		return;
	if (pool == IC_KVP_POOL_COUNT)
		pool = IC_KVP_POOL_EXTERNAL;
	if (!key || (set && !value))
		ret = -EINVAL;
	else if (set)
		ret = kvp_set(vmbus_devices_kvp(d), pool, key, value, kvp_changed, call);
	else
		ret = kvp_delete(vmbus_devices_kvp(d), pool, key, kvp_changed, call);
	if (ret)
		control_fail(call, ret, "%s", kvp_error(ret));
}

static void do_kvp_set(struct control_call *call)
{
	change(call, true);
}

static void do_kvp_delete(struct control_call *call)
{
	change(call, false);
}

/* Freeze and thaw. Whoever froze and goes away thaws. */

static void ignore(void *ctx, int error)
{
}

static bool set_abandoned(struct machine_control *mc, bool on)
{
	bool was;

	pthread_mutex_lock(&mc->lock);
	was = mc->abandoned;
	mc->abandoned = on;
	pthread_mutex_unlock(&mc->lock);
	return was;
}

/* Still freezing: then frozen() sees the flag. Refused if it is thawed already. */
static void freezer_gone(void *ctx)
{
	struct machine_control *mc = ctx;

	set_abandoned(mc, true);
	vss_thaw(vmbus_devices_vss(machine_devices(mc->machine)), ignore, NULL);
}

static const char *vss_error(int error)
{
	switch (error) {
	case -ENOTCONN:
		return "nobody in the guest answers: hv_vss_daemon does not run there";
	case -EBUSY:
		return "the guest is frozen or being frozen already";
	case -ETIMEDOUT:
		return "it took too long: the guest has been thawed";
	case -EINVAL:
		return "the guest is not frozen";
	case -EIO:
		return "the guest refused, or hv_vss_daemon does not run there";
	default:
		return strerror(-error);
	}
}

static void frozen(void *ctx, int error)
{
	struct control_call *call = ctx;
	struct machine_control *mc = call->ctx;

	if (!error && set_abandoned(mc, false))
		vss_thaw(vmbus_devices_vss(machine_devices(mc->machine)), ignore, NULL);
	if (error)
		control_fail(call, error, "%s", vss_error(error));
	else
		control_ok(call, NULL);
}

static void do_freeze(struct control_call *call)
{
	struct vmbus_devices *d = devices(call);
	double seconds = json_number_value(json_object_get(call->args, "seconds"));
	u64 hold = seconds > 0 && seconds < 1e6 ? (u64)(seconds * 1e9) : 0;
	int ret;

	if (!d)
		return;
	ret = vss_get(vmbus_devices_vss(d)) == VSS_NONE	   ? -ENOTCONN
	      : vss_get(vmbus_devices_vss(d)) != VSS_READY ? -EBUSY
							   : control_hold(call, freezer_gone);
	if (!ret) {
		set_abandoned(call->ctx, false);
		ret = vss_freeze(vmbus_devices_vss(d), hold, frozen, call);
		if (ret)
			control_hold(call, NULL);
	}
	if (ret)
		control_fail(call, ret, "%s", vss_error(ret));
}

static void thawed(void *ctx, int error)
{
	if (error)
		control_fail(ctx, error, "%s", vss_error(error));
	else
		control_ok(ctx, NULL);
}

static void do_thaw(struct control_call *call)
{
	struct vmbus_devices *d = devices(call);
	int ret;

	if (!d)
		return;
	control_hold(call, NULL);
	ret = vss_thaw(vmbus_devices_vss(d), thawed, call);
	if (ret)
		control_fail(call, ret, "%s", vss_error(ret));
}

/* Files */

static const char *fcopy_error(int error)
{
	switch (error) {
	case -EEXIST:
		return "the guest has such a file already; see --overwrite";
	case -ENOSPC:
		return "the guest's disk is full";
	case -ENOTCONN:
		return "nobody in the guest answers: hv_fcopy_uio_daemon (or hv_fcopy_daemon) does not "
		       "run there";
	case -EBUSY:
		return "another file is being copied";
	case -ETIMEDOUT:
		return "the guest's daemon does not answer";
	case -EIO:
		return "the guest could not write it, or the file could not be read";
	default:
		return strerror(-error);
	}
}

static void copied(void *ctx, int error)
{
	if (error)
		control_fail(ctx, error, "%s", fcopy_error(error));
	else
		control_ok(ctx, NULL);
}

static void do_copy(struct control_call *call)
{
	const char *dir = text_arg(call, "dir"), *name = text_arg(call, "name");
	struct vmbus_devices *d = devices(call);
	int fd = call->fd, ret;

	if (!d)
		return;
	if (!dir || !name || fd < 0) {
		control_fail(call, -EINVAL, "which file, and where to?");
		return;
	}
	/* The device closes its own, whatever comes. */
	fd = dup(fd);
	ret = fd < 0 ? -errno
		     : fcopy_send(vmbus_devices_fcopy(d), fd, dir, name,
				  flag_arg(call, "overwrite"), flag_arg(call, "create_dir"), copied,
				  call);
	if (ret)
		control_fail(call, ret, "%s", fcopy_error(ret));
}

static const struct control_row rows[] = {
	{ "status", do_status },
	{ "stat", do_stat },
	{ "stop", do_stop },
	{ "device-list", do_device_list },
	{ "device-add", do_device_add },
	{ "device-remove", do_device_remove },
	{ "link", do_link },
	{ "kvp-list", do_kvp_list },
	{ "kvp-get", do_kvp_get },
	{ "kvp-set", do_kvp_set },
	{ "kvp-delete", do_kvp_delete },
	{ "freeze", do_freeze },
	{ "thaw", do_thaw },
	{ "copy", do_copy },
	{ 0 },
};

int machine_control_start(struct machine *m, const struct machine_config *cfg, const char *name,
			  struct machine_control **out, struct error *err)
{
	struct machine_control *mc = calloc(1, sizeof(*mc));
	int ret = mc ? control_server_create(rows, mc, &mc->server) : -ENOMEM;

	if (ret) {
		free(mc);
		return error_errno(err, ret, "control socket");
	}
	mc->machine = m;
	mc->cfg = cfg;
	mc->name = name;
	pthread_mutex_init(&mc->lock, NULL);
	ret = control_server_start(mc->server, name);
	if (ret) {
		machine_control_destroy(mc);
		return error_errno(err, ret, "control socket");
	}
	*out = mc;
	return 0;
}

void machine_control_stop(struct machine_control *mc)
{
	if (!mc)
		return;
	control_server_stop(mc->server);
	loop_timer_cancel(&mc->kill);
}

void machine_control_destroy(struct machine_control *mc)
{
	if (!mc)
		return;
	control_server_destroy(mc->server);
	pthread_mutex_destroy(&mc->lock);
	free(mc);
}

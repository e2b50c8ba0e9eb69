// SPDX-License-Identifier: MIT
/*
 * A doorbell is an eventfd that the engine signals, on a loop of its own: the
 * child's VP goes on while the number is put into a ring of the parent's. Where a
 * ring is full the doorbell waits, once however often it rings, until the parent
 * says that it has emptied the ring.
 */
#include "core/child_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/loop.h"
#include "core/child_intercept.h"
#include "core/core_trace.h"
#include "core/hypercall.h"
#include "core/intercept.h"

#define PORTS_MAX 1024u /* of a parent; the engine has no room for more of one child's either */

struct child_ports {
	struct partition *parent;
	struct loop *loop;
	/* One change at a time, held while the loop's thread makes its part of it. Guards: ports.
	 */
	pthread_mutex_t control;
	struct list ports;
	u32 count;
	pthread_mutex_t lock; /* guards: waiting */
	struct list waiting;  /* of doorbells, in the order in which they found no room */
};

struct port {
	struct list link;
	struct child_ports *owner;
	u32 id, sint, vp;
	u64 connection_partition;

	/* The connection; NULL: there is none. The child goes after child_ports_forget(). */
	struct partition *child;
	u32 connection_id;
	u64 gpa, value;
	u32 bytes;
	bool any_value;
	int fd;
	struct loop_fd lf;
	struct list wait; /* empty: not waiting */
};

/* The parent's VP that is told. Numbers spread over the VPs; one that is off is passed over. */
static enum hv_status ring(const struct port *port)
{
	struct partition *p = port->owner->parent;
	enum hv_status status = HV_STATUS_INVALID_SYNIC_STATE;

	if (port->vp != HV_ANY_VP)
		return synic_ring(&p->vps[port->vp]->synic, port->sint, port->id);
	for (u32 i = 0; i < p->vp_count && status == HV_STATUS_INVALID_SYNIC_STATE; i++)
		status = synic_ring(&p->vps[(port->id + i) % p->vp_count]->synic, port->sint,
				    port->id);
	return status;
}

static void ring_locked(struct child_ports *ports, struct port *port)
{
	enum hv_status status = ring(port);

	if (status == HV_STATUS_INSUFFICIENT_BUFFERS)
		list_add_tail(&ports->waiting, &port->wait);
	core_emit(TRACE_CONNECTION_EVENT, port->connection_id, 0, status,
		  TRACE_WORD(ports->parent->hv->name));
}

/* Each that waits gets one try. */
static void refill_locked(struct child_ports *ports)
{
	struct list batch, *node;

	if (list_empty(&ports->waiting))
		return;
	list_init(&batch);
	while ((node = list_pop(&ports->waiting)))
		list_add_tail(&batch, node);
	while ((node = list_pop(&batch)))
		ring_locked(ports, list_entry(node, struct port, wait));
}

static void on_doorbell(struct loop_fd *lf, u32 events)
{
	struct port *port = container_of(lf, struct port, lf);
	struct child_ports *ports = port->owner;
	bool waited;
	u64 times;

	if (read(port->fd, &times, sizeof(times)) != sizeof(times))
		return;
	pthread_mutex_lock(&ports->lock);
	waited = !list_empty(&port->wait);
	refill_locked(ports);
	if (!waited)
		ring_locked(ports, port);
	pthread_mutex_unlock(&ports->lock);
}

static struct child_ports *ports_create(struct partition *parent)
{
	struct child_ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		return NULL;
	ports->parent = parent;
	list_init(&ports->ports);
	list_init(&ports->waiting);
	pthread_mutex_init(&ports->control, NULL);
	pthread_mutex_init(&ports->lock, NULL);
	return ports;
}

/* The parent's, made when first needed. */
static struct child_ports *ports_of(struct partition *parent)
{
	struct child_ports *ports;

	pthread_mutex_lock(&parent->lock);
	if (!parent->ports)
		__atomic_store_n(&parent->ports, ports_create(parent), __ATOMIC_RELEASE);
	ports = parent->ports;
	pthread_mutex_unlock(&parent->lock);
	return ports;
}

static struct child_ports *ports_if_any(struct partition *parent)
{
	return __atomic_load_n(&parent->ports, __ATOMIC_ACQUIRE);
}

static struct port *find_locked(struct child_ports *ports, u32 id)
{
	struct list *pos;

	list_for_each(pos, &ports->ports)
		if (list_entry(pos, struct port, link)->id == id)
			return list_entry(pos, struct port, link);
	return NULL;
}

static struct port *find_connection_locked(struct child_ports *ports, const struct partition *child,
					   u32 connection_id)
{
	struct list *pos;

	list_for_each(pos, &ports->ports) {
		struct port *port = list_entry(pos, struct port, link);

		if (port->child == child && port->connection_id == connection_id)
			return port;
	}
	return NULL;
}

static int engine_doorbell(struct port *port, bool add)
{
	struct engine_vm *vm = port->child->vm;

	return vm->ops->vm_ioeventfd(vm, port->gpa, port->bytes, true,
				     port->any_value ? NULL : &port->value, port->fd, add);
}

struct watch {
	struct port *port;
	int ret;
};

static void watch_start(void *arg)
{
	struct watch *w = arg;

	w->ret = loop_fd_add(w->port->owner->loop, &w->port->lf, w->port->fd, EPOLLIN, on_doorbell);
}

static void watch_stop(void *arg)
{
	loop_fd_del(&((struct port *)arg)->lf);
}

static void disconnect_locked(struct child_ports *ports, struct port *port)
{
	if (!port->child)
		return;
	engine_doorbell(port, false);
	loop_call(ports->loop, watch_stop, port);
	pthread_mutex_lock(&ports->lock);
	list_del(&port->wait);
	pthread_mutex_unlock(&ports->lock);
	close(port->fd);
	port->child = NULL;
}

static void port_free_locked(struct child_ports *ports, struct port *port)
{
	disconnect_locked(ports, port);
	list_del(&port->link);
	ports->count--;
	free(port);
}

/* The thread begins with the first doorbell. */
static int loop_start_locked(struct child_ports *ports)
{
	struct loop *loop;
	int ret;

	if (ports->loop)
		return 0;
	loop = loop_create(NULL);
	if (!loop)
		return -ENOMEM;
	ret = loop_thread_start(loop, "doorbells");
	if (ret < 0)
		loop_destroy(loop);
	else
		ports->loop = loop;
	return ret;
}

static int connect_locked(struct child_ports *ports, struct port *port)
{
	struct watch w = { .port = port };
	int ret = loop_start_locked(ports);

	if (ret < 0)
		return ret;
	port->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->fd < 0)
		return -errno;
	if (!fd_affordable(port->fd)) {
		close(port->fd);
		return -EMFILE;
	}
	loop_call(ports->loop, watch_start, &w);
	ret = w.ret < 0 ? w.ret : engine_doorbell(port, true);
	if (ret >= 0)
		return 0;
	if (w.ret >= 0)
		loop_call(ports->loop, watch_stop, port);
	close(port->fd);
	return ret;
}

void child_ports_forget(struct partition *p)
{
	struct child_ports *ports = ports_if_any(p->child->parent);
	struct list *pos;

	if (!ports)
		return;
	pthread_mutex_lock(&ports->control);
	list_for_each(pos, &ports->ports) {
		struct port *port = list_entry(pos, struct port, link);

		if (port->child == p)
			disconnect_locked(ports, port);
	}
	pthread_mutex_unlock(&ports->control);
}

void child_ports_destroy(struct child_ports *ports)
{
	if (!ports)
		return;
	pthread_mutex_lock(&ports->control);
	while (!list_empty(&ports->ports))
		port_free_locked(ports, list_entry(ports->ports.next, struct port, link));
	pthread_mutex_unlock(&ports->control);
	if (ports->loop)
		loop_thread_join(ports->loop);
	loop_destroy(ports->loop);
	pthread_mutex_destroy(&ports->control);
	pthread_mutex_destroy(&ports->lock);
	free(ports);
}

u32 child_ports_count(const struct partition *p, u32 *connected)
{
	struct child_ports *ports = ports_if_any(p->child->parent);
	struct list *pos;
	u32 count = 0;

	*connected = 0;
	if (!ports)
		return 0;
	pthread_mutex_lock(&ports->control);
	list_for_each(pos, &ports->ports) {
		const struct port *port = list_entry(pos, struct port, link);

		count += port->connection_partition == p->id;
		*connected += port->child == p;
	}
	pthread_mutex_unlock(&ports->control);
	return count;
}

/* The child that a call names as the partition at the other end. */
static bool names_own_child(struct hypercall *hc, u64 id)
{
	struct partition *p = child_get(hc, id);

	if (p)
		child_put(p);
	return p != NULL;
}

static bool id_ok(u32 id)
{
	return id && !(id & ~HV_PORT_ID_MASK);
}

static enum hv_status check_port(struct hypercall *hc, const struct hv_input_create_port *in)
{
	const struct partition *p = hc->vp->partition;

	if (!hypercall_is_self(hc, in->port_partition_id))
		return HV_STATUS_ACCESS_DENIED;
	if (!names_own_child(hc, in->connection_partition_id))
		return HV_STATUS_INVALID_PARTITION_ID;
	if (!id_ok(in->port_id))
		return HV_STATUS_INVALID_PORT_ID;
	if (in->info.port_type != HV_PORT_TYPE_DOORBELL || in->port_vtl || in->min_connection_vtl ||
	    in->info.target_sint == 0 || in->info.target_sint >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	if (in->info.target_vp != HV_ANY_VP && in->info.target_vp >= p->vp_count)
		return HV_STATUS_INVALID_VP_INDEX;
	return HV_STATUS_SUCCESS;
}

static enum hv_status call_create_port(struct hypercall *hc)
{
	const struct hv_input_create_port *in = HYPERCALL_IN(hc, struct hv_input_create_port);
	enum hv_status status = check_port(hc, in);
	struct child_ports *ports;
	struct port *port;

	if (status != HV_STATUS_SUCCESS)
		return status;
	ports = ports_of(hc->vp->partition);
	port = calloc(1, sizeof(*port));
	if (!ports || !port) {
		free(port);
		return HV_STATUS_NO_RESOURCES;
	}
	*port = (struct port){ .owner = ports,
			       .id = in->port_id,
			       .sint = in->info.target_sint,
			       .vp = in->info.target_vp,
			       .connection_partition = in->connection_partition_id };
	list_init(&port->link);
	list_init(&port->wait);
	pthread_mutex_lock(&ports->control);
	if (find_locked(ports, port->id))
		status = HV_STATUS_INVALID_PORT_ID;
	else if (ports->count == PORTS_MAX)
		status = HV_STATUS_NO_RESOURCES;
	if (status == HV_STATUS_SUCCESS) {
		list_add_tail(&ports->ports, &port->link);
		ports->count++;
		port = NULL;
	}
	pthread_mutex_unlock(&ports->control);
	free(port);
	return status;
}

static enum hv_status call_delete_port(struct hypercall *hc)
{
	const struct hv_input_delete_port *in = HYPERCALL_IN(hc, struct hv_input_delete_port);
	struct child_ports *ports = ports_if_any(hc->vp->partition);
	struct port *port;

	if (!hypercall_is_self(hc, in->port_partition_id))
		return HV_STATUS_ACCESS_DENIED;
	if (!ports)
		return HV_STATUS_INVALID_PORT_ID;
	pthread_mutex_lock(&ports->control);
	port = find_locked(ports, in->port_id);
	if (port)
		port_free_locked(ports, port);
	pthread_mutex_unlock(&ports->control);
	return port ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PORT_ID;
}

/* A write of any size has no value that could be compared. */
static bool trigger_ok(const struct hv_connection_info *info)
{
	u32 size = HV_DOORBELL_SIZE(info->flags);

	return size <= HV_DOORBELL_SIZE_QWORD && (size || (info->flags & HV_DOORBELL_ANY_VALUE));
}

static void connection_fill(struct port *port, struct partition *child,
			    const struct hv_input_connect_port *in)
{
	u32 size = HV_DOORBELL_SIZE(in->info.flags);

	port->child = child;
	port->connection_id = in->connection_id;
	port->gpa = in->info.gpa;
	port->bytes = size ? 1u << (size - 1) : 0;
	port->any_value = in->info.flags & HV_DOORBELL_ANY_VALUE;
	port->value = in->info.trigger_value;
}

static enum hv_status connect(struct child_ports *ports, struct partition *child,
			      const struct hv_input_connect_port *in)
{
	struct port *port = find_locked(ports, in->port_id);
	int ret;

	if (!port || port->connection_partition != child->id)
		return HV_STATUS_INVALID_PORT_ID;
	if (port->child)
		return HV_STATUS_OBJECT_IN_USE;
	if (find_connection_locked(ports, child, in->connection_id))
		return HV_STATUS_INVALID_CONNECTION_ID;
	/* Here: whoever ends the child says so before it forgets the ports. */
	if (!child_active(child))
		return HV_STATUS_INVALID_PARTITION_STATE;
	connection_fill(port, child, in);
	ret = connect_locked(ports, port);
	if (ret >= 0)
		return HV_STATUS_SUCCESS;
	port->child = NULL;
	return ret == -EEXIST ? HV_STATUS_OBJECT_IN_USE : HV_STATUS_NO_RESOURCES;
}

static enum hv_status call_connect_port(struct hypercall *hc)
{
	const struct hv_input_connect_port *in = HYPERCALL_IN(hc, struct hv_input_connect_port);
	struct child_ports *ports = ports_if_any(hc->vp->partition);
	enum hv_status status = HV_STATUS_INVALID_PORT_ID;
	struct partition *child;

	if (!hypercall_is_self(hc, in->port_partition_id))
		return HV_STATUS_ACCESS_DENIED;
	child = child_get(hc, in->connection_partition_id);
	if (!child)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (!id_ok(in->connection_id)) {
		status = HV_STATUS_INVALID_CONNECTION_ID;
	} else if (in->info.port_type != HV_PORT_TYPE_DOORBELL || in->connection_vtl ||
		   !trigger_ok(&in->info)) {
		status = HV_STATUS_INVALID_PARAMETER;
	} else if (ports) {
		pthread_mutex_lock(&ports->control);
		status = connect(ports, child, in);
		pthread_mutex_unlock(&ports->control);
	}
	child_put(child);
	return status;
}

static enum hv_status call_disconnect_port(struct hypercall *hc)
{
	const struct hv_input_disconnect_port *in =
		HYPERCALL_IN(hc, struct hv_input_disconnect_port);
	struct child_ports *ports = ports_if_any(hc->vp->partition);
	struct partition *child = child_get(hc, in->connection_partition_id);
	struct port *port = NULL;

	if (!child)
		return HV_STATUS_INVALID_PARTITION_ID;
	if (ports) {
		pthread_mutex_lock(&ports->control);
		port = find_connection_locked(ports, child, in->connection_id);
		if (port)
			disconnect_locked(ports, port);
		pthread_mutex_unlock(&ports->control);
	}
	child_put(child);
	return port ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_CONNECTION_ID;
}

static enum hv_status call_ring_empty(struct hypercall *hc)
{
	const struct hv_input_notify_port_ring_empty *in =
		HYPERCALL_IN(hc, struct hv_input_notify_port_ring_empty);
	struct child_ports *ports = ports_if_any(hc->vp->partition);

	if (in->sint_index >= HV_SYNIC_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	if (ports) {
		pthread_mutex_lock(&ports->lock);
		refill_locked(ports);
		pthread_mutex_unlock(&ports->lock);
	}
	return HV_STATUS_SUCCESS;
}

/* What a parent writes into a child's SynIC, and asks to see of what its VPs do there. */

static enum hv_status target(struct hypercall *hc, u64 partition_id, u32 vp_index, u8 vtl,
			     struct partition **p, struct vp **vp)
{
	enum hv_status status = HV_STATUS_SUCCESS;

	*p = child_get(hc, partition_id);
	if (!*p)
		return HV_STATUS_INVALID_PARTITION_ID;
	*vp = child_vp(*p, vp_index);
	if (!child_active(*p))
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (!*vp)
		status = HV_STATUS_INVALID_VP_INDEX;
	else if (vtl)
		status = HV_STATUS_INVALID_PARAMETER;
	if (status != HV_STATUS_SUCCESS)
		child_put(*p);
	return status;
}

/*
 * Where nobody listens nothing is newly signalled. It is no failure: a client takes
 * one for the end of the world, and its guest could bring that about.
 */
static enum hv_status call_signal_event_direct(struct hypercall *hc)
{
	const struct hv_input_signal_event_direct *in =
		HYPERCALL_IN(hc, struct hv_input_signal_event_direct);
	struct partition *p;
	struct vp *vp;
	enum hv_status status = target(hc, in->partition_id, in->vp_index, in->target_vtl, &p, &vp);
	bool newly;

	if (status != HV_STATUS_SUCCESS)
		return status;
	status = synic_signal_new(&vp->synic, in->sint, in->flag_number, &newly);
	HYPERCALL_OUT(hc, struct hv_output_signal_event_direct)->newly_signaled = newly;
	child_put(p);
	return status == HV_STATUS_INVALID_SYNIC_STATE ? HV_STATUS_SUCCESS : status;
}

static enum hv_status call_post_message_direct(struct hypercall *hc)
{
	const struct hv_input_post_message_direct *in =
		HYPERCALL_IN(hc, struct hv_input_post_message_direct);
	struct partition *p;
	struct vp *vp;
	enum hv_status status = target(hc, in->partition_id, in->vp_index, in->target_vtl, &p, &vp);
	struct hv_message m;

	if (status != HV_STATUS_SUCCESS)
		return status;
	memcpy(&m, in->message, sizeof(m));
	if (m.type == HV_MESSAGE_NONE || m.payload_bytes > HV_MESSAGE_PAYLOAD_BYTES)
		status = HV_STATUS_INVALID_PARAMETER;
	else
		status = synic_post_now(&vp->synic, in->sint, &m);
	child_put(p);
	return status;
}

u64 child_deliverability_get(struct vp *vp)
{
	return (u64)__atomic_load_n(&vp->synic.notify, __ATOMIC_ACQUIRE)
	       << HV_DELIVERABILITY_SINT_SHIFT;
}

enum hv_status child_deliverability_set(struct vp *vp, u64 value)
{
	if (value & MASK64(HV_DELIVERABILITY_SINT_SHIFT - 1, 0))
		return HV_STATUS_INVALID_PARAMETER;
	/* Before it enters the guest again the VP looks at what it is to tell. */
	child_vp_hold(vp);
	synic_notify(&vp->synic, (u16)(value >> HV_DELIVERABILITY_SINT_SHIFT));
	child_vp_release(vp);
	return HV_STATUS_SUCCESS;
}

/* No device of a hypervisor's own is offered; a parent may have given its child one. */
static enum hv_status call_retarget(struct hypercall *hc)
{
	if (child_intercepts(hc->vp, HV_INTERCEPT_TYPE_RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID))
		hc->fault = VP_INTERCEPTED;
	return HV_STATUS_INVALID_HYPERCALL_CODE;
}

#define ROW_PORT    .privilege = HV_PRIV_CREATE_PORT
#define ROW_CONNECT .privilege = HV_PRIV_CONNECT_PORT
#define ROW_PARENT  .privilege = HV_PRIV_CREATE_PARTITIONS

const struct hypercall_desc child_port_hypercalls[] = {
	{ .code = HVCALL_CREATE_PORT,
	  .name = "HvCallCreatePort",
	  ROW_PORT,
	  .in_size = sizeof(struct hv_input_create_port),
	  .handler = call_create_port },
	{ .code = HVCALL_DELETE_PORT,
	  .name = "HvCallDeletePort",
	  ROW_PORT,
	  .in_size = sizeof(struct hv_input_delete_port),
	  .handler = call_delete_port },
	{ .code = HVCALL_CONNECT_PORT,
	  .name = "HvCallConnectPort",
	  ROW_CONNECT,
	  .in_size = sizeof(struct hv_input_connect_port),
	  .handler = call_connect_port },
	{ .code = HVCALL_DISCONNECT_PORT,
	  .name = "HvCallDisconnectPort",
	  ROW_CONNECT,
	  .in_size = sizeof(struct hv_input_disconnect_port),
	  .handler = call_disconnect_port },
	{ .code = HVCALL_RETARGET_DEVICE_INTERRUPT,
	  .name = "HvCallRetargetDeviceInterrupt",
	  .in_size = sizeof(struct hv_input_retarget_device_interrupt),
	  .var_header = true,
	  .handler = call_retarget },
	{ .code = HVCALL_NOTIFY_PORT_RING_EMPTY,
	  .name = "HvCallNotifyPortRingEmpty",
	  ROW_PORT,
	  .in_size = sizeof(struct hv_input_notify_port_ring_empty),
	  .handler = call_ring_empty },
	{ .code = HVCALL_SIGNAL_EVENT_DIRECT,
	  .name = "HvCallSignalEventDirect",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_signal_event_direct),
	  .out_size = sizeof(struct hv_output_signal_event_direct),
	  .handler = call_signal_event_direct },
	{ .code = HVCALL_POST_MESSAGE_DIRECT,
	  .name = "HvCallPostMessageDirect",
	  ROW_PARENT,
	  .in_size = sizeof(struct hv_input_post_message_direct),
	  .handler = call_post_message_direct },
	{ 0 },
};

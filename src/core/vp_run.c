// SPDX-License-Identifier: MIT
/* The exit loop: one table says what each reason to stop means. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "core/child_intercept.h"
#include "core/core_trace.h"
#include "core/donated.h"
#include "core/doorbell.h"
#include "core/hypercall.h"
#include "core/intercept.h"
#include "core/msr.h"
#include "core/vp.h"

typedef void (*vp_exit_fn)(struct vp *vp, struct engine_exit *exit);

static void exit_none(struct vp *vp, struct engine_exit *exit)
{
}

static void exit_hypercall(struct vp *vp, struct engine_exit *exit)
{
	hypercall_exit(vp);
}

static void exit_io(struct vp *vp, struct engine_exit *exit)
{
	if (!doorbell_exit(vp, exit))
		vp->partition->ops->io(vp->partition->ctx, vp, exit);
}

/* The registers that are ours, those of L0 for a nested root among them. */
static bool is_synthetic(u32 index)
{
	return index - HV_X64_MSR_GUEST_OS_ID < 2 * HV_X64_MSR_NESTED_OFFSET;
}

/*
 * What a child does that is not served here, or not for it: its parent's, if it asked for
 * that. A register that nobody knows is then what the parent has said of all such.
 */
static bool is_parents(struct vp *vp, struct engine_exit *exit, bool write)
{
	if (!vp->child)
		return false;
	if (child_intercepts_msr(vp, exit->msr.index, write) && intercept_msr(vp, exit))
		return true;
	if (is_synthetic(exit->msr.index))
		return false;
	exit->msr.value = 0;
	exit->msr.fault =
		!__atomic_load_n(&vp->partition->child->unknown_msr_ignored, __ATOMIC_RELAXED);
	return true;
}

static void exit_rdmsr(struct vp *vp, struct engine_exit *exit)
{
	if (is_parents(vp, exit, false))
		return;
	exit->msr.fault = msr_read(vp, exit->msr.index, &exit->msr.value) != VP_OK;
}

static void exit_wrmsr(struct vp *vp, struct engine_exit *exit)
{
	if (is_parents(vp, exit, true))
		return;
	exit->msr.fault = msr_write(vp, exit->msr.index, exit->msr.value) != VP_OK;
}

static void exit_eoi(struct vp *vp, struct engine_exit *exit)
{
	if (vp->partition->ops->eoi)
		vp->partition->ops->eoi(vp->partition->ctx, vp, exit->eoi.vector);
}

static void exit_shutdown(struct vp *vp, struct engine_exit *exit)
{
	if (vp->child) {
		vp->child->shut_down = true;
		intercept_triple_fault(vp);
	} else {
		partition_stop(vp->partition, STOP_TRIPLE_FAULT, 0, "VP %u triple-faulted",
			       vp->index);
	}
}

static void exit_memory(struct vp *vp, struct engine_exit *exit)
{
	u64 gpa;
	u32 serial;

	if (vp->child) {
		intercept_memory(vp, exit);
		return;
	}
	if (donated_find(vp, &gpa, &serial)) {
		partition_stop(
			vp->partition, STOP_GUEST_ERROR, 0,
			"VP %u touched memory it had given away: page 0x%llx of DEPOSIT call %u, "
			"RIP 0x%llx",
			vp->index, (unsigned long long)(gpa & ~0xFFFull), serial,
			(unsigned long long)vp->vcpu->regs->rip);
		return;
	}
	partition_stop(vp->partition, STOP_GUEST_ERROR, 0,
		       "VP %u accessed memory it does not have (RIP 0x%llx)", vp->index,
		       (unsigned long long)vp->vcpu->regs->rip);
}

static void exit_error(struct vp *vp, struct engine_exit *exit)
{
	if (vp->child) {
		if (!intercept_error(vp))
			child_vp_fail(vp, exit->error.what, exit->error.code);
		return;
	}
	partition_stop(vp->partition, STOP_GUEST_ERROR, 0,
		       "VP %u cannot go on: %s (0x%llx, RIP 0x%llx)", vp->index, exit->error.what,
		       (unsigned long long)exit->error.code,
		       (unsigned long long)vp->vcpu->regs->rip);
}

static const vp_exit_fn exit_handlers[ENGINE_EXIT_COUNT] = {
	[ENGINE_EXIT_INTR] = exit_none,
	[ENGINE_EXIT_HYPERCALL] = exit_hypercall,
	[ENGINE_EXIT_IO] = exit_io,
	[ENGINE_EXIT_MMIO] = exit_io,
	[ENGINE_EXIT_RDMSR] = exit_rdmsr,
	[ENGINE_EXIT_WRMSR] = exit_wrmsr,
	[ENGINE_EXIT_EOI] = exit_eoi,
	[ENGINE_EXIT_HALT] = exit_none,
	[ENGINE_EXIT_SHUTDOWN] = exit_shutdown,
	[ENGINE_EXIT_MEMORY] = exit_memory,
	[ENGINE_EXIT_ERROR] = exit_error,
};

/* What the trace shows of an exit: where (port, address, register) and the data written. */
static void trace_exit(const struct engine_exit *e)
{
	u64 where = 0, data = 0;

	switch (e->kind) {
	case ENGINE_EXIT_IO:
		where = e->io.port;
		data = e->io.write ? *(const u8 *)e->io.data : 0;
		break;
	case ENGINE_EXIT_MMIO:
		where = e->mmio.gpa;
		data = e->mmio.write ? *e->mmio.data : 0;
		break;
	case ENGINE_EXIT_RDMSR:
	case ENGINE_EXIT_WRMSR:
		where = e->msr.index;
		data = e->kind == ENGINE_EXIT_WRMSR ? e->msr.value : 0;
		break;
	case ENGINE_EXIT_EOI:
		where = e->eoi.vector;
		break;
	case ENGINE_EXIT_MEMORY:
		where = e->memory.gpa;
		break;
	case ENGINE_EXIT_ERROR:
		data = e->error.code;
		break;
	case ENGINE_EXIT_INTR:
	case ENGINE_EXIT_HYPERCALL:
	case ENGINE_EXIT_HALT:
	case ENGINE_EXIT_SHUTDOWN:
	case ENGINE_EXIT_COUNT:
		break;
	}
	core_emit(TRACE_EXIT_BEGIN, e->kind, where, data);
}

void vp_handle_exit(struct vp *vp)
{
	struct engine_exit *exit = &vp->vcpu->exit;

	vp->exits[exit->kind]++;
	vp->exit_total++;
	if (unlikely(trace_on))
		trace_exit(exit);
	exit_handlers[exit->kind](vp, exit);
	core_emit(TRACE_EXIT_END, exit->kind);
}

static void *vp_thread(void *arg)
{
	struct vp *vp = arg;
	struct partition *p = vp->partition;
	char track[32];
	int ret;

	snprintf(track, sizeof(track), "%s/%llu/vp%u", p->hv->name, (unsigned long long)p->id,
		 vp->index);
	trace_name_thread(track);
	vp_runtime_publish(vp);
	while (partition_stop_reason(p) == STOP_NONE) {
		ret = engine_vcpu_run(vp->vcpu);
		if (ret < 0) {
			partition_stop(p, STOP_HOST_ERROR, 0,
				       "VP %u: the host refused to run it (errno %d)", vp->index,
				       -ret);
			break;
		}
		vp_handle_exit(vp);
	}
	if (partition_stop_reason(p) == STOP_TIMEOUT)
		log_at(LOG_ERROR, "VP %u was at RIP 0x%llx, RFLAGS 0x%llx", vp->index,
		       (unsigned long long)vp->vcpu->regs->rip,
		       (unsigned long long)vp->vcpu->regs->rflags);
	return NULL;
}

int vp_start(struct vp *vp)
{
	int ret = -pthread_create(&vp->thread, NULL, vp_thread, vp);

	vp->thread_started = ret == 0;
	return ret;
}

void vp_join(struct vp *vp)
{
	if (!vp->thread_started)
		return;
	vp_kick(vp);
	pthread_join(vp->thread, NULL);
	vp->thread_started = false;
}

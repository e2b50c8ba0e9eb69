// SPDX-License-Identifier: MIT
#include "machine/machine_json.h"

#include <stdlib.h>

#include "core/census.h"

static json_t *integer(u64 v)
{
	return json_integer((json_int_t)v);
}

json_t *machine_routes_json(struct machine *m)
{
	struct machine_route rows[MACHINE_ROUTES_MAX];
	u32 n = machine_routes(m, rows, MACHINE_ROUTES_MAX);
	json_t *a = json_array();

	for (u32 i = 0; i < n; i++)
		json_array_append_new(
			a, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "name", rows[i].name, "kind",
				     rows[i].hypercall ? "hypercall" : "register", "L0",
				     (json_int_t)rows[i].outer, "L1", (json_int_t)rows[i].own,
				     "forwarded", (json_int_t)rows[i].forwarded, "refused",
				     (json_int_t)(rows[i].own_refused + rows[i].outer_refused)));
	return a;
}

json_t *machine_quirks_json(struct machine *m)
{
	u64 uses[QUIRK_COUNT];
	u32 on = machine_quirks(m, uses);
	json_t *o = json_object();

	for (u32 i = 0; i < QUIRK_COUNT; i++)
		if (on & BIT(i))
			json_object_set_new(o, quirks[i].name, integer(uses[i]));
	return o;
}

json_t *machine_fails_json(struct machine *m)
{
	const struct fail_rules *fails = machine_fails(m);
	json_t *a = json_array();

	for (u32 i = 0; fails && i < fails->count; i++) {
		const struct fail_rule *r = &fails->rule[i];
		char text[FAIL_TEXT];

		json_array_append_new(
			a, json_pack("{s:s, s:I, s:I}", "rule", fail_format(r, text), "calls",
				     (json_int_t)__atomic_load_n(&r->calls, __ATOMIC_RELAXED),
				     "failed",
				     (json_int_t)__atomic_load_n(&r->failed, __ATOMIC_RELAXED)));
	}
	return a;
}

json_t *machine_exits_json(const struct machine_report *r)
{
	json_t *o = json_object();

	for (u32 i = 0; i < ENGINE_EXIT_COUNT; i++)
		json_object_set_new(o, machine_exit_name((enum engine_exit_kind)i),
				    integer(r->exits[i]));
	return o;
}

static json_t *intercepts_json(const u64 counts[INTERCEPT_KINDS])
{
	json_t *o = json_object();

	for (u32 i = 0; i < INTERCEPT_KINDS; i++)
		if (counts[i])
			json_object_set_new(o, census_intercept_name((enum intercept_kind)i),
					    integer(counts[i]));
	return o;
}

json_t *machine_children_json(struct machine *m)
{
	struct partition *p = machine_partition(m);
	struct child_totals t = census_totals(p->hv);
	u64 calls = census_parent_calls(p), intercepts = 0;

	for (u32 i = 0; i < INTERCEPT_KINDS; i++)
		intercepts += t.intercepts[i];
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o}", "created",
			 (json_int_t)t.created, "destroyed", (json_int_t)t.destroyed, "left",
			 (json_int_t)t.left, "vps_created", (json_int_t)t.vps_created,
			 "vps_destroyed", (json_int_t)t.vps_destroyed, "intercepts",
			 (json_int_t)intercepts, "intercepts_by_kind",
			 intercepts_json(t.intercepts), "hypercalls", (json_int_t)calls,
			 "hypercalls_per_intercept",
			 intercepts ? json_real((double)calls / (double)intercepts) : json_null());
}

static json_t *partition_json(const struct census *c)
{
	json_t *vps = json_array();

	for (u32 i = 0; i < c->vp_count; i++)
		json_array_append_new(
			vps, json_pack("{s:i, s:s, s:I, s:I, s:f}", "index", (int)c->vp[i].index,
				       "state", c->vp[i].state, "exits", (json_int_t)c->vp[i].exits,
				       "intercepts", (json_int_t)c->vp[i].intercepts, "run_seconds",
				       (double)c->vp[i].runtime_100ns / 1e7));
	return json_pack("{s:s, s:I, s:o, s:s, s:o, s:I, s:I, s:o, s:i, s:i, s:I, s:i, s:i}",
			 "hypervisor", c->hypervisor, "id", (json_int_t)c->id, "parent",
			 c->parent ? integer(c->parent) : json_null(), "state", c->state, "vps",
			 vps, "exits", (json_int_t)c->exits, "intercepts",
			 (json_int_t)c->intercept_total, "intercepts_by_kind",
			 intercepts_json(c->intercepts), "pool_pages", (int)c->pool.pages,
			 "pool_in_use", (int)c->pool.in_use, "mapped_pages", (json_int_t)c->mapped,
			 "ports", (int)c->ports, "connected_ports", (int)c->connected);
}

json_t *machine_partitions_json(struct machine *m)
{
	struct partition *own[] = { machine_outer(m), machine_partition(m) };
	struct census *c = malloc(sizeof(*c));
	json_t *a = json_array();

	for (u32 i = 0; c && i < 2; i++) {
		if (!own[i])
			continue;
		census_of(own[i], c);
		json_array_append_new(a, partition_json(c));
		for (u64 after = 0; census_child(own[i], after, c); after = c->id)
			json_array_append_new(a, partition_json(c));
	}
	free(c);
	return a;
}

void machine_counts_json(json_t *o, struct machine *m, const struct machine_report *r)
{
	struct deposit_info d = machine_deposits(m);
	struct machine_held h = machine_held(m);

	json_object_set_new(o, "exits", machine_exits_json(r));
	json_object_set_new(o, "hypercalls", integer(r->hypercalls));
	json_object_set_new(o, "hypercalls_refused", integer(r->hypercalls_refused));
	json_object_set_new(o, "msr_accesses", integer(r->msr_accesses));
	json_object_set_new(o, "msr_refused", integer(r->msr_refused));
	json_object_set_new(o, "unclaimed_io", integer(r->unclaimed_io));
	json_object_set_new(o, "deposits",
			    json_pack("{s:i, s:i, s:i}", "calls", (int)d.calls, "pages",
				      (int)d.pages, "in_use", (int)d.in_use));
	json_object_set_new(o, "held",
			    json_pack("{s:i, s:i, s:i}", "interrupts", (int)h.interrupts,
				      "stats_pages", (int)h.stats_pages, "messages",
				      (int)h.messages));
	json_object_set_new(o, "quirks", machine_quirks_json(m));
	json_object_set_new(o, "fails", machine_fails_json(m));
	json_object_set_new(o, "routes", machine_routes_json(m));
	json_object_set_new(o, "children", machine_children_json(m));
	json_object_set_new(o, "partitions", machine_partitions_json(m));
}

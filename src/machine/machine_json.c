// SPDX-License-Identifier: MIT
#include "machine/machine_json.h"

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

json_t *machine_exits_json(const struct machine_report *r)
{
	json_t *o = json_object();

	for (u32 i = 0; i < ENGINE_EXIT_COUNT; i++)
		json_object_set_new(o, machine_exit_name((enum engine_exit_kind)i),
				    integer(r->exits[i]));
	return o;
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
	json_object_set_new(o, "routes", machine_routes_json(m));
}

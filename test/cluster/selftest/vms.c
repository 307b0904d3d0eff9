/* test/cluster/selftest/vms.c
 * Goal: the replicated VMs change as vms.h says and no further, alike on every node, and a snapshot
 * is all of it; no bytes of a log or snapshot can do harm.
 * Method: each command once where it works and once for each error; long invented histories, whose
 * invariants are looked at after each step; snapshots taken and restored through libraft's own
 * interface, cut, and with bytes changed, where memory ends.
 */
#include "record_double.h"
#include "tap.h"

#include "test/cluster/storage/bytes.h"
#include "test/cluster/state/fsm.h"
#include "test/support/guard_page.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { HISTORY = 40000, SNAPSHOT_MAX = 256 << 10, NODES = 3 };

static struct guard_page guard;
static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint32_t invent(uint32_t sides)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % sides;
}

static const struct vm_request small = {
	.needs = {.vcpus = 2, .memory_bytes = 64 << 20, .disk_bytes = 1 << 20},
	.priority = 3,
	.strategy = VM_SPREAD,
};

/* ---- applying -------------------------------------------------------------------------------- */

static int apply_value(struct vms *vms, enum command_op op, const char *name,
		       const union vm_value *value)
{
	uint8_t bytes[VM_VALUE_MAX_BYTES];
	struct command command = {.op = op, .key = name, .key_len = strlen(name), .value = bytes};

	command.value_len = vm_value_encode(op, value, bytes, sizeof(bytes));
	return vms_apply(vms, &command);
}

static int create(struct vms *vms, const char *name, const struct vm_request *request)
{
	return apply_value(vms, COMMAND_VM_CREATE, name, &(union vm_value){.create = *request});
}

static int order(struct vms *vms, const char *name, enum vm_desired desired)
{
	return apply_value(vms, COMMAND_VM_ORDER, name,
			   &(union vm_value){.order = {.desired = desired}});
}

static int place_as(struct vms *vms, const char *name, uint64_t number, uint64_t placement,
		    uint64_t node_id)
{
	return apply_value(
		vms, COMMAND_VM_PLACE, name,
		&(union vm_value){
			.placing = {.number = number, .placement = placement, .node_id = node_id}});
}

/* As a leader would that has just looked. */
static int place(struct vms *vms, const char *name, uint64_t node_id)
{
	const struct vm *vm = vms_get(vms, name, strlen(name));

	return vm ? place_as(vms, name, vm->number, vm->placement, node_id) : -ENOENT;
}

static int report(struct vms *vms, const char *name, uint64_t placement, enum vm_status status,
		  bool gone)
{
	return apply_value(
		vms, COMMAND_VM_REPORT, name,
		&(union vm_value){
			.report = {.placement = placement, .status = status, .gone = gone}});
}

static int announce(struct vms *vms, uint64_t node_id, uint64_t life, uint32_t vcpus)
{
	return apply_value(vms, COMMAND_VM_NODE, "node",
			   &(union vm_value){.node = {.node_id = node_id,
						      .life = life,
						      .capacity = {.vcpus = vcpus,
								   .memory_bytes = 1 << 30,
								   .disk_bytes = 1 << 30}}});
}

static const struct vm *get(const struct vms *vms, const char *name)
{
	return vms_get(vms, name, strlen(name));
}

/* ---- one VM's life --------------------------------------------------------------------------- */

static void test_life(void)
{
	struct vms *vms = vms_new();
	struct vm_resources allocated;
	const struct vm *vm;

	tap(!announce(vms, 2, 1, 8) && !announce(vms, 1, 1, 8) && !announce(vms, 2, 5, 9) &&
		    vms_get_node(vms, 2)->capacity.vcpus == 9 && vms_get_node(vms, 2)->life == 5 &&
		    !vms_get_node(vms, 3),
	    "a node announces itself, and again in its next life");
	vm = !create(vms, "a", &small) ? get(vms, "a") : NULL;
	tap(vm && !vm->node_id && vm->status == VM_CREATING && vm->desired == VM_WANT_RUNNING &&
		    vms_waiting(vms) == 1,
	    "a VM that was created waits for a node");
	tap(!place(vms, "a", 1) && get(vms, "a")->node_id == 1 && !vms_waiting(vms) &&
		    vms_allocated(vms, 1, &allocated) == 1 && allocated.vcpus == 2,
	    "placed, it takes its share of the node");
	uint64_t placement = get(vms, "a")->placement;
	tap(vms_get_placed(vms, placement) == get(vms, "a") && !vms_get_placed(vms, 0) &&
		    !report(vms, "a", placement, VM_RUNNING, false) &&
		    get(vms, "a")->status == VM_RUNNING,
	    "its node reports what it sees");
	tap(!order(vms, "a", VM_WANT_STOPPED) && get(vms, "a")->orders == 1 &&
		    get(vms, "a")->status == VM_RUNNING,
	    "an order changes what is wanted, not what is seen");
	tap(!place(vms, "a", 0) && !get(vms, "a")->node_id && vms_waiting(vms) == 1 &&
		    get(vms, "a")->status == VM_CREATING && !vms_allocated(vms, 1, &allocated) &&
		    !allocated.vcpus,
	    "who has to make room waits again, and takes nothing");
	tap(!place(vms, "a", 2) && get(vms, "a")->placement > placement,
	    "no placement has the number of another");
	tap(!order(vms, "a", VM_WANT_DELETED) && get(vms, "a") &&
		    !report(vms, "a", get(vms, "a")->placement, VM_STOPPED, true) && !get(vms, "a"),
	    "deleted, it stays until its node says that nothing is left");
	tap(!create(vms, "b", &small) && !order(vms, "b", VM_WANT_DELETED) && !get(vms, "b"),
	    "but goes at once when no node has it");
	vms_free(vms);
}

/* ---- every error ----------------------------------------------------------------------------- */

static void test_refusals(void)
{
	struct vms *vms = vms_new();
	struct vm_request big = small;
	char name[VM_NAME_MAX + 2];

	announce(vms, 1, 1, 3);
	create(vms, "a", &small);
	create(vms, "b", &small);
	uint64_t a = get(vms, "a")->number;
	tap(create(vms, "a", &small) == -EEXIST, "create: a name twice");
	tap(create(vms, "../a", &small) == -EINVAL && create(vms, ".a", &small) == -EINVAL &&
		    create(vms, "a/b", &small) == -EINVAL && create(vms, "a b", &small) == -EINVAL,
	    "create: a name that could leave its directory");
	memset(name, 'x', sizeof(name));
	name[VM_NAME_MAX + 1] = 0;
	bool long_one = create(vms, name, &small) == -EINVAL;
	name[VM_NAME_MAX] = 0;
	tap(long_one && !create(vms, name, &small), "create: a name that is too long, by one byte");
	big.needs.vcpus = VM_VCPUS_MAX + 1;
	tap(create(vms, "c", &big) == -EPROTO, "create: a VM beyond the limits");
	big.needs.vcpus = 0;
	tap(create(vms, "c", &big) == -EPROTO, "create: a VM without a vCPU");
	tap(order(vms, "zzz", VM_WANT_STOPPED) == -ENOENT &&
		    place_as(vms, "zzz", 1, 0, 1) == -ENOENT &&
		    report(vms, "zzz", 1, VM_RUNNING, false) == -ENOENT,
	    "order, place, report: no such VM");
	tap(order(vms, "a", VM_DESIRES) == -EPROTO, "order: no such order");
	tap(place(vms, "a", 9) == -ENOENT, "place: no such node");
	tap(!place(vms, "a", 1) && place(vms, "b", 1) == -EDQUOT && !get(vms, "b")->node_id,
	    "place: no room, by one vCPU");
	tap(place_as(vms, "a", a, 0, 1) == -ESTALE && place(vms, "a", 1) == -ESTALE,
	    "place: it has a place");
	tap(place_as(vms, "b", a, 0, 1) == -ESTALE, "place: another VM was meant");
	uint64_t first = get(vms, "a")->placement;
	tap(place(vms, "a", 9) == -ENOENT && get(vms, "a")->placement == first,
	    "place: it cannot move to a node that is not known");
	tap(place_as(vms, "a", a, 999, 0) == -ESTALE, "place: another placement was meant");
	tap(report(vms, "a", 999, VM_RUNNING, false) == -ESTALE, "report: of an earlier placement");
	tap(report(vms, "a", get(vms, "a")->placement, VM_STOPPED, true) == -ESTALE &&
		    get(vms, "a"),
	    "report: gone, though nobody has asked for that");
	order(vms, "a", VM_WANT_DELETED);
	tap(order(vms, "a", VM_WANT_RUNNING) == -ESTALE && place(vms, "a", 0) == -ESTALE,
	    "order, place: it is being deleted");
	vms_free(vms);
}

static void test_bounds(void)
{
	struct vms *vms = vms_new();
	char name[32];
	size_t waiting = 0, all = 0, nodes = 0;
	int err = 0;

	announce(vms, 1, 1, VM_VCPUS_MAX);
	for (; !err; waiting += !err) {
		snprintf(name, sizeof(name), "w%zu", waiting);
		err = create(vms, name, &small);
	}
	tap(waiting == VMS_WAITING_MAX && err == -ENOSPC, "only so many VMs may wait for a node");
	const struct vm_request tiny = {.needs = {.vcpus = 1, .memory_bytes = 1}};
	for (size_t i = 0; i < waiting; i++) {
		snprintf(name, sizeof(name), "w%zu", i);
		order(vms, name, VM_WANT_DELETED);
	}
	for (err = 0; !err; all += !err) {
		snprintf(name, sizeof(name), "v%zu", all);
		err = create(vms, name, &tiny);
		if (!err)
			err = place(vms, name, 1);
	}
	tap(all == VMS_MAX && err == -ENOSPC, "only so many VMs may be");
	for (err = 0, nodes = 1; !err; nodes += !err)
		err = announce(vms, nodes + 1, 1, 1);
	tap(nodes == MEMBERS_MAX && err == -ENOSPC, "only so many nodes may announce themselves");
	vms_free(vms);
}

/* ---- invented histories ---------------------------------------------------------------------- */

static int invent_step(struct vms *vms, struct vms *twin)
{
	uint8_t bytes[VM_VALUE_MAX_BYTES];
	char name[8];
	union vm_value value;
	const struct vm *vm;
	enum command_op op = COMMAND_VM_CREATE + invent(5);
	struct command command = {.op = op, .key = name, .value = bytes};

	memset(&value, 0, sizeof(value));
	command.key_len = (size_t)snprintf(name, sizeof(name), "v%u", invent(40));
	vm = vms_get(vms, name, command.key_len);
	if (op == COMMAND_VM_CREATE) {
		value.create = small;
		value.create.needs.vcpus = 1 + invent(4);
	} else if (op == COMMAND_VM_ORDER) {
		value.order.desired = invent(VM_DESIRES);
	} else if (op == COMMAND_VM_PLACE) {
		value.placing =
			(struct vm_placing){.number = vm ? vm->number : 1,
					    .placement = vm && invent(8) ? vm->placement : 0,
					    .node_id = invent(NODES + 2)};
	} else if (op == COMMAND_VM_REPORT) {
		value.report =
			(struct vm_report){.placement = vm && vm->placement ? vm->placement : 1,
					   .status = invent(VM_STATUSES),
					   .restarts = invent(5),
					   .gone = !invent(3)};
	} else {
		value.node = (struct vm_node){.node_id = 1 + invent(NODES),
					      .life = invent(100),
					      .capacity = {16, 1 << 30, 1 << 30}};
	}
	command.value_len = vm_value_encode(op, &value, bytes, sizeof(bytes));
	int result = vms_apply(vms, &command);
	return vms_apply(twin, &command) == result ? result : 1;
}

static bool is_sound(const struct vms *vms)
{
	const struct vm *all;
	const struct vm_node *nodes;
	size_t n = vms_all(vms, &all), n_nodes = vms_nodes(vms, &nodes), placed = 0;
	struct vm_resources allocated;
	bool good = true;

	for (size_t i = 0; i < n; i++) {
		good &= !all[i].node_id == !all[i].placement;
		good &= !i || all[i].number > all[i - 1].number;
		for (size_t j = 0; j < i; j++)
			good &= strcmp(all[i].name, all[j].name) &&
				(!all[i].placement || all[i].placement != all[j].placement);
	}
	for (size_t i = 0; i < n_nodes; i++) {
		placed += vms_allocated(vms, nodes[i].node_id, &allocated);
		good &= allocated.vcpus <= nodes[i].capacity.vcpus;
		good &= !i || nodes[i].node_id > nodes[i - 1].node_id;
	}
	return good && placed + vms_waiting(vms) == n;
}

static bool are_equal(const struct vms *one, const struct vms *other)
{
	static uint8_t bytes[2][SNAPSHOT_MAX];
	size_t len = vms_bytes(one);

	if (len != vms_bytes(other) || len > SNAPSHOT_MAX)
		return false;
	vms_encode(one, bytes[0], len);
	vms_encode(other, bytes[1], len);
	return !memcmp(bytes[0], bytes[1], len);
}

/* Field by field: what an encoding forgets, it forgets on both sides. */
static bool are_same(const struct vms *one, const struct vms *other)
{
	const struct vm *a, *b;
	size_t n = vms_all(one, &a);
	bool same = n == vms_all(other, &b);

	for (size_t i = 0; same && i < n; i++)
		same = !strcmp(a[i].name, b[i].name) && a[i].number == b[i].number &&
		       a[i].request.needs.vcpus == b[i].request.needs.vcpus &&
		       a[i].request.needs.memory_bytes == b[i].request.needs.memory_bytes &&
		       a[i].request.needs.disk_bytes == b[i].request.needs.disk_bytes &&
		       a[i].request.priority == b[i].request.priority &&
		       a[i].request.strategy == b[i].request.strategy &&
		       a[i].request.wanted_node == b[i].request.wanted_node &&
		       a[i].desired == b[i].desired && a[i].orders == b[i].orders &&
		       a[i].node_id == b[i].node_id && a[i].placement == b[i].placement &&
		       a[i].status == b[i].status && a[i].restarts == b[i].restarts;
	return same && are_equal(one, other);
}

static struct vms *copy_of(const struct vms *vms)
{
	static uint8_t bytes[SNAPSHOT_MAX];
	size_t len = vms_bytes(vms);
	struct vms *copy = NULL;

	if (len > SNAPSHOT_MAX)
		return NULL;
	vms_encode(vms, bytes, len);
	if (vms_decode((uint8_t *)guard_page_place(&guard, bytes, len), len, &copy))
		return NULL;
	return copy;
}

static void test_history(void)
{
	struct vms *vms = vms_new(), *twin = vms_new();
	size_t applied = 0, refused = 0, differ = 0, unsound = 0, snapshots = 0;

	for (int i = 0; i < HISTORY; i++) {
		int result = invent_step(vms, twin);
		applied += !result;
		refused += result < 0;
		differ += result > 0;
		unsound += !is_sound(vms);
		if (i % 500)
			continue;
		/* One goes on from a snapshot, as a node that was away does. */
		struct vms *copy = copy_of(twin);
		if (!copy)
			break;
		snapshots++;
		vms_free(twin);
		twin = copy;
		differ += !are_same(vms, twin);
	}
	tap(!unsound, "after each step of an invented history all invariants hold");
	tap(!differ && are_same(vms, twin) && snapshots == HISTORY / 500,
	    "two nodes that apply the same commands, one through snapshots, know the same");
	tap(applied > 1000 && refused > 1000, "and both good and bad commands came up");
	vms_free(vms);
	vms_free(twin);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static struct vms *some_vms(void)
{
	struct vms *vms = vms_new();

	announce(vms, 1, 7, 8);
	announce(vms, 3, 8, 8);
	create(vms, "one", &small);
	create(vms, "two", &small);
	place(vms, "one", 3);
	return vms;
}

static int try_decode(const uint8_t *bytes, size_t len)
{
	struct vms *vms;
	int err = vms_decode((uint8_t *)guard_page_place(&guard, bytes, len), len, &vms);

	if (!err) {
		/* What is taken can be looked at, and written as long as it says. */
		static uint8_t again[SNAPSHOT_MAX];
		const struct vm *all;
		if (vms_all(vms, &all) > VMS_MAX || vms_bytes(vms) != len)
			abort();
		vms_encode(vms, again, len);
		vms_free(vms);
	}
	return err;
}

static void test_hostile_snapshots(void)
{
	static const uint8_t others[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	static uint8_t bytes[SNAPSHOT_MAX];
	struct vms *vms = some_vms();
	size_t len = vms_bytes(vms);
	bool good = true;

	vms_encode(vms, bytes, len);
	good &= !try_decode(bytes, len);
	for (size_t cut = 0; cut < len; cut++)
		good &= try_decode(bytes, cut) == -EBADMSG;
	bytes[len] = 0;
	good &= try_decode(bytes, len + 1) == -EBADMSG;
	for (size_t i = 0; i < len; i++) {
		uint8_t kept = bytes[i];
		for (size_t j = 0; j < sizeof(others); j++) {
			bytes[i] = others[j];
			(void)try_decode(bytes, len);
		}
		bytes[i] = kept;
	}
	tap(good, "snapshots that are cut, too long or changed do no harm");
	/* The two names are equally long. */
	uint8_t *one = memmem(bytes, len, "one", 3);
	memcpy(one, "two", 3);
	tap(try_decode(bytes, len) == -EBADMSG, "a snapshot with a name twice is refused");
	memcpy(one, "one", 3);
	bytes[4] = 3;
	tap(try_decode(bytes, len) == -EBADMSG, "a snapshot of another version is refused");
	vms_free(vms);
}

/* ---- traces ---------------------------------------------------------------------------------- */

static int create_traced(struct vms *vms, const char *name, uint8_t id)
{
	union vm_value value = {.create = {.needs = {.vcpus = 1, .memory_bytes = 1}}};
	uint8_t bytes[VM_VALUE_MAX_BYTES];
	struct command command = {.op = COMMAND_VM_CREATE,
				  .key = name,
				  .key_len = strlen(name),
				  .value = bytes,
				  .context = {.trace_id = {id}, .span_id = {id}, .flags = 3}};

	command.value_len = vm_value_encode(command.op, &value, bytes, sizeof(bytes));
	return vms_apply(vms, &command);
}

/* Cut what version 2 has beyond version 1 from a snapshot with one VM and no node. */
static size_t as_version_1(uint8_t *bytes, size_t len)
{
	bytes[4] = 1;
	return len - TRACE_CONTEXT_BYTES;
}

static void test_traces(void)
{
	struct vms *vms = vms_new(), *copy = NULL;
	uint8_t bytes[512];

	tap(!create_traced(vms, "t", 7) && get(vms, "t")->context.trace_id[0] == 7,
	    "a VM knows the trace that wanted it");
	tap(create_traced(vms, "t", 8) == -EEXIST && get(vms, "t")->context.trace_id[0] == 7,
	    "a command that changes nothing leaves that as it was");
	size_t len = vms_bytes(vms);
	vms_encode(vms, bytes, len);
	tap(!vms_decode(bytes, len, &copy) && get(copy, "t")->context.span_id[0] == 7 &&
		    get(copy, "t")->context.flags == 3,
	    "a snapshot keeps it");
	vms_free(copy);
	tap(!vms_decode(bytes, as_version_1(bytes, len), &copy) &&
		    !trace_context_is_set(&get(copy, "t")->context),
	    "a snapshot of before there were traces is read");
	vms_free(copy);
	tap(place(vms, "t", 5) == -ENOENT && trace_context_is_set(&get(vms, "t")->context),
	    "a placement that comes to nothing, too, leaves it");
	tap(!order(vms, "t", VM_WANT_STOPPED) && !trace_context_is_set(&get(vms, "t")->context),
	    "an order of no trace takes its place");
	vms_free(vms);
}

static void test_hostile_values(void)
{
	static const enum command_op ops[] = {COMMAND_VM_CREATE, COMMAND_VM_ORDER, COMMAND_VM_PLACE,
					      COMMAND_VM_REPORT, COMMAND_VM_NODE};
	union vm_value value, got;
	uint8_t bytes[VM_VALUE_MAX_BYTES + 1];
	bool good = true, same = true;

	memset(&value, 0, sizeof(value));
	value.create = small;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (ops[i] == COMMAND_VM_REPORT)
			value.report = (struct vm_report){.placement = 1, .restarts = 9};
		else if (ops[i] == COMMAND_VM_NODE)
			value.node = (struct vm_node){.node_id = 1, .capacity = {1, 2, 3}};
		else if (ops[i] == COMMAND_VM_ORDER)
			value.order.desired = VM_WANT_STOPPED;
		else if (ops[i] == COMMAND_VM_PLACE)
			value.placing = (struct vm_placing){1, 2, 3};
		size_t len = vm_value_encode(ops[i], &value, bytes, VM_VALUE_MAX_BYTES);
		same &= len && !vm_value_decode(ops[i], bytes, len, &got);
		for (size_t cut = 0; cut < len; cut++)
			good &= vm_value_decode(ops[i],
						(uint8_t *)guard_page_place(&guard, bytes, cut),
						cut, &got) == -EPROTO &&
				!vm_value_encode(ops[i], &value, bytes + 0, cut);
		vm_value_encode(ops[i], &value, bytes, VM_VALUE_MAX_BYTES);
		bytes[len] = 0;
		good &= vm_value_decode(ops[i], bytes, len + 1, &got) == -EPROTO;
		bytes[0]++;
		good &= vm_value_decode(ops[i], bytes, len, &got) == -EPROTO;
	}
	tap(same, "every operation's value arrives");
	tap(good, "values that are cut, too long or of another version are refused");
	tap(vm_value_decode(COMMAND_PUT, bytes, 1, &got) == -EPROTO &&
		    !vm_value_encode(COMMAND_PUT, &value, bytes, sizeof(bytes)),
	    "and other operations have none");
}

/* ---- the state machine as libraft sees it ---------------------------------------------------- */

static struct command last;
static int last_result;
static unsigned n_applied, n_restored;

static void on_applied(void *arg, const struct command *command, int result)
{
	(void)arg;
	last = *command;
	last_result = result;
	n_applied++;
}

static void on_restored(void *arg)
{
	(void)arg;
	n_restored++;
}

static int raft_apply_bytes(struct fsm *fsm, const void *bytes, size_t len)
{
	struct raft_buffer buf = {.base = guard_page_place(&guard, bytes, len), .len = len};
	void *result;

	return fsm->raft.apply(&fsm->raft, &buf, &result);
}

static int raft_apply_command(struct fsm *fsm, enum command_op op, const char *key,
			      const union vm_value *value)
{
	uint8_t inner[VM_VALUE_MAX_BYTES] = "value", bytes[COMMAND_MAX_BYTES];
	struct command command = {.op = op,
				  .origin = 7,
				  .sequence = 8,
				  .key = key,
				  .key_len = strlen(key),
				  .value = inner,
				  .value_len = 5};

	if (value)
		command.value_len = vm_value_encode(op, value, inner, sizeof(inner));
	return raft_apply_bytes(fsm, bytes, command_encode(&command, bytes, sizeof(bytes)));
}

/* The snapshot of one state machine becomes the state of another. */
static int hand_over(struct fsm *from, struct fsm *to, size_t cut)
{
	struct raft_buffer *bufs;
	unsigned n;

	if (from->raft.snapshot(&from->raft, &bufs, &n) || n != 1)
		return -1;
	struct raft_buffer buf = bufs[0];
	raft_free(bufs);
	buf.len -= cut < buf.len ? cut : buf.len;
	int err = to->raft.restore(&to->raft, &buf);
	if (err)
		raft_free(buf.base);
	return err;
}

static void test_fsm(void)
{
	struct fsm_events events = {.applied = on_applied, .restored = on_restored};
	struct fsm fsm, other;
	bool good = !fsm_init(&fsm, &events) && !fsm_init(&other, &events);

	good &= !raft_apply_command(&fsm, COMMAND_PUT, "row", NULL) && n_applied == 1;
	good &= !raft_apply_command(&fsm, COMMAND_VM_CREATE, "vm",
				    &(union vm_value){.create = small});
	tap(good && n_applied == 2 && !last_result && last.origin == 7 && last.sequence == 8 &&
		    get(fsm.vms, "vm") && fsm_read(&fsm, "row", 3),
	    "rows and VMs are applied side by side");
	tap(recorded_writes[TABLE_VM_STATES] == 2 && recorded_reads[TABLE_VM_STATES] == 1,
	    "and each is recorded as a write");
	tap(!raft_apply_command(&fsm, COMMAND_VM_CREATE, "vm",
				&(union vm_value){.create = small}) &&
		    last_result == -EEXIST && recorded_writes[TABLE_VM_STATES] == 2,
	    "a command that changes nothing says why, and is no write");
	n_applied = 0;
	uint8_t other_version[COMMAND_MAX_BYTES];
	struct command put = {.op = COMMAND_PUT, .key = "k", .key_len = 1};
	size_t len = command_encode(&put, other_version, sizeof(other_version));
	other_version[0]++;
	tap(len && !raft_apply_bytes(&fsm, other_version, len) && !n_applied,
	    "so is a command of another version");
	tap(!raft_apply_bytes(&fsm, "\x01\x09garbage", 9) && !raft_apply_bytes(&fsm, "", 0) &&
		    !n_applied,
	    "garbage in the log is passed over");
	tap(!hand_over(&fsm, &other, 0) && n_restored == 1 && fsm_read(&other, "row", 3) &&
		    are_equal(fsm.vms, other.vms),
	    "a snapshot carries rows and VMs");
	good = true;
	for (size_t cut = 1; cut < 200; cut++)
		good &= hand_over(&fsm, &other, cut) == RAFT_MALFORMED;
	tap(good && n_restored == 1 && get(other.vms, "vm"),
	    "a snapshot that is cut is refused, and changes nothing");
	fsm_done(&fsm);
	fsm_done(&other);
}

int main(void)
{
	guard = guard_page_new(SNAPSHOT_MAX);
	test_life();
	test_refusals();
	test_bounds();
	test_history();
	test_hostile_snapshots();
	test_traces();
	test_hostile_values();
	test_fsm();
	guard_page_free(&guard);
	return tap_done();
}

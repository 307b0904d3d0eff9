/* Goal: blixard-load's figures are right: quantiles to 1.6 percent, as many operations as were asked
 * for, and the same ones for the same seed.
 * Method: compare with sorted values, count what is due in given times, run two workloads in step. */
#include "../load/latency.h"
#include "../load/pace.h"
#include "../load/tally.h"
#include "../load/workload.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 20000 };

static const char targets[3][ADDRESS_MAX + 1] = {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"};
static struct latency one, two;
static uint64_t values[VALUES];

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void test_latency(void)
{
	static const double shares[] = {0.5, 0.9, 0.99, 0.999, 1};
	struct dice dice = dice_of(7);
	bool good = true;

	tap(latency_at(&one, 0.5) == 0, "nothing has no quantiles");
	for (unsigned i = 0; i < VALUES; i++) {
		values[i] = 1000 + ((uint64_t)dice_throw(&dice, 1u << 30) << dice_throw(&dice, 8));
		latency_add(i % 2 ? &one : &two, values[i]);
	}
	latency_merge(&one, &two);
	qsort(values, VALUES, sizeof(values[0]), compare);
	for (unsigned i = 0; i < 5; i++) {
		double right = (double)values[(unsigned)(shares[i] * VALUES) - 1];
		double said = (double)latency_at(&one, shares[i]);
		good = good && said >= right && said <= right * (1 + 1.0 / 64) + 1024;
	}
	tap(good && one.n == VALUES,
	    "quantiles are at most 1.6 percent too high, and never too low");
	tap(latency_at(&one, 1) == values[VALUES - 1], "the highest is exact");
	latency_add(&one, UINT64_MAX / 2);
	tap(latency_at(&one, 1) == UINT64_MAX / 2, "what is beyond all buckets still counts");
}

static unsigned due_between(enum profile profile, uint32_t rate, double from_s, double to_s)
{
	struct pace pace = pace_of(profile, rate, 3);
	unsigned n = 0;

	for (;;) {
		double at_s = (double)pace_next_ns(&pace) / 1e9;
		if (at_s >= to_s)
			return n;
		n += at_s >= from_s;
	}
}

static void test_pace(void)
{
	tap(due_between(PROFILE_STEADY, 333, 0, 10) == 3330, "steady: as many as were asked for");
	tap(due_between(PROFILE_STEADY, 300, 4, 5) == 300, "in each second");
	tap(due_between(PROFILE_BURST, 200, 0, 10) == 2000, "burst: as many as were asked for");
	tap(due_between(PROFILE_BURST, 200, 4, 5.5) == 150, "few for most of the time");
	tap(due_between(PROFILE_BURST, 200, 5.5, 6) == 250, "and many in the rest");
	unsigned n = due_between(PROFILE_SOAK, 500, 0, 100);
	tap(n > 49000 && n < 51000, "soak: about as many as were asked for");
}

static void test_seed(void)
{
	static struct workload a, b, c;
	static struct operation x, y, z;
	unsigned methods[METHODS] = {0}, same = 0, other = 0;

	workload_init(&a, 5, targets, 3, 4);
	workload_init(&b, 5, targets, 3, 4);
	workload_init(&c, 6, targets, 3, 4);
	for (unsigned i = 0; i < VALUES; i++) {
		workload_next(&a, i, &x);
		workload_next(&b, i, &y);
		workload_next(&c, i, &z);
		bool alike =
			x.method == y.method && x.target == y.target && !strcmp(x.name, y.name);
		same += alike;
		other += x.method == z.method && x.target == z.target;
		methods[x.method]++;
		if (i % 3 == 0) {
			workload_ordered(&a, x.vm, x.method, GRPC_STATUS_OK, i);
			workload_ordered(&b, y.vm, y.method, GRPC_STATUS_OK, i);
		}
	}
	tap(same == VALUES, "the same seed does the same");
	tap(other < VALUES / 2, "another seed does not");
	tap(methods[METHOD_PROPOSE_TASK] > VALUES / 5 && methods[METHOD_LIST_VMS] > VALUES / 100,
	    "every kind has its share");
}

static void test_vms(void)
{
	static struct workload w;
	static struct operation op;
	uint64_t now_ns = 0;
	unsigned orders = 0, wrong = 0;
	bool up[2] = {false}, there[2] = {false};

	workload_init(&w, 1, targets, 1, 2);
	for (unsigned i = 0; i < VALUES; i++, now_ns += 10000000) {
		workload_next(&w, now_ns, &op);
		if (op.vm < 0)
			continue;
		orders++;
		wrong += op.method == METHOD_CREATE_VM ? there[op.vm] : !there[op.vm];
		wrong += op.method == METHOD_START_VM && up[op.vm];
		wrong += op.method == METHOD_STOP_VM && !up[op.vm];
		there[op.vm] = op.method != METHOD_DELETE_VM;
		up[op.vm] = op.method == METHOD_CREATE_VM || op.method == METHOD_START_VM;
		workload_ordered(&w, op.vm, op.method, GRPC_STATUS_OK, now_ns);
	}
	tap(orders > 100 && orders <= 400 && !wrong,
	    "VMs are ordered about once a second at most, and sensibly");
	unsigned left = there[0] + there[1], deleted = 0;
	while (workload_clean_up(&w, &op) && deleted < 10)
		deleted++;
	tap(deleted == left, "what is left is deleted at the end");
	workload_ordered(&w, 0, METHOD_START_VM, GRPC_STATUS_NOT_FOUND, now_ns);
	tap(w.vms[0].state == LOAD_VM_NONE, "a VM that is gone is created anew");
}

static void test_images(void)
{
	static struct workload w;
	static struct operation op;
	unsigned shared = 0, fetched = 0, wrong = 0, giver = 0;
	uint64_t now_ns = 0;

	workload_init(&w, 1, targets, 3, 0);
	for (unsigned i = 0; i < VALUES; i++, now_ns += 5000000) {
		workload_next(&w, now_ns, &op);
		if (op.method == METHOD_SHARE_VM_IMAGE) {
			shared++;
			giver = op.target;
		} else if (op.method == METHOD_GET_VM_IMAGE) {
			fetched++;
			wrong += op.target == giver ||
				 strcmp(op.request.get_vm_image.peer, targets[giver]) != 0;
		}
	}
	tap(shared > 50 && shared <= 101 && shared - fetched <= 1 && !wrong,
	    "images are shared and then fetched from there, about twice a second");
	workload_init(&w, 1, targets, 1, 0);
	wrong = 0;
	for (unsigned i = 0; i < VALUES; i++, now_ns += 5000000) {
		workload_next(&w, now_ns, &op);
		wrong += op.method == METHOD_GET_VM_IMAGE && op.request.get_vm_image.peer[0];
	}
	tap(!wrong, "one node alone is not told to fetch from itself");
}

static void test_tally(void)
{
	static struct tally tally;

	tally_sent(&tally, 1, METHOD_LIST_VMS);
	tally_sent(&tally, 2, METHOD_LIST_VMS);
	tally_not_sent(&tally, 2, METHOD_LIST_VMS);
	tally_ended(&tally, 1, METHOD_LIST_VMS, GRPC_STATUS_OK, 5);
	tally_ended(&tally, 2, METHOD_LIST_VMS, (grpc_status_code)99, 5);
	struct tally_row sum = tally_sum(&tally, METHOD_LIST_VMS);
	tap(sum.sent == 2 && sum.not_sent == 1 && sum.ended[GRPC_STATUS_OK] == 1 &&
		    sum.ended[GRPC_STATUS_UNKNOWN] == 1,
	    "targets add up, and a code that nobody knows is UNKNOWN");
	tap(tally.sent == 2 && tally.ended == 2 && tally.ok == 1 && tally.not_sent == 1,
	    "and so does all of it");
}

int main(void)
{
	test_latency();
	test_pace();
	test_seed();
	test_vms();
	test_images();
	test_tally();
	return tap_done();
}

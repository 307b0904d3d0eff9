/* shm/map_guard.c - reading a file that may be truncated under our feet.
 *
 * A load beyond the end of a truncated file raises SIGBUS. One process-wide handler looks the
 * address up in a bounded table of watched ranges, lays anonymous zero pages over the whole range
 * and marks it; the load is repeated, reads zero, and the reader finds the mark when it has
 * finished its round. A SIGBUS elsewhere goes to whoever handled it before us.
 *
 * The handler uses the table, mmap(2) and sigaction(2) only. A thread that reads a map must not
 * block SIGBUS: the kernel would kill the process instead. Thread rule: lock-free, any thread.
 * Includes: shm/ only. */
#include "shm/map_private.h"

#include "shm/atomic.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { GUARD_RANGES_MAX = 128 };

enum range_state { RANGE_FREE, RANGE_CHANGING, RANGE_WATCHED };

struct range {
	uint32_t state; /* enum range_state; release after base and len */
	uint32_t hit;
	uintptr_t base;
	size_t len;
};

static struct range ranges[GUARD_RANGES_MAX];
static struct sigaction previous;
static int install_error;

static struct range *find_range(uintptr_t address)
{
	for (size_t i = 0; i < GUARD_RANGES_MAX; i++) {
		struct range *r = &ranges[i];

		/* Pairs with the release in blix_map_guard_add(). */
		if (blix_load_acquire(&r->state) != RANGE_WATCHED)
			continue;
		if (address >= r->base && address - r->base < r->len)
			return r;
	}
	return NULL;
}

static bool cover(uintptr_t address)
{
	struct range *r = find_range(address);
	void *zeros;

	if (!r)
		return false;
	zeros = mmap((void *)r->base, r->len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	if (zeros == MAP_FAILED)
		return false;
	blix_store_release(&r->hit, 1);
	return true;
}

/* Not ours: as if we had never been here. A fault is repeated under the restored default action,
 * a signal somebody sent is sent again. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal_number, info, context);
		return;
	}
	if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal_number);
		return;
	}
	if (previous.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	sigaction(signal_number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
	if (info->si_code <= 0)
		raise(signal_number);
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	int saved = errno;
	bool fault = info->si_code == BUS_ADRERR || info->si_code == BUS_MCEERR_AR;

	if (!fault || !cover((uintptr_t)info->si_addr))
		pass_on(signal_number, info, context);
	errno = saved;
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	/* `previous` must be right before the handler can run. */
	if (sigaction(SIGBUS, NULL, &previous) < 0 || sigaction(SIGBUS, &action, NULL) < 0)
		install_error = -errno;
}

int blix_map_guard_add(void *base, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
	if (install_error)
		return install_error;

	for (int i = 0; i < GUARD_RANGES_MAX; i++) {
		uint32_t expected = RANGE_FREE;

		if (!blix_cas_acq_rel(&ranges[i].state, &expected, (uint32_t)RANGE_CHANGING))
			continue;
		ranges[i].base = (uintptr_t)base;
		ranges[i].len = len;
		blix_store_relaxed(&ranges[i].hit, 0);
		/* Pairs with the acquire in find_range(). */
		blix_store_release(&ranges[i].state, RANGE_WATCHED);
		return i;
	}
	return -EMFILE;
}

void blix_map_guard_remove(int slot)
{
	if (slot >= 0)
		blix_store_release(&ranges[slot].state, RANGE_FREE);
}

bool blix_map_guard_hit(int slot)
{
	return slot >= 0 && blix_load_acquire(&ranges[slot].hit);
}

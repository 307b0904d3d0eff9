/* node-hooks/clock.c - CLOCK_MONOTONIC, read from the time stamp counter where that is sound.
 *
 * The kernel's own reading is a call and, in a guest, costs about as much as the rest of a span. It
 * is the counter times a factor that only time discipline changes, and slowly: so housekeeping
 * compares the two once a second and draws a straight line. Readers take the counter first and then
 * the newest line. Each line begins in the future of its drawing, exactly where the one before it
 * is by then, and carries that one's slope for counter values before: all readers, of whichever
 * line, read points of one continuous rising function, so no thread sees time step back, alone or
 * after another thread. While the kernel's clock is being slewed the lines are behind it by what it
 * was bent in one tick; else they are within about a microsecond. A reader whose line is too old asks the kernel. Only there, after
 * housekeeping did not run for seconds or the counter turned out to be unsound, may time step, by
 * as much as the line was off.
 *
 * The counter is used where the processor calls it invariant and the kernel itself uses it: clock
 * source "tsc", or "kvm-clock", which is the same counter scaled by the hypervisor.
 *
 * Thread rule: read by any thread; ticks come from blix_open and then housekeeping. */
#include "clock.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { PAIR_TRIES = 8, PAIR_GAP_NS = 2000, RETRY_TICKS = 60 };

uint64_t blix_coarse_ns_;

static struct blix_clock_line lines[BLIX_CLOCK_LINES];
static uint64_t newest; /* seq of the newest line; 0 = none: ask the kernel */

static uint64_t ask_kernel(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- the line ------------------------------------------------------------------------------- */

__extension__ typedef unsigned __int128 wide;

static uint64_t scale(uint64_t ticks, uint64_t slope)
{
	return (uint64_t)(((wide)ticks * slope) >> BLIX_CLOCK_SHIFT);
}

uint64_t blix_clock_at(const struct blix_clock_line *line, uint64_t ticks)
{
	if (ticks >= line->base_ticks)
		return line->base_ns + scale(ticks - line->base_ticks, line->after);
	return line->base_ns - scale(line->base_ticks - ticks, line->before);
}

int blix_clock_draw(const struct blix_clock_line *line, const struct blix_clock_pair_of *earlier,
		    const struct blix_clock_pair_of *now, struct blix_clock_line *ret_line)
{
	uint64_t ticks = now->ticks - earlier->ticks;
	uint64_t ns = now->ns - earlier->ns;
	struct blix_clock_line next = {.seq = line->seq + 1};
	uint64_t rate;
	uint64_t second;
	int64_t error_ns = 0;

	/* Counters run at 0.1 to 10 GHz; an interval far off a tick says nothing of the present. */
	if (now->ticks <= earlier->ticks || ns < 100000000 || ns > UINT64_C(10000000000) ||
	    ticks / 10 > ns || ticks < ns / 10)
		return -ERANGE;
	rate = (uint64_t)(((wide)ns << BLIX_CLOCK_SHIFT) / ticks);
	second = (uint64_t)(((wide)1000000000 << BLIX_CLOCK_SHIFT) / rate);
	next.base_ticks = now->ticks + second / 1000000000 * BLIX_CLOCK_LEAD_NS +
			  second % 1000000000 * BLIX_CLOCK_LEAD_NS / 1000000000;
	next.base_ns = now->ns + scale(next.base_ticks - now->ticks, rate);
	next.before = rate;
	next.first_ticks = next.base_ticks; /* no line before the first one */
	if (line->seq != 0) {
		uint64_t continued_ns = blix_clock_at(line, next.base_ticks);

		error_ns = (int64_t)(continued_ns - next.base_ns);
		if (error_ns > BLIX_CLOCK_ERROR_NS || error_ns < -BLIX_CLOCK_ERROR_NS)
			return -ERANGE;
		next.base_ns = continued_ns;
		next.before = line->after;
		next.first_ticks = line->first_ticks;
	}
	next.after =
		(uint64_t)(((wide)(uint64_t)(1000000000 - error_ns) << BLIX_CLOCK_SHIFT) / second);
	next.last_ticks = next.base_ticks + second * 2 * (BLIX_CLOCK_VALID_NS / 1000000000);
	*ret_line = next;
	return 0;
}

/* ---- the counter ---------------------------------------------------------------------------- */

#if defined(__x86_64__)

static uint64_t read_ticks(void)
{
	return __builtin_ia32_rdtsc();
}

static bool is_invariant(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
}

#else

static uint64_t read_ticks(void)
{
	return 0;
}

static bool is_invariant(void)
{
	return false;
}

#endif

static bool kernel_uses_it(void)
{
	char text[32];
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		      O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return strcmp(text, "tsc\n") == 0 || strcmp(text, "kvm-clock\n") == 0;
}

/* The tightest of a few pairs. False: somebody took the processor away each time. */
static bool take_pair(struct blix_clock_pair_of *ret_pair)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < PAIR_TRIES; i++) {
		uint64_t before = read_ticks();
		uint64_t ns = ask_kernel();
		uint64_t after = read_ticks();

		if (after - before >= best)
			continue;
		best = after - before;
		*ret_pair = (struct blix_clock_pair_of){before + best / 2, ns};
	}
	return best < 10 * (uint64_t)PAIR_GAP_NS;
}

/* ---- ticks ---------------------------------------------------------------------------------- */

static void publish(const struct blix_clock_line *line)
{
	struct blix_clock_line *to = &lines[line->seq % BLIX_CLOCK_LINES];

	blix_store_relaxed(&to->seq, 0);
	blix_fence_release(); /* no line here, before it changes; pairs with the fence of the reader */
	blix_store_data(&to->base_ticks, line->base_ticks);
	blix_store_data(&to->base_ns, line->base_ns);
	blix_store_data(&to->before, line->before);
	blix_store_data(&to->after, line->after);
	blix_store_data(&to->first_ticks, line->first_ticks);
	blix_store_data(&to->last_ticks, line->last_ticks);
	blix_store_release(&to->seq, line->seq);
	blix_store_release(&newest, line->seq); /* the line before its number */
}

void blix_clock_tick(void)
{
	static struct blix_clock_pair_of earlier;
	static struct blix_clock_line line;
	static uint64_t last_seq;
	static int wait;
	struct blix_clock_pair_of now;
	struct blix_clock_line next;

	blix_store_relaxed(&blix_coarse_ns_, ask_kernel());
	if (wait > 0) {
		wait--;
		return;
	}
	if (!is_invariant() || !kernel_uses_it()) {
		blix_store_release(&newest, 0);
		line = (struct blix_clock_line){.seq = 0};
		earlier.ticks = 0;
		wait = RETRY_TICKS;
		return;
	}
	if (!take_pair(&now))
		return; /* the line holds for a few ticks more */
	if (earlier.ticks != 0 && blix_clock_draw(&line, &earlier, &now, &next) == 0) {
		line = next;
		/* Numbers go on after a line was given up: a slow reader must not take one for
		 * another. */
		next.seq = ++last_seq;
		publish(&next);
	} else {
		blix_store_release(&newest, 0);
		line = (struct blix_clock_line){.seq = 0};
	}
	earlier = now;
}

uint64_t blix_clock_now(void)
{
	uint64_t ticks;
	uint64_t seq;
	const struct blix_clock_line *from;
	struct blix_clock_line line;

	if (blix_load_relaxed(&newest) == 0)
		return ask_kernel();
	ticks = read_ticks();
	/* The line after the ticks: then it is new enough for them. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	seq = blix_load_acquire(&newest); /* pairs with publish */
	from = &lines[seq % BLIX_CLOCK_LINES];
	line.base_ticks = blix_load_data(&from->base_ticks);
	line.base_ns = blix_load_data(&from->base_ns);
	line.before = blix_load_data(&from->before);
	line.after = blix_load_data(&from->after);
	line.first_ticks = blix_load_data(&from->first_ticks);
	line.last_ticks = blix_load_data(&from->last_ticks);
	blix_fence_acquire(); /* the line before the second look at its number */
	if (__builtin_expect(seq == 0 || blix_load_relaxed(&from->seq) != seq ||
				     ticks < line.first_ticks || ticks > line.last_ticks,
			     0))
		return ask_kernel();
	return blix_clock_at(&line, ticks);
}

uint64_t blix_now_ns(void)
{
	return blix_clock_now();
}

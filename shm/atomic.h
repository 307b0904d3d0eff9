/* shm/atomic.h - the only way shared words are touched.
 *
 * The memory order is in the verb. Every word of the file is accessed at its natural size by one
 * of these, so no compiler may split, merge or repeat an access. They are macros over the
 * compiler's builtins because they serve 32- and 64-bit words alike and the fields stay plain
 * integers (Rust and C++ read the same layout). Includes nothing; async-signal-safe.
 *
 * ThreadSanitizer does not model fences (gcc refuses to compile them with it). A build with
 * -DBLIX_TSAN therefore strengthens the data words, which the protocol orders by fences, to acquire
 * and release, and has no fences. */
#ifndef BLIX_SHM_ATOMIC_H
#define BLIX_SHM_ATOMIC_H

#define blix_load_relaxed(p)	 __atomic_load_n((p), __ATOMIC_RELAXED)
#define blix_load_acquire(p)	 __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define blix_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define blix_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Add to a word that only this thread writes: a plain add that readers never see torn. */
#define blix_add_owned(p, n) blix_store_relaxed((p), blix_load_relaxed(p) + (n))

/* Add to a word that several threads write. */
#define blix_add_shared(p, n)	      __atomic_fetch_add((p), (n), __ATOMIC_RELAXED)
#define blix_add_shared_release(p, n) __atomic_fetch_add((p), (n), __ATOMIC_RELEASE)

/* Compare and swap, never spurious; *(expected) receives the found value on failure. */
#define blix_cas_acq_rel(p, expected, desired)                                                     \
	__atomic_compare_exchange_n((p), (expected), (desired), 0, __ATOMIC_ACQ_REL,               \
				    __ATOMIC_ACQUIRE)
#define blix_exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)

/* Words of records and exemplars: relaxed, ordered by the fences of the protocol. */
#ifdef BLIX_TSAN
#define blix_load_data(p)     blix_load_acquire(p)
#define blix_store_data(p, v) blix_store_release(p, v)
#define blix_fence_release()  ((void)0)
#define blix_fence_acquire()  ((void)0)
#else
#define blix_load_data(p)     blix_load_relaxed(p)
#define blix_store_data(p, v) blix_store_relaxed(p, v)
#define blix_fence_release()  __atomic_thread_fence(__ATOMIC_RELEASE)
#define blix_fence_acquire()  __atomic_thread_fence(__ATOMIC_ACQUIRE)
#endif

#endif

/* node-hooks/names.c - names of spans, keys of attributes: handles over the string registry.
 *
 * Each name has a place among the sampling thresholds, so that a root span finds its own by one
 * load. When the places are used up, further names share the general threshold.
 *
 * Thread rule: any thread; cold. Lock order: names, registry. */
#include "trace.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t ids[BLIX_NAMES_MAX]; /* string + 1; [0] is no name's */
static uint32_t n_names = 1;
static blix_word_of current_word_of;

struct blix_own_keys blix_own_keys_;

static uint32_t string_of(const char *text)
{
	return blix_registry_string(&blix_registry_, text) + 1; /* BLIX_NO_ID becomes 0 */
}

static uint64_t word_of(uint32_t index)
{
	uint32_t len;
	const char *text = blix_registry_text(&blix_registry_, ids[index] - 1, &len);

	return current_word_of ? current_word_of(text, len) : blix_setting(sampler_word);
}

blix_name blix_name_of(const char *text)
{
	blix_name name = {.id = string_of(text)};
	uint32_t i;

	if (name.id == 0)
		return name;
	pthread_mutex_lock(&lock);
	for (i = 1; i < n_names && ids[i] != name.id; i++)
		;
	if (i == n_names && n_names < BLIX_NAMES_MAX) {
		ids[n_names++] = name.id;
		blix_store_relaxed(&blix_thresholds_[i], word_of(i));
	}
	pthread_mutex_unlock(&lock);
	name.index = i < BLIX_NAMES_MAX ? i : 0;
	return name;
}

blix_key blix_key_of(const char *text)
{
	return (blix_key){.id = string_of(text)};
}

blix_name blix_name_first_(uint64_t *kept, const char *text)
{
	blix_name name = blix_name_of(text);

	__atomic_store_n(kept, (uint64_t)name.index << 32 | name.id, __ATOMIC_RELAXED);
	return name;
}

blix_key blix_key_first_(uint32_t *kept, const char *text)
{
	blix_key key = blix_key_of(text);

	__atomic_store_n(kept, key.id, __ATOMIC_RELAXED);
	return key;
}

void blix_names_set_thresholds(blix_word_of decide)
{
	pthread_mutex_lock(&lock);
	current_word_of = decide;
	for (uint32_t i = 1; i < n_names; i++)
		blix_store_relaxed(&blix_thresholds_[i], word_of(i));
	pthread_mutex_unlock(&lock);
}

void blix_own_keys_resolve(void)
{
	if (blix_own_keys_.overflow.id != 0)
		return; /* handles are for good */
	blix_own_keys_ = (struct blix_own_keys){
		.error_type = blix_key_of("error.type"),
		.exception = blix_key_of("exception"),
		.exception_type = blix_key_of("exception.type"),
		.exception_message = blix_key_of("exception.message"),
		.suppressed = blix_key_of("blixard.log.suppressed"),
		.overflow = blix_key_of("overflow"),
	};
}

void blix_names_before_fork(void)
{
	pthread_mutex_lock(&lock);
}

void blix_names_after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

void blix_names_in_child(void)
{
	pthread_mutex_init(&lock, NULL);
}

/* Goal: every row of the catalogue can be exposed in every format, and the functions over it keep
 * what metric.h promises.
 * Method: walk all rows and check each rule of metrics.def, of promtool and of OpenMetrics on
 * them; hold the list of seed names against them; drive the label cursor with columns of our own.
 */
#include "shm/metric.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(metric, .timeout = 30);

#define FOR_EACH_ROW(m)                                                                            \
	for (const struct blix_metric *m = blix_metric_next(NULL); m; m = blix_metric_next(m))

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t end_len = strlen(end);
	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Name of the OpenMetrics family: a counter's is without _total. */
static void family_of(const struct blix_metric *m, char ret_family[static 256])
{
	snprintf(ret_family, 256, "%s", m->name);
	if (m->kind == BLIX_COUNTER)
		ret_family[strlen(ret_family) - strlen("_total")] = '\0';
}

/* ---- slots ----------------------------------------------------------------------------------- */

static const struct {
	uint32_t slot;
	const char *name;
} enumerators[] = {
#define METRIC(slot, name, ...)	    {BLIX_##name, "blixard_" #name},
#define METRIC_RAW(slot, name, ...) {BLIX_##name, #name},
#include "shm/metrics.def"
#undef METRIC
#undef METRIC_RAW
};
enum { N_ENUMERATORS = sizeof(enumerators) / sizeof(enumerators[0]) };

Test(metric, rows_come_in_ascending_slot_order_below_the_runtime_slots)
{
	int64_t before = -1;
	size_t n = 0;

	FOR_EACH_ROW(m)
	{
		cr_assert_gt((int64_t)m->slot, before, "%s", m->name);
		cr_assert_lt(m->slot, BLIX_CATALOGUE_SLOTS, "%s", m->name);
		before = m->slot;
		n++;
	}
	cr_assert_eq(n, N_ENUMERATORS);
}

Test(metric, each_enumerator_leads_to_the_row_of_its_name)
{
	for (size_t i = 0; i < N_ENUMERATORS; i++) {
		const struct blix_metric *m = NULL;
		cr_assert_eq(blix_metric_describe(enumerators[i].slot, &m), 0);
		cr_assert_str_eq(m->name, enumerators[i].name);
		cr_assert_eq(m->slot, enumerators[i].slot);
		cr_assert_eq(blix_metric_find(m->name, strlen(m->name)), m);
	}
}

Test(metric, every_slot_without_a_row_is_refused_and_leaves_the_result_alone)
{
	bool used[BLIX_CATALOGUE_SLOTS + 8] = {false};
	const struct blix_metric *untouched = blix_metric_next(NULL);
	const struct blix_metric *m = untouched;

	FOR_EACH_ROW(row)
	used[row->slot] = true;
	for (uint32_t slot = 0; slot < BLIX_CATALOGUE_SLOTS + 8; slot++) {
		if (used[slot])
			continue;
		cr_assert_eq(blix_metric_describe(slot, &m), -ENOENT, "slot %u", slot);
		cr_assert_eq(m, untouched);
	}
	cr_assert_eq(blix_metric_describe(UINT32_MAX, &m), -ENOENT);
	cr_assert_eq(m, untouched);
}

Test(metric, only_the_exact_canonical_name_is_found)
{
	cr_assert_not_null(blix_metric_find("blixard_raft_term_and_more", 17));
	cr_assert_null(blix_metric_find("blixard_raft_term", 16));
	cr_assert_null(blix_metric_find("blixard_raft_term_", 18));
	cr_assert_null(blix_metric_find("raft_term", 9), "a seed name is no canonical name");
	cr_assert_null(blix_metric_find("", 0));
}

/* ---- names ----------------------------------------------------------------------------------- */

Test(metric, names_are_lower_case_words_under_one_of_our_prefixes)
{
	FOR_EACH_ROW(m)
	{
		cr_assert(starts_with(m->name, "blixard_") || starts_with(m->name, "process_"),
			  "%s", m->name);
		cr_assert_eq(strspn(m->name, "abcdefghijklmnopqrstuvwxyz0123456789_"),
			     strlen(m->name), "%s", m->name);
		cr_assert_null(strstr(m->name, "__"), "%s", m->name);
		cr_assert(!ends_with(m->name, "_"), "%s", m->name);
		cr_assert_lt(strlen(m->name), 128, "%s", m->name);
	}
}

/* The words that `promtool check metrics` refuses. */
static const char *const refused_words[] = {
	"counter", "gauge", "histogram", "summary",   "s",	 "ms",		 "us",
	"ns",	   "sec",   "b",	 "kb",	      "mb",	 "gb",		 "tb",
	"pb",	   "m",	    "h",	 "d",	      "minutes", "milliseconds", "hours",
	"days",	   "bits",  "kilobytes", "megabytes", "percent",
};

Test(metric, no_word_of_a_name_is_a_type_or_an_abbreviated_unit)
{
	FOR_EACH_ROW(m)
	{
		char copy[256];
		char *rest = copy;
		snprintf(copy, sizeof(copy), "%s", m->name);
		for (char *word = strsep(&rest, "_"); word; word = strsep(&rest, "_"))
			for (size_t i = 0; i < sizeof(refused_words) / sizeof(char *); i++)
				cr_assert_str_neq(word, refused_words[i], "%s", m->name);
	}
}

Test(metric, a_name_ends_in_total_exactly_when_it_is_a_counter)
{
	FOR_EACH_ROW(m)
	cr_assert_eq(ends_with(m->name, "_total"), m->kind == BLIX_COUNTER, "%s", m->name);
}

Test(metric, a_name_carries_the_suffix_of_its_unit_and_no_other)
{
	static const char *const suffixes[] = {"_seconds", "_bytes", "_ratio"};

	FOR_EACH_ROW(m)
	{
		char family[256], suffix[16];
		family_of(m, family);
		snprintf(suffix, sizeof(suffix), "_%s", blix_unit_prometheus(m->unit));
		for (size_t i = 0; i < 3; i++)
			cr_assert_eq(ends_with(family, suffixes[i]), !strcmp(suffix, suffixes[i]),
				     "%s has unit %s", m->name, m->unit);
	}
}

Test(metric, units_are_seconds_bytes_ratios_or_counted_things)
{
	cr_assert_str_eq(blix_unit_prometheus("s"), "seconds");
	cr_assert_str_eq(blix_unit_prometheus("By"), "bytes");
	cr_assert_str_eq(blix_unit_prometheus("1"), "ratio");
	cr_assert_str_eq(blix_unit_prometheus("{thing}"), "");
	cr_assert_str_eq(blix_unit_prometheus(""), "");
	cr_assert_str_eq(blix_unit_prometheus("ms"), "");
	FOR_EACH_ROW(m)
	{
		size_t len = strlen(m->unit);
		bool thing = len > 2 && m->unit[0] == '{' && m->unit[len - 1] == '}' &&
			     strspn(m->unit + 1, "abcdefghijklmnopqrstuvwxyz") == len - 2;
		cr_assert(thing || *blix_unit_prometheus(m->unit), "%s: unit %s", m->name, m->unit);
		cr_assert(strcmp(m->unit, "1") != 0 || m->kind == BLIX_GAUGE_F64, "%s", m->name);
	}
}

Test(metric, a_gauge_of_seconds_is_floating_point_and_the_rest_is_stored_in_nanoseconds)
{
	cr_assert(blix_stored_in_ns(BLIX_COUNTER, "s") && blix_stored_in_ns(BLIX_HISTOGRAM, "s") &&
		  blix_stored_in_ns(BLIX_UPDOWN, "s"));
	cr_assert(!blix_stored_in_ns(BLIX_GAUGE, "s") && !blix_stored_in_ns(BLIX_GAUGE_F64, "s"));
	cr_assert(!blix_stored_in_ns(BLIX_COUNTER, "By") && !blix_stored_in_ns(BLIX_COUNTER, "s2"));
	cr_assert(!blix_stored_in_ns(BLIX_HISTOGRAM, ""));
	FOR_EACH_ROW(m)
	cr_assert(strcmp(m->unit, "s") != 0 || m->kind != BLIX_GAUGE, "%s", m->name);
}

/* Everything that a family occupies: its own name, and what hangs on it in either text format. */
static const char *const family_suffixes[] = {
	"", "_total", "_created", "_bucket", "_sum", "_count", "_info", "_gsum", "_gcount",
};

Test(metric, no_family_has_the_name_of_a_sample_of_another_one)
{
	FOR_EACH_ROW(a)
	{
		char family[256], sample[300], other[256];
		family_of(a, family);
		FOR_EACH_ROW(b)
		{
			if (a == b)
				continue;
			family_of(b, other);
			for (size_t i = 0; i < sizeof(family_suffixes) / sizeof(char *); i++) {
				snprintf(sample, sizeof(sample), "%s%s", family,
					 family_suffixes[i]);
				cr_assert_str_neq(sample, other, "%s and %s", a->name, b->name);
				cr_assert_str_neq(sample, b->name, "%s and %s", a->name, b->name);
			}
		}
	}
}

/* The name in OTLP: unit and _total are cut off, because a Collector puts them back. */
static void otlp_of(const struct blix_metric *m, char ret_name[static 256])
{
	const char *suffix = blix_unit_prometheus(m->unit);

	family_of(m, ret_name);
	if (*suffix)
		ret_name[strlen(ret_name) - strlen(suffix) - 1] = '\0';
}

Test(metric, names_stay_unique_when_otlp_cuts_unit_and_total_off)
{
	FOR_EACH_ROW(a)
	{
		char name[256], other[256];
		otlp_of(a, name);
		FOR_EACH_ROW(b)
		{
			otlp_of(b, other);
			cr_assert(a == b || strcmp(name, other) != 0, "%s and %s", a->name,
				  b->name);
		}
	}
}

/* ---- seed names ------------------------------------------------------------------------------ */

static const char *const seed_names[] = {
	"raft_proposals_total",
	"raft_proposals_failed",
	"raft_committed_entries_total",
	"raft_applied_entries_total",
	"raft_leader_changes_total",
	"raft_term",
	"raft_commit_index",
	"raft_proposal_duration",
	"grpc_requests_total",
	"grpc_requests_failed",
	"grpc_request_duration",
	"peer_connections_active",
	"peer_reconnect_attempts",
	"vm_total",
	"vm_running",
	"vm_create_total",
	"vm_create_failed",
	"vm_create_duration",
	"storage_reads_total",
	"storage_writes_total",
	"storage_read_duration",
	"storage_write_duration",
};
enum { N_SEEDS = sizeof(seed_names) / sizeof(seed_names[0]) };

Test(metric, each_of_the_22_seed_names_is_the_alias_of_exactly_one_row)
{
	size_t rows = 0;

	cr_assert_eq(N_SEEDS, 22);
	for (size_t i = 0; i < N_SEEDS; i++) {
		size_t found = 0;
		FOR_EACH_ROW(m)
		found += m->seed && strcmp(m->seed, seed_names[i]) == 0;
		cr_assert_eq(found, 1, "%s: %zu rows", seed_names[i], found);
	}
	FOR_EACH_ROW(m)
	rows += m->seed != NULL;
	cr_assert_eq(rows, N_SEEDS);
}

Test(metric, a_seed_name_of_a_duration_is_that_of_a_histogram_and_belongs_to_the_node)
{
	FOR_EACH_ROW(m)
	{
		if (!m->seed)
			continue;
		cr_assert_eq(ends_with(m->seed, "_duration"), m->kind == BLIX_HISTOGRAM, "%s",
			     m->name);
		cr_assert_eq(m->owner, BLIX_OWNER_NODE, "%s", m->name);
		cr_assert_null(blix_metric_find(m->seed, strlen(m->seed)), "%s", m->seed);
	}
}

/* ---- the other columns ----------------------------------------------------------------------- */

Test(metric, help_is_one_sentence_with_its_full_stop)
{
	FOR_EACH_ROW(m)
	{
		size_t len = strlen(m->help);
		cr_assert_gt(len, 8, "%s", m->name);
		cr_assert_eq(m->help[len - 1], '.', "%s", m->name);
		cr_assert_null(strpbrk(m->help, "\"\\\n\t"), "%s", m->name);
		cr_assert_null(strstr(m->help, ". "), "%s: more than one sentence", m->name);
		cr_assert_null(strstr(m->help, "  "), "%s: double blank", m->name);
	}
}

Test(metric, histograms_and_only_they_have_a_bucket_layout)
{
	FOR_EACH_ROW(m)
	{
		cr_assert_eq(m->kind == BLIX_HISTOGRAM, m->layout != BLIX_LAYOUT_NONE, "%s",
			     m->name);
		cr_assert_eq(m->kind == BLIX_HISTOGRAM, blix_layout_bounds(m->layout)->n > 0, "%s",
			     m->name);
		cr_assert(m->kind != BLIX_HISTOGRAM || !strcmp(m->unit, "s"), "%s", m->name);
	}
}

static const struct {
	enum blix_owner owner;
	const char *prefix;
} prefixes[] = {
	{BLIX_OWNER_NODE, "blixard_raft_"},    {BLIX_OWNER_NODE, "blixard_grpc_"},
	{BLIX_OWNER_NODE, "blixard_peer_"},    {BLIX_OWNER_NODE, "blixard_vm"},
	{BLIX_OWNER_NODE, "blixard_p2p_"},     {BLIX_OWNER_NODE, "blixard_storage_"},
	{BLIX_OWNER_NODE, "blixard_node_"},    {BLIX_OWNER_NODE, "blixard_cluster_"},
	{BLIX_OWNER_HOST, "blixard_host_"},    {BLIX_OWNER_STORAGE, "blixard_storage_"},
	{BLIX_OWNER_STORAGE, "blixard_node_"}, {BLIX_OWNER_AGENT, "blixard_agent_"},
	{BLIX_OWNER_AGENT, "blixard_node_"},   {BLIX_OWNER_AGENT, "blixard_span_"},
	{BLIX_OWNER_AGENT, "process_"},
};

Test(metric, a_name_begins_as_the_names_of_its_owner_do)
{
	FOR_EACH_ROW(m)
	{
		bool fits = false;
		for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
			fits |= prefixes[i].owner == m->owner &&
				starts_with(m->name, prefixes[i].prefix);
		cr_assert(fits, "%s", m->name);
	}
}

static bool has_key(const struct blix_metric *m, const char *key, uint32_t len)
{
	struct blix_labels labels;

	blix_labels_begin(&labels, m->labels);
	for (uint32_t i = 0; i < labels.n_keys; i++)
		if (labels.key_lens[i] == len && memcmp(labels.keys[i], key, len) == 0)
			return true;
	return false;
}

Test(metric, a_subset_is_a_counter_with_at_least_the_labels_of_its_superset)
{
	size_t n = 0;

	FOR_EACH_ROW(m)
	{
		struct blix_labels labels;
		if (!m->subset_of)
			continue;
		const struct blix_metric *super =
			blix_metric_find(m->subset_of, strlen(m->subset_of));
		cr_assert_not_null(super, "%s: no %s", m->name, m->subset_of);
		cr_assert(super != m && !super->subset_of, "%s", m->name);
		cr_assert(m->kind == BLIX_COUNTER && super->kind == BLIX_COUNTER, "%s", m->name);
		cr_assert(m->owner == super->owner && !strcmp(m->unit, super->unit), "%s", m->name);
		blix_labels_begin(&labels, super->labels);
		for (uint32_t i = 0; i < labels.n_keys; i++)
			cr_assert(has_key(m, labels.keys[i], labels.key_lens[i]), "%s", m->name);
		n++;
	}
	FOR_EACH_ROW(m)
	n -= strstr(m->name, "_failed_total") || strstr(m->name, "_failures_total");
	cr_assert_eq(n, 0, "a failure counter lacks its subset_of");
}

/* ---- labels ---------------------------------------------------------------------------------- */

static size_t count_combinations(const char *column)
{
	struct blix_labels labels;
	size_t n = 0;

	blix_labels_begin(&labels, column);
	while (blix_labels_next(&labels))
		n++;
	return n;
}

Test(metric, label_keys_are_legal_and_unique_and_the_first_series_fit)
{
	FOR_EACH_ROW(m)
	{
		struct blix_labels labels;
		blix_labels_begin(&labels, m->labels);
		cr_assert_geq(m->max_series, 1, "%s", m->name);
		cr_assert(labels.n_keys > 0 || m->max_series == 1, "%s", m->name);
		cr_assert_leq(count_combinations(m->labels), m->max_series, "%s", m->name);
		for (uint32_t i = 0; i < labels.n_keys; i++) {
			char key[64];
			snprintf(key, sizeof(key), "%.*s", (int)labels.key_lens[i], labels.keys[i]);
			cr_assert_gt(strlen(key), 0, "%s", m->name);
			cr_assert_eq(strspn(key, "abcdefghijklmnopqrstuvwxyz_"), strlen(key), "%s",
				     key);
			cr_assert(strcmp(key, "le") && strcmp(key, "quantile") &&
					  !starts_with(key, "__"),
				  "%s", m->name);
			cr_assert(strcmp(key, "cluster") && strcmp(key, "node") &&
					  strcmp(key, "job") && strcmp(key, "instance"),
				  "%s: %s is a label of the target", m->name, key);
			for (uint32_t j = 0; j < i; j++)
				cr_assert(labels.key_lens[i] != labels.key_lens[j] ||
						  memcmp(labels.keys[i], labels.keys[j],
							 labels.key_lens[i]),
					  "%s: %s twice", m->name, key);
		}
	}
}

/* All combinations of `column` as "a=1 b=2;a=1 b=3;". */
static const char *expand(const char *column, char *text, size_t size)
{
	struct blix_labels l;
	FILE *out = fmemopen(text, size, "w");

	text[0] = '\0'; /* nothing may be written below */
	blix_labels_begin(&l, column);
	while (blix_labels_next(&l)) {
		for (uint32_t i = 0; i < l.n_keys; i++)
			fprintf(out, "%s%.*s=%.*s", i ? " " : "", (int)l.key_lens[i], l.keys[i],
				(int)l.value_lens[i], l.values[i]);
		fputs(";", out);
	}
	fclose(out);
	return text;
}

Test(metric, the_cursor_yields_the_cross_product_with_the_last_key_fastest)
{
	char text[512];

	cr_assert_str_eq(expand("", text, sizeof(text)), ";", "no keys: one series");
	cr_assert_str_eq(expand("peer", text, sizeof(text)), "", "no values: no series");
	cr_assert_str_eq(expand("op:read", text, sizeof(text)), "op=read;");
	cr_assert_str_eq(expand("op:a,b,c", text, sizeof(text)), "op=a;op=b;op=c;");
	cr_assert_str_eq(expand("m:A,B c:X", text, sizeof(text)), "m=A c=X;m=B c=X;");
	cr_assert_str_eq(expand("m:A,B c:X,Y", text, sizeof(text)),
			 "m=A c=X;m=A c=Y;m=B c=X;m=B c=Y;");
	cr_assert_str_eq(expand("a:1,2 b:3 c:4,5", text, sizeof(text)),
			 "a=1 b=3 c=4;a=1 b=3 c=5;a=2 b=3 c=4;a=2 b=3 c=5;");
	cr_assert_str_eq(expand("m:A,B peer", text, sizeof(text)), "");
	cr_assert_str_eq(expand("peer m:A,B", text, sizeof(text)), "");
}

Test(metric, keys_are_known_without_values_and_at_most_eight)
{
	struct blix_labels labels;

	blix_labels_begin(&labels, "device op:read,write origin");
	cr_assert_eq(labels.n_keys, 3);
	cr_assert_eq(labels.key_lens[0], 6);
	cr_assert_eq(memcmp(labels.keys[1], "op", labels.key_lens[1]), 0);
	cr_assert_eq(memcmp(labels.keys[2], "origin", labels.key_lens[2]), 0);
	cr_assert(!blix_labels_next(&labels));

	blix_labels_begin(&labels, "a:1 b:1 c:1 d:1 e:1 f:1 g:1 h:1 i:1");
	cr_assert_eq(labels.n_keys, BLIX_LABELS_MAX);
	cr_assert(blix_labels_next(&labels));
	cr_assert(!blix_labels_next(&labels));
}

/* Series that exist from the start. */
static size_t first_series(uint32_t slot)
{
	const struct blix_metric *m = NULL;

	cr_assert_eq(blix_metric_describe(slot, &m), 0);
	return count_combinations(m->labels);
}

Test(metric, the_documented_series_exist_from_the_start)
{
	char text[4096];
	const struct blix_metric *m = NULL;

	cr_assert_eq(first_series(BLIX_raft_term), 1);
	cr_assert_eq(first_series(BLIX_grpc_requests_total), 24);
	cr_assert_eq(first_series(BLIX_grpc_requests_failed_total), 24);
	cr_assert_eq(first_series(BLIX_grpc_request_duration_seconds), 24);
	cr_assert_eq(first_series(BLIX_peer_sent_bytes_total), 0);
	cr_assert_eq(first_series(BLIX_storage_errors_total), 3);
	cr_assert_eq(first_series(BLIX_raft_proposals_failed_total), 6);
	cr_assert_eq(first_series(BLIX_vm_placement_failures_total), 8 * 5);
	cr_assert_eq(first_series(BLIX_p2p_transfers_failed_total), 2);
	cr_assert_eq(first_series(BLIX_node_state), 5);

	cr_assert_eq(blix_metric_describe(BLIX_grpc_requests_failed_total, &m), 0);
	expand(m->labels, text, sizeof(text));
	cr_assert(starts_with(text, "method=JoinCluster code=UNAVAILABLE;"), "%s", text);
	cr_assert_not_null(strstr(text, ";method=CreateVm code=UNAVAILABLE;"));
}

/* ---- bucket layouts -------------------------------------------------------------------------- */

static void assert_layout(enum blix_layout layout, uint32_t n, double first, double last)
{
	const struct blix_bounds *b = blix_layout_bounds(layout);

	cr_assert_eq(b->n, n);
	cr_assert_leq(b->n, BLIX_BOUNDS_MAX);
	cr_assert_eq(b->seconds[0], first);
	cr_assert_eq(b->seconds[n - 1], last);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t ns = (uint64_t)(b->seconds[i] * 1e9 + 0.5);
		bool whole = (double)ns == b->seconds[i] * 1e9;
		cr_assert(i == 0 || b->seconds[i] > b->seconds[i - 1]);
		cr_assert_eq(b->ns[i], layout == BLIX_LAYOUT_POW2 && !whole ? 0 : ns, "%s",
			     b->le[i]);
	}
}

Test(metric, layouts_have_the_documented_bounds_and_whole_nanoseconds_where_they_exist)
{
	assert_layout(BLIX_LAYOUT_TIME, 16, 0.0001, 10);
	assert_layout(BLIX_LAYOUT_LONG, 11, 0.1, 300);
	assert_layout(BLIX_LAYOUT_POW2, 21, 0x1p-17, 8);
	cr_assert_eq(blix_layout_bounds(BLIX_LAYOUT_NONE)->n, 0);
	cr_assert_eq(blix_layout_bounds((enum blix_layout)77)->n, 0);
	for (uint32_t i = 0; i < 21; i++) {
		const struct blix_bounds *b = blix_layout_bounds(BLIX_LAYOUT_POW2);
		cr_assert_eq(b->seconds[i], (double)(1u << i) / 131072);
		cr_assert_eq(b->ns[i] == 0, i < 8, "2^-9 s is the first whole one");
	}
}

/* Significant digits of a decimal: those after leading and before trailing zeros. */
static int digits_of(const char *text)
{
	char digits[64];
	int n = 0;

	for (; *text && *text != 'e'; text++)
		if (*text != '.' && (n > 0 || *text != '0'))
			digits[n++] = *text;
	while (n > 1 && digits[n - 1] == '0')
		n--;
	return n;
}

Test(metric, an_le_text_is_the_shortest_that_reads_back_as_the_bound)
{
	for (int layout = BLIX_LAYOUT_TIME; layout <= BLIX_LAYOUT_POW2; layout++) {
		const struct blix_bounds *b = blix_layout_bounds((enum blix_layout)layout);
		for (uint32_t i = 0; i < b->n; i++) {
			char shorter[64];
			int digits = digits_of(b->le[i]);
			cr_assert_eq(strtod(b->le[i], NULL), b->seconds[i], "%s", b->le[i]);
			cr_assert_not_null(strchr(b->le[i], '.'), "%s", b->le[i]);
			cr_assert_lt(strlen(b->le[i]), 24);
			if (digits == 1)
				continue;
			snprintf(shorter, sizeof(shorter), "%.*e", digits - 2, b->seconds[i]);
			cr_assert_neq(strtod(shorter, NULL), b->seconds[i], "%s", b->le[i]);
		}
	}
	cr_assert_str_eq(blix_layout_bounds(BLIX_LAYOUT_POW2)->le[0], "7.62939453125e-06");
	cr_assert_str_eq(blix_layout_bounds(BLIX_LAYOUT_POW2)->le[7], "0.0009765625");
	cr_assert_str_eq(blix_layout_bounds(BLIX_LAYOUT_TIME)->le[12], "1.0");
}

/* rpc_fault.c - see rpc_fault.h. Loop thread only. */
#include "rpc_fault.h"

#include "test/cluster/log.h"
#include "test/cluster/record/record_rpc.h"
#include "test/cluster/storage/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool code_of(const char *name, grpc_status_code *ret_code)
{
	for (int i = GRPC_STATUS_OK; i <= GRPC_STATUS_UNAUTHENTICATED; i++) {
		if (!strcmp(name, record_rpc_code_name((grpc_status_code)i))) {
			*ret_code = (grpc_status_code)i;
			return true;
		}
	}
	return false;
}

static int parse_rule(const char *line, struct rpc_fault_rule *ret_rule)
{
	struct rpc_fault_rule rule = {0};
	char code[32];
	int end = 0;

	if (sscanf(line, "%63s %3u %31s %5u %n", rule.method, &rule.share_percent, code,
		   &rule.delay_ms, &end) != 4 ||
	    line[end])
		return -EINVAL;
	if (!rule.share_percent || rule.share_percent > 100 || !code_of(code, &rule.code) ||
	    rule.delay_ms > RPC_FAULT_DELAY_MAX_MS ||
	    (rule.code == GRPC_STATUS_OK && !rule.delay_ms))
		return -EINVAL;
	*ret_rule = rule;
	return 0;
}

int rpc_faults_parse(const char *text, size_t len, struct rpc_faults *ret_faults)
{
	struct rpc_faults faults = {0};
	char copy[RPC_FAULT_TEXT_MAX + 1], *rest = copy, *line;

	if (len > RPC_FAULT_TEXT_MAX)
		return -E2BIG;
	if (memchr(text, 0, len))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		if (!line[0])
			continue;
		if (faults.n == RPC_FAULT_RULES_MAX)
			return -E2BIG;
		int err = parse_rule(line, &faults.rules[faults.n++]);
		if (err)
			return err;
	}
	*ret_faults = faults;
	return 0;
}

struct rpc_fault rpc_faults_of(struct rpc_faults *faults, const char *method, bool always)
{
	struct rpc_fault fault = {.code = GRPC_STATUS_OK};

	for (size_t i = 0; i < faults->n; i++) {
		struct rpc_fault_rule *rule = &faults->rules[i];

		if (strcmp(rule->method, method) != 0 && (always || strcmp(rule->method, "*") != 0))
			continue;
		rule->owed += rule->share_percent;
		if (rule->owed < 100)
			continue;
		rule->owed -= 100;
		if (fault.code == GRPC_STATUS_OK)
			fault.code = rule->code;
		fault.delay_ms += rule->delay_ms;
	}
	return fault;
}

int rpc_faults_load(int dir, struct rpc_faults *ret_faults)
{
	uint8_t *text;
	size_t len;
	int err = disk_read_file(dir, "rpc-faults", RPC_FAULT_TEXT_MAX, &text, &len);

	if (err == -ENOENT)
		return err;
	if (!err) {
		err = rpc_faults_parse((const char *)text, len, ret_faults);
		free(text);
	}
	if (err)
		log_line(LOG_WARN, "rpc-faults: refused: %s", strerror(-err));
	else
		log_line(LOG_WARN, "rpc-faults: %zu rules are in force", ret_faults->n);
	if (renameat(dir, "rpc-faults", dir, err ? "rpc-faults.refused" : "rpc-faults.taken"))
		log_line(LOG_WARN, "rpc-faults: cannot be renamed: %s", strerror(errno));
	return err;
}

/* agent/encode/negotiate.c - which format, and whether gzip, a request asks for.
 *
 * Both headers are hostile: they are read in one pass, with a bound, and what cannot be understood
 * asks for nothing. Pure; libc only.
 *
 * Each format's weight is that of the most specific range that names it, and of several such
 * ranges the highest; among equals the first in the header wins. A wildcard stands for text,
 * unless the header says more about text. */
#include "agent/encode/encode.h"

#include <strings.h>

enum {
	HEADER_BYTES_MAX = 8192,
	WEIGHT_MAX = 1000,
	PARAMETERS_MAX = 16,
	UNNAMED = -1,
};

struct token {
	const char *at;
	size_t len;
};

struct parameter {
	struct token name, value;
};

/* One element of a comma-separated list: `value;name=value;q=0.5`. */
struct element {
	struct token value;
	struct parameter parameters[PARAMETERS_MAX];
	uint32_t n_parameters;
	int weight; /* thousandths */
};

struct cursor {
	const char *at, *end;
};

static bool is(struct token token, const char *text)
{
	return token.len == strlen(text) && !strncasecmp(token.at, text, token.len);
}

/* ---- syntax ---------------------------------------------------------------------------------- */

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
		c->at++;
}

static bool ends_token(char c)
{
	return c == ',' || c == ';' || c == '=' || c == ' ' || c == '\t' || c == '"';
}

static struct token read_token(struct cursor *c)
{
	struct token token = {.at = c->at};

	while (c->at < c->end && !ends_token(*c->at))
		c->at++;
	token.len = (size_t)(c->at - token.at);
	return token;
}

/* A quoted string without its quotes. Escapes stay as they are: no value that we know has any. */
static struct token read_quoted(struct cursor *c)
{
	struct token token = {.at = ++c->at};

	while (c->at < c->end && *c->at != '"')
		c->at += *c->at == '\\' && c->end - c->at > 1 ? 2 : 1;
	token.len = (size_t)(c->at - token.at);
	if (c->at < c->end)
		c->at++;
	return token;
}

/* To the next `;` or `,` that no quotes hold. */
static void skip_rest(struct cursor *c)
{
	while (c->at < c->end && *c->at != ',' && *c->at != ';') {
		if (*c->at == '"')
			(void)read_quoted(c);
		else
			c->at++;
	}
}

/* "0", "1", "0.25": thousandths; 0 for what is no weight, for then nothing was asked for. */
static int read_weight(struct token text)
{
	int weight = 0, unit = WEIGHT_MAX;

	if (text.len == 0 || (text.at[0] != '0' && text.at[0] != '1'))
		return 0;
	weight = (text.at[0] - '0') * WEIGHT_MAX;
	for (size_t i = 1; i < text.len; i++) {
		if (i == 1 ? text.at[i] != '.' : text.at[i] < '0' || text.at[i] > '9')
			return 0;
		if (i == 1)
			continue;
		unit /= 10;
		weight += (text.at[i] - '0') * unit;
	}
	return weight > WEIGHT_MAX ? WEIGHT_MAX : weight;
}

static void read_parameter(struct cursor *c, struct element *e)
{
	struct parameter p = {0};

	skip_blanks(c);
	p.name = read_token(c);
	skip_blanks(c);
	if (c->at < c->end && *c->at == '=') {
		c->at++;
		skip_blanks(c);
		p.value = c->at < c->end && *c->at == '"' ? read_quoted(c) : read_token(c);
	}
	skip_rest(c);
	if (is(p.name, "q"))
		e->weight = read_weight(p.value);
	else if (e->n_parameters < PARAMETERS_MAX)
		e->parameters[e->n_parameters++] = p;
	else
		e->weight = 0; /* more than we look at: it names nothing of ours */
}

/* False at the end of the header. */
static bool read_element(struct cursor *c, struct element *e)
{
	while (c->at < c->end && (*c->at == ',' || *c->at == ' ' || *c->at == '\t'))
		c->at++;
	if (c->at == c->end)
		return false;
	e->n_parameters = 0;
	e->weight = WEIGHT_MAX;
	e->value = read_token(c);
	skip_rest(c);
	while (c->at < c->end && *c->at == ';') {
		c->at++;
		read_parameter(c, e);
	}
	return true;
}

static struct cursor cursor_of(const char *header)
{
	return (struct cursor){header,
			       header ? header + strnlen(header, HEADER_BYTES_MAX) : header};
}

/* ---- formats --------------------------------------------------------------------------------- */

/* A parameter's value; what is given twice counts as it was given first. */
static struct token parameter(const struct element *e, const char *name)
{
	for (uint32_t i = 0; i < e->n_parameters; i++)
		if (is(e->parameters[i].name, name))
			return e->parameters[i].value;
	return (struct token){0};
}

/* `escaping` is not looked at: no name of ours needs any, so every kind gives the same bytes. */
static int named_format(const struct element *e)
{
	struct token version = parameter(e, "version");

	if (is(e->value, "text/plain"))
		return version.len == 0 || is(version, "0.0.4") ? ENCODE_TEXT : UNNAMED;
	if (is(e->value, "application/openmetrics-text"))
		return version.len == 0 || is(version, "1.0.0") || is(version, "0.0.1")
			       ? ENCODE_OPENMETRICS
			       : UNNAMED;
	if (is(e->value, "application/vnd.google.protobuf") &&
	    is(parameter(e, "proto"), "io.prometheus.client.MetricFamily") &&
	    is(parameter(e, "encoding"), "delimited"))
		return ENCODE_PROTOBUF;
	return UNNAMED;
}

/* Bit set of the formats that a range with a wildcard covers. */
static uint32_t covered_formats(const struct element *e)
{
	if (is(e->value, "*/*") || is(e->value, "*"))
		return 1u << ENCODE_TEXT | 1u << ENCODE_OPENMETRICS | 1u << ENCODE_PROTOBUF;
	if (is(e->value, "text/*"))
		return 1u << ENCODE_TEXT;
	if (is(e->value, "application/*"))
		return 1u << ENCODE_OPENMETRICS | 1u << ENCODE_PROTOBUF;
	return 0;
}

struct choice {
	int weight; /* UNNAMED: not spoken of */
	uint32_t order;
};

static void prefer(struct choice *choice, int weight, uint32_t order)
{
	if (weight > choice->weight)
		*choice = (struct choice){weight, order};
}

static bool better(struct choice a, struct choice b)
{
	return a.weight > b.weight || (a.weight == b.weight && a.order < b.order);
}

enum encode_format encode_negotiate(const char *accept)
{
	struct cursor c = cursor_of(accept);
	struct choice named[ENCODE_FORMATS], covered[ENCODE_FORMATS];
	struct choice best = {0, 0}; /* so that a weight of 0 is never better */
	enum encode_format format = ENCODE_TEXT;
	struct element e;

	for (int i = 0; i < ENCODE_FORMATS; i++)
		named[i] = covered[i] = (struct choice){UNNAMED, 0};
	for (uint32_t order = 0; read_element(&c, &e); order++) {
		int which = named_format(&e);

		if (which != UNNAMED)
			prefer(&named[which], e.weight, order);
		for (int i = 0; i < ENCODE_FORMATS; i++)
			if (covered_formats(&e) & 1u << i)
				prefer(&covered[i], e.weight, order);
	}
	/* In order of the enumeration: of those that only a wildcard covers, text comes first. */
	for (int i = 0; i < ENCODE_FORMATS; i++) {
		struct choice choice = named[i].weight == UNNAMED ? covered[i] : named[i];

		if (better(choice, best)) {
			best = choice;
			format = (enum encode_format)i;
		}
	}
	return format;
}

bool encode_accepts_gzip(const char *accept_encoding)
{
	struct cursor c = cursor_of(accept_encoding);
	int named = UNNAMED, covered = UNNAMED;
	struct element e;

	while (read_element(&c, &e)) {
		if (is(e.value, "gzip") || is(e.value, "x-gzip"))
			named = e.weight > named ? e.weight : named;
		else if (is(e.value, "*"))
			covered = e.weight > covered ? e.weight : covered;
	}
	return named == UNNAMED ? covered > 0 : named > 0;
}

/* test/bench/bench_prometheus_cpp.cc - the peer prometheus-cpp: counter, histogram, rendering, and,
 * with arguments PORT LINES, its HTTP exposer for report.py to load. */
#include "harness.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <unistd.h>

using namespace prometheus;

static Counter *counters[64];
static Histogram *histogram;
static double values[1024];
static std::shared_ptr<Registry> registry;

static const Histogram::BucketBoundaries bounds{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5};

static void run_add(void *, int, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		counters[i & 63]->Increment();
}

static void run_add_one(void *, int, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		counters[0]->Increment();
}

static void run_observe(void *, int, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		histogram->Observe(values[i & 1023]);
}

static void run_render(void *, int, uint64_t n)
{
	TextSerializer serializer;

	for (uint64_t i = 0; i < n; i++) {
		std::ostringstream out;

		serializer.Serialize(out, registry->Collect());
		if (out.str().empty())
			abort();
	}
}

/* About `lines` sample lines: half counters with two labels, half lines of histograms. */
static std::shared_ptr<Registry> make_registry(int lines)
{
	auto r = std::make_shared<Registry>();
	auto &c = BuildCounter().Name("bench_requests_total").Help("Requests.").Register(*r);
	auto &h = BuildHistogram().Name("bench_request_duration_seconds").Help("Time.").Register(*r);

	for (int i = 0; i < lines / 2; i++)
		c.Add({{"method", "Method" + std::to_string(i)}, {"code", "UNAVAILABLE"}}).Increment(i * 37 + 1);
	for (int i = 0; i < lines / 2 / 13; i++) {
		auto &one = h.Add({{"method", "Method" + std::to_string(i)}}, bounds);

		for (int k = 0; k < 200; k++)
			one.Observe(values[(i * 7 + k) & 1023]);
	}
	return r;
}

int main(int argc, char **argv)
{
	srand(1);
	for (double &v : values)
		v = pow(10, -3.3 + 4.2 * rand() / RAND_MAX);
	if (argc == 3) {
		Exposer exposer(std::string("127.0.0.1:") + argv[1], 2);

		registry = make_registry(atoi(argv[2]));
		exposer.RegisterCollectable(registry);
		pause();
		return 0;
	}
	Registry r;
	auto &c = BuildCounter().Name("c").Help("h").Register(r);
	auto &h = BuildHistogram().Name("h").Help("h").Register(r);

	for (int i = 0; i < 64; i++)
		counters[i] = &c.Add({{"i", std::to_string(i)}});
	histogram = &h.Add({}, bounds);
	bench_run("prometheus-cpp/counter: Increment, 64 series", run_add, nullptr, 1);
	bench_run("prometheus-cpp/counter: Increment, one series", run_add_one, nullptr, 2);
	bench_run("prometheus-cpp/histogram: Observe, 10 bounds", run_observe, nullptr, 1);
	for (int lines : {200, 2000, 20000}) {
		std::string name = "prometheus-cpp/render: text, " + std::to_string(lines) + " lines, a body";

		registry = make_registry(lines);
		bench_run(name.c_str(), run_render, nullptr, 1);
	}
	return 0;
}

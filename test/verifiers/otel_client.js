// A client instrumented with the official OpenTelemetry SDK for Node.js: what a user of the cluster has.
//
//   NODE_PATH=... node otel_client.js TARGET PROTO OTLP_ENDPOINT METHOD [JSON REQUEST]
//
// Calls the method inside a root span "client", lets the SDK's own gRPC instrumentation make the client span
// and inject the context, exports both with the SDK's own OTLP exporter, and prints one line of JSON:
// {"code": 0, "traceId": "...", "rootSpanId": "...", "reply": {...}}.
const { NodeTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-node');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-grpc');
const { GrpcInstrumentation } = require('@opentelemetry/instrumentation-grpc');
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { trace, context } = require('@opentelemetry/api');

const [target, proto, endpoint, method, request] = process.argv.slice(2);
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'otel-client' }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: endpoint }))],
});
provider.register();
registerInstrumentations({ instrumentations: [new GrpcInstrumentation()] });

// After the instrumentation is in place, or it would patch nothing.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const Cluster = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, longs: String })).blixard.Cluster;
const client = new Cluster(target, grpc.credentials.createInsecure());
const root = trace.getTracer('otel-client').startSpan('client');

context.with(trace.setSpan(context.active(), root), () => {
  client[method](JSON.parse(request || '{}'), { deadline: new Date(Date.now() + 20000) }, async (error, reply) => {
    root.end();
    await provider.shutdown();
    const { traceId, spanId } = root.spanContext();
    console.log(JSON.stringify({ code: error ? error.code : 0, traceId, rootSpanId: spanId, reply: reply || null }));
    client.close();
  });
});

// Package tracing tells an OpenTelemetry collector what happens between a request
// and the end of the work it caused. Without an exporter in the environment there
// is none of it.
package tracing

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// Tracing makes spans. Its methods may be called concurrently.
type Tracing struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TraceContext
}

// FromEnvironment returns what OpenTelemetry's variables ask for, nil when they
// name no endpoint: OTEL_EXPORTER_OTLP_ENDPOINT or ..._TRACES_ENDPOINT turn it on,
// the others (headers, certificates, sampler, resource attributes) count as the
// specification says. Spans travel as protobuf over HTTP.
func FromEnvironment(ctx context.Context, version string) (*Tracing, error) {
	if first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return nil, nil
	}
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter == "none" {
		return nil, nil
	}
	if protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent as http/protobuf, not as %q; collectors take it on port 4318", protocol)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("the exporter of traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "dataguardian"), attribute.String("service.version", version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracing{provider: provider, tracer: provider.Tracer("github.com/dataguardian/dataguardian")}, nil
}

func first(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// Close sends what waits, as long as ctx allows.
func (t *Tracing) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// HTTP makes a span of each request; a traceparent header makes it a part of the
// caller's trace.
func (t *Tracing) HTTP(next http.Handler) http.Handler {
	name := func(_ string, r *http.Request) string { return r.Method }
	return otelhttp.NewHandler(next, "REST", otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.propagator), otelhttp.WithSpanNameFormatter(name))
}

// Server makes a span of each call that a gRPC server answers.
func (t *Tracing) Server() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.propagator)))
}

// Client makes a span of each call of a gRPC client.
func (t *Tracing) Client() grpc.DialOption {
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.propagator)))
}

const traceparent = "traceparent"

// Parent returns the traceparent of the span of ctx, to go on from in another
// process; empty without one.
func (t *Tracing) Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	t.propagator.Inject(ctx, carrier)
	return carrier[traceparent]
}

// Begin makes the span of an execution that was claimed, in the trace of the
// request that queued it, with the time it waited beside it. Call end once.
func (t *Tracing) Begin(ctx context.Context, e execution.Execution) (_ context.Context, end func(error)) {
	ctx = t.propagator.Extract(ctx, propagation.MapCarrier{traceparent: e.Request.Traceparent})
	about := trace.WithAttributes(
		attribute.String("dataguardian.execution_id", e.ID), attribute.String("dataguardian.operation", string(e.Operation)),
		attribute.String("dataguardian.job", e.JobName), attribute.String("dataguardian.datasource", e.DatasourceName),
		attribute.Int("dataguardian.attempt", e.Attempt),
	)
	ctx, span := t.tracer.Start(ctx, string(e.Operation), about, trace.WithSpanKind(trace.SpanKindConsumer))
	if e.StartedAt != nil {
		_, waited := t.tracer.Start(ctx, "claim", trace.WithTimestamp(e.CreatedAt))
		waited.End(trace.WithTimestamp(*e.StartedAt))
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, string(errs.CodeOf(err)))
		}
		span.End()
	}
}

// Phase makes the span of one phase of an execution. Call end once.
func (t *Tracing) Phase(ctx context.Context, p execution.Phase) (end func()) {
	_, span := t.tracer.Start(ctx, string(p))
	return func() { span.End() }
}

//! Logs, traces and metrics: installed once per process, here and nowhere else.

use crate::config::{LogConfig, TelemetryConfig};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use siprtc_core::{Error, Fault, Result};
use siprtc_gateway::Ending;
use siprtc_media_session::SessionStats;
use siprtc_turn_server::{Meter as TurnMeter, Traffic};
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Flushes and ends the exporters when dropped; keep it for the life of the process.
#[must_use = "dropping it ends telemetry"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Installs the subscriber and, when an OTLP endpoint is configured, the exporters. Once per process, on a tokio
/// runtime.
///
/// Errors: [`Fault::ConfigInvalid`] for a wrong filter, format or endpoint; [`Fault::ApiMisuse`] the second time.
pub fn install(log: &LogConfig, telemetry: &TelemetryConfig) -> Result<Telemetry> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| {
        invalid(format!("log.filter = {:?}: {error}", log.filter))
            .advice("write a level such as info, or target=level,...")
    })?;
    let (traces, metrics) = if telemetry.otlp_endpoint.is_empty() {
        (None, None)
    } else {
        let providers = exporters(telemetry)?;
        (Some(providers.0), Some(providers.1))
    };
    // Colours are for terminals: a file or a pipe gets plain text.
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let lines = match log.format.as_str() {
        "json" => lines.json().with_filter(filter).boxed(),
        "text" => lines.with_target(true).with_filter(filter).boxed(),
        other => {
            return Err(
                invalid(format!("log.format = {other:?} is not known")).advice("choose one of: text, json")
            );
        }
    };
    // The exporter's own crates must not trace their own exports.
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("siprtc"))
            .with_filter(EnvFilter::new("off,siprtc_gateway=info,siprtc=info"))
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|error| {
            Error::new(
                Fault::ApiMisuse,
                "install telemetry",
                "a tracing subscriber is installed already",
            )
            .advice("install telemetry once per process, or leave it to your own subscriber")
            .caused_by(error)
        })?;
    if let Some(provider) = &metrics {
        global::set_meter_provider(provider.clone());
    }
    Ok(Telemetry { traces, metrics })
}

fn exporters(config: &TelemetryConfig) -> Result<(SdkTracerProvider, SdkMeterProvider)> {
    let failed = |error: &dyn std::fmt::Display| {
        invalid(format!(
            "telemetry.otlp_endpoint = {:?}: {error}",
            config.otlp_endpoint
        ))
        .advice("write an OTLP/gRPC address such as http://127.0.0.1:4317, or leave it empty")
    };
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .build();
    let spans = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .build()
        .map_err(|error| failed(&error))?;
    let points = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .build()
        .map_err(|error| failed(&error))?;
    let reader = PeriodicReader::builder(points)
        .with_interval(Duration::from_secs(config.interval_s.max(1)))
        .build();
    let traces = SdkTracerProvider::builder()
        .with_batch_exporter(spans)
        .with_resource(resource.clone())
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_reader(reader)
        .with_resource(resource)
        .build();
    Ok((traces, metrics))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Fault::ConfigInvalid, "install telemetry", message)
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let traces = self.traces.as_ref().map(SdkTracerProvider::shutdown);
        let metrics = self.metrics.as_ref().map(SdkMeterProvider::shutdown);
        for result in [traces, metrics].into_iter().flatten() {
            if let Err(error) = result {
                // The subscriber may be gone with the exporter: this is the last place to say it.
                eprintln!(
                    "siprtc: the last telemetry did not reach its collector: {error}; check telemetry.otlp_endpoint"
                );
            }
        }
    }
}

/// The instruments; they do nothing until exporters are installed.
pub(crate) struct Instruments {
    calls: Counter<u64>,
    registrations: Counter<u64>,
    setup: Histogram<f64>,
    media: Histogram<f64>,
    mos: Histogram<f64>,
    loss: Histogram<f64>,
    jitter: Histogram<f64>,
    round_trip: Histogram<f64>,
}

/// The process's instruments.
pub(crate) static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("siprtc");
    let seconds = |name: &'static str, what: &'static str| {
        meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(what)
            .build()
    };
    Instruments {
        calls: meter
            .u64_counter("siprtc.calls")
            .with_description("Calls that are over, by role and cause")
            .build(),
        registrations: meter
            .u64_counter("siprtc.registrations")
            .with_description("Registrations and refreshes, by result")
            .build(),
        setup: seconds("siprtc.call.setup", "From dialling to the 2xx"),
        media: seconds(
            "siprtc.call.dial_to_media",
            "From dialling to the first packet received",
        ),
        mos: meter
            .f64_histogram("siprtc.call.mos")
            .with_description("Mean opinion score by the E-model, 1 to 5")
            .build(),
        loss: meter
            .f64_histogram("siprtc.call.loss")
            .with_description("Packets lost of those expected, 0 to 1")
            .build(),
        jitter: seconds("siprtc.call.jitter", "Interarrival jitter (RFC 3550)"),
        round_trip: seconds("siprtc.call.round_trip", "Round-trip time by RTCP or ICE"),
    }
});

impl Instruments {
    pub(crate) fn call_over(&self, role: &'static str, ending: &Ending) {
        self.calls.add(
            1,
            &[
                KeyValue::new("role", role),
                KeyValue::new("cause", ending.cause.as_str()),
            ],
        );
        if let Some(stats) = &ending.stats {
            self.call_media(stats);
        }
    }

    fn call_media(&self, stats: &SessionStats) {
        if stats.packets_expected == 0 {
            return;
        }
        self.mos.record(stats.mos, &[]);
        self.loss.record(stats.loss, &[]);
        self.jitter.record(stats.jitter.as_secs_f64(), &[]);
        if let Some(round_trip) = stats.round_trip {
            self.round_trip.record(round_trip.as_secs_f64(), &[]);
        }
    }

    pub(crate) fn setup(&self, took: Duration) {
        self.setup.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn dial_to_media(&self, took: Duration) {
        self.media.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn registration(&self, result: &'static str) {
        self.registrations.add(1, &[KeyValue::new("result", result)]);
    }
}

/// Exports a TURN server's figures for as long as the process lives; they are read whenever metrics are exported.
pub fn observe_turn(turn: TurnMeter) {
    let meter = global::meter("siprtc");
    let read = turn.clone();
    meter
        .u64_observable_gauge("siprtc.turn.allocations")
        .with_description("Allocations that live")
        .with_callback(move |observer| observer.observe(read.snapshot().allocations, &[]))
        .build();
    let read = turn.clone();
    meter
        .u64_observable_counter("siprtc.turn.allocated")
        .with_description("Allocations made")
        .with_callback(move |observer| observer.observe(read.snapshot().allocated, &[]))
        .build();
    let read = turn.clone();
    meter
        .u64_observable_gauge("siprtc.turn.connections")
        .with_description("TCP and TLS connections that are open")
        .with_callback(move |observer| observer.observe(read.snapshot().connections, &[]))
        .build();
    let read = turn.clone();
    meter
        .u64_observable_counter("siprtc.turn.refused")
        .with_description("Error responses, by code")
        .with_callback(move |observer| {
            for (code, count) in read.snapshot().refused {
                observer.observe(count, &[KeyValue::new("code", i64::from(code))]);
            }
        })
        .build();
    let read = turn.clone();
    meter
        .u64_observable_counter("siprtc.turn.dropped")
        .with_description("Packets and messages dropped without an answer, by reason")
        .with_callback(move |observer| {
            for (why, count) in read.snapshot().dropped {
                observer.observe(count, &[KeyValue::new("reason", why.as_str())]);
            }
        })
        .build();
    relayed(&turn, "siprtc.turn.packets", "{packet}", |traffic| {
        traffic.packets
    });
    relayed(&turn, "siprtc.turn.octets", "By", |traffic| traffic.octets);
}

fn relayed(turn: &TurnMeter, name: &'static str, unit: &'static str, of: fn(Traffic) -> u64) {
    let read = turn.clone();
    global::meter("siprtc")
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_description("Relayed application data, by direction")
        .with_callback(move |observer| {
            let figures = read.snapshot();
            for (direction, traffic) in [("to_peers", figures.to_peers), ("to_clients", figures.to_clients)] {
                observer.observe(of(traffic), &[KeyValue::new("direction", direction)]);
            }
        })
        .build();
}

//! Spans of OpenTelemetry, with the feature `otel`: whether they are wanted, and the task that
//! sends them (`export`).

#[cfg(feature = "otel")]
mod export;

use sterna_server::Options;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::warn;

/// Begins to send a span per request, if the environment says where to.
pub fn start(runtime: &Runtime, options: &mut Options) -> Option<JoinHandle<()>> {
    let endpoint = endpoint(&|name| std::env::var(name).ok())?;
    send(runtime, options, &endpoint)
}

/// Where OpenTelemetry's variables send spans; `None` where they name no collector, or say that
/// there shall be none.
fn endpoint(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let is_off = given("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || given("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
    let traces = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    traces.or_else(|| given("OTEL_EXPORTER_OTLP_ENDPOINT")).filter(|_| !is_off)
}

#[cfg(feature = "otel")]
fn send(runtime: &Runtime, options: &mut Options, endpoint: &str) -> Option<JoinHandle<()>> {
    // The client of HTTP wants a runtime.
    let _within = runtime.enter();
    let export = match export::Export::new(endpoint) {
        Ok(export) => export,
        Err(why) => {
            warn!("no spans are sent: {why}");
            return None;
        }
    };
    tracing::info!("a span per request goes to {endpoint}");
    let (traces, collected) = sterna_server::Traces::new();
    options.traces = Some(traces);
    Some(runtime.spawn(export.run(collected)))
}

#[cfg(not(feature = "otel"))]
fn send(_: &Runtime, _: &mut Options, endpoint: &str) -> Option<JoinHandle<()>> {
    warn!(
        "no spans are sent to {endpoint}: this sterna was built without them; build it with \
         --features otel"
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_mean_what_opentelemetry_says() {
        let of = |variables: &[(&str, &str)]| {
            endpoint(&|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        assert_eq!(of(&[base, ("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(of(&[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert_eq!(of(&[base]).unwrap(), "http://collector:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own/in");
        assert_eq!(of(&[base, own]).unwrap(), "http://own/in");
    }
}

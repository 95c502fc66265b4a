//! `fermata doctor`: what this machine offers.

use fermata_codegen::cuda::nvrtc;
use fermata_runtime::detect::{self, Cuda};
use serde_json::json;

use crate::args::DoctorArgs;
use crate::{Failure, Streams, bench, json};

/// `fermata doctor`.
pub(crate) fn command(args: &DoctorArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let host = detect::host();
    let found = host.features.named();
    let cuda = match detect::cuda() {
        Cuda::NoDriver => "no driver (programs run on the CPU)".to_string(),
        Cuda::Broken(why) => format!("a driver that does not work: {why}"),
        Cuda::Devices(names) => format!("{} device(s): {}", names.len(), names.join(", ")),
    };
    let nvrtc = match nvrtc::probe() {
        Ok(found) => {
            let (major, minor) = found.version;
            let place = found.path.as_ref().map_or(String::new(), |p| format!(" at {}", p.display()));
            format!("{major}.{minor}{place}")
        }
        Err(why) => format!("{why} (CUDA C works without; for PTX and cubins: {})", nvrtc::INSTALL),
    };
    if args.json {
        let features: serde_json::Map<_, _> =
            found.iter().map(|(n, on)| (n.to_string(), json!(on))).collect();
        let result = json!({
            "reason": "result", "schema": "fermata.doctor/1", "machine": bench::machine(),
            "features": features, "l1_bytes": host.l1_bytes, "l2_bytes": host.l2_bytes,
            "threads": host.threads, "cuda": cuda, "nvrtc": nvrtc,
        });
        return json::line(&result, streams);
    }
    writeln!(streams.stdout, "build    {}", bench::build())?;
    writeln!(streams.stdout, "machine  {}", bench::machine())?;
    for (name, on) in found {
        writeln!(streams.stdout, "  {} {name}", if on { "yes" } else { "no " })?;
    }
    writeln!(streams.stdout, "caches   {} kB L1, {} kB L2", host.l1_bytes >> 10, host.l2_bytes >> 10)?;
    writeln!(streams.stdout, "cuda     {cuda}")?;
    writeln!(streams.stdout, "nvrtc    {nvrtc}")?;
    Ok(0)
}

//! `lienzo serve`: flags to a configuration; the address goes to stdout once the server answers.

use super::device::DeviceArgs;
use super::terminal::{puts, say};
use clap::Args;
use lienzo::error::{Error, Result};
use lienzo::job::fit::Allowed;
use lienzo::job::word::{ByteCount, Word as _};
use lienzo::server::{Config, run as serve};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// `lienzo serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Try:  lienzo serve      then open http://127.0.0.1:7860 in a browser")]
pub struct ServeArgs {
    /// Model to serve; may be given several times [default: the small model in the binary]
    #[arg(short, long, value_name = "FILE", visible_alias = "ckpt")]
    model: Vec<PathBuf>,
    /// Serve every model in this folder; VAEs in its folder vae
    #[arg(long, value_name = "DIR", alias = "models-dir", alias = "ckpt-dir")]
    model_dir: Option<PathBuf>,
    /// Port; 0 takes any that is free, and the first line printed tells it
    #[arg(long, default_value_t = 7860, value_name = "PORT")]
    port: u16,
    /// Address to listen on; others than this machine's own need --token
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS", alias = "host")]
    listen: IpAddr,
    /// Folder of pictures and history
    #[arg(short, long, default_value = "lienzo-pictures", value_name = "DIR")]
    output: PathBuf,
    /// What everybody has to show: as a bearer token, as a password, or once as /?token=... [default: the
    /// variable LIENZO_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Another name of this machine in the network, which requests may be sent to; may be given several times
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// A page of this origin, such as https://example.org, may use the server; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Jobs that may wait
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    queue: u16,
    /// What is written about requests on stderr: text or json
    #[arg(long, default_value = "text", value_name = "FORM", value_parser = ["text", "json"])]
    log: String,
    /// Refuse what needs more memory than this: 2.4GB, 800MB
    #[arg(long, value_name = "BYTES", value_parser = ByteCount::parse)]
    max_memory: Option<ByteCount>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn run(args: &ServeArgs) -> Result<ExitCode> {
    let config = Config {
        address: SocketAddr::new(args.listen, args.port),
        output: args.output.clone(),
        models: args.model.clone(),
        model_dir: args.model_dir.clone(),
        token: args.token.clone().or_else(|| std::env::var("LIENZO_TOKEN").ok()),
        hosts: args.host_name.clone(),
        origins: args.allow_origin.clone(),
        queue: usize::from(args.queue),
        device: args.device.wish()?,
        allowed: Allowed { max_memory: args.max_memory, ..Allowed::default() },
        log_json: args.log == "json",
    };
    if let Some(wrong) = args.allow_origin.iter().find(|o| !is_origin(o)) {
        let shown = lienzo::error::escape(wrong);
        return Err(Error::usage(format!(
            "--allow-origin {shown}: write a scheme, a host and a port, as in https://example.org"
        )));
    }
    serve(config, &|address| {
        puts!("http://{address}");
        say!("open it in a browser; pictures are kept in {}; Ctrl-C ends it", args.output.display());
    })?;
    say!("ended");
    Ok(ExitCode::SUCCESS)
}

/// `https://example.org:8080`, as browsers write it.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| {
        !host.is_empty() && !host.contains(['/', ' ', '?', '#', '@']) && host == host.to_lowercase()
    })
}
